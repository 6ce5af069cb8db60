"""What the graph of a training step keeps of a layer, kept once.

Of a Llama layer with LoRA on all projections autograd keeps 55 KB a token at laptop size: a dropped
copy of its input for every adapter (fused_lora.py keeps none), and the input, the activation and both
factors of the gate. Here the gate keeps what goes in and computes the rest again. Sums and products are
those of the model's own modules.
"""

from __future__ import annotations

from functools import partial
from inspect import signature

import torch
from torch import nn
from torch.nn import functional as F

# A gate's activation by name: what it gives, what it gives in place, and the gradient of its input.
ACTIVATIONS = {
    "silu": (F.silu, partial(F.silu, inplace=True), torch.ops.aten.silu_backward),
    "gelu_tanh": (
        partial(F.gelu, approximate="tanh"), partial(torch.ops.aten.gelu_, approximate="tanh"),
        partial(torch.ops.aten.gelu_backward, approximate="tanh"),
    ),
}  # fmt: skip


def gated(activation: str, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """activation(gate) * up."""
    return ACTIVATIONS[activation][0](gate).mul_(up)


class _Gated(torch.autograd.Function):
    """``gated``, of which both inputs are kept."""

    @staticmethod
    def forward(ctx, activation, gate, up):
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        return gated(activation, gate, up)

    @staticmethod
    def backward(ctx, gradient):
        gate, up = ctx.saved_tensors
        act, _, slope = ACTIVATIONS[ctx.activation]
        return None, slope(gradient * up, gate), act(gate).mul_(gradient)


class GatedMlp(nn.Module):
    """down(activation(gate(x)) * up(x)) of the modules of another MLP, under the names that they have there."""

    def __init__(self, mlp: nn.Module, activation: str):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.activation = activation
        self.train(mlp.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        if not torch.is_grad_enabled():
            return self.down_proj(ACTIVATIONS[self.activation][1](gate).mul_(up))
        x = _Gated.apply(self.activation, gate, up)
        # Hung on the tensor, since PEFT's layer hands on to its adapter nothing but its input: the adapter
        # then keeps these two, which are kept anyway, and not x as well.
        x.gated = (self.activation, gate, up)
        return self.down_proj(x)


def use_in_mlps(model: nn.Module) -> None:
    """Put a GatedMlp in the place of each MLP of ``model`` that computes the same."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if activation := _activation_of(child):
                setattr(parent, name, GatedMlp(child, activation))


@torch.no_grad()
def _activation_of(mlp: nn.Module) -> str | None:
    """The activation under which a GatedMlp of the module's parts gives what the module gives; None if there
    is none, or if it has other weights than those of the three projections."""
    parts = [getattr(mlp, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if not all(isinstance(part, nn.Linear) for part in parts) or not callable(getattr(mlp, "act_fn", None)):
        return None
    if {id(p) for part in parts for p in part.parameters()} != {id(p) for p in mlp.parameters()}:
        return None
    if (
        len(signature(mlp.forward).parameters) != 1
    ):  # a gate or a router's choice, which a GatedMlp would not take
        return None
    like, x = parts[0].weight, torch.linspace(-4, 4, 65)
    probe = torch.linspace(-1, 1, parts[0].in_features, device=like.device, dtype=like.dtype).expand(1, 2, -1)
    off = {"atol": 1e-2, "rtol": 1e-2} if like.dtype.itemsize < 4 else {"atol": 1e-6, "rtol": 1e-5}
    for name, (act, *_) in ACTIVATIONS.items():
        try:
            same = torch.allclose(mlp.act_fn(x), act(x), atol=1e-6)
            if same and torch.allclose(mlp(probe), GatedMlp(mlp, name)(probe), **off):
                return name
        except (TypeError, ValueError, RuntimeError):  # it takes or gives something else
            return None
    return None
