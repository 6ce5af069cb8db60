"""The matrix-product rate of this machine, which bounds what a model can do."""

from __future__ import annotations

import time

import torch
from torch import nn

from synthembed.model.cpu import bfloat16_linear, onednn_linear


def matrix_rate(
    on: torch.device, seconds: float = 0.3, dtype: torch.dtype | None = None, fastest: bool = True
) -> float:
    """Multiply-add operations per second of a large matrix product: the bound for MFU.

    In ``dtype``, or in bfloat16 on a GPU and float32 elsewhere, by the library that our layers use
    (cpu/onednn_linear.py), or by torch's own product if not ``fastest``.
    """
    size = 4096 if on.type == "cuda" else 1024
    kind = dtype or (torch.bfloat16 if on.type == "cuda" else torch.float32)
    a = torch.randn(size, size, device=on, dtype=kind)
    product = onednn_linear.linear if fastest and onednn_linear.use_onednn() else torch.matmul
    count, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        product(a, a)[0, 0].item()
        count += 1
    return 2 * size**3 * count / (time.monotonic() - start)


def rate_for(model: nn.Module) -> float:
    """``matrix_rate`` in the precision of the model's own products: what its MFU is a share of."""
    parameter = next(model.parameters())
    if parameter.device.type == "cpu" and bfloat16_linear.is_used_in(model):
        return matrix_rate(parameter.device, dtype=torch.bfloat16)
    half = parameter.dtype in (torch.float16, torch.bfloat16) and parameter.device.type == "cuda"
    return matrix_rate(parameter.device, dtype=parameter.dtype if half else None)
