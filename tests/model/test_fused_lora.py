"""A layer and its adapter in one give what PEFT's layer gives, forward and backward."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora.layer import Linear
from synthembed.model import adapter
from synthembed.model.backbone import Backbone
from synthembed.model.cpu import fused_lora
from synthembed.model.cpu.bfloat16_linear import Bfloat16Linear
from synthembed.model.cpu.fused_lora import FusedLora
from synthembed.profile.settings import Lora
from tiny_models import tiny_model
from torch import nn

IDS = torch.arange(40, 63)[None]


class Masked(nn.Module):
    """Dropout by a mask that was drawn before."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, x):
        return x * self.mask


def pair(layer: nn.Linear, dropout: float = 0.0) -> tuple[FusedLora, Linear]:
    """Our layer over ``layer`` and PEFT's over a copy, with one adapter that is not the identity."""
    config = LoraConfig(r=4, lora_alpha=6, lora_dropout=dropout)
    settings = {"r": 4, "lora_alpha": 6, "config": config}
    theirs = Linear(copy.deepcopy(layer), "default", **settings)
    nn.init.normal_(theirs.lora_B["default"].weight)
    ours = FusedLora(layer, "default", **settings)
    ours.load_state_dict(theirs.state_dict())
    for made in (ours, theirs):
        made.base_layer.requires_grad_(False)
        made.to(layer.weight.dtype)
    return ours, theirs


def values_and_gradients(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    y = layer(x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape).sin()
    wanted = [x, layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    return [y, *torch.autograd.grad((y * weights).sum(), wanted)]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("inner", "outer"), [(5, 9), (33, 3)])
@pytest.mark.parametrize(("dtype", "off"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients_are_those_of_pefts_layer(inner, outer, bias, dropout, dtype, off):
    torch.manual_seed(0)
    ours, theirs = pair(nn.Linear(inner, outer, bias=bias).to(dtype), dropout)
    x = torch.randn(2, 7, inner, dtype=dtype, requires_grad=True)
    torch.manual_seed(3)
    found = values_and_gradients(ours, x)
    if dropout:
        torch.manual_seed(3)
        keep, scale = fused_lora.dropout_mask(x, dropout)
        assert 0 < keep.sum() < keep.numel()
        theirs.lora_dropout["default"] = Masked(keep * torch.tensor(scale, dtype=dtype))
    for mine, right in zip(found, values_and_gradients(theirs, x), strict=True):
        torch.testing.assert_close(mine, right, rtol=off, atol=off)
    ours.eval(), theirs.lora_dropout.update({"default": nn.Identity()})
    torch.testing.assert_close(ours(x), theirs(x), rtol=off, atol=off)


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 on this processor"
)
@pytest.mark.parametrize("bias", [False, True])
def test_over_rounded_weights_the_base_alone_is_rounded(bias):
    torch.manual_seed(0)
    ours, theirs = pair(Bfloat16Linear.of(nn.Linear(300, 40, bias=bias)))
    x = torch.randn(2, 7, 300, requires_grad=True)
    for mine, right in zip(values_and_gradients(ours, x), values_and_gradients(theirs, x), strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-4)


def test_dropout_keeps_the_expectation_and_follows_the_seed():
    x = torch.ones(2000, 501)
    torch.manual_seed(0)
    keep, scale = fused_lora.dropout_mask(x, 0.1)
    assert 1 - keep.double().mean().item() == pytest.approx(0.1, abs=0.001)
    assert keep.double().mean().item() * scale == pytest.approx(1, abs=0.001)
    torch.manual_seed(0)
    assert torch.equal(fused_lora.dropout_mask(x, 0.1)[0], keep)
    assert not torch.equal(fused_lora.dropout_mask(x, 0.1)[0], keep)


def rounded_base(module: nn.Module) -> None:
    if hasattr(module, "base_layer"):
        module.base_layer.bfloat16()


def test_what_cannot_be_one_product_is_pefts(monkeypatch):
    """Another precision, a base that is trained, an adapter that is off."""
    torch.manual_seed(0)
    ours, theirs = pair(nn.Linear(6, 5))
    x = torch.randn(3, 6)

    def fails(*args):
        raise AssertionError("one product")

    monkeypatch.setattr(fused_lora._Product, "apply", fails)
    half = [copy.deepcopy(layer) for layer in (ours, theirs)]
    assert torch.equal(*(layer.apply(rounded_base)(x.bfloat16()) for layer in half))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x), theirs(x))
    ours.enable_adapters(False)
    assert torch.equal(ours(x), ours.base_layer(x))
    ours.enable_adapters(True)
    ours.base_layer.requires_grad_(True)
    assert torch.equal(ours(x), theirs(x))
    ours.merge()
    torch.testing.assert_close(ours(x), theirs(x))


def test_names_saved_adapters_and_merged_weights_are_pefts(tmp_path):
    settings = Lora(rank=4, alpha=8, dropout=0.1)
    ours = adapter.add_lora(Backbone(tiny_model("llama"), None, {}), settings, 0).model
    config = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=0.1, target_modules=settings.targets, task_type="FEATURE_EXTRACTION"
    )
    plain = tiny_model("llama")
    torch.manual_seed(0)
    theirs = get_peft_model(plain, config)
    assert any(isinstance(module, FusedLora) for module in ours.modules())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    for name, weight in get_peft_model_state_dict(ours).items():
        assert torch.equal(weight, get_peft_model_state_dict(theirs)[name])
    torch.manual_seed(1)
    for name, parameter in ours.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)
    ours.eval().save_pretrained(tmp_path)
    read = PeftModel.from_pretrained(tiny_model("llama"), tmp_path).eval()
    with torch.no_grad():
        expected = ours(input_ids=IDS).last_hidden_state
        torch.testing.assert_close(read(input_ids=IDS).last_hidden_state, expected, rtol=1e-4, atol=1e-5)
        merged = ours.merge_and_unload()
        assert not any(isinstance(module, Linear) for module in merged.modules())
        torch.testing.assert_close(merged(input_ids=IDS).last_hidden_state, expected, rtol=1e-4, atol=1e-5)
