"""What the graph of a training step keeps of a layer, kept once.

Of a Llama layer with LoRA on all projections autograd keeps 55 KB a token at laptop size: a dropped
copy of its input for every adapter, and the input, the activation and both factors of the gate. Here
an adapter keeps the input, which it shares with its neighbours, and a mask; the gate keeps what goes
in and computes the rest again. Sums and products are those of the model's own modules.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from synthembed.model.cpu import onednn_linear
from synthembed.model.cpu.onednn_linear import with_weights

# A gate's activation by name: what it gives, what it gives in place, and the gradient of its input.
ACTIVATIONS = {
    "silu": (F.silu, partial(F.silu, inplace=True), torch.ops.aten.silu_backward),
    "gelu_tanh": (
        partial(F.gelu, approximate="tanh"), partial(torch.ops.aten.gelu_, approximate="tanh"),
        partial(torch.ops.aten.gelu_backward, approximate="tanh"),
    ),
}  # fmt: skip


class _DroppedProduct(torch.autograd.Function):
    """(x * keep) W^T * scale, of which x, W and keep are kept; instead of x, what it was made of."""

    @staticmethod
    def forward(ctx, x, weight, keep, scale, activation=None, *gated):
        ctx.save_for_backward(weight, keep, *(gated or (x,)))
        ctx.scale, ctx.activation = scale, activation
        return onednn_linear.linear(x * keep, weight).mul_(scale)

    @staticmethod
    def backward(ctx, gradient):
        weight, keep, *kept = ctx.saved_tensors
        x = _gated(ctx.activation, *kept) if len(kept) == 2 else kept[0]
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


def _gated(activation: str, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return ACTIVATIONS[activation][0](gate).mul_(up)


class _Gated(torch.autograd.Function):
    """activation(gate) * up, of which both inputs are kept."""

    @staticmethod
    def forward(ctx, activation, gate, up):
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        return _gated(activation, gate, up)

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


def use_in_adapters(model: nn.Module) -> None:
    """Let the LoRA layers of ``model`` drop and multiply in one, in place."""
    for module in model.modules():
        for name, dropout in getattr(module, "lora_dropout", {}).items():
            if isinstance(dropout, nn.Dropout) and type(module.lora_A[name]) is nn.Linear:
                module.lora_A[name] = DroppedLinear.of(module.lora_A[name], dropout.p)
                module.lora_dropout[name] = nn.Identity()
