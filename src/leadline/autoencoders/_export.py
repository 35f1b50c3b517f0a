"""The export of encoders to ONNX, for programs without PyTorch."""

import warnings
from importlib import import_module
from os import PathLike

import torch
from torch import nn

from leadline import checks, storage
from leadline.errors import InputError


def write_onnx(module: nn.Module, example: torch.Tensor, path: str | PathLike[str]) -> None:
    """Write an ONNX model with input ``rows`` and output ``code``, for any number of rows.

    Args:
        module: A frozen module that maps one tensor to one tensor.
        example: At least two rows in the shape and number type that the module takes.
        path: The file to write; an existing file is replaced in one step.

    Raises:
        InputError: The extra ``onnx`` is not installed, or the module cannot be exported.
        SaveError: The file cannot be written.

    Reference: https://onnx.ai
    """
    path = checks.path(path, "path")
    try:
        for name in ("onnx", "onnxscript"):
            import_module(name)
    except ImportError as error:
        raise InputError(
            "to_onnx() needs the packages onnx and onnxscript",
            got=f"{error.name} is not installed",
            cure="pip install 'leadline[onnx]'",
        ) from error
    first = next(module.parameters(), example)
    with warnings.catch_warnings(), torch.no_grad():
        # PyTorch's exporter warns about its own internals.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
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
                "to_onnx() needs an encoder whose operations ONNX supports",
                got=f"{type(module).__name__}: {str(error).splitlines()[0]}",
                cause="branches that depend on the rows, or an unsupported operation",
                cure="export a simpler encoder, or use PyTorch",
            ) from error
    assert program is not None
    storage.write(path, program.model_proto.SerializeToString())
