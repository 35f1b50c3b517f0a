"""Encoding of rows in blocks of one size, so that equal rows have equal codes."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn


def encode_in_blocks(
    module: nn.Module, function: Callable[[torch.Tensor], torch.Tensor], rows: np.ndarray, size: int
) -> Float32[np.ndarray, "n ..."]:
    """Apply a function of a frozen module to blocks of ``size`` rows; zeros fill the last block."""
    first = next(module.parameters(), torch.zeros(0, dtype=torch.float32))
    block = torch.empty(size, *rows.shape[1:], dtype=first.dtype, device=first.device)
    codes = []
    with torch.inference_mode(), torch.autocast(first.device.type, enabled=False):
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            block.zero_()[: len(part)] = torch.from_numpy(np.array(part, order="C"))
            codes.append(function(block)[: len(part)].float().cpu().numpy())
    return np.concatenate(codes)
