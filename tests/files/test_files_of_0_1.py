"""Files that Leadline 0.1 wrote load, and give the numbers that they gave."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from leadline import decoding
from leadline.autoencoders import Autoencoder, Encoder, GaussianNoise
from tests.files.write_0_1 import rows
from tests.golden.names import call, public
from tests.golden.values import FLOOR, RELATIVE

FILES = Path(__file__).parent / "0.1"
NUMBERS = json.loads((FILES / "numbers.json").read_text())


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    kind = got.dtype
    floor = FLOOR[kind] * np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=RELATIVE[kind], atol=floor)


@pytest.mark.parametrize("name", NUMBERS["encoders"])
def test_an_encoder_of_0_1_gives_its_codes(name):
    encoder = Encoder.load(FILES / "encoders" / f"{name}.safetensors")
    expected = NUMBERS["encoders"][name]
    kind = np.uint8 if name == "pixels" else np.float32
    codes = encoder.encode(np.array(expected["rows"], kind))
    assert_close(codes, np.array(expected["codes"]))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_language_model_of_0_1_gives_its_answers(cell):
    model = decoding.RecurrentLM.load(FILES / "language_models" / cell)
    expected = NUMBERS[f"language model {cell}"]
    answer = decoding.beam_search(*model.problem(["the cat"]), width=2, max_length=4, eos=model.end)
    assert answer.tokens.tolist() == expected["tokens"]
    np.testing.assert_allclose(answer.log_prob, expected["log_prob"], rtol=1e-5)
    assert model.perplexity is not None
    assert model.perplexity.model == expected["perplexity"]


def test_metrics_of_0_1_are_read():
    metrics = public("recurrent.read_metrics")(FILES / "metrics.jsonl")
    assert list(metrics) == list(NUMBERS["metrics"])
    for name, values in NUMBERS["metrics"].items():
        assert metrics[name].tolist() == pytest.approx(values, nan_ok=True)


@pytest.fixture
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
def test_a_training_that_0_1_began_is_resumed_with_the_result_of_an_uninterrupted_one(tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(FILES / "checkpoint", folder)
    epochs = []
    model = Autoencoder(16, (6, 3), corruption=GaussianNoise(0.3), seed=0)
    trained = call(
        "autoencoders.pretrain",
        model,
        rows(),
        epochs=4,
        batch_size=9,
        seed=0,
        checkpoint=folder,
        progress=epochs.append,
    )
    assert [epoch.epoch for epoch in epochs][-2:] == [3, 4]
    training_error, own_error = NUMBERS["checkpoint"]
    assert trained.training_error.tolist() == pytest.approx(training_error, rel=1e-5)
    assert trained.own_error.tolist() == pytest.approx(own_error, rel=1e-5)
