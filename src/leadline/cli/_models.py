"""Language models that the command line reads from folders: Leadline's own, or Hugging Face models.

Nothing is downloaded, and no code in a folder is executed: weights are read from safetensors only.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from leadline.decoding import END, FILE, Problem, RecurrentLM
from leadline.errors import InputError, LeadlineError, context

MOST_WORDS = 5
"""Largest number of unknown words that an error lists."""

LONGEST_TEXT = 60
"""Largest number of characters of a prompt that an error shows."""


class TextModel(Protocol):
    """Interface of a model that continues text."""

    digest: str
    """Digest of the model's files."""
    eos: tuple[int, ...]

    def check(self, prompt: str, max_length: int, option: str) -> None:
        """Refuse a prompt that the model cannot continue by ``max_length`` tokens.

        Args:
            prompt: the prompt.
            max_length: largest number of new tokens.
            option: the option that gives the prompt, ``"--prompt"`` or ``"--input"``.
        """
        ...

    def problem(self, prompts: Sequence[str]) -> Problem:
        """Return the decoding problem of the prompts."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """Return tokens as text, without end tokens."""
        ...


def load_model(folder: Path) -> TextModel:
    """Load the model in a folder.

    Raises:
        InputError: the folder holds no model, or a Hugging Face model without its tokenizer.
        SaveError: Leadline's own model is damaged or was written by another release.
        LeadlineError: the folder holds a Hugging Face model, but transformers is not installed.
    """
    try:
        is_own = (folder / FILE).is_file()
        is_foreign = (folder / "config.json").is_file()
        is_folder = folder.is_dir()
        exists = folder.exists()
    except OSError as error:
        raise InputError(
            "--model must name a folder that can be read",
            got=f"--model {folder} ({error.strerror or error})",
        ) from error
    if is_own:
        return _OwnModel(folder)
    if is_foreign:
        return _HuggingFaceModel(folder)
    if is_folder:
        problem = "a folder without either file"
    elif exists:
        problem = "a file"
    else:
        problem = "which does not exist"
    hub = "perhaps a name of the Hugging Face hub; Leadline reads local folders only"
    raise InputError(
        f"--model must name a folder with {FILE} (RecurrentLM.save) or config.json (Hugging Face)",
        got=f"--model {folder}, {problem}",
        cause=None if exists else hub,
        cure="name the folder of a saved model",
    )


class _OwnModel:
    """A :class:`~leadline.decoding.RecurrentLM` with the interface of a text model."""

    def __init__(self, folder: Path):
        self.lm = RecurrentLM.load(folder)
        self.digest = _digest([folder / FILE])  # this file names the digest of the weights
        self.eos = (self.lm.end,)

    def check(self, prompt: str, max_length: int, option: str) -> None:
        """Refuse a prompt that the model cannot read or continue."""
        unknown = self.lm.unknown(prompt)
        if unknown:
            words = ", ".join(repr(word) for word in unknown[:MOST_WORDS])
            more = ", …" if len(unknown) > MOST_WORDS else ""
            raise InputError(
                f"{option} must contain only the {len(self.lm.vocabulary):,} tokens of the model's "
                "vocabulary",
                got=f"{words}{more} in the prompt {_short(prompt)}",
                cause="the training text did not contain these words, or too rarely",
                cure="use other words, or train with a larger vocabulary",
            )

    def problem(self, prompts: Sequence[str]) -> Problem:
        """Return the problem of continuing the prompts."""
        return self.lm.problem(prompts)

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of new tokens, without the end token."""
        words = [self.lm.vocabulary[token] for token in tokens]
        separator = " " if self.lm.settings.level == "word" else ""
        return separator.join(word for word in words if word != END)


class _HuggingFaceModel:
    """A model and a tokenizer of transformers with the interface of a text model."""

    def __init__(self, folder: Path):
        try:
            import transformers
        except ImportError as error:
            raise LeadlineError(
                f"--model {folder} is a Hugging Face model, which needs transformers: "
                "pip install 'leadline[hf]'"
            ) from error
        self.tokenizer = _tokenizer(transformers, folder)
        self.model = _weights(transformers, folder)
        with context(f"in the model of {folder}"):
            self.eos = self._end_tokens()
        config = self.model.config
        self.is_pair = bool(getattr(config, "is_encoder_decoder", False))
        self.digest = _digest(sorted(path for path in folder.iterdir() if path.is_file()))
        self.num_positions = getattr(config, "max_position_embeddings", None)

    def _end_tokens(self) -> tuple[int, ...]:
        """Return the end tokens. Refuse a model that cannot be searched before prompts are read."""
        from leadline.decoding import huggingface

        last = self.model.get_input_embeddings().num_embeddings - 1
        trial_prompt = torch.tensor([[min(1, last), min(2, last)]])
        step: Any = huggingface(self.model, trial_prompt).step
        end = self.tokenizer.eos_token_id
        return step.eos or (() if end is None else (end,))

    def check(self, prompt: str, max_length: int, option: str) -> None:
        """Refuse a prompt that the model cannot read or continue."""
        tokens = self._encode(prompt)
        if not tokens:
            raise InputError(
                f"{option} must have at least one token for this model",
                got=f"the prompt {prompt!r}",
            )
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in tokens:
            words = [word for word in prompt.split() if unknown in self._encode(word)] or [prompt]
            listed = ", ".join(repr(word) for word in words[:MOST_WORDS])
            raise InputError(
                f"{option} must contain only words that the tokenizer knows",
                got=f"{listed} in the prompt {_short(prompt)}",
                cure="use other words",
            )
        # A decoder-only model reads the prompt and all new tokens but the last.
        length = max_length if self.is_pair else len(tokens) + max_length - 1
        if self.num_positions is not None and max(length, len(tokens)) > self.num_positions:
            raise InputError(
                f"{option} and --max-length must fit into the model's {self.num_positions} "
                "positions",
                got=f"a prompt of {len(tokens)} tokens and --max-length {max_length}",
                cure="shorten the prompt, or reduce --max-length",
            )

    def problem(self, prompts: Sequence[str]) -> Problem:
        """Return the problem of continuing the prompts."""
        from leadline.decoding import huggingface

        tokens = [self._encode(prompt) for prompt in prompts]
        longest = max(map(len, tokens))
        ids, mask = torch.zeros(2, len(tokens), longest, dtype=torch.int64)
        for row, prompt_tokens in enumerate(tokens):
            # Inputs of an encoder are padded on the right, inputs of a decoder on the left.
            start = 0 if self.is_pair else longest - len(prompt_tokens)
            columns = slice(start, start + len(prompt_tokens))
            ids[row, columns] = torch.tensor(prompt_tokens)
            mask[row, columns] = 1
        problem = huggingface(self.model, ids, mask)
        step: Any = problem.step
        step.vocabulary = _Words(self.tokenizer)
        return problem

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of new tokens, without the end token."""
        return self.tokenizer.decode([token for token in tokens if token not in self.eos])

    def _encode(self, prompt: str) -> list[int]:
        return list(self.tokenizer(prompt)["input_ids"])


LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Settings that forbid downloads and the execution of code in a folder."""


def _tokenizer(transformers: Any, folder: Path) -> Any:
    """Load the tokenizer in a folder."""
    names = (
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "spiece.model",
        "vocab.json",
        "vocab.txt",
    )
    cause = "the folder contains none of " + ", ".join(names)
    if any((folder / name).is_file() for name in names):
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **LOCAL)
            tokenizer("a")["input_ids"]
            return tokenizer
        except _INTERRUPTIONS:
            raise
        except BaseException as error:  # a panic of the library's Rust code is no Exception
            cause = _first_line(error)
    raise InputError(
        "--model must name a folder that contains the model and its tokenizer",
        got=f"--model {folder}, no readable tokenizer",
        cause=cause,
        cure="tokenizer.save_pretrained(folder)",
    )


def _weights(transformers: Any, folder: Path) -> Any:
    """Load the model in a folder. All its weights must be in the folder's safetensors files.

    Raises:
        InputError: weights are missing, unexpected or of another shape, or the folder is damaged.
    """
    if (folder / "adapter_config.json").exists():
        raise InputError(
            "--model must name a folder with a whole language model",
            got=f"--model {folder}, with adapter_config.json",
            cause="the folder contains an adapter, which would be ignored",
            cure="model.merge_and_unload().save_pretrained(folder)",
        )
    bars = transformers.logging.is_progress_bar_enabled()
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **LOCAL)
        is_pair = bool(getattr(config, "is_encoder_decoder", False))
        kind = transformers.AutoModelForSeq2SeqLM if is_pair else transformers.AutoModelForCausalLM
        with torch.random.fork_rng(devices=[]):  # transformers draws missing weights at random
            _check_size(folder, kind, config)
            model, report = kind.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **LOCAL
            )
        # from_pretrained() ignores an unreadable generation_config.json; read it here to refuse it.
        if (folder / "generation_config.json").exists():
            transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
        model.eval()
    except (*_INTERRUPTIONS, InputError):
        raise
    except BaseException as error:  # a damaged folder may fail in any way
        raise InputError(
            "--model must name a folder with a language model and its weights in safetensors",
            got=f"--model {folder}",
            cause=_first_line(error),
            cure="save it with model.save_pretrained(folder)",
        ) from error
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
    missing = {*report.get("missing_keys", ()), *_silently_missing(model, folder)}
    _check_complete(folder, type(model).__name__, {**report, "missing_keys": missing})
    return model


def _silently_missing(model: Any, folder: Path) -> list[str]:
    """Return saved tensors that the files lack and that transformers does not report."""
    from safetensors import safe_open

    saved: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            saved |= set(file.keys())
    not_missed = "|".join(getattr(model, "_keys_to_ignore_on_load_missing", None) or ())
    not_saved = "|".join(getattr(model, "_keys_to_ignore_on_save", None) or ())
    if not not_missed:
        return []
    state = model.state_dict()
    places = Counter(tensor.data_ptr() for tensor in state.values())
    wanted = [
        name
        for name, tensor in state.items()
        if re.search(not_missed, name) and places[tensor.data_ptr()] == 1
    ]
    return [
        name
        for name in wanted
        if name not in saved and not (not_saved and re.search(not_saved, name))
    ]


def _check_size(folder: Path, kind: Any, config: Any) -> None:
    """Refuse a configuration with more weights than the files hold, before memory is allocated.

    Integers in place of weights are refused, too.
    """
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    # Quantised weights pack several numbers into one, so their number cannot be compared.
    if not files or getattr(config, "quantization_config", None) is not None:
        return
    with torch.device("meta"):
        parameters = dict(kind.from_config(config).named_parameters())
    num_needed = sum(parameter.numel() for parameter in parameters.values())
    num_saved = 0
    for path in files:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            num_saved += sum(math.prod(tensor.get_shape()) for tensor in tensors.values())
            for name, tensor in tensors.items():
                if name in parameters:
                    _check_floating_point(folder, name, tensor.get_dtype())
    if num_needed > num_saved:
        raise InputError(
            "--model must name a folder with all weights of the model",
            got=f"--model {folder}: missing (config.json needs {num_needed:,} numbers, "
            f"the safetensors files contain {num_saved:,})",
            cause="the files are incomplete, or config.json belongs to another model",
            cure="save the whole model again: model.save_pretrained(folder)",
        )


def _check_floating_point(folder: Path, name: str, dtype: str) -> None:
    """Refuse integers in place of the weights of a parameter."""
    is_integer = dtype[0] in "IU" or dtype == "BOOL"
    if is_integer:
        raise InputError(
            "--model must name a folder with floating-point weights",
            got=f"--model {folder}: {name} has the type {dtype}",
            cause="the weights were quantised, but config.json does not describe it",
            cure="save the whole model again: model.save_pretrained(folder)",
        )


def _check_complete(folder: Path, model: str, report: Mapping[str, Any]) -> None:
    """Refuse missing, unexpected or mismatched weights; missing weights would be random."""
    problems = []
    for problem in ("missing", "unexpected", "mismatched"):
        names = sorted(str(name) for name in report.get(f"{problem}_keys") or ())
        if names:
            more = ", …" if len(names) > 1 else ""
            problems.append(f"{len(names)} {problem} ({names[0]}{more})")
    problems += [str(message).splitlines()[0] for message in report.get("error_msgs") or ()]
    if problems:
        raise InputError(
            f"--model must name a folder with exactly the weights of its model ({model})",
            got=f"--model {folder}, weights: {'; '.join(problems)}",
            cause="the files are incomplete, or config.json belongs to another model",
            cure="save the whole model again: model.save_pretrained(folder)",
        )


_INTERRUPTIONS = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)
"""Exceptions that say nothing about the folder, so they are not turned into errors about it."""


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's message; without a message, the type of the error."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class _Words:
    """A tokenizer with the interface of a vocabulary."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    def __getitem__(self, token: int) -> str:
        text = self.tokenizer.decode([token])
        return text.strip() or repr(text)


def _digest(paths: Sequence[Path]) -> str:
    """Return a digest of the names and the content of files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _short(text: str) -> str:
    """Return a text in quotation marks; a long text is cut off."""
    return repr(text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…")
