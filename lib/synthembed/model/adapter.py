"""LoRA on a backbone: added, on a base in 4 bits, merged (App. A)."""

from __future__ import annotations

import torch
from torch import nn

from synthembed.ground.embedded import BackboneError
from synthembed.model.backbone import Backbone
from synthembed.model.cpu import bfloat16_linear, onednn_linear
from synthembed.profile.settings import Lora


def add_lora(backbone: Backbone, settings: Lora, seed: int) -> Backbone:
    """Wrap the base in a LoRA adapter on the named projections (App. A), base weights frozen."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
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
        raise BackboneError(f"lora.targets {settings.targets}: {error}") from None
    if on_cpu:
        onednn_linear.use_in(model)
    return Backbone(model, backbone.contract, backbone.source)


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
    return Backbone(merged, backbone.contract, backbone.source)
