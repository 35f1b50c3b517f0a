"""Damaged and malformed encoders and checkpoints are refused without much memory."""

import json
import os
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from leadline.autoencoders import (
    Autoencoder,
    DenseArchitecture,
    Encoder,
    Epoch,
    GaussianNoise,
    LocalArchitecture,
    MaskedPatchTransformer,
    PatchArchitecture,
    pretrain,
)
from leadline.autoencoders._sealed import _digest, _place_of_digest
from leadline.autoencoders.training._checkpoint import Journal
from leadline.autoencoders.training._opening import Opener
from leadline.autoencoders.training._pretrain import _open_member
from leadline.autoencoders.training._settings import PretrainingSettings
from leadline.autoencoders.training._training import engine_of
from leadline.errors import SaveError

RNG = np.random.default_rng(0)
X = RNG.random((40, 8)).astype(np.float32)
MOST_MEMORY = 20 * 2**20
"""Maximum memory in bytes while a file of a few kilobytes is read."""


def dense() -> Autoencoder:
    return Autoencoder(8, (3,), corruption=GaussianNoise(0.1), seed=0)


def patches() -> MaskedPatchTransformer:
    return MaskedPatchTransformer(
        (4, 2), 2, width=4, depth=1, heads=1, decoder_width=4, decoder_heads=1, seed=0
    )


def local() -> Encoder:
    architecture = LocalArchitecture((4, 2), 2, width=2, cells=1, components=2)
    weights = {name: np.ones(shape, np.float32) for name, shape in architecture.encoder_shapes()}
    return Encoder(architecture, weights, np.arange(3, dtype=np.uint64))


ENCODERS: dict[str, Callable[[], Encoder]] = {
    "dense": lambda: pretrain(dense(), X, epochs=1).encoder,
    "patches": lambda: pretrain(patches(), X, epochs=1).encoder,
    "local": local,
}


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.utils.skip_init(nn.Linear, 8, 8)
        assert isinstance(layer, nn.Linear)
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


RUNS: dict[str, Callable[[], nn.Module]] = {"dense": dense, "patches": patches, "own": Own}


@pytest.fixture(params=ENCODERS)
def encoder_file(request, tmp_path: Path) -> Path:
    path = tmp_path / "encoder.safetensors"
    ENCODERS[request.param]().save(path)
    return path


@pytest.fixture(params=RUNS)
def run(request, tmp_path: Path) -> tuple[Path, Callable[[], object]]:
    """Return the checkpoint of an interrupted run, and a function that resumes it."""

    class StoppedError(Exception):
        pass

    def stop(epoch: Epoch) -> None:
        if epoch.epoch == 1:
            raise StoppedError

    model = RUNS[request.param]()
    settings = {
        "epochs": 2,
        "batch_size": 20,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "patience": 9,
    }
    settings |= {"centre": True, "shuffle": True, "seed": 0}
    with pytest.raises(StoppedError):
        pretrain(model, X, checkpoint=tmp_path, progress=stop, **settings)
    fresh = RUNS[request.param]()
    checked = PretrainingSettings(**settings)
    configuration = _open_member(0, fresh, X, None, 0.1, checked, Opener(None)).configuration()

    def begin() -> None:
        member = _open_member(0, fresh, X, None, 0.1, checked, Opener(None))
        member.journal = Journal(tmp_path, configuration)
        member.restore()
        if not member.has_ended:
            member.begin(engine_of([member]), 0)

    begin()
    return tmp_path / "checkpoint.safetensors", begin


def parts(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Return the header, its document, and the bytes of the tensors."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["leadline"]), content[8 + length :]


def assembled(header: dict[str, Any], document: Any, tensors: bytes) -> bytes:
    """Return a file with a correct digest, if its document has a digest."""
    text = document if isinstance(document, str) else json.dumps(document, sort_keys=True)
    header = {**header, "__metadata__": {"leadline": text}}
    head = json.dumps(header, separators=(",", ":")).encode()
    content = struct.pack("<Q", len(head)) + head + tensors
    try:
        start, end = _place_of_digest(content)
    except ValueError:
        return content
    return content[:start] + _digest(content, start, end).encode() + content[end:]


BAD_VALUES = (
    None,
    True,
    -1,
    0,
    2.5,
    1e400,
    10**30,
    2**62,
    "?!",
    "",
    [],
    [3],
    [30000, 30000],
    [[1], 2],
    {},
    {"a": 1},
)
DEEP = "[" * 100_000


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths to all values of a JSON document."""
    if path:
        yield path
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in inner:
        yield from places(item, (*path, key))


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    copy = json.loads(json.dumps(value))
    target = copy
    for key in path[:-1]:
        target = target[key]
    change(target, path[-1])
    return copy


def variants(value: Any) -> Iterator[Any]:
    """Yield the document with each value replaced, removed or doubled."""
    for path in places(value):
        if path == ("digest",):
            continue
        for bad in BAD_VALUES:
            yield changed(value, path, lambda target, key, bad=bad: target.__setitem__(key, bad))
        yield changed(value, path, lambda target, key: target.pop(key))
        if isinstance(path[-1], str):
            yield changed(
                value, path, lambda target, key: target.__setitem__(key + "?", target.pop(key))
            )


def some(values: Iterator[Any], most: int = 400) -> list[Any]:
    """Return at most about ``most`` evenly spread values."""
    listed = list(values)
    return listed[:: 1 + len(listed) // most]


def structural(content: bytes) -> Iterator[bytes]:
    """Yield malformed files with a correct digest."""
    header, document, tensors = parts(content)
    bare = {name: entry for name, entry in header.items() if name != "__metadata__"}
    for other in some(variants(document)):
        yield assembled(bare, other, tensors)
    for text in (
        "null",
        "[]",
        "3",
        "",
        "{",
        DEEP,
        '{"schema": ' + DEEP,
        json.dumps({"schema": 2, "deep": DEEP}),
    ):
        yield assembled(bare, text, tensors)
    for other in some(variants(bare)):
        if "__metadata__" not in other:
            yield assembled(other, document, tensors)


def damaged(content: bytes, flips: int) -> Iterator[bytes]:
    """Yield files with one flipped bit, and files that are cut or extended."""
    bits = np.unique(np.r_[RNG.integers(0, 8 * len(content), flips), np.arange(64)])
    for bit in bits.tolist():
        copy = bytearray(content)
        copy[bit // 8] ^= 1 << bit % 8
        yield bytes(copy)
    for length in np.unique(
        np.r_[np.arange(12), RNG.integers(0, len(content), 40), len(content) - 1]
    ).tolist():
        yield content[:length]
    yield content + b"\0"
    yield content + content


def refusals(
    path: Path, contents: Iterator[bytes], read: Callable[[], object], allowed: Callable[[], bool]
) -> int:
    """Count the refusals; any other error, and memory beyond the limit, fails the test."""
    count = 0
    for number, content in enumerate(contents):
        path.write_bytes(content)
        is_traced = number % 50 == 0
        if is_traced:
            tracemalloc.start()
        try:
            read()
        except SaveError as error:
            is_named = path.name in str(error)
            count += is_named
        else:
            assert allowed(), f"a damaged file was read: {content[:2000]!r}"
        finally:
            if is_traced:
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                assert peak < MOST_MEMORY
    return count


def test_a_change_of_any_bit_of_an_encoder_is_detected(encoder_file: Path):
    content = encoder_file.read_bytes()
    assert (
        refusals(
            encoder_file, damaged(content, 600), lambda: Encoder.load(encoder_file), lambda: False
        )
        > 600
    )


def test_a_change_of_any_bit_of_a_checkpoint_is_detected(run):
    path, resume = run
    assert refusals(path, damaged(path.read_bytes(), 300), resume, lambda: False) > 300
    path.unlink()
    resume()


def test_malformed_encoders_are_refused(encoder_file: Path):
    """A file with a correct digest is either a valid encoder or refused."""
    content = encoder_file.read_bytes()

    def is_an_encoder() -> bool:
        encoder = Encoder.load(encoder_file)
        return encoder.encode(np.zeros((1, 8), np.float32)).shape == (1, encoder.output_size)

    assert (
        refusals(
            encoder_file, structural(content), lambda: Encoder.load(encoder_file), is_an_encoder
        )
        > 250
    )


def test_malformed_checkpoints_are_refused(run, monkeypatch: pytest.MonkeyPatch):
    """A changed configuration is refused as the checkpoint of another run."""
    monkeypatch.setattr(Journal, "_refuse_another", lambda *_: None)
    path, resume = run
    header, document, tensors = parts(path.read_bytes())
    document["configuration"] = {}
    assert (
        refusals(path, structural(assembled_again(header, document, tensors)), resume, lambda: True)
        > 150
    )


def assembled_again(header: dict[str, Any], document: Any, tensors: bytes) -> bytes:
    return assembled(
        {name: entry for name, entry in header.items() if name != "__metadata__"}, document, tensors
    )


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("dense", {"hidden_sizes": [30_000, 30_000]}),
        ("dense", {"input_size": 2**30, "hidden_sizes": [2]}),
        ("patches", {"image_size": [2**20, 2**10], "patch_size": [2, 2]}),
        ("patches", {"width": 2**15, "depth": 100, "heads": 1}),
        ("patches", {"depth": 4096}),
        ("local", {"image_size": [40_000, 40_000]}),
        ("local", {"width": 10**6, "components": 2000}),
    ],
)
def test_declared_sizes_are_checked_before_memory_is_allocated(
    tmp_path: Path, kind: str, sizes: dict[str, Any]
):
    path = tmp_path / "encoder.safetensors"
    ENCODERS[kind]().save(path)
    header, document, tensors = parts(path.read_bytes())
    document["architecture"].update(sizes)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("layers were made before their sizes were compared")

    with pytest.MonkeyPatch.context() as patch:
        for architecture in (DenseArchitecture, PatchArchitecture, LocalArchitecture):
            patch.setattr(architecture, "encoder", never)
        patch.setattr(torch, "empty", never)
        path.write_bytes(assembled_again(header, document, tensors))
        with pytest.raises(SaveError, match="damaged or from another release"):
            Encoder.load(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    from safetensors.numpy import save_file

    save_file({"a": X}, tmp_path / "plain")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("encoder")
    for name, text in {
        "plain": "its header has no document of Leadline",
        "folder": "not a regular file",
        "pipe": "not a regular file",
        "text": "not a safetensors file",
        "text/below": "does not exist",
        "none": "does not exist",
    }.items():
        with pytest.raises(SaveError, match=text):
            Encoder.load(tmp_path / name)


def test_checkpoints_and_encoders_are_not_confused(tmp_path: Path):
    pretrained = pretrain(dense(), X, epochs=1, checkpoint=tmp_path)
    with pytest.raises(SaveError, match="damaged or from another release"):
        Encoder.load(tmp_path / "checkpoint.safetensors")
    pretrained.encoder.save(tmp_path / "checkpoint.safetensors")
    with pytest.raises(SaveError, match="no readable checkpoint"):
        pretrain(dense(), X, epochs=1, checkpoint=tmp_path)


def test_declared_shapes_match_the_built_weights():
    architectures = [
        DenseArchitecture(5, (4, 3), "tanh"),
        DenseArchitecture(5, (4,), "linear", unit_length=True),
        PatchArchitecture((4, 6), 2, 3, width=8, depth=2, heads=2),
        LocalArchitecture((9, 7), 3, 3, width=5, cells=2),
        LocalArchitecture((9, 7), 3, 3, width=5, cells=2, components=4),
    ]
    for architecture in architectures:
        made = {
            name: tuple(tensor.shape)
            for name, tensor in architecture.encoder(torch.Generator()).state_dict().items()
        }
        assert dict(architecture.encoder_shapes()) == made
