"""A module of the user's own takes part in pretraining: anything that reconstructs rows, trained by autograd."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt64
from torch import Tensor, nn

from leadline import checks
from leadline.autoencoders._encoder import check_fingerprints, encode_in_blocks
from leadline.autoencoders._tensors import check_like_memory, check_tensor
from leadline.autoencoders.models._dense import number_type
from leadline.autoencoders.training._rows import Rows
from leadline.autoencoders.training._stack import BETAS
from leadline.data import Dataset, check_features, row_fingerprints
from leadline.errors import InputError
from leadline.randomness import torch_generator
from leadline.storage import record

BLOCK_ROWS = 64
"""Rows that are encoded at once."""


@record("autoencoders.CustomArchitecture")
@dataclass(frozen=True)
class CustomArchitecture:
    """What is known of a module that Leadline did not build."""

    name: str
    """Of its class."""
    row_shape: tuple[int, ...]
    """Shape of the rows that it takes."""

    def centre(self, mean: Float[Tensor, " features"]) -> Float[Tensor, " features"]:
        """Zeros: a module of the user's own is not moved to its data."""
        return torch.zeros_like(check_tensor(mean, "mean"))

    def moved(self, state: Mapping[str, Tensor], centre: Tensor) -> dict[str, Tensor]:
        """The state as it is."""
        return checks.mapping(state, "state")


class Alone:
    """One module in training: what :class:`~leadline.autoencoders.training._stack.Stack` does for many, by autograd for any.

    A copy is trained, so that the user's module stays as it is until the end. What the module itself draws (dropout)
    comes from a stream of its own; the global generators stay where they are.

    Args:
        model: takes rows of ``row_shape`` and gives their reconstruction.
        row_shape: shape of a row.
        lr: learning rate, > 0.
        seed: of what the module draws.
        device: where it is trained.
    """

    def __init__(
        self,
        model: nn.Module,
        row_shape: tuple[int, ...],
        lr: float,
        seed: int,
        device: torch.device,
    ):
        self.lr = [lr]
        self.row_shape, self.seed, self.device, self.steps = row_shape, seed, device, 0
        self.module = copy.deepcopy(model).to(device)
        trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr, betas=BETAS, fused=True)
        self.trained = trained

    def __len__(self) -> int:
        return 1

    def keep(self, members: list[int]) -> None:
        """Go on with the only member."""

    def step(self, seen: Tensor, target: Tensor, counts: Tensor | None) -> Float[Tensor, " one"]:
        """One step of Adam on batches of shape (1, batch, features); gives the summed loss before it."""
        self.steps += 1
        self.optimizer.param_groups[0]["lr"] = self.lr[0]
        self.module.train()
        with torch.enable_grad(), self._own_stream(f"step {self.steps}"):
            loss = self._squares(seen[0], target[0], None if counts is None else counts[0]).sum()
            self.optimizer.zero_grad()
            (loss / seen.shape[1]).backward()
            self.optimizer.step()
        return loss.detach()[None]

    def error(self, member: int, seen: Tensor, target: Tensor, counts: Tensor | None) -> float:
        """Squared error summed over the features that count, averaged over rows; in evaluation mode."""
        self.module.eval()
        with torch.no_grad(), self._own_stream("validation"):
            return float(self._squares(seen, target, counts).sum(dtype=torch.float64)) / len(target)

    def snapshot(self, member: int) -> dict[str, Tensor]:
        """A copy of the weights and buffers."""
        return {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def memory(self, member: int) -> dict[str, Tensor]:
        """All that training goes on from."""
        memory = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        for i, parameter in enumerate(self.trained):
            memory |= {
                f"optimizer.{i}.{name}": tensor
                for name, tensor in self.optimizer.state[parameter].items()
            }
        return {**memory, "steps": torch.tensor(self.steps)}

    def recall(self, member: int, memory: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`memory` gave."""
        expected = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        expected["steps"] = torch.tensor(0)
        for i, parameter in enumerate(self.trained):
            if f"optimizer.{i}.step" in memory:  # absent for a parameter that never had a gradient
                expected[f"optimizer.{i}.step"] = torch.zeros(())
                expected |= {
                    f"optimizer.{i}.{name}": parameter for name in ("exp_avg", "exp_avg_sq")
                }
        check_like_memory(memory, {name: tensor.detach() for name, tensor in expected.items()})
        self.steps = int(memory["steps"])
        names = self.module.state_dict()
        self.module.load_state_dict({name: memory[f"module.{name}"] for name in names})
        for i, parameter in enumerate(self.trained):
            prefix = f"optimizer.{i}."
            state = {
                name.removeprefix(prefix): memory[name]
                for name in memory
                if name.startswith(prefix)
            }
            if state:
                self.optimizer.state[parameter] = {
                    name: tensor.to(self.device) for name, tensor in state.items()
                }

    def _squares(self, seen: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        reconstruction = _reconstruction(self.module, seen.unflatten(1, self.row_shape))
        squares = (reconstruction.flatten(1) - target).square()
        return squares if counts is None else squares * counts

    @contextmanager
    def _own_stream(self, purpose: str) -> Iterator[None]:
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(
                torch_generator(self.seed, f"autoencoders.custom {purpose}").initial_seed()
            )
            yield


class ModuleEncoder:
    """A module of the user's own as a frozen encoder: its ``encode(x)``, or what it gives when it is called.

    A copy in evaluation mode, without gradients. Rows are encoded in blocks of one size, so that a row has the same
    code in any company.

    Args:
        module: takes rows of shape (n, ...) and gives codes of shape (n, d) or (n, tokens, d).
        rows_seen: fingerprints of the rows that it was trained on (:func:`leadline.data.row_fingerprints`), if known.

    >>> import numpy as np
    >>> encoder = ModuleEncoder(nn.Flatten())
    >>> encoder.encode(np.ones((2, 3, 4))).shape
    (2, 12)
    """

    def __init__(self, module: nn.Module, rows_seen: UInt64[np.ndarray, " n"] | None = None):
        checks.instance(module, "module", nn.Module, wanted="a module of torch")
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.rows_seen = check_fingerprints([] if rows_seen is None else rows_seen)

    def encode(self, X: Any) -> Float32[np.ndarray, "n ..."]:
        """Codes of clean rows, of shape (n, d) or (n, tokens, d).

        Raises:
            InputError: rows that are not finite, or that the module cannot take.
        """
        if isinstance(X, Dataset):
            X = X.X if X.image_size is None else X.images
        array = checks.array(X, "X")
        dtype = (
            number_type(self.module)
            if next(self.module.parameters(), None) is not None
            else np.float32
        )
        flat = array.reshape(len(array), -1) if array.ndim > 2 and array.size else array
        rows = check_features(flat, dtype=dtype).reshape(array.shape)
        try:
            return encode_in_blocks(
                self.module, getattr(self.module, "encode", self.module), rows, BLOCK_ROWS
            )
        except Exception as error:  # the user's code may raise any kind
            raise InputError(
                "an encoder takes rows in the shape that it was made for, and gives one tensor",
                got=f"{type(self.module).__name__} failed on rows of shape {array.shape}: {error}",
                cure="bring the rows into that shape; give the module an encode(x) that returns the codes alone",
            ) from error

    def has_seen(self, X: Any) -> np.ndarray:
        """For each row, true if pretraining used an equal one: booleans of shape (n,).

        Raises:
            InputError: rows that are no finite numbers, or whose shape the module cannot take.
        """
        if isinstance(X, Dataset):
            X = X.X if X.image_size is None else X.images
        array = checks.array(X, "X")
        self.encode(
            array[:1] if array.ndim else array
        )  # rows that it cannot take were never seen, and are refused
        flat = array.reshape(len(array), -1) if array.ndim > 2 else array
        return np.isin(row_fingerprints(check_features(flat)), self.rows_seen)

    def to_onnx(self, path: str | PathLike[str], example: Any) -> None:
        """Write it as an ONNX model: input ``rows``, output ``code``, any number of rows.

        Args:
            path: of the file.
            example: a row or more, in the shape that the module takes.

        Raises:
            InputError: the extra ``onnx`` is not installed, or the module cannot be exported.
        """
        from leadline.autoencoders._export import write_onnx

        first = next(self.module.parameters(), torch.zeros(0, dtype=torch.float32))
        shape = checks.array(example, "example").shape
        self.encode(
            np.zeros((1, *shape[1:]), np.float32)
        )  # refuses a shape that the module cannot take
        rows = torch.zeros(2, *shape[1:], dtype=first.dtype)
        write_onnx(
            _Encoding(self.module).eval() if hasattr(self.module, "encode") else self.module,
            rows,
            path,
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Refused: how to rebuild the module is not known.

        Raises:
            InputError: always.
        """
        raise InputError(
            "an encoder file holds a model that Leadline can rebuild",
            got=f"a {type(self.module).__name__}, for {path}",
            cure="save encoder.module.state_dict() with safetensors.torch.save_file, or export with to_onnx",
        )


class _Encoding(nn.Module):
    """``encode`` of a module as a module."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module.encode(x)  # pyright: ignore[reportCallIssue]


def check_module(model: nn.Module, rows: Tensor, row_shape: tuple[int, ...]) -> None:
    """Refuse a module that cannot reconstruct these rows, before any training.

    Args:
        model: the user's module; left as it was.
        rows: a few rows, shape (n, features).
        row_shape: shape of a row as the user gave it.

    Raises:
        InputError: it fails on the rows, or gives something else than their reconstruction.
    """
    if not all(isinstance(tensor, Tensor) for tensor in model.state_dict().values()):
        raise InputError(
            "a module that is pretrained keeps its state in tensors",
            got=f"a {type(model).__name__} with an extra state of another kind",
            cure="keep it in a buffer: self.register_buffer(name, tensor)",
        )
    engine = Alone(model, row_shape, 1.0, 0, rows.device)
    try:
        engine.error(0, rows, rows, None)
    except InputError:
        raise
    except Exception as error:  # the user's code may raise any kind
        raise InputError(
            "a module that is pretrained takes rows and gives their reconstruction",
            got=f"{type(model).__name__} failed on rows of shape {tuple(rows.unflatten(1, row_shape).shape)}: {error}",
            cause="rows in another shape than the module takes",
            cure="hand rows over in the module's shape: (n, features), or (n, channels, height, width)",
        ) from error


def check_batches(model: nn.Module, rows: Rows, batch_size: int) -> None:
    """Refuse a module that cannot train on the first or on the last batch of an epoch, before any training.

    The last batch may hold a single row, by which batch normalisation cannot normalise.

    Args:
        model: the user's module; a copy takes the step.
        rows: of the training.
        batch_size: rows per step.

    Raises:
        InputError: a step fails.
    """
    n = len(rows)
    for size in sorted({min(batch_size, n), n % batch_size or min(batch_size, n)}):
        batch = rows.take(torch.arange(size, device=rows.device))[None]
        engine = Alone(model, rows.row_shape, 1e-3, 0, rows.device)
        try:
            engine.step(batch, batch, None)
        except InputError:
            raise
        except Exception as error:  # the user's code may raise any kind
            many = f"{size} row{'s' * (size > 1)}"
            raise InputError(
                "a module that is pretrained takes a training step on every batch of an epoch",
                got=f"{type(model).__name__} failed on a batch of {many}: {error}",
                cause="batch normalisation needs more than one row"
                if size == 1
                else "an operation without a gradient",
                cure=f"choose another batch_size: {n} rows in batches of {batch_size} leave a last one of {many}"
                if size == 1
                else None,
            ) from error


def _reconstruction(module: nn.Module, x: Tensor) -> Tensor:
    output: Any = module(x)
    if not isinstance(output, Tensor) or output.shape != x.shape:
        given = (
            f"shape {tuple(output.shape)}"
            if isinstance(output, Tensor)
            else f"a {type(output).__name__}"
        )
        raise InputError(
            "a module that is pretrained gives the reconstruction of its rows, in their shape",
            got=f"{type(module).__name__} gave {given} for rows of shape {tuple(x.shape)}",
            cause="an encoder without a decoder, or more than one output",
            cure="wrap it so that forward(x) is the reconstruction and encode(x) the representation",
        )
    return output
