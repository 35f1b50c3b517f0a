"""Models from folders, for the command line: Leadline's own language model, or a Hugging Face model with its tokenizer.

Nothing is downloaded and nothing in a folder is executed: weights are read from safetensors alone.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from leadline.decoding import Problem, RecurrentLM
from leadline.decoding.language_model import END, FILE
from leadline.errors import InputError, LeadlineError


class TextModel(Protocol):
    """A model that continues text."""

    digest: str
    """Identifies the files that it was read from."""
    eos: tuple[int, ...]

    def check(self, prompt: str, max_length: int) -> None:
        """Refuse a prompt that cannot be continued by so many tokens."""
        ...

    def problem(self, prompts: Sequence[str]) -> Problem:
        """The model behind each prompt."""
        ...

    def say(self, tokens: Sequence[int]) -> str:
        """Tokens as text, end tokens left out."""
        ...


def load_model(folder: Path) -> TextModel:
    """The model in a folder.

    Raises:
        InputError: there is none, or it cannot be used without its tokenizer.
        SaveError: Leadline's own model is damaged or of another release.
        LeadlineError: a Hugging Face folder, but transformers is not installed.
    """
    if (folder / FILE).is_file():
        return _OwnModel(folder)
    if (folder / "config.json").is_file():
        return _HuggingFaceModel(folder)
    what = "a folder without either" if folder.is_dir() else "a file" if folder.exists() else "no such folder"
    raise InputError(
        f"--model names a folder with {FILE} (RecurrentLM.save) or config.json (a Hugging Face model)",
        got=f"--model {folder}, {what}",
        cause=None if folder.exists() else "a name of the Hugging Face hub: Leadline reads local folders only",
        cure="save a model there, or name the folder that holds one",
    )


class _OwnModel:
    def __init__(self, folder: Path):
        self.lm = RecurrentLM.load(folder)
        self.digest, self.eos = _digest([folder / FILE]), (self.lm.end,)  # the file names the digest of its weights

    def check(self, prompt: str, max_length: int) -> None:
        unknown = self.lm.unknown(prompt)
        if unknown:
            words = ", ".join(repr(word) for word in unknown[:5]) + (", …" if len(unknown) > 5 else "")
            raise InputError(
                f"a prompt is made of the {len(self.lm.vocabulary):,} types that the model knows",
                got=f"{words} in the prompt {_short(prompt)}",
                cause="they did not occur in the text that it was trained on, or too rarely",
                cure="use other words, or train with more types",
            )

    def problem(self, prompts: Sequence[str]) -> Problem:
        return self.lm.problem(prompts)

    def say(self, tokens: Sequence[int]) -> str:
        words = [self.lm.vocabulary[token] for token in tokens]
        return (" " if self.lm.settings.level == "word" else "").join(word for word in words if word != END)


class _HuggingFaceModel:
    def __init__(self, folder: Path):
        try:
            import transformers
        except ImportError as error:
            raise LeadlineError(
                f"{folder} holds a Hugging Face model, which needs transformers: pip install 'leadline[hf]'"
            ) from error
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        self.tokenizer = self._tokenizer(transformers, folder, local)
        bars = transformers.logging.is_progress_bar_enabled()
        transformers.logging.disable_progress_bar()
        try:
            config = transformers.AutoConfig.from_pretrained(folder, **local)
            self.pairs = bool(getattr(config, "is_encoder_decoder", False))
            kind = transformers.AutoModelForSeq2SeqLM if self.pairs else transformers.AutoModelForCausalLM
            self.model = kind.from_pretrained(folder, use_safetensors=True, **local).eval()
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise InputError(
                "a Hugging Face folder holds a language model and its weights in safetensors",
                got=f"--model {folder}",
                cause=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
                cure="save it with model.save_pretrained(folder)",
            ) from error
        finally:
            if bars:
                transformers.logging.enable_progress_bar()
        self.digest = _digest(sorted(path for path in folder.iterdir() if path.is_file()))
        ends = getattr(self.model.generation_config, "eos_token_id", None)
        ends = self.tokenizer.eos_token_id if ends is None else ends
        self.eos = () if ends is None else (ends,) if isinstance(ends, int) else tuple(ends)
        self.room = getattr(config, "max_position_embeddings", None)

    @staticmethod
    def _tokenizer(transformers: Any, folder: Path, local: dict[str, Any]) -> Any:
        kept = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
        cause = "it holds none of " + ", ".join(kept)
        if any((folder / name).is_file() for name in kept):
            try:
                return transformers.AutoTokenizer.from_pretrained(folder, **local)
            except Exception as error:  # of a damaged file the library raises Exception itself, and no kind of it
                cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            "a prompt needs the tokenizer that the model was trained with",
            got=f"--model {folder}, no readable tokenizer",
            cause=cause,
            cure="tokenizer.save_pretrained(folder)",
        )

    def check(self, prompt: str, max_length: int) -> None:
        tokens = self._encode(prompt)
        if not tokens:
            raise InputError("this model continues a prompt of one token or more", got=f"the prompt {prompt!r}")
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in tokens:
            words = [word for word in prompt.split() if unknown in self._encode(word)] or [prompt]
            raise InputError(
                "a prompt is made of words that the tokenizer knows",
                got=", ".join(repr(word) for word in words[:5]) + f" in the prompt {_short(prompt)}",
                cure="use other words",
            )
        length = max_length if self.pairs else len(tokens) + max_length - 1  # the last is not read any more
        if self.room is not None and max(length, len(tokens)) > self.room:
            raise InputError(
                f"prompt and answer fit into the {self.room} positions of the model",
                got=f"a prompt of {len(tokens)} tokens and --max-length {max_length}",
                cure="shorten one of them",
            )

    def problem(self, prompts: Sequence[str]) -> Problem:
        from leadline.decoding import huggingface

        tokens = [self._encode(prompt) for prompt in prompts]
        longest = max(map(len, tokens))
        ids, mask = torch.zeros(2, len(tokens), longest, dtype=torch.int64)
        for row, known in enumerate(tokens):  # encoders are padded on the right, decoders on the left
            place = slice(0, len(known)) if self.pairs else slice(longest - len(known), longest)
            ids[row, place], mask[row, place] = torch.tensor(known), 1
        problem = huggingface(self.model, ids, mask)
        problem.step.vocabulary = _Words(self.tokenizer)  # pyright: ignore[reportFunctionMemberAccess]
        return problem

    def say(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode([token for token in tokens if token not in self.eos])

    def _encode(self, prompt: str) -> list[int]:
        return list(self.tokenizer(prompt)["input_ids"])


class _Words:
    """A tokenizer as a vocabulary."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    def __getitem__(self, token: int) -> str:
        text = self.tokenizer.decode([token])
        return text.strip() or repr(text)


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
