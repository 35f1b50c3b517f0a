"""Refusals name the argument, the true cause and the cure, instead of a raw error of torch."""

import io
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from leadline import InputError, gradients, recurrent


def module_of(make: Callable[[], Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


X = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    def __init__(self, is_direct: bool = False):
        super().__init__()
        self.lstm, self.is_direct = nn.LSTM(3, 4), is_direct

    def forward(self, x):
        return (self.lstm.forward(x) if self.is_direct else self.lstm(x))[0]


def refusal_of(
    model: nn.Module, loss_of: Callable[[Any], Any] = lambda model: model(X).sum()
) -> str:
    """Return the text of the refusal."""

    def query() -> None:
        with gradients.trace(model) as tape:
            loss = loss_of(model)
        tape.gradient_flow(loss)

    with pytest.raises(InputError) as caught:
        query()
    return str(caught.value)


def test_a_direct_call_of_forward_is_refused():
    text = refusal_of(module_of(lambda: Model(is_direct=True)))
    assert ".forward() was called directly" in text
    assert "call the module itself" in text


def test_a_call_before_the_block_is_not_mistaken_for_a_direct_call():
    model = module_of(Model)
    before = model(X).sum()
    text = refusal_of(model, lambda model: before)
    assert "a call before `with trace(model)` or after it" in text
    model = module_of(lambda: Model(is_direct=True))
    before = model(X).sum()
    assert ".forward()" not in refusal_of(model, lambda model: before)


class ReturnsOutputAlone(nn.GRU):
    def forward(self, *given):  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(*given)[0]


class Doubles(nn.GRU):
    def forward(self, *given):  # pyright: ignore[reportIncompatibleMethodOverride]
        output, last = super().forward(*given)
        return 2 * output, last


def test_subclasses_that_override_forward_are_refused():
    text = refusal_of(module_of(lambda: ReturnsOutputAlone(3, 4)))
    assert "a subclass of GRU that returns (output, h_n)" in text
    assert "a ReturnsOutputAlone, returned Tensor" in text
    text = refusal_of(module_of(lambda: Doubles(3, 4)), lambda model: model(X)[0].sum())
    assert "Doubles overrides forward" in text


def test_frozen_layers_and_no_grad_are_refused_with_their_cause():
    frozen = module_of(Model).requires_grad_(False)
    text = refusal_of(nn.Sequential(frozen, module_of(lambda: nn.Linear(4, 1))))
    assert "neither the parameters nor the inputs require a gradient" in text
    assert "unfreeze a parameter" in text

    def without(context: Any) -> Callable[[nn.Module], Tensor]:
        def loss_of(model: nn.Module) -> Tensor:
            with context():
                return model(X).sum()

        return loss_of

    no_grad = refusal_of(module_of(Model), without(torch.no_grad))
    inference = refusal_of(module_of(Model), without(torch.inference_mode))
    assert "under torch.no_grad()" in no_grad
    assert "under torch.inference_mode()" in inference
    for text in (no_grad, inference):
        assert "cure:  run the forward pass with gradients switched on" in text
    unfrozen = X.clone().requires_grad_()
    with gradients.trace(frozen) as tape:
        loss = frozen(unfrozen).sum()
    assert tape.gradient_flow(loss).layers


@pytest.mark.parametrize(
    ("make", "texts"),
    [
        (lambda loss: (loss, 1), ["in a tuple", "pass one of them"]),
        (lambda loss: {"loss": loss}, ["a dictionary", "loss['loss']"]),
        (lambda loss: SimpleNamespace(loss=loss), ["pass output.loss"]),
        (lambda loss: loss.item(), ["loss.item()"]),
        (lambda loss: loss.detach().numpy(), ["an array"]),
        (lambda loss: loss.long(), ["int64"]),
        (lambda loss: loss * 1j, ["a complex loss"]),
        (lambda loss: None, ["None"]),
        (lambda loss: loss[None][:0], ["a loss without terms"]),
    ],
)
@pytest.mark.parametrize("ask", ["gradient_flow", "weight_terms", "influence"])
def test_a_value_that_is_not_a_loss_is_refused(make, texts, ask):
    model = module_of(Model)
    with gradients.trace(model) as tape:
        loss = model(X).sum()
    with pytest.raises(InputError) as caught:
        getattr(tape, ask)(make(loss))
    name = "terms" if ask == "influence" else "loss"
    assert str(caught.value).startswith(f"{name} must be a tensor of real numbers")
    for text in texts:
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ([module_of(Model), module_of(Model)], "nn.ModuleList"),
        (Model, "pass an instance: Model(...)"),
        (SimpleNamespace(module_=module_of(Model)), "the module that it holds: module_"),
        (lambda x: x, "a torch module"),
        ("model.pt", "a torch module"),
    ],
)
def test_a_value_that_is_not_a_model_is_refused(model, text):
    with (
        pytest.raises(InputError, match=r"needs a torch module|must be a torch module") as caught,
        gradients.trace(model),
    ):
        pass
    assert text in str(caught.value)
    with pytest.raises(InputError, match="torch module"):
        gradients.GradientMonitor(model)
    with pytest.raises(InputError, match="torch module"):
        gradients.compare_cures(model, lambda model: model(X).sum())


def test_complex_layers_and_meta_tensors_are_refused():
    text = refusal_of(
        module_of(lambda: nn.RNN(3, 4, dtype=torch.complex64)),
        lambda model: model(X.to(torch.complex64))[0].abs().sum(),
    )
    assert "needs real numbers in RNN" in text
    assert "holds no numbers" in refusal_of(
        nn.LSTM(3, 4, device="meta"), lambda model: model(X.to("meta"))[0].sum()
    )


class Scan(nn.Module):
    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.eye(3) / 2)

    def step(self, h: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
        h = gradients.record(torch.tanh(h @ self.W + x_t))
        return h, h.clone()

    def forward(self, x):
        return scan(self.step, torch.zeros(2, 3), x)[1]


@pytest.mark.filterwarnings("ignore")
def test_a_loop_inside_torch_scan_is_refused():
    text = refusal_of(Scan())
    assert "torch.scan" in text
    assert "for x_t in x" in text or "write a scan as a loop in Python" in text
    assert "frozen" not in text
    assert "unfreeze" not in text


@pytest.mark.filterwarnings("ignore")
def test_a_loop_inside_vmap_is_refused():
    model = Marks()
    with gradients.trace(model):
        # This loop lets the block end without an error.
        model(X)
        with pytest.raises(InputError, match=r"torch\.func"):
            torch.vmap(lambda row: gradients.record(row * 2))(torch.ones(3, 2, requires_grad=True))


class Marks(nn.Module):
    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.eye(3) / 2)

    def forward(self, x):
        h = torch.zeros(2, 3)
        for x_t in x:
            h = gradients.record(torch.tanh(h @ self.W + x_t))
        return h


@pytest.mark.filterwarnings("ignore")
def test_a_marked_loop_compiles_without_breaks_and_runs_uncompiled_inside_the_block():
    model = Marks()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(X), model(X))
    with gradients.trace(model) as tape:
        loss = compiled(X).sum()
    with gradients.trace(model) as other:
        right = model(X).sum()
    np.testing.assert_array_equal(
        tape.gradient_flow(loss).layers[0].log_total, other.gradient_flow(right).layers[0].log_total
    )


def test_torchscript_from_a_file_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        file = io.BytesIO()
        torch.jit.save(torch.jit.script(module_of(Model)), file)
        file.seek(0)
        loaded = torch.jit.load(file)
    text = refusal_of(loaded)
    assert "lstm, a scripted LSTM" in text
    assert "before scripting" not in text
    assert "TorchScript alone cannot be traced" in text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"x": X.numpy()}, "torch.from_numpy"),
        ({"x": X.to_sparse()}, "dense tensor"),
        ({"x": X, "hx": torch.zeros(1, 2, 4)}, "a pair hx = (h_0, c_0) for an LSTM"),
        ({"x": X, "hx": (torch.zeros(1, 2, 4),) * 3}, "a pair hx"),
        ({"x": X, "hx": (torch.zeros(2, 1, 4),) * 2}, "here (1, 2, 4)"),
        ({"x": X, "num_exponents": 2.5}, "num_exponents = 2.5"),
        ({"x": X, "transient": 5}, "transient = 5 of 5"),
        ({"x": X, "seed": "a"}, "seed = 'a'"),
        ({"x": X, "flow": "flow"}, "flow must be"),
        ({"x": X[0, 0]}, "axes batch, time and inputs"),
        ({"x": X[:0]}, "length 0"),
    ],
)
def test_stability_refuses_unsuitable_arguments(given, text):
    with pytest.raises(InputError) as caught:
        gradients.measure_stability(module_of(lambda: nn.LSTM(3, 4)), **cast("Any", given))
    assert text in str(caught.value)


def test_stability_refuses_unsuitable_layers_and_states():
    lstm = module_of(lambda: nn.GRU(3, 4))
    with pytest.raises(InputError, match="one tensor hx = h_0"):
        gradients.measure_stability(lstm, X, hx=(X, X))
    complex_layer = module_of(lambda: nn.RNN(3, 4, dtype=torch.complex64))
    with pytest.raises(InputError, match="real weights"):
        gradients.measure_stability(complex_layer, X)
    network = recurrent.LSTM(3, 4, seed=0)
    state: Any = (torch.zeros(1, 2, 4),) * 2
    with pytest.raises(
        InputError, match=r"starts at zero\n.*\n.*torch.nn.LSTM, which takes initial states"
    ):
        network(X, state)
    with pytest.raises(InputError, match="starts at zero"):
        gradients.measure_stability(network, X, hx=state)


def chaotic(make: Callable[..., nn.Module], *settings: Any, **more: Any) -> nn.Module:
    """A stack in whose lower layers a rounding error grows to the size of the states."""
    model = module_of(lambda: make(3, 24, *settings, **more)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10)
    return model


CHAOS_X = torch.randn(9, 80, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [recurrent.RNN, recurrent.GRU, recurrent.LSTM])
def test_chaotic_layers_are_measured_from_their_recorded_states(kind):
    model = cast("recurrent.RNN", chaotic(kind, 4))
    states: list[Tensor] = []
    for layer in model.layers:
        layer.register_forward_hook(lambda module, inputs, returned: states.append(returned[0]))
    with gradients.trace(model) as tape:
        output, _ = model(CHAOS_X)
    loss = output.square().mean()
    layers = tape.gradient_flow(loss).layers
    from_above = torch.autograd.grad(loss, states)
    for flow, h, direct in zip(layers, states, from_above, strict=True):
        np.testing.assert_allclose(flow.hidden_norm, h.detach().norm(dim=-1), rtol=1e-9)
        np.testing.assert_allclose(flow.log_direct, direct.norm(dim=-1).log(), rtol=1e-7)


def test_the_refusal_of_hidden_chaotic_layers_names_them_as_the_cause():
    """Rounding depends on the processor and the number of rows, so several numbers are tried."""
    model = chaotic(nn.RNN, 2, bidirectional=True, batch_first=True)
    refusals = []
    for rows in range(1, 17):
        x = torch.randn(
            rows, 80, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        with gradients.trace(model) as tape:
            loss = model(x)[0].square().mean()
        try:
            tape.gradient_flow(loss)
        except InputError as error:
            refusals.append(str(error))
    if not refusals:
        pytest.skip("the replay rounds as the model does on this processor")
    for refusal in refusals:
        assert "lower layers with chaotic states" in refusal
        assert "weights" not in refusal.split("cure:")[0]


def test_changed_weights_are_not_called_chaos():
    model = module_of(lambda: nn.RNN(3, 4, 2))
    with gradients.trace(model) as tape:
        output, _ = cast("nn.RNN", model)(X)
    model.weight_hh_l0.data.mul_(-1)
    with pytest.raises(InputError, match="has changed since the block"):
        tape.gradient_flow(output.sum())
