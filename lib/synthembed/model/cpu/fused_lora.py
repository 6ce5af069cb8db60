"""A linear layer and its LoRA adapter (Sec. 4.2) in one, for training on CPU.

PEFT adds a scaled product to the layer's, and autograd a gradient of the input to another: each is a pass
over (tokens, out) numbers, beside a product over a few columns. Here what is added is added in place, and
scales are laid on the few columns. Sums and products are those of PEFT's layer, whose subclass this is.
"""

from __future__ import annotations

import torch
from peft.tuners.lora.layer import Linear
from torch import nn

from synthembed.model.cpu import lean_layers, onednn_linear
from synthembed.model.cpu.bfloat16_linear import Bfloat16Linear, product


class _Product(torch.autograd.Function):
    """x W^T + b + scale (x * keep) A^T B^T of a frozen W, for x (tokens, in); x is kept, or instead of it what it
    was made of."""

    @staticmethod
    def forward(ctx, x, weight, bias, a, b, keep, scale, activation=None, *gated):
        out = product(x, weight, bias)
        narrow = onednn_linear.linear(_dropped(x, keep), a).mul_(scale)
        out.addmm_(narrow, b.T)
        ctx.save_for_backward(weight, a, b, narrow, keep, *(gated or (x,)))
        ctx.scale, ctx.activation = scale, activation
        return out

    @staticmethod
    def backward(ctx, gradient):
        weight, a, b, narrow, keep, *kept = ctx.saved_tensors
        x = lean_layers.gated(ctx.activation, *kept).flatten(0, -2) if len(kept) == 2 else kept[0]
        of_b = onednn_linear.transposed_product(gradient, narrow)
        of_narrow = onednn_linear.linear(gradient, b.T).mul_(ctx.scale)
        of_a = onednn_linear.transposed_product(of_narrow, _dropped(x, keep))
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = onednn_linear.linear(of_narrow, a.T)
            of_x = (of_x if keep is None else of_x.mul_(keep)).add_(product(gradient, weight.T))
        return of_x, None, None, of_a, of_b, *[None] * (len(ctx.needs_input_grad) - 5)


def _dropped(x: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
    return x if keep is None else x * keep


def dropout_mask(x: torch.Tensor, p: float) -> tuple[torch.Tensor, float]:
    """(x's shape) int8, 1 where a number is kept, and the scale of what is kept; from torch's global generator.

    torch draws one Bernoulli number an element with a slow generator; here one 64-bit random number
    gives four elements. The probability is that of 16 bits (0.1 becomes 0.100006) and the scale
    follows it, so the expectation is exact.
    """
    dropped = round(p * 65_536)  # of the values of a 16-bit number
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = words.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 32_768
    return keep.view(torch.int8), 65_536 / (65_536 - dropped)  # torch multiplies by bool twice as slowly


class FusedLora(Linear):
    """PEFT's layer; where one adapter of a frozen layer is at work on CPU in one precision, base, dropout and
    adapter are one product."""

    def forward(self, x: torch.Tensor, *args, **options) -> torch.Tensor:
        name = self._fused(x) if not args and not options else None
        if name is None:
            return super().forward(x, *args, **options)
        gated, shape, x = getattr(x, "gated", ()), x.shape, x.flatten(0, -2)
        base, scale, keep = self.base_layer, self.scaling[name], None
        dropout = self.lora_dropout[name]
        if self.training and isinstance(dropout, nn.Dropout) and dropout.p > 0:
            keep, more = dropout_mask(x, dropout.p)
            scale *= more
        weight = base.weight_for(x) if isinstance(base, Bfloat16Linear) else base.weight
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        out = _Product.apply(x, weight, base.bias, a, b, keep, scale, *gated)
        return out.unflatten(0, shape[:-1])  # out here, where autograd sees it: Falcon adds to it in place

    def _fused(self, x: torch.Tensor) -> str | None:
        """The adapter at work, if it and the base can be one product."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        if self.disable_adapters or self.merged or len(names) != 1 or names[0] in self.lora_variant:
            return None
        base, a, b = self.base_layer, self.lora_A[names[0]].weight, self.lora_B[names[0]]
        alike = x.dtype == a.dtype == b.weight.dtype == base.weight.dtype and x.device.type == "cpu"
        frozen = not any(p.requires_grad for p in base.parameters())
        plain = b.bias is None and x.numel() > 0 and not torch.is_autocast_enabled("cpu")
        return names[0] if alike and frozen and plain else None
