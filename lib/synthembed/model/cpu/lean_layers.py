"""What the graph of a training step keeps of a layer, kept once.

Of a Llama layer with LoRA on all projections autograd keeps 55 KB a token at laptop size: a dropped
copy of its input for every adapter, and the input, the activation and both factors of the gate. Here
an adapter keeps the input, which it shares with its neighbours, and a mask; the gate keeps what goes
in and computes the rest again. Sums and products are those of the model's own modules.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from synthembed.model.cpu import onednn_linear
from synthembed.model.cpu.onednn_linear import with_weights


class _DroppedProduct(torch.autograd.Function):
    """(x * keep) W^T * scale, of which x, W and keep are kept; instead of x, what it was made of."""

    @staticmethod
    def forward(ctx, x, weight, keep, scale, *gated):
        ctx.save_for_backward(weight, keep, *(gated or (x,)))
        ctx.scale = scale
        return onednn_linear.linear(x * keep, weight).mul_(scale)

    @staticmethod
    def backward(ctx, gradient):
        weight, keep, *kept = ctx.saved_tensors
        x = _gated(*kept) if len(kept) == 2 else kept[0]
        gradient, of_x = gradient * ctx.scale, None
        of_weight = onednn_linear.transposed_product(gradient.flatten(0, -2), (x * keep).flatten(0, -2))
        if ctx.needs_input_grad[0]:
            of_x = onednn_linear.linear(gradient, weight.T).mul_(keep)
        return of_x, of_weight, *[None] * (len(ctx.needs_input_grad) - 2)


class DroppedLinear(nn.Linear):
    """LoRA's dropout and first product (Sec. 4.2) in one, on CPU; draws from torch's global generator.

    torch draws one Bernoulli number an element with a slow generator; here one 64-bit random number
    gives four elements. The probability is that of 16 bits (0.1 becomes 0.100006) and the scale
    follows it, so the expectation is exact.
    """

    dropped: int  # of 65,536 values of a 16-bit number

    @classmethod
    def of(cls, layer: nn.Linear, p: float) -> DroppedLinear:
        """A layer with the very weights of ``layer``, which has no bias, and dropout of its input."""
        made = with_weights(cls(layer.in_features, layer.out_features, False, "meta"), layer)
        made.dropped = round(p * 65_536)
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.dropped == 0:
            return onednn_linear.linear(x, self.weight)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.int16)[: x.numel()].view(x.shape) >= self.dropped - 32_768
        return _DroppedProduct.apply(
            x, self.weight, keep, 65_536 / (65_536 - self.dropped), *getattr(x, "gated", ())
        )


def _gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return F.silu(gate).mul_(up)


class _Gated(torch.autograd.Function):
    """silu(gate) * up, of which both inputs are kept."""

    @staticmethod
    def forward(ctx, gate, up):
        ctx.save_for_backward(gate, up)
        return _gated(gate, up)

    @staticmethod
    def backward(ctx, gradient):
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient * up, gate), F.silu(gate).mul_(gradient)


class GatedMlp(nn.Module):
    """down(silu(gate(x)) * up(x)) of the modules of another MLP, under the names that they have there."""

    def __init__(self, mlp: nn.Module):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.train(mlp.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        if not torch.is_grad_enabled():
            return self.down_proj(F.silu(gate, inplace=True).mul_(up))
        x = _Gated.apply(gate, up)
        # Hung on the tensor, since PEFT's layer hands on to its adapter nothing but its input: the adapter
        # then keeps these two, which are kept anyway, and not x as well.
        x.gated = (gate, up)
        return self.down_proj(x)


def use_in_mlps(model: nn.Module) -> None:
    """Put a GatedMlp in the place of each MLP of ``model`` that computes the same."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if _is_gated(child):
                setattr(parent, name, GatedMlp(child))


@torch.no_grad()
def _is_gated(mlp: nn.Module) -> bool:
    """Whether a module has the three projections and nothing else with weights, and gives on a probe what
    they give under a gate of silu."""
    parts = [getattr(mlp, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    own = {id(p) for part in parts if isinstance(part, nn.Linear) for p in part.parameters()}
    if not all(isinstance(part, nn.Linear) for part in parts) or own != {id(p) for p in mlp.parameters()}:
        return False
    like = parts[0].weight
    probe = torch.linspace(-1, 1, parts[0].in_features, device=like.device, dtype=like.dtype).expand(1, 2, -1)
    try:
        return torch.allclose(
            mlp(probe), GatedMlp(mlp)(probe), rtol=1e-2 if like.dtype.itemsize < 4 else 1e-5
        )
    except (TypeError, ValueError, RuntimeError):  # it takes or gives something else
        return False


def use_in_adapters(model: nn.Module) -> None:
    """Let the LoRA layers of ``model`` drop and multiply in one, in place."""
    for module in model.modules():
        for name, dropout in getattr(module, "lora_dropout", {}).items():
            if isinstance(dropout, nn.Dropout) and type(module.lora_A[name]) is nn.Linear:
                module.lora_A[name] = DroppedLinear.of(module.lora_A[name], dropout.p)
                module.lora_dropout[name] = nn.Identity()
