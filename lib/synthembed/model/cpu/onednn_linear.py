"""Matrix products in float32 on CPU by the faster of torch's two libraries.

torch multiplies float32 matrices with MKL, which on processors of another maker than Intel leaves
AVX-512 aside; oneDNN, which comes with torch as well, uses it. There, linear layers run by oneDNN:
the same product of the same weights, summed in another order (docs/decisions.md has the speed).
Which library serves follows from the processor alone, never from a timing, so that a run that is
resumed on the same machine repeats itself bit for bit.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

# oneDNN keeps the code that it writes for each shape, and torch keeps what it calls that code with, of
# 1,024 shapes each by default. Every batch has its own number of tokens and rows: the memory of a
# process grew with the number of batches it had seen.
for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "64")


@cache
def use_onednn() -> bool:
    """Whether float32 products run by oneDNN here: not an Intel processor, AVX-512, and the call agrees
    with torch's own on a probe."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    if "GenuineIntel" in described or "avx512f" not in described or not torch.backends.mkldnn.is_available():
        return False
    x, weight = (torch.linspace(-1, 1, 30 * n).view(n, 30).sin() for n in (20, 10))
    try:
        return torch.allclose(_onednn(x, weight), x @ weight.T, atol=1e-4)
    except (RuntimeError, AttributeError, NotImplementedError):  # the operator is not a public one
        return False


def _fast(x: torch.Tensor, weight: torch.Tensor) -> bool:
    single = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    return single and x.numel() > 0 and use_onednn()


def _onednn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x (..., in), weight (out, in) of any strides, bias (out) -> (..., out)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def transposed_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a^T b for a (tokens, m) and b (tokens, n). oneDNN copies its first operand if it is transposed: that
    is the narrower one (of LoRA's two sides one is a few columns wide)."""
    if not _fast(a, b):
        return a.T @ b
    return _onednn(a.T, b.T) if a.shape[1] <= b.shape[1] else _onednn(b.T, a.T).T


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x if weight.requires_grad else None, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _onednn(gradient, weight.T)
        if ctx.needs_input_grad[1]:
            of_weight = transposed_product(gradient.flatten(0, -2), x.flatten(0, -2))
        if ctx.needs_input_grad[2]:
            of_bias = gradient.flatten(0, -2).sum(0)
        return of_x, of_weight, of_bias


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``F.linear``: x (..., in), weight (out, in) -> (..., out); differentiable once."""
    if not _fast(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _Product.apply(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])
    return _onednn(x, weight, bias)


class FastLinear(nn.Linear):
    """A linear layer whose products are ``linear``'s."""

    @classmethod
    def of(cls, layer: nn.Linear) -> FastLinear:
        """A layer with the very weights of ``layer``."""
        return with_weights(cls(layer.in_features, layer.out_features, layer.bias is not None, "meta"), layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight, self.bias)


def with_weights(new: nn.Linear, layer: nn.Linear) -> nn.Linear:
    new.weight, new.bias = layer.weight, layer.bias
    return new.train(layer.training)


def use_in(model: nn.Module) -> None:
    """Put a FastLinear in the place of each plain linear layer of ``model`` where that is faster."""
    if use_onednn():
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.Linear:
                    setattr(parent, name, FastLinear.of(child))


def filling_row(tokens: int, token: int, on: torch.device) -> list[list[int]]:
    """A row of ``token`` that rounds a batch's tokens up to five binary digits (3 % on average at most), or none.

    oneDNN writes code for each shape: without it memory grew with the number of batches.
    """
    short = -tokens % (1 << max(0, tokens.bit_length() - 5))
    return [[token] * short] if short and on.type == "cpu" and use_onednn() else []
