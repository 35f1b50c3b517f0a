"""Encoders for programs without PyTorch: the ONNX format."""

import warnings
from importlib import import_module
from os import PathLike

import torch
from torch import nn

from leadline import checks, storage
from leadline.errors import InputError


def write_onnx(module: nn.Module, example: torch.Tensor, path: str | PathLike[str]) -> None:
    """Write a frozen module as an ONNX model with the input ``rows`` and the output ``code``, for any number of rows.

    Args:
        module: takes one tensor and gives one.
        example: rows in the shape and of the number type that it takes, at least two.
        path: of the file, which is replaced in one step.

    Raises:
        InputError: the extra ``onnx`` is not installed, or the module cannot be exported.
        SaveError: the file could not be written.

    Reference: https://onnx.ai
    """
    path = checks.path(path, "path")
    try:
        for name in ("onnx", "onnxscript"):
            import_module(name)
    except ImportError as error:
        raise InputError(
            "export to ONNX needs onnx and onnxscript",
            got=f"{error.name} is not installed",
            cure="pip install 'leadline[onnx]'",
        ) from error
    first = next(module.parameters(), example)
    with warnings.catch_warnings(), torch.no_grad():
        for kind in (
            FutureWarning,
            DeprecationWarning,
        ):  # PyTorch's exporter speaks of its own insides
            warnings.simplefilter("ignore", kind)
        try:
            program = torch.onnx.export(
                module,
                (example.to(first.device),),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                input_names=["rows"],
                output_names=["code"],
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise InputError(
                "an encoder that is exported is a plain graph of operations that ONNX knows",
                got=f"{type(module).__name__}: {str(error).splitlines()[0]}",
                cause="branches that depend on the rows, or an operation without a counterpart",
                cure="export a simpler encoder, or keep it in PyTorch",
            ) from error
    assert program is not None
    storage.write(path, program.model_proto.SerializeToString())
