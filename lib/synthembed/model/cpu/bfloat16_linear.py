"""Frozen weights multiplied in bfloat16 on processors that have the instructions (AVX512-BF16, AMX).

Inputs and weights are rounded to bfloat16, sums are float32, and what comes out is float32 again, as are
the weights that are saved or merged, LoRA's, and the vectors. Whether that is faster here is measured
once for a processor and kept beside the fetched models, so that a run that is resumed does as before.
"""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import nn

from synthembed.ground.files import read_json, write_json
from synthembed.ground.weights.embedded import cache_folder
from synthembed.model.cpu.onednn_linear import FastLinear, linear, use_onednn, with_weights

LEAST = 256  # inputs of a layer; below it, rounding costs more than the product gains
WORTH = 1.2  # times float32's rate
FAITHFUL = 0.9999  # least cosine on the probe; real texts may fall a little below it


class _Product(torch.autograd.Function):
    """x W^T of a frozen W in bfloat16; x float32."""

    @staticmethod
    def forward(ctx, x, half, bias):
        ctx.save_for_backward(half)
        return product(x, half, bias)

    @staticmethod
    def backward(ctx, gradient):
        return product(gradient, ctx.saved_tensors[0].T), None, None


def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x W^T + b, rounded if the weights are; for use where no graph is made."""
    if weight.dtype == x.dtype:
        return linear(x, weight, bias)
    out = torch.ops.mkldnn._linear_pointwise(x.bfloat16(), weight, None, "none", [], "").float()
    return out if bias is None else out.add_(bias)


class Bfloat16Linear(nn.Linear):
    """A linear layer that multiplies in bfloat16 while its weights are frozen."""

    @classmethod
    def of(cls, layer: nn.Linear) -> Bfloat16Linear:
        """A layer with the very weights of ``layer``, which are frozen by this."""
        made = with_weights(cls(layer.in_features, layer.out_features, layer.bias is not None, "meta"), layer)
        made.weight.requires_grad_(False)
        made.register_buffer("rounded", made.weight.detach().bfloat16(), persistent=False)
        return made

    def weight_for(self, x: torch.Tensor) -> torch.Tensor:
        """The weights that ``x`` is multiplied with: rounded ones, if it is float32 and they are frozen."""
        plain = x.dtype != torch.float32 or x.device.type != "cpu" or x.numel() == 0
        return self.weight if plain or self.weight.requires_grad else self.rounded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight_for(x)
        if weight is self.weight:
            return linear(x, weight, self.bias)
        if x.requires_grad and torch.is_grad_enabled():
            return _Product.apply(x.flatten(0, -2), weight, self.bias).unflatten(0, x.shape[:-1])
        return product(x, weight, self.bias)


def use_in(model: nn.Module, vectors_of: Callable[[], torch.Tensor]) -> bool:
    """Put a Bfloat16Linear in the place of each linear layer of ``model`` that is large enough, those of the
    first decoder layers aside: what is rounded there is felt by all that follow. As few layers stay exact as
    keep the vectors of a probe, (texts, dim) by ``vectors_of``, within FAITHFUL of float32's; if that takes
    more than half of them, nothing is rounded. Says what was done; returns whether anything is rounded."""
    layers = getattr(model, "layers", None) or getattr(getattr(model, "encoder", None), "layer", None)
    if (
        layers is None
        or len(layers) < 2
        or not any(_fits(m) for m in model.modules() if isinstance(m, nn.Linear))
    ):
        return False
    exact, gain = vectors_of(), product_rates()["bfloat16"] / product_rates()["float32"]
    for count in range(1, len(layers) // 2 + 1):
        _put(model, {id(module) for layer in layers[:count] for module in layer.modules()})
        least = nn.functional.cosine_similarity(vectors_of(), exact).min().item()
        if least >= FAITHFUL:
            told = f"cosine {least:.5f} to float32 on a probe, first {count} of {len(layers)} layers exact"
            _say(f"products of frozen weights in bfloat16: {gain:.1f} times float32's rate here; {told}")
            return True
    give_way(model)
    _say(f"products in float32: in bfloat16 a probe's vectors have cosine {least:.5f} to it")
    return False


@cache  # a model that is loaded again is not news
def _say(told: str) -> None:
    print(told, flush=True)


def _put(model: nn.Module, exact: set[int]) -> None:
    """Rounded layers everywhere but in the modules of ``exact``, where they give way to float32's."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if id(parent) in exact and type(child) is Bfloat16Linear:
                setattr(parent, name, FastLinear.of(child))
            elif id(parent) not in exact and type(child) in (nn.Linear, FastLinear) and _fits(child):
                setattr(parent, name, Bfloat16Linear.of(child))


def give_way(model: nn.Module) -> None:
    """Float32's layers in the place of rounded ones, whose weights they keep."""
    _put(model, {id(module) for module in model.modules()})


def round_again(model: nn.Module) -> None:
    """The rounded weights made anew from the float32 ones, as after a merge."""
    for module in model.modules():
        if isinstance(module, Bfloat16Linear):
            module.rounded = module.weight.detach().bfloat16()


def _fits(layer: nn.Linear) -> bool:
    weight = layer.weight
    return weight.dtype == torch.float32 and weight.device.type == "cpu" and layer.in_features >= LEAST


def is_used_in(model: nn.Module) -> bool:
    return any(isinstance(module, Bfloat16Linear) for module in model.modules())


@cache
def is_faster() -> bool:
    """Whether products in bfloat16 are faster here than float32's, by the rates that were measured once."""
    rates = product_rates()
    return rates.get("bfloat16", 0) > WORTH * rates["float32"]


def product_rates() -> dict[str, float]:
    """GFLOP/s of a layer's product on one core in float32 (by the faster library) and in bfloat16, rounding
    included; kept in the cache folder for this processor and torch."""
    path, here = cache_folder() / "products.json", _here()
    kept = _read(path)
    if here not in kept:
        kept[here] = _measured()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, kept)
        except OSError:  # a home that cannot be written: measured again by the next process
            pass
    return kept[here]


def _read(path: Path) -> dict:
    try:
        return read_json(path, {})
    except (OSError, json.JSONDecodeError):
        return {}


def _here() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    name = found[1] if found else platform.processor()
    return f"{name}, torch {torch.__version__}"


def _measured(tokens: int = 1024, size: int = 1024, rounds: int = 7) -> dict[str, float]:
    """Best of several rounds in turn on one thread, by the processor's time: what other processes take of
    the machine falls on neither side."""
    x, weight = torch.randn(tokens, size), torch.randn(size, size)
    sides = {"float32": lambda: linear(x, weight)}
    if use_onednn() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        half = weight.bfloat16()
        sides["bfloat16"] = lambda: product(x, half)
    best, threads = dict.fromkeys(sides, float("inf")), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(rounds + 1):
                for name, run in sides.items():
                    start = time.process_time()
                    run()
                    best[name] = min(best[name], time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    return {name: round(2 * tokens * size**2 / seconds / 1e9, 1) for name, seconds in best.items()}
