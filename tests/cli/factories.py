"""Valid and invalid factories for ``leadline gradients``."""

import torch
from torch import nn

from leadline import recurrent


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.lstm = nn.LSTM(2, 6, 2, batch_first=True)
            self.head = nn.Linear(6, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.cell = nn.GRUCell(2, 6)

    def forward(self, x):
        h = None
        for x_t in x.unbind(1):
            h = self.cell(x_t, h)
        return h


def batch_of(time=8):
    draw = torch.Generator().manual_seed(1)
    return torch.randn(3, time, 2, generator=draw), torch.randn(3, time, 1, generator=draw)


def scalar(model, batch):
    x, y = batch
    return (model(x) - y).square().mean()


def by_timestep(model, batch):
    x, y = batch
    return (model(x) - y).square().mean((0, 2))


def factory():
    return Model(), batch_of(), scalar


def terms():
    return Model(), batch_of(), by_timestep


def loop():
    return Loop(), batch_of()[0], lambda model, x: model(x).square().sum()


def from_data(data):
    return Model(), tuple(torch.from_numpy(data[name]).float() for name in ("x", "y")), by_timestep


def course():
    model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=1)
    return (
        model,
        recurrent.running_average(4, 6, seed=0),
        lambda m, b: recurrent.mse(m(b[0])[0], b[1], per_step=True),
    )


def pair():
    return Model(), batch_of()


def computed():
    model, batch, loss = factory()
    return model, batch, loss(model, batch)


def no_model():
    return "model", batch_of(), scalar


def feedforward():
    with torch.random.fork_rng():
        return nn.Linear(2, 1), batch_of(), scalar


def broken():
    raise KeyError("weights")


def broken_loss():
    return Model(), batch_of(), lambda model, batch: model(batch)


def detached():
    return Model(), batch_of(), lambda model, batch: scalar(model, batch).detach()


def not_a_tensor():
    return Model(), batch_of(), lambda model, batch: scalar(model, batch).item()


def not_numbers():
    model, (x, y), loss = factory()
    x[1, 4] = torch.nan
    return model, (x, y), loss


def overflowing():
    model = recurrent.Regression(recurrent.RNN(1, 4, nonlinearity="identity", seed=0), seed=1)
    with torch.no_grad():
        model.network.layers[0].W_h.copy_(
            torch.tensor(1e10) * torch.eye(4)[[1, 2, 3, 0]] - 1e10 * torch.eye(4)
        )
    return (
        model,
        recurrent.running_average(2, 9, seed=0),
        lambda m, b: recurrent.mse(m(b[0])[0], b[1]),
    )


def not_a_number_loss():
    return Model(), batch_of(), lambda model, batch: (scalar(model, batch) - 1e9).sqrt()


number = 3
