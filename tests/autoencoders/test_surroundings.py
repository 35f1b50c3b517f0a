"""Settings of PyTorch, layouts of batches and threads do not change results."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from leadline.autoencoders import (
    Autoencoder,
    AutoencoderTransformer,
    Encoder,
    GaussianNoise,
    MaskedPatchTransformer,
    pretrain,
)
from leadline.autoencoders.models._attention import Block
from leadline.errors import InputError

X = np.random.default_rng(0).random((21, 8)).astype(np.float32)


def dense() -> Autoencoder:
    return Autoencoder(8, (6, 3), "tanh", GaussianNoise(0.1), seed=0)


def patches() -> MaskedPatchTransformer:
    return MaskedPatchTransformer(
        (4, 2), 2, seed=0, width=8, depth=2, heads=2, decoder_width=4, decoder_heads=1
    )


@pytest.fixture
def default_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("make", [dense, patches])
def test_autocast_does_not_change_training_or_codes(make):
    plain = pretrain(make(), X, epochs=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        other = pretrain(make(), X, epochs=2)
        codes = other.encoder.encode(X)
    assert np.array_equal(other.own_error, plain.own_error)
    assert np.array_equal(codes, plain.encoder.encode(X))


def test_a_users_loop_can_train_a_transformer_under_autocast():
    """Gradients match those without autocast up to the precision of bfloat16."""
    gradients = []
    for enabled in (False, True):
        model = patches()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = model.loss(torch.from_numpy(X), torch.Generator().manual_seed(0))
        loss.backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        )
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.mark.usefixtures("default_float64")
@pytest.mark.parametrize("make", [dense, patches])
def test_a_default_of_float64_makes_models_in_float64(make, tmp_path: Path):
    pretrained = pretrain(make(), X, epochs=2)
    assert {weights.dtype for weights in pretrained.weights.values()} == {np.dtype(np.float64)}
    assert np.isfinite(pretrained.own_error).all()
    encoder = pretrained.encoder
    encoder.save(tmp_path / "encoder")
    assert np.array_equal(Encoder.load(tmp_path / "encoder").encode(X), encoder.encode(X))


@pytest.mark.usefixtures("default_float64")
def test_models_in_float32_work_under_a_default_of_float64():
    model = patches().float()
    assert np.isfinite(pretrain(model, X, epochs=1).encoder.encode(X)).all()
    block = Block(8, 2, torch.Generator().manual_seed(0)).float()
    block(torch.ones(2, 3, 8, dtype=torch.float32)).sum().backward()


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.utils.skip_init(nn.Linear, 8, 8)
        assert isinstance(layer, nn.Linear)
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
        self.layer = layer
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x):
        return self.norm(self.layer(x))


@pytest.mark.parametrize(("batch_size", "rows"), [(10, 21), (20, 21), (1, 6), (5, 16)])
def test_a_last_batch_of_one_row_is_refused_before_any_training(batch_size: int, rows: int):
    """Batch normalisation cannot normalise a single row."""
    reports = []
    with pytest.raises(
        InputError, match=r"Normalised failed on a batch of 1 row:(.|\n)*choose another batch_size"
    ):
        pretrain(
            Normalised(),
            X[:rows],
            batch_size=batch_size,
            validation=None,
            epochs=1,
            progress=reports.append,
        )
    assert reports == []


def test_other_last_batches_train_batch_normalisation():
    for batch_size in (2, 19, 21, 40):
        model = Normalised()
        before = model.norm.running_mean
        assert before is not None
        pretrained = pretrain(
            model,
            X[:21],
            batch_size=21 if batch_size == 2 else batch_size,
            validation=None,
            epochs=1,
        )
        assert np.isfinite(pretrained.training_error).all()


def test_the_error_of_a_resumed_run_names_different_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pretrain(dense(), X, epochs=1, checkpoint=tmp_path)
    now = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: now + 3)
    with pytest.raises(InputError, match=rf"torch.set_num_threads\({now}\)"):
        pretrain(dense(), X + np.float32(1e-7), epochs=1, checkpoint=tmp_path)
    assert pretrain(dense(), X, epochs=1, checkpoint=tmp_path).ending == "budget"


TABLES = {
    "ordinary columns": X.astype(np.float64) * [1, 10, 1e3, 1e-6, 1, 1, 1, 1],
    "timestamps": X.astype(np.float64) * 1000 + 1.7e9,
}


@pytest.mark.parametrize("unit_length", [True, False])
@pytest.mark.parametrize("table", TABLES)
def test_the_encoder_of_an_estimator_matches_its_transform(tmp_path: Path, table, unit_length):
    import onnxruntime

    rows = TABLES[table]
    fitted = AutoencoderTransformer(hidden_sizes=(6, 3), epochs=5, unit_length=unit_length).fit(
        rows
    )
    inner = fitted.pretrained_.encoder.encode(fitted._scaled(rows)) - fitted.code_mean_
    lengths = np.linalg.norm(inner, axis=1, keepdims=True) if unit_length else 1
    codes = fitted.transform(rows)
    np.testing.assert_allclose(codes, inner / lengths, atol=2e-5)
    fitted.encoder_.save(tmp_path / "encoder")
    back = Encoder.load(tmp_path / "encoder")
    assert np.array_equal(back.encode(rows), codes)
    assert back.has_seen(rows).all()
    assert not back.has_seen(rows + 1).any()
    back.to_onnx(tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    kind = {"tensor(float)": np.float32, "tensor(double)": np.float64}[session.get_inputs()[0].type]
    assert kind == (np.float64 if table == "timestamps" else np.float32)
    (exported,) = session.run(None, {"rows": rows.astype(kind)})
    np.testing.assert_allclose(np.asarray(exported), codes, atol=2e-5)


def test_an_encoder_on_a_device_gives_the_same_codes():
    encoder = pretrain(dense(), X, epochs=1).encoder
    assert np.array_equal(encoder.to("cpu").encode(X), encoder.encode(X))
