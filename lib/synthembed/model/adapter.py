"""LoRA on a backbone: added, on a base in 4 bits, merged (App. A)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from synthembed.ground.weights.embedded import BackboneError
from synthembed.model.backbone import Backbone
from synthembed.model.cpu import bfloat16_linear, onednn_linear
from synthembed.profile.settings import Lora

ROUTERS = {"gate", "router", "shared_expert_gate"}  # they choose experts, and project nothing


def projections(model: nn.Module) -> Counter:
    """Name -> how many layers of attention and MLP have a linear layer of that name. What projects
    and is no linear layer, as fused experts, is counted under the name of its weight with "[weight]" behind."""
    found: Counter = Counter()
    for path, module in model.named_modules():
        name = path.rpartition(".")[2]
        if not re.search(r"(^|\.)(layers?|h|blocks)\.\d+\.", path) or name in ROUTERS:
            continue
        if isinstance(module, nn.Linear | Conv1D):
            found[name] += 1
        elif not isinstance(module, nn.modules.conv._ConvNd):
            found.update(f"{n} [weight]" for n, p in module.named_parameters(recurse=False) if p.ndim == 3)
    return found


def targets_of(model: nn.Module, settings: Lora) -> list[str]:
    """The names that LoRA goes on: all projections of attention and MLP by the names that this model has for
    them, or those that a profile names instead. Raises BackboneError if one of these is not there, and if a
    projection cannot have an adapter."""
    have = projections(model)
    linear = sorted(name for name in have if not name.endswith("]"))
    kind, told = model.config.model_type, ", ".join(linear) or "no linear layers"
    if set(settings.targets) != set(Lora().targets):
        if unknown := [name for name in settings.targets if name not in linear]:
            raise BackboneError(
                f"lora.targets: {', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} no projection of this "
                f"{kind} model, which has {told}"
            )
        return settings.targets
    if len(linear) < len(have):
        raise BackboneError(
            f"LoRA on all projections (App. A): a {kind} model has some that are no linear layers, as fused experts are "
            f"({', '.join(sorted(set(have) - set(linear)))}); to train the others alone, name them in lora.targets: {told}"
        )
    if not linear:
        raise BackboneError(f"LoRA: a {kind} model has no linear layers in its layers: use train.method full")
    if set(linear) == set(settings.targets):
        return settings.targets
    print(f"LoRA on all projections of a {kind} model: {told}", flush=True)
    return linear


def add_lora(backbone: Backbone, settings: Lora, seed: int) -> Backbone:
    """Wrap the base in a LoRA adapter on the projections of ``targets_of`` (App. A), base weights frozen."""
    from peft import LoraConfig, get_peft_model

    targets = targets_of(backbone.model, settings)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        bias="none",
        task_type="FEATURE_EXTRACTION",
    )
    on_cpu = backbone.device.type == "cpu"
    if on_cpu and all(p.is_floating_point() for p in backbone.model.parameters()):
        from synthembed.model.cpu.fused_lora import FusedLora

        config._register_custom_module({nn.Linear: FusedLora})
    try:
        model = get_peft_model(backbone.model, config)
    except ValueError as error:
        raise BackboneError(f"LoRA on {', '.join(targets)}: {error}") from None
    if on_cpu:
        onednn_linear.use_in(model)
    return replace(backbone, model=model)


def tensors_of(adapted: Backbone) -> dict[str, torch.Tensor]:
    """Name -> a copy on the CPU of each tensor of an adapter."""
    return {n: p.detach().to("cpu", copy=True) for n, p in adapted.model.named_parameters() if "lora_" in n}


def with_tensors(base: Backbone, settings: Lora, tensors: dict[str, torch.Tensor]) -> Backbone:
    """``base`` with an adapter that was trained on another copy of it."""
    made = add_lora(base, settings, 0)
    for name, parameter in made.model.named_parameters():
        if name in tensors:
            parameter.data.copy_(tensors[name].data)
    return made


def quantise(backbone: Backbone, targets: list[str]) -> None:
    """QLoRA: the weights of the named projections in 4 bits (NF4), in place; needs bitsandbytes."""
    try:
        import bitsandbytes as bnb
    except ImportError:
        raise BackboneError(
            "train.method qlora needs bitsandbytes, which is not installed: pip install bitsandbytes "
            "on a machine with CUDA, or use train.method lora"
        ) from None
    on, compute = backbone.device, next(backbone.model.parameters()).dtype
    for parent in list(backbone.model.modules()):
        for name, layer in parent.named_children():
            if name not in targets or not isinstance(layer, nn.Linear):
                continue
            small = bnb.nn.Linear4bit(
                layer.in_features, layer.out_features, layer.bias is not None, compute, quant_type="nf4"
            )
            small.weight = bnb.nn.Params4bit(
                layer.weight.data.cpu(), requires_grad=False, quant_type="nf4", module=small
            )
            small.bias = layer.bias
            setattr(parent, name, small.to(on))


def merge_lora(backbone: Backbone) -> Backbone:
    """The adapter folded into the weights: encoding then costs what the base costs.

    After full fine-tuning there is no adapter, and the model stays as it is.
    """
    if not hasattr(backbone.model, "merge_and_unload"):
        return backbone
    merged = backbone.model.merge_and_unload().eval()
    bfloat16_linear.round_again(merged)  # of the weights that the adapter is now part of
    return replace(backbone, model=merged)
