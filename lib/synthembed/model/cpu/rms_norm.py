"""RMSNorm of frozen weights in few passes over the numbers, on CPU.

A model's own module is a chain of six operations, of which each writes (tokens, dim) numbers and autograd
as many again in the backward pass. Here x and one number a token are kept, and the gradient is written out.
"""

from __future__ import annotations

from inspect import signature

import torch
from torch import nn


class _Normalised(torch.autograd.Function):
    """x / rms(x) * factor over the last dimension; the factor is frozen."""

    @staticmethod
    def forward(ctx, x, factor, eps):
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = inverse.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, factor, inverse)
        return (x * inverse).mul_(factor)

    @staticmethod
    def backward(ctx, gradient):
        x, factor, inverse = ctx.saved_tensors
        of_x = gradient * factor
        along = (of_x * x).sum(-1, keepdim=True).mul_(inverse**3).div_(-x.shape[-1])
        return of_x.mul_(inverse).addcmul_(x, along), None, None


class RmsNorm(nn.Module):
    """x / sqrt(mean x^2 + eps) * (offset + weight), with the very weight of another norm."""

    def __init__(self, weight: nn.Parameter, eps: float, offset: int):
        super().__init__()
        self.weight, self.eps, self.offset = weight, eps, offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        factor = self.offset + self.weight if self.offset else self.weight
        exact = x.dtype == factor.dtype and x.dtype.itemsize >= 4 and x.device.type == "cpu"
        if exact and not self.weight.requires_grad:
            return _Normalised.apply(x, factor, self.eps)
        wide = x if exact else x.float()
        inverse = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * inverse * factor.to(wide.dtype)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.eps}, offset={self.offset}"


def use_in(model: nn.Module) -> None:
    """Put an RmsNorm in the place of each float32 norm of ``model`` that computes the same."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if made := _like(child):
                setattr(parent, name, made)


@torch.no_grad()
def _like(norm: nn.Module) -> RmsNorm | None:
    """The RmsNorm that gives what the module gives on a probe, whose first row is as small as eps; None if
    there is none."""
    eps = getattr(norm, "eps", getattr(norm, "variance_epsilon", None))
    state = [*norm.named_parameters(), *norm.named_buffers()]
    if not isinstance(eps, float) or [name for name, _ in state] != ["weight"] or norm.weight.ndim != 1:
        return None
    if len(signature(norm.forward).parameters) != 1:  # Mamba's takes a gate as well
        return None
    if norm.weight.dtype != torch.float32 or norm.weight.device.type != "cpu":
        return None
    size = len(norm.weight)
    probe = (
        torch.linspace(-40, 60, 3 * size).sin().view(1, 3, size) * torch.tensor([eps**0.5, 1, 30])[:, None]
    )
    for offset in (0, 1):
        made = RmsNorm(norm.weight, eps, offset).train(norm.training)
        try:
            if torch.allclose(norm(probe), made(probe), atol=1e-6, rtol=1e-5):
                return made
        except (TypeError, ValueError, RuntimeError):  # it takes or gives something else
            return None
    return None
