"""A small recurrent language model that trains in a minute: something real to decode from.

``p(w_t | w_1 ... w_(t-1)) = softmax(E h_t + b)`` with ``h_t = cell(E[w_t], h_(t-1))``; input and output share the
embedding E. Paragraphs are the sentences of this model: each ends with :data:`END`, which also starts the next.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from os import PathLike
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from leadline import checks, storage
from leadline.checks import ShortRepr
from leadline.data import Text
from leadline.decoding.models._problem import Problem, refuse_state
from leadline.errors import InputError, SaveError, nearest

END = "<end>"
UNKNOWN = "<unknown>"

FILE = "language_model.json"
"""What a folder with a saved model holds."""

SCHEMA = 1
"""Version of the layout on disk."""


LARGEST_LOSS = 700.0
"""Nats per token whose exponential is still a number."""

MOST = {
    "types": 1_000_000,
    "hidden": 16_384,
    "layers": 64,
    "epochs": 100_000,
    "length": 100_000,
    "streams": 100_000,
}
"""The largest sizes: larger ones fit no memory."""


@dataclass(frozen=True)
class Perplexities(ShortRepr):
    """``exp`` of the mean negative log-probability per held-out token, for the model and for two counting models."""

    model: float
    bigram: float
    """Of the previous token, by absolute discounting with the unigram model behind it."""
    unigram: float
    tokens: int
    """Held-out tokens."""


@dataclass(frozen=True)
class Settings:
    """What a language model is made of, and how it is trained."""

    level: Literal["word", "character"] = "word"
    cell: Literal["gru", "lstm"] = "gru"
    types: int = 3000
    """Vocabulary: the most frequent words, END and UNKNOWN included."""
    hidden: int = 128
    layers: int = 1
    epochs: int = 3
    length: int = 32
    """Tokens per training window; the state is carried from one to the next."""
    streams: int = 24
    """Windows per training step."""
    learning_rate: float = 6e-3
    """Peak of a warm-up and cosine decay (Adam)."""
    dropout: float = 0.25
    held_out: float = 0.08
    """Share of the paragraphs that are never trained on."""
    seed: int = 0


def _checked(given: dict[str, Any]) -> Settings:
    """Settings with plain values.

    Raises:
        InputError: a setting is unknown or out of range.
    """
    known = [entry.name for entry in fields(Settings)]
    for name in given:
        if name not in known:
            raise InputError(
                "RecurrentLM() takes the fields of its settings",
                got=f"{name} = ...",
                cure=nearest(name, known)[0],
            )
    defaults = Settings(**given)
    whole = {"types": 3, "hidden": 1, "layers": 1, "epochs": 1, "length": 1, "streams": 1}
    plain: dict[str, Any] = {
        name: checks.whole_number(getattr(defaults, name), name, least=least, most=MOST[name])
        for name, least in whole.items()
    }
    return Settings(
        level=checks.choice(defaults.level, "level", ("word", "character")),  # type: ignore[arg-type]
        cell=checks.choice(defaults.cell, "cell", ("gru", "lstm")),  # type: ignore[arg-type]
        learning_rate=checks.number(defaults.learning_rate, "learning_rate", above=0),
        dropout=checks.number(defaults.dropout, "dropout", least=0, below=1),
        held_out=checks.number(defaults.held_out, "held_out", above=0, below=1),
        seed=checks.seed(defaults.seed),
        **plain,
    )


class RecurrentLM:
    """A GRU or LSTM language model of words or characters.

    Args:
        settings: fields of :class:`Settings`, by name.

    >>> text = "the cat sat on the mat .\\n\\nthe dog sat on the log .\\n\\n" * 20
    >>> lm = RecurrentLM(types=12, hidden=8, epochs=2, seed=1).fit(text)
    >>> step, state, start = lm.problem(["the cat"])
    >>> step(start, state)[0].shape
    torch.Size([1, 10])

    Reference: Mikolov et al., *Recurrent neural network based language model*, 2010; Press and Wolf, *Using the output
    embedding to improve language models*, 2017.
    """

    normalized = False

    def __init__(self, **settings: Any):
        self.settings = _checked(settings)
        self.vocabulary: tuple[str, ...] = ()
        self.perplexity: Perplexities | None = None

    def fit(self, text: str | Text) -> Self:
        """Train on a text and measure on paragraphs that were held out.

        Args:
            text: paragraphs are separated by empty lines; also the answer of :func:`leadline.data.manual_text`.

        Returns:
            The model itself; :attr:`perplexity` has what was measured.

        Raises:
            InputError: fewer than two paragraphs, or training diverged.
        """
        text = checks.text(text.text if isinstance(text, Text) else text, "text")
        paragraphs = [
            self._split(paragraph) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()
        ]
        if len(paragraphs) < 2:
            raise InputError(
                "a language model needs at least two paragraphs: one to train on, one to be measured on",
                got=f"{len(paragraphs)} paragraphs",
                cure="separate paragraphs by empty lines",
            )
        rng = np.random.default_rng(self.settings.seed)
        order = rng.permutation(len(paragraphs))
        held = set(
            order[
                : min(max(1, round(self.settings.held_out * len(paragraphs))), len(paragraphs) - 1)
            ].tolist()
        )
        train = [paragraph for i, paragraph in enumerate(paragraphs) if i not in held]
        counts = Counter(word for paragraph in train for word in paragraph)
        frequent = sorted(counts, key=lambda word: (-counts[word], word))[: self.settings.types - 2]
        self._build((END, UNKNOWN, *sorted(frequent)))
        tokens = self._encode(
            [word for i in rng.permutation(len(train)) for word in [*train[i], END]]
        )
        test = self._encode([word for i in sorted(held) for word in [*paragraphs[i], END]])
        self._train(tokens)
        bigram, unigram = _counting_models(tokens.numpy(), test.numpy(), len(self.vocabulary))
        self.perplexity = Perplexities(self._measure(test), bigram, unigram, len(test))
        return self

    def problem(self, prompts: Sequence[str]) -> Problem:
        """The model behind each prompt; an empty prompt begins a paragraph.

        Args:
            prompts: B texts; words that the model does not know are read as UNKNOWN.

        Raises:
            InputError: the model was not fitted, or there is no prompt.
        """
        self._check_fitted()
        listed = () if isinstance(prompts, str) else checks.items(prompts, "prompts", of="texts")
        if not listed:
            raise InputError(
                "prompts are a list of one text or more",
                got=f"prompts = {prompts!r}",
                cure=f"problem([{prompts!r}])" if prompts else None,
            )
        prompts = [checks.text(prompt, f"prompts[{i}]") for i, prompt in enumerate(listed)]
        tokens = [self._encode([END, *self._split(prompt)]) for prompt in prompts]
        states = []
        with torch.no_grad():
            for prompt in tokens:
                state = self._start(1)
                if len(prompt) > 1:
                    state = self._run(prompt[:-1].unsqueeze(0), state)[1]
                states.append(state)
        state = tuple(
            torch.cat(parts, dim=1).transpose(0, 1) for parts in zip(*states, strict=True)
        )
        return Problem(self, state, torch.stack([prompt[-1] for prompt in tokens]))

    def __call__(
        self, tokens: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The step function: logits (N, M); the state is h (N, layers, H), for an LSTM also c."""
        if not isinstance(state, tuple) or not all(
            isinstance(leaf, Tensor) and leaf.ndim == 3 for leaf in state
        ):
            refuse_state("RecurrentLM", state)
        outputs, state = self._run(
            tokens.unsqueeze(1), tuple(leaf.transpose(0, 1).contiguous() for leaf in state)
        )
        logits = nn.functional.linear(outputs[:, 0], self.embedding.weight, self.bias)
        return logits, tuple(leaf.transpose(0, 1) for leaf in state)

    @property
    def end(self) -> int:
        """The end token, for ``eos``.

        Raises:
            InputError: the model was not fitted.
        """
        self._check_fitted()
        return self.vocabulary.index(END)

    def unknown(self, text: str) -> tuple[str, ...]:
        """The words of a text that the model does not know, each once."""
        text = checks.text(text, "text")
        known = set(self.vocabulary)
        return tuple(dict.fromkeys(word for word in self._split(text) if word not in known))

    def save(self, folder: str | PathLike[str]) -> None:
        """Write weights (safetensors) and settings (JSON).

        Raises:
            InputError: the model was not fitted.
            SaveError: the folder cannot be written; what was there is untouched.
        """
        self._check_fitted()
        from safetensors.torch import save

        folder = checks.path(folder, "folder")
        weights = save(
            {name: value.detach().contiguous() for name, value in self._parameters().items()}
        )
        document = {
            "schema": SCHEMA,
            "settings": asdict(self.settings),
            "vocabulary": list(self.vocabulary),
        }
        document["perplexity"] = asdict(self.perplexity) if self.perplexity else None
        storage.save_document(
            folder, FILE, document, kind="weights", content=weights, is_ours=_is_language_model
        )

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> "RecurrentLM":
        """Read what :meth:`save` wrote. No code in the folder is ever executed.

        Raises:
            SaveError: the folder holds no language model, a damaged one, or one of another release.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = checks.path(folder, "folder") / FILE
        try:
            document, content = storage.load_document(path, "weights")
            schema = document.get("schema")
            if schema == SCHEMA:
                lm = cls(**document["settings"])
                lm.perplexity = (
                    Perplexities(**document["perplexity"]) if document["perplexity"] else None
                )
                if content is None:
                    raise ValueError("it names no weights")
                vocabulary = tuple(document["vocabulary"])
                weights = load(content)
                # Settings that are not those of the weights could ask for any amount of memory.
                shape = (len(vocabulary), lm.settings.hidden)
                if (
                    weights["embedding"].shape != shape
                    or len(weights) != 2 + 4 * lm.settings.layers
                ):
                    raise ValueError("its weights are not those of its settings")
                lm._build(vocabulary)
                parameters = lm._parameters()
                if {name: value.shape for name, value in weights.items()} != {
                    name: value.shape for name, value in parameters.items()
                }:
                    raise ValueError("its weights are not those of its settings")
                for name, value in parameters.items():
                    value.requires_grad_(False)
                    value.copy_(weights[name])
                return lm
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise SaveError(f"{folder} holds no readable language model ({error})") from error
        raise SaveError(
            f"{path} has schema {schema!r}; this release reads schema {SCHEMA}: train and save it again"
        )

    def _check_fitted(self) -> None:
        if not self.vocabulary:
            raise InputError(
                "a language model is fitted before it is asked or saved", cure="call fit(text)"
            )

    def _split(self, text: str) -> list[str]:
        return (
            re.findall(r"\w+|[^\w\s]", text.lower())
            if self.settings.level == "word"
            else list(text)
        )

    def _encode(self, words: Sequence[str]) -> Tensor:
        index = {word: i for i, word in enumerate(self.vocabulary)}
        return torch.tensor([index.get(word, index[UNKNOWN]) for word in words])

    def _build(self, vocabulary: tuple[str, ...]) -> None:
        self.vocabulary, H = vocabulary, self.settings.hidden
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            kind = nn.GRU if self.settings.cell == "gru" else nn.LSTM
            self.rnn = kind(H, H, self.settings.layers, batch_first=True)
            self.embedding = nn.Embedding(len(vocabulary), H)
            nn.init.normal_(self.embedding.weight, std=H**-0.5)
        self.bias = nn.Parameter(torch.zeros(len(vocabulary)))

    def _parameters(self) -> dict[str, Tensor]:
        return {
            "embedding": self.embedding.weight,
            "bias": self.bias,
            **dict(self.rnn.named_parameters()),
        }

    def _start(self, rows: int) -> tuple[Tensor, ...]:
        zeros = torch.zeros(self.settings.layers, rows, self.settings.hidden)
        return (zeros,) if self.settings.cell == "gru" else (zeros, zeros.clone())

    def _run(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        # sqrt(H) brings the shared embedding, which is scaled for the output, to the size that an input should have.
        inputs = self.embedding(tokens) * math.sqrt(self.settings.hidden)
        outputs, state = self.rnn(inputs, state[0] if self.settings.cell == "gru" else state)
        return outputs, (state,) if isinstance(state, Tensor) else tuple(state)

    def _train(self, tokens: Tensor) -> None:
        s, generator = self.settings, torch.Generator().manual_seed(self.settings.seed)
        streams = max(1, min(s.streams, (len(tokens) - 1) // 2))
        width = (len(tokens) - 1) // streams
        x, y = (tokens[i : i + streams * width].view(streams, width) for i in (0, 1))
        steps = s.epochs * math.ceil(width / s.length)
        parameters = list(self._parameters().values())
        optimizer = torch.optim.Adam(parameters, lr=s.learning_rate)
        step = 0
        for _ in range(s.epochs):
            state = self._start(streams)
            for first in range(0, width, s.length):
                progress = step / steps
                rate = min(1.0, progress / 0.05 + 0.05) * (
                    0.02 + 0.98 * math.cos(math.pi / 2 * progress) ** 2
                )
                optimizer.param_groups[0]["lr"] = s.learning_rate * rate
                outputs, state = self._run(x[:, first : first + s.length], state)
                kept = torch.rand(outputs.shape, generator=generator) >= s.dropout
                logits = nn.functional.linear(
                    outputs * kept / (1 - s.dropout), self.embedding.weight, self.bias
                )
                loss = nn.functional.cross_entropy(
                    logits.flatten(0, 1), y[:, first : first + s.length].flatten()
                )
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                state, step = tuple(leaf.detach() for leaf in state), step + 1
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None

    def _measure(self, tokens: Tensor) -> float:
        """Perplexity of a text that begins a paragraph."""
        inputs = torch.cat([torch.tensor([self.end]), tokens[:-1]])
        with torch.no_grad():
            outputs, _ = self._run(inputs.unsqueeze(0), self._start(1))
            losses = [
                nn.functional.cross_entropy(
                    nn.functional.linear(part, self.embedding.weight, self.bias),
                    target,
                    reduction="sum",
                ).item()
                for part, target in zip(outputs[0].split(1024), tokens.split(1024), strict=True)
            ]
        mean = sum(losses) / len(tokens)
        if not mean < LARGEST_LOSS:
            raise InputError(
                "training of a language model must converge",
                got=f"{mean:.3g} nats per token on held-out text",
                cause="the learning rate is too high",
                cure=f"learning_rate = {self.settings.learning_rate / 10:g}",
            )
        return math.exp(mean)


def _is_language_model(document: Mapping[str, Any]) -> bool:
    kinds = {"schema": int, "settings": dict, "vocabulary": list, "weights": str}
    return all(isinstance(document.get(name), kind) for name, kind in kinds.items())


def _counting_models(
    train: np.ndarray, test: np.ndarray, M: int, discount: float = 0.75
) -> tuple[float, float]:
    """Perplexities of a bigram model (absolute discounting) and a unigram model (add one).

    Reference: Ney, Essen and Kneser, *On structuring probabilistic dependences in stochastic language modelling*, 1994.
    """
    unigram = (np.bincount(train, minlength=M) + 1) / (len(train) + M)
    pairs, counts = np.unique(train[:-1] * M + train[1:], return_counts=True)
    followed = np.bincount(pairs // M, weights=counts, minlength=M)
    kinds = np.bincount(pairs // M, minlength=M)
    before, after = np.concatenate([[0], test[:-1]]), test
    at = np.minimum(np.searchsorted(pairs, before * M + after), len(pairs) - 1)
    count = np.where(pairs[at] == before * M + after, counts[at], 0)
    total = np.maximum(followed[before], 1)
    left = np.where(followed[before] > 0, discount * kinds[before] / total, 1.0)
    bigram = np.maximum(count - discount, 0) / total + left * unigram[after]
    return (float(np.exp(-np.log(p).mean())) for p in (bigram, unigram[test]))  # type: ignore[return-value]
