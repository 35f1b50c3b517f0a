"""Bad input to the autoencoders: every parameter of every public name, and typical mistakes."""

# pyright: reportArgumentType=false, reportCallIssue=false
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from leadline import autoencoders
from leadline.autoencoders import (
    Autoencoder,
    AutoencoderTransformer,
    BlockMask,
    DenseArchitecture,
    Encoder,
    Epoch,
    GaussianNoise,
    LinearOptimum,
    LocalArchitecture,
    MaskedPatchTransformer,
    ModuleEncoder,
    Nothing,
    PatchArchitecture,
    PatchMask,
    PixelMask,
    TrainingCurves,
    corrupt_examples,
    pretrain,
    pretrain_many,
)
from leadline.data import row_fingerprints
from leadline.errors import InputError
from tests.bad_input.harness import Room, call
from tests.bad_input.harness import _quiet as quiet

X = np.random.default_rng(0).random((20, 8)).astype(np.float32)
SIZES = {
    "width": 4,
    "depth": 1,
    "heads": 1,
    "decoder_width": 4,
    "decoder_depth": 1,
    "decoder_heads": 1,
}
FOLDER = Path(tempfile.mkdtemp())


def dense() -> Autoencoder:
    return Autoencoder(8, (3,), seed=0)


def patches() -> MaskedPatchTransformer:
    return MaskedPatchTransformer((4, 2), 2, seed=0, **SIZES)


def rows(n: int = 4) -> torch.Tensor:
    return torch.from_numpy(X[:n].copy())


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


DENSE = DenseArchitecture(8, (3,))
PATCHES = PatchArchitecture((4, 2), 2, **SIZES)
LOCAL = LocalArchitecture((4, 2), 2, width=2, cells=1)
PRETRAINED = pretrain(dense(), X, epochs=1)
ENCODER = PRETRAINED.encoder
TOKENS = pretrain(patches(), X, epochs=1).encoder
FITTED = AutoencoderTransformer(hidden_sizes=(3,), epochs=1).fit(X)
EPOCHS = [Epoch(0, 0, 1, None, 9.0, 9.5), Epoch(0, 1, 1, 8.0, 7.0, 7.5)]
CUSTOM = nn.Linear(8, 2)
CURVES = TrainingCurves.from_pretrained([PRETRAINED])
CUSTOM_SHAPES = autoencoders.CustomArchitecture("Linear", (8,))

WEIGHTS = ENCODER.weights
STATE = dense().state_dict()
MASK = PatchMask(0.5, 2, (4, 2))
OPTIMUM = LinearOptimum.from_rows(X, 2)

CALLS = {
    "DenseArchitecture": lambda: call(DenseArchitecture, 8, (3,), "relu", (4, 2), 1, False),
    "DenseArchitecture.autoencoder": lambda: call(DENSE.autoencoder, Nothing()),
    "DenseArchitecture.centre": lambda: call(DENSE.centre, torch.zeros(8)),
    "DenseArchitecture.decoder": lambda: call(DENSE.decoder, draws()),
    "DenseArchitecture.encoder": lambda: call(DENSE.encoder, draws()),
    "DenseArchitecture.encoder_shapes": lambda: call(DENSE.encoder_shapes),
    "DenseArchitecture.moved": lambda: call(DENSE.moved, STATE, torch.zeros(8)),
    "Autoencoder": lambda: call(Autoencoder, 8, (3,), "relu", Nothing(), seed=0),
    "Autoencoder.encode": lambda: call(dense().encode, rows()),
    "Autoencoder.forward": lambda: call(dense().forward, rows()),
    "Autoencoder.loss": lambda: call(dense().loss, rows(), draws()),
    "AutoencoderTransformer": lambda: call(AutoencoderTransformer, hidden_sizes=(3,), epochs=1),
    "AutoencoderTransformer.encode": lambda: call(FITTED.encode, X),
    "AutoencoderTransformer.fit": lambda: call(
        AutoencoderTransformer(hidden_sizes=(3,), epochs=1).fit, X, None
    ),
    "AutoencoderTransformer.has_seen": lambda: call(FITTED.has_seen, X),
    "AutoencoderTransformer.transform": lambda: call(FITTED.transform, X),
    "BlockMask": lambda: call(BlockMask, 0.5, (4, 2), 1, "all"),
    "BlockMask.corrupt": lambda: call(BlockMask(0.5, (4, 2)).corrupt, rows(), draws()),
    "Corruption.corrupt": lambda: call(Nothing().corrupt, rows(), draws()),
    "CustomArchitecture.centre": lambda: call(CUSTOM_SHAPES.centre, torch.zeros(8)),
    "CustomArchitecture.moved": lambda: call(
        CUSTOM_SHAPES.moved, CUSTOM.state_dict(), torch.zeros(8)
    ),
    "Encoder": lambda: call(Encoder, DENSE, WEIGHTS, row_fingerprints(X), None),
    "Encoder.encode": lambda: call(ENCODER.encode, X),
    "Encoder.has_seen": lambda: call(ENCODER.has_seen, X),
    "Encoder.load": lambda: call(Encoder.load, saved()),
    "Encoder.of": lambda: call(Encoder.of, DENSE, PRETRAINED.weights, row_fingerprints(X), None),
    "Encoder.prepared": lambda: call(ENCODER.prepared, X),
    "Encoder.save": lambda: call(ENCODER.save, FOLDER / "saved"),
    "Encoder.to": lambda: call(ENCODER.to, "cpu"),
    "Encoder.to_onnx": lambda: call(ENCODER.to_onnx, FOLDER / "saved.onnx"),
    "Encoder.untrained": lambda: call(ENCODER.untrained, 1),
    "Encoder.with_pooling": lambda: call(TOKENS.with_pooling, "class"),
    "GaussianNoise": lambda: call(GaussianNoise, 0.5),
    "GaussianNoise.corrupt": lambda: call(GaussianNoise(0.5).corrupt, rows(), draws()),
    "LocalArchitecture": lambda: call(LocalArchitecture, (4, 2), 2, 1, 2, 1, 1, 3),
    "LocalArchitecture.encoder": lambda: call(LOCAL.encoder, draws()),
    "LocalArchitecture.encoder_shapes": lambda: call(LOCAL.encoder_shapes),
    "MaskedPatchTransformer": lambda: call(MaskedPatchTransformer, (4, 2), 2, 1, **SIZES, **MORE),
    "MaskedPatchTransformer.encode": lambda: call(patches().encode, rows()),
    "MaskedPatchTransformer.forward": lambda: call(patches().forward, rows()),
    "MaskedPatchTransformer.loss": lambda: call(patches().loss, rows(), draws()),
    "MaskedPatchTransformer.squared_error": lambda: call(
        patches().squared_error, rows(), rows(), rows()
    ),
    "MaskedPatchTransformer.target": lambda: call(patches().target, rows()),
    "ModuleEncoder": lambda: call(ModuleEncoder, CUSTOM, row_fingerprints(X)),
    "ModuleEncoder.encode": lambda: call(ModuleEncoder(CUSTOM).encode, X),
    "ModuleEncoder.has_seen": lambda: call(ModuleEncoder(CUSTOM).has_seen, X),
    "ModuleEncoder.to_onnx": lambda: call(
        ModuleEncoder(CUSTOM).to_onnx, FOLDER / "own.onnx", X[:1]
    ),
    "Nothing.corrupt": lambda: call(Nothing().corrupt, rows(), draws()),
    "PatchArchitecture": lambda: call(
        PatchArchitecture, (4, 2), 2, 1, 4, 1, 1, 4, 1, 1, False, "mean"
    ),
    "PatchArchitecture.autoencoder": lambda: call(PATCHES.autoencoder, MASK),
    "PatchArchitecture.centre": lambda: call(PATCHES.centre, torch.zeros(8)),
    "PatchArchitecture.encoder": lambda: call(PATCHES.encoder, draws()),
    "PatchArchitecture.encoder_shapes": lambda: call(PATCHES.encoder_shapes),
    "PatchArchitecture.moved": lambda: call(PATCHES.moved, patches().state_dict(), torch.zeros(8)),
    "PatchMask": lambda: call(PatchMask, 0.5, 2, (4, 2), 1, "all", False),
    "PatchMask.corrupt": lambda: call(MASK.corrupt, rows(), draws()),
    "PatchMask.hidden": lambda: call(MASK.hidden, 3, draws()),
    "PixelMask": lambda: call(PixelMask, 0.5, "all"),
    "PixelMask.corrupt": lambda: call(PixelMask(0.5).corrupt, rows(), draws()),
    "LinearOptimum.from_moments": lambda: call(
        LinearOptimum.from_moments, X.mean(0), np.cov(X.T), 2, Nothing(), row_fingerprints(X)
    ),
    "LinearOptimum.from_rows": lambda: call(LinearOptimum.from_rows, X, 2, Nothing()),
    "TrainingCurves.from_epochs": lambda: call(TrainingCurves.from_epochs, EPOCHS),
    "TrainingCurves.from_pretrained": lambda: call(TrainingCurves.from_pretrained, [PRETRAINED]),
    "corrupt_examples": lambda: call(
        corrupt_examples, X, Nothing(), PRETRAINED, seed=0, image_size=(4, 2), channels=1
    ),
    "pretrain": lambda: call(
        pretrain, dense(), X, targets=X, validation=X[:3], progress=False, **TRAINING
    ),
    "pretrain_many": lambda: call(
        pretrain_many, [dense()], X, seeds=[0], targets=[X], validation=[X[:3]], **FEW
    ),
}  # fmt: skip

MORE = {"mask_ratio": 0.5, "loss": "masked", "normalise": False, "pooling": "mean", "seed": 0}
FEW = {
    "epochs": 1,
    "batch_size": 10,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "patience": 2,
    "centre": True,
    "shuffle": True,
}
TRAINING = {**FEW, "seed": 0, "checkpoint": None, "device": "cpu"}

ROOM = Room(
    autoencoders,
    CALLS,
    results=frozenset(
        {"Corruption", "Epoch", "Examples", "LinearOptimum", "Pretrained", "TrainingCurves"}
    ),
)


def architecture_cases() -> list[tuple[str, str]]:
    """Return the calls of architectures, which are not public, with each of their parameters."""
    names = [name for name in CALLS if name.partition(".")[0].endswith("Architecture")]
    return [(name, parameter) for name in names for parameter in ROOM._parameters(name)]


def saved() -> Path:
    ENCODER.save(FOLDER / "encoder")
    return FOLDER / "encoder"


def is_shared(name: str) -> bool:
    """True for methods of all soundings, which have their own tests."""
    return name.endswith((".save", ".load")) and not name.startswith("Encoder.")


@pytest.fixture(autouse=True)
def own_stream():
    """Restore PyTorch's global generator, which draws weights without a seed."""
    with torch.random.fork_rng(devices=[]):
        yield


EXPORTS = ("Encoder.to_onnx", "ModuleEncoder.to_onnx")


def quantised(array: np.ndarray) -> torch.Tensor:
    return torch.quantize_per_tensor(torch.from_numpy(array), 0.1, 0, torch.qint8)


def test_every_public_name_has_a_good_call():
    assert [name for name in ROOM.without_a_call() if not is_shared(name)] == []


@pytest.mark.parametrize("name", [name for name in CALLS if name not in EXPORTS])
def test_a_good_call_succeeds_with_numbers_of_any_kind(name):
    ROOM.check_good(name)


@pytest.mark.parametrize(
    ("name", "parameter"),
    [*(case for case in ROOM.cases() if not is_shared(case[0])), *architecture_cases()],
)
def test_bad_values_are_refused_with_a_leadline_error(name, parameter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name in EXPORTS:  # the exporter takes seconds; what it writes is tested beside the encoders
        monkeypatch.setattr(torch.onnx, "export", no_export)
    ROOM.check_bad(name, parameter)


def no_export(*_, **__):
    raise torch.onnx.OnnxExporterError("not here")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: pretrain(Autoencoder, X), "model = the class Autoencoder"),
        (lambda: pretrain(ENCODER, X), "model = a Encoder"),
        (lambda: pretrain(X, dense()), "model = an array of shape"),
        (lambda: pretrain(dense().bfloat16(), X), "a number type that NumPy has"),
        (lambda: pretrain(dense().to("meta"), X), "on the meta device"),
        (lambda: pretrain(dense(), X, learning_rate=0), "learning_rate = 0"),
        (lambda: pretrain(dense(), X, learning_rate=-1), "learning_rate = -1"),
        (lambda: pretrain(dense(), X, learning_rate=float("nan")), "learning_rate = nan"),
        (lambda: pretrain(dense(), X, learning_rate=np.float32(0)), r"learning_rate = .*0\.0"),
        (lambda: pretrain(dense(), X, seed=-1), "seed = -1"),
        (lambda: pretrain(dense(), X, epochs=1.0), r"epochs = 1\.0"),
        (lambda: pretrain(dense(), X, centre=1), "centre = 1"),
        (lambda: pretrain(dense(), X, validation=True), "validation = True"),
        (lambda: pretrain(dense(), PRETRAINED), "X"),
        (lambda: pretrain_many([dense()], X, seeds="0"), "seeds = '0'"),
        (lambda: pretrain_many([dense()], X, seeds={0}), "seeds = {0}"),
        (lambda: pretrain_many(dense(), X, seeds=[0]), "models = a Autoencoder"),
        (lambda: pretrain_many([], X, seeds=[]), "models"),
        (lambda: Autoencoder(8, (3.7,)), r"hidden_sizes = 3\.7"),
        (lambda: Autoencoder(8, "32"), "hidden_sizes = '32'"),
        (lambda: Autoencoder(8, (3,), seed=-1), "seed = -1"),
        (lambda: DenseArchitecture(8, (10**6, 10**6)), "at most 2147483647 weights"),
        (lambda: DenseArchitecture(9, (3,), image_size=(4, 2)), "channels x height x width"),
        (lambda: MaskedPatchTransformer((2**12, 2**12), 1), "at most 65536 patches"),
        (lambda: ENCODER.untrained(-3), "seed = -3"),
        (lambda: ENCODER.has_seen(X[:, :5]), "X has 5 features"),
        (lambda: FITTED.has_seen(X[:, :5]), "5 features"),
        (lambda: ModuleEncoder(nn.Linear(8, 2)).has_seen(X[:, :5]), "failed on rows of shape"),
        (lambda: ModuleEncoder(nn.Linear), "module = the class Linear"),
        (lambda: ENCODER.encode(torch.from_numpy(X).to_sparse()), "to_dense"),
        (lambda: ENCODER.encode(quantised(X)), "dequantize"),
        (lambda: ENCODER.encode(torch.empty(3, 8, device="meta")), "meta device"),
        (lambda: ENCODER.to("meta"), "device = 'meta'"),
        (lambda: dense()(rows().double()), "number type of the model"),
        (lambda: dense()(X), r"x must be a tensor\n.*\n  cure:  torch.from_numpy"),
        (lambda: LinearOptimum.from_moments(X.mean(0), -np.cov(X.T), 2), "no negative eigenvalue"),
        (lambda: LinearOptimum.from_moments(X.mean(0), np.triu(np.ones((8, 8))), 2), "symmetric"),
        (lambda: LinearOptimum.from_moments(np.cov(X.T), X.mean(0), 2), "covariance of shape"),
        (lambda: LinearOptimum.from_rows(X, 9), "at most the number of features"),
        (lambda: TrainingCurves.from_pretrained(PRETRAINED), "population = a Pretrained"),
        (lambda: TrainingCurves.from_pretrained([ENCODER]), r"population\[0\] = a Encoder"),
        (lambda: TrainingCurves.from_epochs([PRETRAINED]), r"epochs\[0\] = a Pretrained"),
        (lambda: corrupt_examples(X, GaussianNoise, seed=0), "a class instead of an object"),
        (lambda: corrupt_examples(X, Nothing(), ENCODER, seed=0), "pretrained = a Encoder"),
        (lambda: Encoder(DENSE, {"0.weight": np.ones((3, 8))}, []), "weights without '0.bias'"),
    ],
)  # fmt: skip
def test_typical_mistakes_are_refused_by_name(make, text):
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's quantised tensors warn when they are made
        with pytest.raises(InputError, match=text):
            make()


def test_settings_may_be_numbers_of_numpy_and_torch():
    plain = pretrain(
        dense(), X, epochs=2, batch_size=5, learning_rate=1e-3, patience=3, seed=4, validation=0.2
    )
    settings = {
        "epochs": np.int64(2),
        "batch_size": torch.tensor(5),
        "learning_rate": np.float64(1e-3),
        "patience": np.uint8(3),
    }
    other = pretrain(dense(), X, **settings, seed=np.int32(4), validation=np.float64(0.2))
    assert other.protocol == plain.protocol
    assert np.array_equal(other.own_error, plain.own_error)


def test_rows_may_be_small_floats_and_require_gradients():
    given = torch.from_numpy(X).bfloat16()
    expected = ENCODER.encode(given.float().numpy())
    assert np.array_equal(ENCODER.encode(given.requires_grad_()), expected)
    assert np.array_equal(
        ENCODER.encode(torch.from_numpy(X).half()), ENCODER.encode(X.astype(np.float16))
    )
