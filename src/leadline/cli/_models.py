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


class TextModel(Protocol):
    """Interface of a model that continues text."""

    digest: str
    """Digest of the model's files."""
    eos: tuple[int, ...]

    def check(self, prompt: str, max_length: int) -> None:
        """Refuse a prompt that the model cannot continue by ``max_length`` tokens."""
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
    def __init__(self, folder: Path):
        self.lm = RecurrentLM.load(folder)
        self.digest = _digest([folder / FILE])  # this file names the digest of the weights
        self.eos = (self.lm.end,)

    def check(self, prompt: str, max_length: int) -> None:
        unknown = self.lm.unknown(prompt)
        if unknown:
            words = ", ".join(repr(word) for word in unknown[:5])
            more = ", …" if len(unknown) > 5 else ""
            raise InputError(
                f"a prompt must consist of the {len(self.lm.vocabulary):,} known tokens",
                got=f"{words}{more} in the prompt {_short(prompt)}",
                cause="the training text did not contain them, or too rarely",
                cure="use other words, or train with a larger vocabulary",
            )

    def problem(self, prompts: Sequence[str]) -> Problem:
        return self.lm.problem(prompts)

    def text(self, tokens: Sequence[int]) -> str:
        words = [self.lm.vocabulary[token] for token in tokens]
        separator = " " if self.lm.settings.level == "word" else ""
        return separator.join(word for word in words if word != END)


class _HuggingFaceModel:
    def __init__(self, folder: Path):
        try:
            import transformers
        except ImportError as error:
            raise LeadlineError(
                f"{folder} holds a Hugging Face model, which needs transformers: "
                "pip install 'leadline[hf]'"
            ) from error
        self.tokenizer = _tokenizer(transformers, folder)
        self.model = _weights(transformers, folder)
        with context(f"in the model of {folder}"):
            self._try()
        config = self.model.config
        self.is_pair = bool(getattr(config, "is_encoder_decoder", False))
        self.digest = _digest(sorted(path for path in folder.iterdir() if path.is_file()))
        self.room = getattr(config, "max_position_embeddings", None)

    def _try(self) -> None:
        """Read the end tokens. Refuse a model that cannot be searched before prompts are read."""
        from leadline.decoding import huggingface

        known = self.model.get_input_embeddings().num_embeddings
        step = huggingface(self.model, torch.tensor([[min(1, known - 1), min(2, known - 1)]])).step
        end = self.tokenizer.eos_token_id
        self.eos: tuple[int, ...] = step.eos or (() if end is None else (end,))  # pyright: ignore

    def check(self, prompt: str, max_length: int) -> None:
        tokens = self._encode(prompt)
        if not tokens:
            raise InputError(
                "a prompt for this model must have at least one token", got=f"the prompt {prompt!r}"
            )
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in tokens:
            words = [word for word in prompt.split() if unknown in self._encode(word)] or [prompt]
            raise InputError(
                "a prompt must consist of words that the tokenizer knows",
                got=f"{', '.join(repr(word) for word in words[:5])} in the prompt {_short(prompt)}",
                cure="use other words",
            )
        # A decoder-only model reads the prompt and all new tokens but the last.
        length = max_length if self.is_pair else len(tokens) + max_length - 1
        if self.room is not None and max(length, len(tokens)) > self.room:
            raise InputError(
                f"prompt and answer must fit into the model's {self.room} positions",
                got=f"a prompt of {len(tokens)} tokens and --max-length {max_length}",
                cure="shorten one of them",
            )

    def problem(self, prompts: Sequence[str]) -> Problem:
        from leadline.decoding import huggingface

        tokens = [self._encode(prompt) for prompt in prompts]
        longest = max(map(len, tokens))
        ids, mask = torch.zeros(2, len(tokens), longest, dtype=torch.int64)
        for row, known in enumerate(tokens):
            # Inputs of an encoder are padded on the right, inputs of a decoder on the left.
            place = slice(0, len(known)) if self.is_pair else slice(longest - len(known), longest)
            ids[row, place] = torch.tensor(known)
            mask[row, place] = 1
        problem = huggingface(self.model, ids, mask)
        step: Any = problem.step
        step.vocabulary = _Words(self.tokenizer)
        return problem

    def text(self, tokens: Sequence[int]) -> str:
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
    cause = "the folder holds none of " + ", ".join(names)
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
        "--model must name a folder that holds the model's tokenizer, too",
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
            cause="the folder holds an adapter, which would be ignored",
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

    held: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            held |= set(file.keys())
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
        if name not in held and not (not_saved and re.search(not_saved, name))
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
    wanted = sum(parameter.numel() for parameter in parameters.values())
    held = 0
    for path in files:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            held += sum(math.prod(one.get_shape()) for one in slices.values())
            kinds = {name: one.get_dtype() for name, one in slices.items() if name in parameters}
            whole = [name for name, dtype in kinds.items() if dtype[0] in "IU" or dtype == "BOOL"]
            if whole:
                raise InputError(
                    "the weights of a Hugging Face model must be floating-point numbers",
                    got=f"--model {folder}: {whole[0]} has the type {kinds[whole[0]]}",
                    cause="the weights were quantised, but config.json does not describe it",
                    cure="save the whole model again: model.save_pretrained(folder)",
                )
    if wanted > held:
        raise InputError(
            "a Hugging Face folder must hold all weights of its model",
            got=f"--model {folder}: missing (config.json needs {wanted:,} numbers, "
            f"the safetensors files hold {held:,})",
            cause="the files are incomplete, or config.json belongs to another model",
            cure="save the whole model again: model.save_pretrained(folder)",
        )


def _check_complete(folder: Path, model: str, report: Mapping[str, Any]) -> None:
    """Refuse missing, unexpected or mismatched weights; missing weights would be random."""
    found = []
    for key, words in (
        ("missing_keys", "missing"),
        ("unexpected_keys", "unexpected"),
        ("mismatched_keys", "mismatched"),
    ):
        names = sorted(str(name) for name in report.get(key) or ())
        if names:
            found.append(f"{len(names)} {words} ({names[0]}{', …' if len(names) > 1 else ''})")
    found += [str(message).splitlines()[0] for message in report.get("error_msgs") or ()]
    if found:
        raise InputError(
            f"a Hugging Face folder must hold exactly the weights of its model ({model})",
            got=f"--model {folder}, weights: {'; '.join(found)}",
            cause="the files are incomplete, or config.json belongs to another model",
            cure="save the whole model again: model.save_pretrained(folder)",
        )


_INTERRUPTIONS = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)


def _first_line(error: BaseException) -> str:
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
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
