"""Linear layers with int8 weights for encoding on CPU: several times faster, and no longer exact.

Weights have one scale an output, inputs one a token, chosen as they come; products are summed in
int32. (torch's own dynamic quantisation keeps one scale for a whole batch, which a decoder's few large
activations spoil.) ``make bench-encode`` measures what it costs in cosine.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


class Int8Linear(nn.Module):
    """x (..., in) -> x W^T + b (..., out), from a float32 ``nn.Linear``."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        scale = linear.weight.detach().abs().amax(1).clamp_min(1e-12) / 127
        self.register_buffer("weight", (linear.weight.detach() / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(0, -2)
        scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        product = torch._int_mm((rows / scale).round_().to(torch.int8), self.weight.t())
        out = product.float().mul_(scale).mul_(self.scale)
        out = out if self.bias is None else out.add_(self.bias)
        return out.unflatten(0, x.shape[:-1])


def to_int8(model: nn.Module) -> nn.Module:
    """A copy of a float32 model on the CPU whose linear layers are Int8Linear; for encoding only."""
    kind = {(p.device.type, p.dtype) for p in model.parameters()}
    if kind != {("cpu", torch.float32)}:
        raise ValueError(f"int8 weights are made of float32 weights on the CPU, not of {kind}")
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                setattr(parent, name, Int8Linear(child))
    return model.eval()
