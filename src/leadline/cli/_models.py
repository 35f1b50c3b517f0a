"""Models from folders, for the command line: Leadline's own language model, or a Hugging Face model with its tokenizer.

Nothing is downloaded and nothing in a folder is executed: weights are read from safetensors alone.
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
    try:
        is_own = (folder / FILE).is_file()
        is_foreign = (folder / "config.json").is_file()
        is_folder, exists = folder.is_dir(), folder.exists()
    except OSError as error:
        raise InputError(
            "--model names a folder that can be read",
            got=f"--model {folder} ({error.strerror or error})",
        ) from error
    if is_own:
        return _OwnModel(folder)
    if is_foreign:
        return _HuggingFaceModel(folder)
    what = "a folder without either" if is_folder else "a file" if exists else "no such folder"
    raise InputError(
        f"--model names a folder with {FILE} (RecurrentLM.save) or config.json (a Hugging Face model)",
        got=f"--model {folder}, {what}",
        cause=None
        if exists
        else "a name of the Hugging Face hub: Leadline reads local folders only",
        cure="save a model there, or name the folder that holds one",
    )


class _OwnModel:
    def __init__(self, folder: Path):
        self.lm = RecurrentLM.load(folder)
        self.digest, self.eos = (
            _digest([folder / FILE]),
            (self.lm.end,),
        )  # the file names the digest of its weights

    def check(self, prompt: str, max_length: int) -> None:
        unknown = self.lm.unknown(prompt)
        if unknown:
            words = ", ".join(repr(word) for word in unknown[:5]) + (
                ", …" if len(unknown) > 5 else ""
            )
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
        return (" " if self.lm.settings.level == "word" else "").join(
            word for word in words if word != END
        )


class _HuggingFaceModel:
    def __init__(self, folder: Path):
        try:
            import transformers
        except ImportError as error:
            raise LeadlineError(
                f"{folder} holds a Hugging Face model, which needs transformers: pip install 'leadline[hf]'"
            ) from error
        self.tokenizer = _tokenizer(transformers, folder)
        self.model = _weights(transformers, folder)
        with context(f"in the model of {folder}"):
            self._try()
        config = self.model.config
        self.pairs = bool(getattr(config, "is_encoder_decoder", False))
        self.digest = _digest(sorted(path for path in folder.iterdir() if path.is_file()))
        self.room = getattr(config, "max_position_embeddings", None)

    def _try(self) -> None:
        """Refuse a model that cannot be searched before any prompt is read; learn its end tokens."""
        from leadline.decoding import huggingface

        known = self.model.get_input_embeddings().num_embeddings
        step = huggingface(self.model, torch.tensor([[min(1, known - 1), min(2, known - 1)]])).step
        end = self.tokenizer.eos_token_id
        self.eos: tuple[int, ...] = step.eos or (() if end is None else (end,))  # pyright: ignore

    def check(self, prompt: str, max_length: int) -> None:
        tokens = self._encode(prompt)
        if not tokens:
            raise InputError(
                "this model continues a prompt of one token or more", got=f"the prompt {prompt!r}"
            )
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in tokens:
            words = [word for word in prompt.split() if unknown in self._encode(word)] or [prompt]
            raise InputError(
                "a prompt is made of words that the tokenizer knows",
                got=", ".join(repr(word) for word in words[:5])
                + f" in the prompt {_short(prompt)}",
                cure="use other words",
            )
        length = (
            max_length if self.pairs else len(tokens) + max_length - 1
        )  # the last is not read any more
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
        for row, known in enumerate(
            tokens
        ):  # encoders are padded on the right, decoders on the left
            place = slice(0, len(known)) if self.pairs else slice(longest - len(known), longest)
            ids[row, place], mask[row, place] = torch.tensor(known), 1
        problem = huggingface(self.model, ids, mask)
        problem.step.vocabulary = _Words(self.tokenizer)  # pyright: ignore[reportFunctionMemberAccess]
        return problem

    def say(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode([token for token in tokens if token not in self.eos])

    def _encode(self, prompt: str) -> list[int]:
        return list(self.tokenizer(prompt)["input_ids"])


LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Nothing is downloaded, and no code of a folder is executed."""


def _tokenizer(transformers: Any, folder: Path) -> Any:
    """The tokenizer in a folder."""
    kept = (
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "spiece.model",
        "vocab.json",
        "vocab.txt",
    )
    cause = "it holds none of " + ", ".join(kept)
    if any((folder / name).is_file() for name in kept):
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **LOCAL)
            tokenizer("a")["input_ids"]
            return tokenizer
        except _INTERRUPTIONS:
            raise
        except (
            BaseException
        ) as error:  # a damaged file may make the library's Rust code panic: no Exception
            cause = _first_line(error)
    raise InputError(
        "a prompt needs the tokenizer that the model was trained with",
        got=f"--model {folder}, no readable tokenizer",
        cause=cause,
        cure="tokenizer.save_pretrained(folder)",
    )


def _weights(transformers: Any, folder: Path) -> Any:
    """The model in a folder, all of whose weights are in its safetensors files.

    Raises:
        InputError: weights are missing, left over or of another shape, or the folder is damaged.
    """
    if (folder / "adapter_config.json").exists():
        raise InputError(
            "a Hugging Face folder holds a whole language model",
            got=f"--model {folder}, with adapter_config.json",
            cause="an adapter was saved, and it would be left out",
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
        with torch.random.fork_rng(devices=[]):  # weights that are missing are drawn
            _check_size(folder, kind, config)
            model, report = kind.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **LOCAL
            )
        if (
            folder / "generation_config.json"
        ).exists():  # which is left out where it cannot be read
            transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
        model.eval()
    except (*_INTERRUPTIONS, InputError):
        raise
    except BaseException as error:  # a damaged folder may fail in any way
        raise InputError(
            "a Hugging Face folder holds a language model and its weights in safetensors",
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
    """Tensors that are saved with a model, and that the library does not miss where a file lacks them."""
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
    """Refuse a configuration that asks for more numbers than the files hold, before memory is taken for them; and whole
    numbers in place of weights."""
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    if (
        not files or getattr(config, "quantization_config", None) is not None
    ):  # which packs several numbers into one
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
                    "the weights in a Hugging Face folder are floating-point numbers",
                    got=f"--model {folder}: {whole[0]} holds numbers of type {kinds[whole[0]]}",
                    cause="they were quantised, and config.json does not say how",
                    cure="save the whole model again: model.save_pretrained(folder)",
                )
    if wanted > held:
        raise InputError(
            "the weights in a Hugging Face folder are those of its model",
            got=f"--model {folder}: missing ({wanted:,} numbers in config.json, {held:,} in safetensors files)",
            cause="the files are incomplete, or config.json is another model's",
            cure="save the whole model again: model.save_pretrained(folder)",
        )


def _check_complete(folder: Path, model: str, report: Mapping[str, Any]) -> None:
    """Refuse weights that are missing, left over or of another shape: what is missing would be random."""
    found = []
    for key, words in (
        ("missing_keys", "missing"),
        ("unexpected_keys", "left over"),
        ("mismatched_keys", "reshaped"),
    ):
        names = sorted(str(name) for name in report.get(key) or ())
        if names:
            found.append(f"{len(names)} {words} ({names[0]}{', …' if len(names) > 1 else ''})")
    found += [str(message).splitlines()[0] for message in report.get("error_msgs") or ()]
    if found:
        raise InputError(
            f"the weights in a Hugging Face folder are those of its model ({model})",
            got=f"--model {folder}, weights {'; '.join(found)}",
            cause="the files are incomplete, or config.json is another model's",
            cure="save the whole model again: model.save_pretrained(folder)",
        )


_INTERRUPTIONS = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


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
