"""The gradient monitor: its metrics equal those of a trace, and it does not change training."""

import dataclasses
import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from leadline import InputError, SaveError, gradients, recurrent
from leadline.gradients._metrics import append_metrics
from tests.gradients.test_loops import Handmade, Loop
from tests.gradients.test_tracing import HIDDEN, INPUTS, assert_same_state, draw, seeded, state_of


class Model(nn.Module):
    """A recurrent network and a linear head."""

    def __init__(self, make=lambda: nn.LSTM(INPUTS, HIDDEN, 2, batch_first=True)):
        super().__init__()
        self.network = make()
        width = HIDDEN * (2 if getattr(self.network, "bidirectional", False) else 1)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Any) -> Tensor:
        output = self.network(x)[0]
        return self.head(output if isinstance(output, Tensor) else output.data)


def monitored(
    model: nn.Module, **options: Any
) -> tuple[gradients.GradientMonitor, list[tuple[int, dict[str, float]]]]:
    measured: list[tuple[int, dict[str, float]]] = []
    return gradients.GradientMonitor(
        model, write=lambda *written: measured.append(written), **options
    ), measured


def loss_of(model: nn.Module, x: Any) -> Tensor:
    return model(x).square().mean()


MODELS = {
    "lstm": Model,
    "tanh": lambda: Model(lambda: nn.RNN(INPUTS, HIDDEN, batch_first=True)),
    "gru": lambda: Model(lambda: nn.GRU(INPUTS, HIDDEN, 2, batch_first=True, bidirectional=True)),
    "own": lambda: Model(lambda: recurrent.LSTM(INPUTS, HIDDEN, 2, seed=0)),
    "dropout": lambda: Model(lambda: nn.GRU(INPUTS, HIDDEN, 3, batch_first=True, dropout=0.4)),
    "cells": lambda: Model(lambda: Loop("lstm", 2)),
    "marked": Handmade,
}


@pytest.mark.parametrize("num_samples", [100, 2])
@pytest.mark.parametrize("kind", MODELS)
def test_a_measured_step_has_the_metrics_of_a_trace(kind, num_samples):
    model, x = seeded(MODELS[kind]).double(), draw(5, 7, INPUTS)
    monitor, measured = monitored(model, every=3, num_samples=num_samples)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with monitor.step():
            loss_of(model, x).backward()
        torch.manual_seed(0)
        with gradients.trace(model) as tape:
            loss = loss_of(model, x)
    ((step, scalars),) = measured
    assert step == 0
    chosen = [0, 4] if num_samples == 2 and kind not in ("cells", "marked") else range(5)
    layers = tape.gradient_flow(loss).layers
    assert len(scalars) == 4 * len(layers) + 1
    for layer in layers:
        slope = np.median(layer.slope()[chosen])
        assert scalars[f"{layer.title}/slope"] == pytest.approx(slope, rel=1e-6)
        half_life = math.log(2) / -slope if slope < 0 else math.inf
        assert scalars[f"{layer.title}/half_life"] == pytest.approx(half_life, rel=1e-6)
        total = layer.total[chosen]
        horizon = np.median([sum(row > 0.01 * row.max()) for row in total])
        assert scalars[f"{layer.title}/horizon"] == horizon
        assert scalars[f"{layer.title}/non_finite"] == 0
    norm = math.sqrt(
        sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
    )
    assert scalars["gradient_norm"] == pytest.approx(norm, rel=1e-6)


def test_padding_is_neither_read_nor_counted():
    model, padded, lengths = seeded(Model).double(), draw(3, 6, INPUTS), [6, 1, 4]
    x = pack_padded_sequence(padded, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    monitor, measured = monitored(model, num_samples=10)
    with monitor.step():
        loss_of(model, x).backward()
    with gradients.trace(model) as tape:
        loss = loss_of(model, x)
    for layer in tape.gradient_flow(loss).layers:
        rows = [row[:length] for row, length in zip(layer.total, lengths, strict=True)]
        assert measured[0][1][f"{layer.title}/non_finite"] == 0
        assert measured[0][1][f"{layer.title}/horizon"] == np.median(
            [sum(row > 0.01 * row.max()) for row in rows]
        )
    monitor, measured = monitored(model, num_samples=2)
    with monitor.step():
        loss_of(model, x).backward()
    assert measured[0][1]["network[0]/non_finite"] == 0


def test_slope_and_half_life_equal_the_closed_form():
    """With W_h = 0.5 I the gradient halves per step and is below 1 % of the largest after seven."""
    model = recurrent.RNN(1, 3, 1, "identity", seed=0).double()
    with torch.no_grad():
        model.layers[0].W_h.copy_(0.5 * torch.eye(3))
    monitor, measured = monitored(model)
    with monitor.step():
        model(draw(4, 20, 1))[0][:, -1].sum().backward()
    scalars = measured[0][1]
    assert scalars["RNN[0]/slope"] == pytest.approx(math.log(0.5), rel=1e-9)
    assert scalars["RNN[0]/half_life"] == pytest.approx(1, rel=1e-9)
    assert scalars["RNN[0]/horizon"] == math.ceil(math.log2(100)) == 7


def test_the_half_life_of_a_growing_gradient_is_infinite():
    model = recurrent.RNN(1, 2, 1, "identity", seed=0).double()
    with torch.no_grad():
        model.layers[0].W_h.copy_(2 * torch.eye(2))
    monitor, measured = monitored(model)
    with monitor.step():
        model(draw(4, 20, 1))[0][:, -1].sum().backward()
    assert measured[0][1]["RNN[0]/slope"] == pytest.approx(math.log(2), rel=1e-9)
    assert measured[0][1]["RNN[0]/half_life"] == math.inf


# Measured steps, and an unchanged training --------------------------------------------------------


def test_every_nth_step_is_measured_and_other_steps_have_no_hooks():
    model, x = seeded(Model), draw(2, 4, INPUTS).float()
    monitor, measured = monitored(model, every=3)
    quiet = state_of(model)["hooks"]
    for number in range(7):
        model.zero_grad()
        with monitor.step():
            hooks = state_of(model)["hooks"]
            assert (hooks == quiet) == (number % 3 != 0)
            loss_of(model, x).backward()
        assert state_of(model)["hooks"] == quiet
    assert [step for step, _ in measured] == [0, 3, 6]
    with monitor.step(12):
        loss_of(model, x).backward()
    with monitor.step():
        pass
    assert [step for step, _ in measured] == [0, 3, 6, 12]
    assert (monitor.next_step, monitor.num_measured) == (14, 4)


@pytest.mark.parametrize("kind", MODELS)
def test_a_monitor_does_not_change_training(kind):
    ends = []
    for is_watched in (False, True):
        model, x = seeded(MODELS[kind]), draw(3, 5, INPUTS).float()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        monitor, measured = monitored(model, every=2 if is_watched else 10**9, max_norm=0.1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for number in range(1, 6):
                optimizer.zero_grad()
                before = state_of(model)
                with monitor.step(number):
                    loss_of(model, x).backward()
                after = state_of(model)
                assert_same_state({**after, "grad": None}, {**before, "grad": None})
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                optimizer.step()
        assert len(measured) == (2 if is_watched else 0)
        ends.append(model.state_dict())
    assert_same_state(dict(ends[0]), dict(ends[1]))


def test_two_backward_passes_and_two_micro_batches_are_added():
    model, x = seeded(Model).double(), draw(4, 5, INPUTS)
    monitor, measured = monitored(model)
    with monitor.step():
        loss = loss_of(model, x)
        loss.backward(retain_graph=True)
        loss.backward()
    with gradients.trace(model) as tape:
        whole = 2 * loss_of(model, x)
    expected = tape.gradient_flow(whole).layers[0]
    assert measured[0][1]["network[0]/slope"] == pytest.approx(
        np.median(expected.slope()), rel=1e-6
    )
    norm = measured[0][1]["gradient_norm"]
    model.zero_grad()
    monitor, measured = monitored(model)
    with monitor.step():
        for half in x.split(2):
            loss_of(model, half).backward()
    assert measured[0][1]["network[0]/slope"] == pytest.approx(
        np.median(expected.slope()), rel=1e-6
    )
    assert measured[0][1]["gradient_norm"] == pytest.approx(norm, rel=1e-6), (
        "two halves, each a mean over half the batch"
    )


def test_norms_are_measured_before_clipping_and_the_share_of_clipped_steps_is_counted():
    model, x = seeded(Model).double(), draw(4, 5, INPUTS)
    (norm,) = (measured[0][1]["gradient_norm"] for measured in [run(model, [x])])
    sizes = [0.1, 10.0, 10.0, 0.1]
    limit = norm
    monitor, measured = monitored(model, every=1, max_norm=limit)
    for size in sizes:
        model.zero_grad()
        with monitor.step():
            (size * loss_of(model, x)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), limit)
    assert [scalars["gradient_norm"] for _, scalars in measured] == pytest.approx(
        [s * norm for s in sizes], rel=1e-9
    )
    assert [scalars["clip_fraction"] for _, scalars in measured] == pytest.approx(
        [0, 1 / 2, 2 / 3, 2 / 4]
    )


def run(model: nn.Module, batches: list[Tensor]) -> list[tuple[int, dict[str, float]]]:
    monitor, measured = monitored(model, every=1)
    for x in batches:
        model.zero_grad()
        with monitor.step():
            loss_of(model, x).backward()
    return measured


def test_metrics_are_divided_by_the_scale_of_the_loss():
    model, x = seeded(Model), draw(4, 5, INPUTS).float()
    plain = run(model, [x])[0][1]
    monitor, measured = monitored(model)
    model.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    with monitor.step(scale=scaler.get_scale()):
        scaler.scale(loss_of(model, x)).backward()
    assert measured[0][1] == pytest.approx(plain, rel=1e-4)


def test_compiled_models_in_half_precision_are_measured():
    model, x = seeded(lambda: MODELS["tanh"]()), draw(4, 5, INPUTS).float()
    plain = run(model, [x])[0][1]
    compiled: Any = torch.compile(model, backend="eager")
    monitor, measured = monitored(model)
    model.zero_grad()
    with monitor.step(), torch.autocast("cpu", dtype=torch.bfloat16):
        loss_of(compiled, x).float().backward()
    assert measured[0][1]["network[0]/slope"] == pytest.approx(plain["network[0]/slope"], abs=0.1)
    assert measured[0][1]["gradient_norm"] == pytest.approx(plain["gradient_norm"], rel=0.1)


@pytest.mark.parametrize("kind", ["tanh", "lstm", "cells", "marked"])
def test_numbers_that_are_not_finite_are_counted_and_training_continues(kind):
    model, x = seeded(MODELS[kind]).double(), draw(9, 6, INPUTS)
    x[7, 2] = torch.nan
    (_, scalars), (_, later) = run(model, [x, draw(9, 6, INPUTS)])
    with gradients.trace(model) as tape:
        model(x)
    first = next(iter(scalars)).split("/")[0]
    assert scalars[f"{first}/non_finite"] >= 2 * 4, (
        "hidden states and gradients of one sequence, from timestep 3 on"
    )
    assert scalars[f"{first}/non_finite"] <= (4 + 9 * 6 if kind == "marked" else 2 * 6), (
        "its terms are summed over all"
    )
    assert math.isnan(scalars["gradient_norm"])
    assert later[f"{first}/non_finite"] == 0
    assert tape.calls


def test_an_explosion_beyond_single_precision_is_counted():
    model = recurrent.RNN(1, 2, 1, "identity", seed=0)
    with torch.no_grad():
        model.layers[0].W_h.copy_(10 * torch.eye(2))
    monitor, measured = monitored(model)
    with monitor.step():
        model(torch.ones(2, 50, 1))[0].sum().backward()
    scalars = measured[0][1]
    assert scalars["RNN[0]/non_finite"] == 2 * 11, (
        "10^39 and more are infinite in float32; their gradients are numbers"
    )
    assert scalars["RNN[0]/slope"] == pytest.approx(math.log(10), rel=0.01)


# The file -----------------------------------------------------------------------------------------


def test_metrics_are_written_by_line_and_read_back(tmp_path):
    path = tmp_path / "runs" / "metrics.jsonl"
    model, x = seeded(Model), draw(3, 5, INPUTS).float()
    monitor = gradients.GradientMonitor(model, every=2, max_norm=1.0, write=path)
    for _ in range(5):
        with monitor.step():
            loss_of(model, x).backward()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2, 4]
    table = gradients.read_metrics(path)
    assert table.index.tolist() == [0, 2, 4]
    assert table.index.name == "step"
    assert table["network[1]/slope"].tolist() == [line["network[1]/slope"] for line in lines]
    # A run is interrupted in the middle of a line, and a resumed run writes step 4 again.
    path.write_text(path.read_text()[:-20])
    assert gradients.read_metrics(path).index.tolist() == [0, 2]
    resumed = gradients.GradientMonitor(model, every=2, max_norm=1.0, write=path)
    for number in (2, 4, 6):
        with resumed.step(number):
            loss_of(model, x).backward()
    table = gradients.read_metrics(path)
    assert table.index.tolist() == [0, 2, 4, 6]
    assert len(path.read_text().splitlines()) == 5
    assert table["gradient_norm"].is_monotonic_increasing, (
        "gradients were never set to zero; the later line holds"
    )


def test_numbers_that_are_not_finite_are_null_in_the_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, 3, {"a": math.inf, "b": math.nan, "c": 1.5})
    assert path.read_text() == '{"step": 3, "a": null, "b": null, "c": 1.5}\n'
    table = gradients.read_metrics(path)
    assert table.isna().to_numpy().tolist() == [[True, True, False]]


@pytest.mark.parametrize(
    "content", ["notes", "notes\n", '{"step": 0, "x": 0.0}\nnotes', "[]\n", "x" * 10_000]
)
def test_a_file_of_another_program_is_refused_and_not_changed(tmp_path, content):
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    with pytest.raises(SaveError, match="another program wrote this file"):
        append_metrics(path, 1, {"x": 1.0})
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("half", ["{", '{"step": 1, "x": 1}', '{"step": ' + "1" * 10_000])
def test_an_unfinished_line_is_removed(tmp_path, half):
    path = tmp_path / "metrics.jsonl"
    for before in ("", '{"step": 0, "x": 0.0}\n'):
        path.write_text(before + half)
        append_metrics(path, 2, {"x": 2.0})
        assert path.read_text() == before + '{"step": 2, "x": 2.0}\n'


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(SaveError, match="could not read"):
        gradients.read_metrics(path)
    path.write_text('{"step": 0}\nhello\n')
    with pytest.raises(SaveError, match="line 2 of"):
        gradients.read_metrics(path)


def test_scalars_suit_a_tracker_with_one_scalar_at_a_time():
    """SummaryWriter.add_scalar of TensorBoard takes scalars in this way."""
    written = []

    class Writer:
        def add_scalar(self, tag: str, value: float, step: int) -> None:
            assert isinstance(value, float)
            written.append((tag, step))

    writer, model, x = Writer(), seeded(Model), draw(2, 3, INPUTS).float()

    def write(step: int, scalars: dict[str, float]) -> None:
        for tag, value in scalars.items():
            writer.add_scalar(tag, value, step)

    with gradients.GradientMonitor(model, write=write).step():
        loss_of(model, x).backward()
    assert ("network[0]/slope", 0) in written
    assert len(written) == 9


# Misuse -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"every": 0}, "every = 0"),
        ({"max_norm": 0.0}, "max_norm = 0.0"),
        ({"max_norm": math.nan}, "max_norm = nan"),
        ({"num_samples": 0}, "num_samples = 0"),
    ],
)
def test_settings_out_of_range_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        gradients.GradientMonitor(nn.Identity(), **options)


def test_settings_are_plain_values_that_cannot_change():
    every: Any = np.int64(3)
    monitor = gradients.GradientMonitor(nn.Identity(), every, max_norm=2)
    assert dataclasses.asdict(monitor.settings) == {"every": 3, "max_norm": 2.0, "num_samples": 4}
    assert type(monitor.settings.every) is int
    with pytest.raises(dataclasses.FrozenInstanceError):
        monitor.settings.every = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_a_block_without_a_backward_pass_is_refused():
    model, x = seeded(Model), draw(2, 3, INPUTS).float()
    monitor, measured = monitored(model)
    loss = loss_of(model, x)
    with (
        pytest.raises(InputError, match="no gradient arrived at network") as caught,
        monitor.step(),
    ):
        loss_of(model, x)
    assert "loss.backward() after the block" in str(caught.value)
    monitor, _ = monitored(model)
    with (
        pytest.raises(InputError, match="no recurrent layer was called"),
        monitor.step(),
    ):
        loss.backward()
    assert not measured


def test_an_optimiser_that_steps_inside_the_block_is_refused():
    model, x = seeded(Model), draw(2, 3, INPUTS).float()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    monitor, _ = monitored(model)

    def step() -> None:
        with monitor.step():
            loss_of(model, x).backward()
            optimizer.step()

    with pytest.raises(InputError, match="ends before the optimiser steps"):
        step()


def test_a_model_without_recurrent_layers_is_refused_at_the_first_step():
    model = seeded(lambda: nn.Linear(2, 1))
    monitor, _ = monitored(model)
    with pytest.raises(InputError, match="model with recurrent layers"), monitor.step():
        model(torch.zeros(1, 2)).sum().backward()


def test_an_error_of_the_training_passes_through():
    model, x = seeded(Model), draw(2, 3, INPUTS + 1).float()
    monitor, measured = monitored(model)
    quiet = state_of(model)
    with (
        pytest.raises(InputError, match=f"got:   length {INPUTS + 1}, input_size = {INPUTS}"),
        monitor.step(),
    ):
        loss_of(model, x)
    assert_same_state(state_of(model), quiet)
    assert not measured


def test_a_failure_after_the_first_measurement_only_warns(tmp_path):
    model, x = seeded(Model), draw(2, 3, INPUTS).float()
    monitor, measured = monitored(model, every=1)
    with monitor.step():
        loss_of(model, x).backward()
    text = r"GradientMonitor could not measure step 1: GradientMonitor\.step\(\) needs the forward"
    with pytest.warns(RuntimeWarning, match=text), monitor.step():
        loss_of(model, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with monitor.step():
            loss_of(model, x).backward()
    assert [step for step, _ in measured] == [0, 2]

    path = tmp_path / "metrics.jsonl"
    monitor = gradients.GradientMonitor(model, every=1, write=path)
    with monitor.step():
        loss_of(model, x).backward()
    path.unlink()
    path.mkdir()
    with pytest.warns(RuntimeWarning, match="could not write"), monitor.step():
        loss_of(model, x).backward()
    first = gradients.GradientMonitor(model, write=path)
    with pytest.raises(SaveError, match="could not write"), first.step():
        loss_of(model, x).backward()
