"""A small recurrent language model that trains in a minute, as a real model to decode from.

``p(w_t | w_1 ... w_(t-1)) = softmax(E h_t + b)`` with ``h_t = cell(E[w_t], h_(t-1))``. Input and
output share the embedding E. Each paragraph is one sequence: it ends with :data:`END`, which also
starts the next paragraph.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from leadline import checks, storage
from leadline.data import Text
from leadline.decoding.models._language_model_settings import (
    NAMES_OF_SCHEMA_1,
    LanguageModelSettings,
)
from leadline.decoding.models._perplexities import Perplexities, measure_counting_models
from leadline.decoding.problem._problem import Problem, refuse_state
from leadline.errors import InputError, SaveError

END = "<end>"
UNKNOWN = "<unknown>"

FILE = "language_model.json"
"""The name of the document in the folder of a saved model."""

SCHEMA = 2
"""The version of the document."""

LARGEST_LOSS = 700.0
"""The largest loss in nats per token whose exponential is a finite number."""


class RecurrentLM:
    """A GRU or LSTM language model of words or characters.

    Args:
        settings: any of these by name. ``level`` ("word" or "character"), ``cell`` ("gru" or
            "lstm"), ``vocabulary_size`` (3000), ``hidden_size`` (128), ``num_layers`` (1),
            ``epochs`` (3), ``window`` (32 tokens per training window), ``batch_size`` (24 windows
            per training step), ``learning_rate`` (0.006), ``dropout`` (0.25), ``held_out`` (0.08 of
            the paragraphs are measured and not trained on), ``seed`` (0).

    Raises:
        InputError: a setting is unknown or out of range.

    >>> text = "the cat sat on the mat .\\n\\nthe dog sat on the log .\\n\\n" * 20
    >>> lm = RecurrentLM(vocabulary_size=12, hidden_size=8, epochs=2, seed=1).fit(text)
    >>> step, state, start = lm.problem(["the cat"])
    >>> step(start, state)[0].shape
    torch.Size([1, 10])

    References: Mikolov et al., *Recurrent neural network based language model*, 2010; Press and
    Wolf, *Using the output embedding to improve language models*, 2017.
    """

    normalized = False

    def __init__(self, **settings: Any):
        self.settings = LanguageModelSettings.of(settings)
        self.vocabulary: tuple[str, ...] = ()
        self.perplexity: Perplexities | None = None

    def fit(self, text: str | Text) -> Self:
        """Train on a text, and measure the perplexity on paragraphs that are held out.

        Args:
            text: paragraphs separated by empty lines, or the result of
                :func:`leadline.data.manual_text`.

        Returns:
            The model itself; :attr:`perplexity` holds the measured perplexities.

        Raises:
            InputError: there are fewer than two paragraphs, or training diverged.
        """
        text = checks.text(text.text if isinstance(text, Text) else text, "text")
        parts = re.split(r"\n\s*\n", text)
        paragraphs = [self._split(part) for part in parts if part.strip()]
        if len(paragraphs) < 2:
            raise InputError(
                "fit() needs two paragraphs or more: some to train on, and some to hold out",
                got=f"{len(paragraphs)} paragraphs",
                cure="separate paragraphs by empty lines",
            )
        rng = np.random.default_rng(self.settings.seed)
        order = rng.permutation(len(paragraphs))
        num_held_out = max(1, round(self.settings.held_out * len(paragraphs)))
        num_held_out = min(num_held_out, len(paragraphs) - 1)
        held_out = set(order[:num_held_out].tolist())
        train = [paragraph for i, paragraph in enumerate(paragraphs) if i not in held_out]
        counts = Counter(word for paragraph in train for word in paragraph)
        by_frequency = sorted(counts, key=lambda word: (-counts[word], word))
        frequent = by_frequency[: self.settings.vocabulary_size - 2]
        self._build((END, UNKNOWN, *sorted(frequent)))
        tokens = self._encode_paragraphs([train[i] for i in rng.permutation(len(train))])
        test = self._encode_paragraphs([paragraphs[i] for i in sorted(held_out)])
        self._train(tokens)
        bigram, unigram = measure_counting_models(
            tokens.numpy(), test.numpy(), len(self.vocabulary)
        )
        self.perplexity = Perplexities(self._measure(test), bigram, unigram, len(test))
        return self

    def problem(self, prompts: Sequence[str]) -> Problem:
        """Return a problem that continues each prompt; an empty prompt starts a paragraph.

        Args:
            prompts: B texts. Words outside the vocabulary are read as UNKNOWN.

        Raises:
            InputError: the model is not fitted, or there is no prompt.
        """
        self._check_fitted()
        texts = () if isinstance(prompts, str) else checks.items(prompts, "prompts", of="texts")
        if not texts:
            raise InputError(
                "prompts must be a list of one text or more",
                got=f"prompts = {prompts!r}",
                cure=f"problem([{prompts!r}])" if prompts else None,
            )
        tokens = []
        for i, text in enumerate(texts):
            words = self._split(checks.text(text, f"prompts[{i}]"))
            tokens.append(self._encode([END, *words]))
        states = []
        with torch.no_grad():
            for prompt in tokens:
                state = self._start(1)
                if len(prompt) > 1:
                    _, state = self._run(prompt[:-1].unsqueeze(0), state)
                states.append(state)
        joined = [torch.cat(parts, dim=1) for parts in zip(*states, strict=True)]
        state = tuple(part.transpose(0, 1) for part in joined)
        return Problem(self, state, torch.stack([prompt[-1] for prompt in tokens]))

    def __call__(
        self, tokens: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return logits (N, M) and the new state: h, and for an LSTM c, of shape (N, layers, H)."""
        are_matrices = isinstance(state, tuple) and all(
            isinstance(leaf, Tensor) and leaf.ndim == 3 for leaf in state
        )
        if not are_matrices:
            refuse_state("RecurrentLM", state)
        layers_first = tuple(leaf.transpose(0, 1).contiguous() for leaf in state)
        outputs, state = self._run(tokens.unsqueeze(1), layers_first)
        logits = self._logits(outputs[:, 0])
        return logits, tuple(leaf.transpose(0, 1) for leaf in state)

    @property
    def end(self) -> int:
        """The end token; pass it as ``eos`` to a search.

        Raises:
            InputError: the model is not fitted.
        """
        self._check_fitted()
        return self.vocabulary.index(END)

    def unknown(self, text: str) -> tuple[str, ...]:
        """Return the words of a text that are outside the vocabulary, each once."""
        text = checks.text(text, "text")
        known = set(self.vocabulary)
        return tuple(dict.fromkeys(word for word in self._split(text) if word not in known))

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the weights (safetensors) and the settings (JSON).

        Args:
            folder: the folder to write to; a model that was saved there before is replaced.

        Raises:
            InputError: the model is not fitted.
            SaveError: the folder cannot be written; its earlier content is unchanged.
        """
        self._check_fitted()
        from safetensors.torch import save

        folder = checks.path(folder, "folder")
        weights = {name: value.detach().contiguous() for name, value in self._parameters().items()}
        document = {
            "schema": SCHEMA,
            "settings": asdict(self.settings),
            "vocabulary": list(self.vocabulary),
            "perplexity": asdict(self.perplexity) if self.perplexity else None,
        }
        storage.save_document(
            folder,
            FILE,
            document,
            kind="weights",
            content=save(weights),
            is_ours=_is_language_model,
        )

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> "RecurrentLM":
        """Return the model that :meth:`save` wrote. No code in the folder is executed.

        Args:
            folder: the folder of the model. Models of Leadline 0.1 can be read.

        Raises:
            SaveError: the folder holds no language model, a damaged one, or one of another release.
        """
        from safetensors import SafetensorError

        path = checks.path(folder, "folder") / FILE
        try:
            document, content = storage.load_document(path, "weights")
            schema = document.get("schema")
            if schema in (1, SCHEMA):
                return cls._from_document(document, content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise SaveError(f"{folder} holds no readable language model ({error})") from error
        raise SaveError(
            f"{path} has schema {schema!r}; this release reads schemas 1 and {SCHEMA}: "
            "train the model and save it again"
        )

    @classmethod
    def _from_document(cls, document: Mapping[str, Any], content: bytes | None) -> "RecurrentLM":
        from safetensors.torch import load

        settings: dict[str, Any] = document["settings"]
        if document["schema"] == 1:
            settings = {NAMES_OF_SCHEMA_1.get(name, name): settings[name] for name in settings}
        lm = cls(**settings)
        if document["perplexity"]:
            lm.perplexity = Perplexities(**document["perplexity"])
        if content is None:
            raise ValueError("it names no weights")
        vocabulary = tuple(document["vocabulary"])
        weights = load(content)
        mismatch = ValueError("its weights are not those of its settings")
        # Checked before the model is built: damaged settings could ask for any amount of memory.
        shape = (len(vocabulary), lm.settings.hidden_size)
        num_weights = 2 + 4 * lm.settings.num_layers
        if weights["embedding"].shape != shape or len(weights) != num_weights:
            raise mismatch
        lm._build(vocabulary)
        parameters = lm._parameters()
        shapes = {name: value.shape for name, value in parameters.items()}
        if {name: value.shape for name, value in weights.items()} != shapes:
            raise mismatch
        for name, value in parameters.items():
            value.requires_grad_(False)
            value.copy_(weights[name])
        return lm

    def _check_fitted(self) -> None:
        if not self.vocabulary:
            raise InputError(
                "RecurrentLM must be fitted before it is searched or saved", cure="call fit(text)"
            )

    def _split(self, text: str) -> list[str]:
        if self.settings.level == "word":
            return re.findall(r"\w+|[^\w\s]", text.lower())
        return list(text)

    def _encode(self, words: Sequence[str]) -> Tensor:
        index = {word: i for i, word in enumerate(self.vocabulary)}
        return torch.tensor([index.get(word, index[UNKNOWN]) for word in words])

    def _encode_paragraphs(self, paragraphs: Sequence[Sequence[str]]) -> Tensor:
        return self._encode([word for paragraph in paragraphs for word in [*paragraph, END]])

    def _build(self, vocabulary: tuple[str, ...]) -> None:
        size = self.settings.hidden_size
        self.vocabulary = vocabulary
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            kind = nn.GRU if self.settings.cell == "gru" else nn.LSTM
            self.rnn = kind(size, size, self.settings.num_layers, batch_first=True)
            self.embedding = nn.Embedding(len(vocabulary), size)
            nn.init.normal_(self.embedding.weight, std=size**-0.5)
        self.bias = nn.Parameter(torch.zeros(len(vocabulary)))

    def _parameters(self) -> dict[str, Tensor]:
        parameters = {"embedding": self.embedding.weight, "bias": self.bias}
        return {**parameters, **dict(self.rnn.named_parameters())}

    def _start(self, batch: int) -> tuple[Tensor, ...]:
        """Return the state before the first token, shape (layers, rows, H) each."""
        zeros = torch.zeros(self.settings.num_layers, batch, self.settings.hidden_size)
        return (zeros,) if self.settings.cell == "gru" else (zeros, zeros.clone())

    def _run(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the outputs of the last layer, shape (rows, T, H), and the new state."""
        # The shared embedding has the scale of an output layer; sqrt(H) gives it that of an input.
        inputs = self.embedding(tokens) * math.sqrt(self.settings.hidden_size)
        if self.settings.cell == "gru":
            outputs, h = self.rnn(inputs, state[0])
            return outputs, (h,)
        outputs, state = self.rnn(inputs, state)
        return outputs, tuple(state)

    def _logits(self, outputs: Tensor) -> Tensor:
        return nn.functional.linear(outputs, self.embedding.weight, self.bias)

    def _train(self, tokens: Tensor) -> None:
        settings = self.settings
        generator = torch.Generator().manual_seed(settings.seed)
        num_rows = max(1, min(settings.batch_size, (len(tokens) - 1) // 2))
        row_length = (len(tokens) - 1) // num_rows
        num_tokens = num_rows * row_length
        x = tokens[:num_tokens].view(num_rows, row_length)
        y = tokens[1 : num_tokens + 1].view(num_rows, row_length)
        num_steps = settings.epochs * math.ceil(row_length / settings.window)
        parameters = list(self._parameters().values())
        optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
        step = 0
        for _ in range(settings.epochs):
            state = self._start(num_rows)
            for first in range(0, row_length, settings.window):
                rate = _learning_rate_factor(step / num_steps)
                optimizer.param_groups[0]["lr"] = settings.learning_rate * rate
                outputs, state = self._run(x[:, first : first + settings.window], state)
                is_kept = torch.rand(outputs.shape, generator=generator) >= settings.dropout
                logits = self._logits(outputs * is_kept / (1 - settings.dropout))
                labels = y[:, first : first + settings.window]
                loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                state = tuple(leaf.detach() for leaf in state)
                step += 1
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None

    def _measure(self, tokens: Tensor) -> float:
        """Return the perplexity of a text that starts a paragraph."""
        inputs = torch.cat([torch.tensor([self.end]), tokens[:-1]])
        total = 0.0
        with torch.no_grad():
            outputs, _ = self._run(inputs.unsqueeze(0), self._start(1))
            parts = zip(outputs[0].split(1024), tokens.split(1024), strict=True)
            for part, labels in parts:
                logits = self._logits(part)
                total += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        mean = total / len(tokens)
        if not mean < LARGEST_LOSS:
            raise InputError(
                "fit() must converge",
                got=f"{mean:.3g} nats per token on held-out text",
                cause="the learning rate is too high",
                cure=f"learning_rate = {self.settings.learning_rate / 10:g}",
            )
        return math.exp(mean)


def _learning_rate_factor(progress: float) -> float:
    """Return the factor of the learning rate after a share of the steps: warm-up, cosine decay."""
    warm_up = min(1.0, progress / 0.05 + 0.05)
    decay = 0.02 + 0.98 * math.cos(math.pi / 2 * progress) ** 2
    return warm_up * decay


def _is_language_model(document: Mapping[str, Any]) -> bool:
    """True if a document was written by :meth:`RecurrentLM.save`."""
    kinds = {"schema": int, "settings": dict, "vocabulary": list, "weights": str}
    return all(isinstance(document.get(name), kind) for name, kind in kinds.items())
