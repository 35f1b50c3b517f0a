"""``leadline decode`` refuses damaged Hugging Face folders and never uses random weights."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tokenizers
import torch
import transformers

from leadline import cli

WORDS = ("<unk>", "<end>", "the", "cat", "sat", "dog")


def tokenizer() -> Any:
    level = tokenizers.models.WordLevel(
        {word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"
    )
    raw = tokenizers.Tokenizer(level)
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", eos_token="<end>"
    )


def gpt2() -> Any:
    config = transformers.GPT2Config(
        vocab_size=len(WORDS),
        n_positions=16,
        n_embd=8,
        n_layer=1,
        n_head=2,
        bos_token_id=1,
        eos_token_id=1,
    )
    return transformers.GPT2LMHeadModel(config)


def llama() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    return transformers.LlamaForCausalLM(config)


def bart() -> Any:
    config = transformers.BartConfig(
        vocab_size=len(WORDS),
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
        max_position_embeddings=16,
        decoder_start_token_id=1,
        eos_token_id=1,
        forced_eos_token_id=None,
        pad_token_id=0,
        bos_token_id=1,
    )
    return transformers.BartForConditionalGeneration(config)


MODELS = {"gpt2": gpt2, "llama": llama, "bart": bart}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A complete folder of each model, by name."""
    made = {}
    for name, build in MODELS.items():
        made[name] = tmp_path_factory.mktemp(name)
        tokenizer().save_pretrained(made[name])
        with torch.random.fork_rng():
            torch.manual_seed(0)
            build().save_pretrained(made[name])
    return made


@pytest.fixture
def folder(folders, tmp_path) -> Path:
    """A copy of a model folder that a test may damage."""
    return shutil.copytree(folders["gpt2"], tmp_path / "model")


def decode(folder: Path, *more: str) -> int:
    return cli.run(
        ["decode", "--model", str(folder), "--prompt", "the cat", "--max-length", "3", *more]
    )


def message(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_with_a_missing_tensor_is_refused(name, folders, tmp_path, capsys):
    place = shutil.copytree(folders[name], tmp_path / "model")
    weights = safetensors.torch.load_file(place / "model.safetensors")
    assert len(weights) > 8
    for left_out in weights:
        rest = {key: value for key, value in weights.items() if key != left_out}
        safetensors.torch.save_file(rest, place / "model.safetensors", metadata={"format": "pt"})
        assert decode(place) == cli.BAD_USAGE, left_out
        assert "missing (" in message(capsys)
    safetensors.torch.save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    assert decode(place) == cli.DONE


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder: Path, change: Any) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    change(weights)
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def shard(folder: Path, with_file: bool) -> None:
    """Write an index with a tensor that its file does not hold, or with a missing file."""
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    names = list(weights)
    first = "model-00001-of-00002.safetensors"
    second = "model-00002-of-00002.safetensors"
    safetensors.torch.save_file({name: weights[name] for name in names[:-1]}, folder / first)
    if with_file:
        safetensors.torch.save_file({"other": torch.zeros(1)}, folder / second)
    places = dict.fromkeys(names[:-1], first) | {names[-1]: second}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": places})
    )
    (folder / "model.safetensors").unlink()


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def panic(folder: Path) -> None:
    """Change the tokenizer so that the Rust code of its library panics."""
    document = json.loads((folder / "tokenizer.json").read_text())
    document["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AQAAAAEAAAA="}
    (folder / "tokenizer.json").write_text(json.dumps(document))


class Harm:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Harm(str(folder / "harm"))}))


def own_code(folder: Path) -> None:
    (folder / "modeling_own.py").write_text(f"import os; os.mkdir({str(folder / 'harm')!r})")
    auto_map = {"AutoConfig": "modeling_own.C", "AutoModelForCausalLM": "modeling_own.M"}
    edit(folder / "config.json", model_type="own", auto_map=auto_map)


DAMAGE = {
    "a tensor too many": lambda f: change_weights(f, lambda w: w.update(extra=torch.zeros(2))),
    "a tensor of another shape": lambda f: change_weights(
        f, lambda w: w.update({"transformer.ln_f.weight": torch.zeros(9)})
    ),
    "another model type": lambda f: edit(f / "config.json", model_type="llama"),
    "a similar model type": lambda f: edit(f / "config.json", model_type="gpt_neo"),
    "an unknown model type": lambda f: edit(f / "config.json", model_type="none_such"),
    "more layers than weights": lambda f: edit(f / "config.json", n_layer=2),
    "fewer layers than weights": lambda f: edit(f / "config.json", n_layer=0),
    "no heads": lambda f: edit(f / "config.json", n_head=0),
    "a negative number of layers": lambda f: edit(f / "config.json", n_layer=-1),
    "a size in words": lambda f: edit(f / "config.json", n_embd="eight"),
    "a config that is a list": lambda f: (f / "config.json").write_text("[1]"),
    "a config of brackets": lambda f: (f / "config.json").write_text("[" * 100_000),
    "generation settings that are a list": lambda f: (f / "generation_config.json").write_text(
        "[1, 2]"
    ),
    "half of the generation settings": lambda f: cut(f / "generation_config.json", 0.5),
    "weights that are whole numbers": lambda f: change_weights(
        f,
        lambda w: w.update({"transformer.wpe.weight": w["transformer.wpe.weight"].to(torch.int8)}),
    ),
    "end tokens in words": lambda f: edit(f / "generation_config.json", eos_token_id="stop"),
    "an index that names a missing tensor": lambda f: shard(f, True),
    "an index that names a missing file": lambda f: shard(f, False),
    "half of the weights": lambda f: cut(f / "model.safetensors", 0.5),
    "nothing of the weights": lambda f: cut(f / "model.safetensors", 0),
    "weights that are no safetensors": lambda f: (f / "model.safetensors").write_bytes(
        b"\xff" * 200
    ),
    "half of the tokenizer": lambda f: cut(f / "tokenizer.json", 0.5),
    "a tokenizer that panics": panic,
    "a tokenizer that is a list": lambda f: (f / "tokenizer.json").write_text("[]"),
    "an adapter": lambda f: (f / "adapter_config.json").write_text("{}"),
    "pickled weights": only_pickle,
    "code of its own": own_code,
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_folder_is_refused_and_nothing_in_it_is_executed(name, folder, tmp_path, capfd):
    DAMAGE[name](folder)
    before = sorted(tmp_path.rglob("*"))
    assert decode(folder) == cli.BAD_USAGE
    error = capfd.readouterr().err
    assert str(folder) in error
    assert "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.filterwarnings("ignore")
def test_an_error_names_weights_that_are_not_finite(folder, capsys):
    change_weights(folder, lambda w: w["transformer.ln_f.weight"].fill_(torch.nan))
    assert decode(folder) == cli.BAD_USAGE
    assert "NaN from a GPT2LMHeadModel" in message(capsys)


def test_a_model_that_cannot_be_searched_is_refused_before_a_file_is_written(
    folder, tmp_path, capsys
):
    config = transformers.RwkvConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=2, attention_hidden_size=8
    )
    with torch.random.fork_rng():
        transformers.RwkvForCausalLM(config).save_pretrained(folder)
    (tmp_path / "in.jsonl").write_text('{"prompt": "the cat"}\n')
    output = tmp_path / "out.jsonl"
    arguments = ["decode", "--model", folder, "--input", tmp_path / "in.jsonl", "--output", output]
    assert cli.run([str(argument) for argument in arguments]) == cli.BAD_USAGE
    assert "RwkvForCausalLM" in message(capsys)
    assert not output.exists()


def test_ignored_settings_are_named(folder, capsys):
    edit(folder / "generation_config.json", no_repeat_ngram_size=3, length_penalty=2.0)
    assert decode(folder) == cli.DONE
    printed = capsys.readouterr().out
    assert (
        "note: settings of generation_config are ignored: no_repeat_ngram_size = 3, length_penalty "
        "= 2.0" in printed
    )
    assert decode(folder, "--json") == cli.DONE
    assert json.loads(capsys.readouterr().out)["notes"]
