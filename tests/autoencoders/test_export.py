import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from leadline.autoencoders import Autoencoder, MaskedPatchTransformer, ModuleEncoder, pretrain
from leadline.errors import InputError

X = np.random.default_rng(0).random((30, 12)).astype(np.float32)


def run(path: Path, rows: np.ndarray) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["code"], {"rows": rows})[0]


def test_onnx_models_give_the_same_codes_for_any_number_of_rows(tmp_path: Path):
    encoder = pretrain(Autoencoder(12, (9, 4), seed=0), X, epochs=2).encoder
    encoder.to_onnx(tmp_path / "dense.onnx")
    for n in (1, 7, 30):
        np.testing.assert_allclose(
            run(tmp_path / "dense.onnx", X[:n]), encoder.encode(X[:n]), atol=1e-6
        )


@pytest.mark.parametrize("pooling", ["mean", "class", "none"])
def test_a_patch_transformer_is_exported_for_any_number_of_images(tmp_path: Path, pooling):
    model = MaskedPatchTransformer(
        (4, 6), 2, 3, width=8, depth=1, heads=2, decoder_width=4, decoder_heads=1, seed=0
    )
    images = np.random.default_rng(1).random((20, 72)).astype(np.float32)
    encoder = pretrain(model, images, epochs=1).encoder.with_pooling(pooling)
    encoder.to_onnx(tmp_path / "patches.onnx")
    for n in (1, 5, 20):
        codes = run(tmp_path / "patches.onnx", images[:n])
        assert codes.shape == ((n, 6, 8) if pooling == "none" else (n, 8))
        np.testing.assert_allclose(codes, encoder.encode(images[:n]), atol=1e-5)


def test_a_custom_module_is_exported_by_its_encode_method(tmp_path: Path):
    with torch.random.fork_rng(devices=[]):

        class Own(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(12, 3)

            def encode(self, x):
                return torch.tanh(self.layer(x))

        encoder = ModuleEncoder(Own())
        encoder.to_onnx(tmp_path / "own.onnx", X)
    np.testing.assert_allclose(run(tmp_path / "own.onnx", X), encoder.encode(X), atol=1e-6)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    encoder = pretrain(Autoencoder(12, (4,), seed=0), X, epochs=1).encoder
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"pip install 'leadline\[onnx\]'"):
        encoder.to_onnx(tmp_path / "dense.onnx")
    assert not list(tmp_path.iterdir())
