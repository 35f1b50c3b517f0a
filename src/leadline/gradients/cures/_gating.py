"""Gating as a cure: a gate that starts open, or a layer with gates."""

import math
from typing import cast

import torch
from torch import nn

from leadline.gradients.cures._cure import Cure, Treatment, Trend, Trial
from leadline.recurrent import GRU, RNN, Layer, cell_of


class Gating(Cure):
    """Gives the gate that passes the state on a bias of +1, and replaces RNN layers by a GRU.

    Reference: Jozefowicz, Zaremba & Sutskever, *An empirical exploration of recurrent network
    architectures*, 2015.
    """

    name = "gating"

    def treat(self, trial: Trial) -> Treatment:
        """Replace the layers without gates, and set the biases of all keeping gates."""
        generator = trial.generator(self.name)
        # The model itself may be a layer without gates, so it needs a parent in which it is
        # replaced.
        holder = nn.ModuleDict({"model": trial.copy_model()})
        for name, module in list(holder.named_modules()):
            if isinstance(module, nn.RNN | nn.RNNCell | RNN):
                holder.set_submodule(name, _with_gates(module, generator))
        has_bias = False
        with torch.no_grad():
            for module in holder.modules():
                has_bias |= _open_gate(module)
        if not has_bias:
            return Treatment("no gate has a bias")
        description = "a bias of +1 for the gate that keeps, a GRU for a layer without gates"
        return Treatment(description, trial.flow_of(holder["model"]))

    def against_vanishing(self, trend: Trend) -> str | None:
        """Advise an open gate, or a layer with gates."""
        change = "an LSTM or a GRU"
        if trend.keeping_gate:
            mean = f"which averages {trend.pass_through:.2g}"
            change = f"a bias of +1 for {trend.keeping_gate}, {mean}"
        loss = f"half of the gradient is lost every {trend.timesteps_to(2)} timesteps"
        if trend.is_lost_at_once:
            loss = "no gradient survives a step"
        return f"{change}, since {loss}"

    def against_exploding(self, trend: Trend) -> str | None:
        """Give no advice: a more open gate passes on more."""
        return None


def _open_gate(module: nn.Module) -> bool:
    """Set the bias of a module's keeping gate to +1 in place; return True if it has one."""
    if not isinstance(module, Layer | nn.RNNBase | nn.RNNCellBase):
        return False
    cell = cell_of(module)
    if cell.keeping_gate is None:
        return False
    has_bias = False
    for name, parameter in module.named_parameters(recurse=False):
        if name == "b" or name.startswith("bias"):
            # PyTorch's layers have two biases that are added: bias_ih gets 1, bias_hh gets 0.
            value = 0 if name.startswith("bias_hh") else 1
            parameter.chunk(cell.num_gates)[cell.keeping_gate.position].fill_(value)
            has_bias = True
    return has_bias


def _with_gates(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Return a GRU of the same sizes with new weights."""
    like = next(module.parameters())
    with torch.random.fork_rng(devices=[]):
        if isinstance(module, RNN):
            input_size = module.layers[0].W_x.shape[1]
            gated: nn.Module = GRU(input_size, module.hidden_size, len(module.layers))
        elif isinstance(module, nn.RNNCell):
            gated = nn.GRUCell(module.input_size, module.hidden_size, module.bias)
        else:
            assert isinstance(module, nn.RNN)
            names = ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
            options = {name: getattr(module, name) for name in names}
            gated = nn.GRU(module.input_size, module.hidden_size, **options)
    bound = 1 / math.sqrt(cast(int, module.hidden_size))
    with torch.no_grad():
        for parameter in gated.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return gated.to(like).train(module.training)
