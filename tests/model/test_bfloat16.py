"""Frozen weights in bfloat16: what is rounded, what stays exact, and who decides."""

import copy
import json

import pytest
import torch
from synthembed.model import adapter, backbone
from synthembed.model.backbone import Backbone
from synthembed.model.cpu import bfloat16_linear
from synthembed.model.cpu.bfloat16_linear import Bfloat16Linear
from synthembed.profile import Backbone as Settings
from synthembed.profile import Lora
from tiny_models import tiny_model
from torch import nn

needs_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 on this processor"
)


@pytest.fixture
def rounded(monkeypatch):
    """A tiny model whose layers, small as they are, are rounded."""
    monkeypatch.setattr(bfloat16_linear, "LEAST", 1)
    monkeypatch.setattr(bfloat16_linear, "product_rates", lambda: {"float32": 100.0, "bfloat16": 180.0})
    model = tiny_model("llama").eval()
    ids = torch.arange(20, 40)[None]
    assert bfloat16_linear.use_in(model, lambda: model(input_ids=ids).last_hidden_state[:, -1])
    return model


def layers(model: nn.Module) -> dict[str, nn.Module]:
    return {n: m for n, m in model.named_modules() if isinstance(m, Bfloat16Linear)}


@needs_bfloat16
def test_the_product_is_that_of_rounded_numbers_summed_in_float32():
    torch.manual_seed(0)
    plain = nn.Linear(300, 40)
    layer, x = Bfloat16Linear.of(plain), torch.randn(3, 5, 300, requires_grad=True)
    y = layer(x)
    exact = x.bfloat16().double() @ plain.weight.bfloat16().double().T + plain.bias.double()
    assert y.dtype == torch.float32
    assert (y - exact).abs().max() < 2**-8 * exact.abs().max(), "of the sum only the last rounding is left"
    weights = torch.randn_like(y)
    (found,) = torch.autograd.grad((y * weights).sum(), x)
    expected = weights.bfloat16().double() @ plain.weight.bfloat16().double()
    assert (found - expected).abs().max() < 2**-8 * expected.abs().max()


@needs_bfloat16
def test_the_first_layer_the_saved_weights_and_whole_training_stay_exact(rounded):
    assert layers(rounded) and not any(name.startswith("layers.0.") for name in layers(rounded))
    stock = tiny_model("llama")
    assert rounded.state_dict().keys() == stock.state_dict().keys()
    assert all(torch.equal(v, stock.state_dict()[k]) for k, v in rounded.state_dict().items())
    ids = torch.arange(20, 40)[None]
    exact = stock.eval()(input_ids=ids).last_hidden_state
    assert not torch.equal(rounded(input_ids=ids).last_hidden_state, exact)
    rounded.requires_grad_(True)  # trained as a whole, its weights are float32 and so are its products
    assert torch.equal(rounded(input_ids=ids).last_hidden_state, exact)


@needs_bfloat16
def test_a_merged_adapter_is_in_the_rounded_weights_and_in_the_saved_ones(rounded):
    wrapped = adapter.add_lora(Backbone(rounded, None, {}), Lora(rank=4, dropout=0), 0)
    torch.manual_seed(1)
    for name, parameter in wrapped.model.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    found = layers(wrapped.model.get_base_model()).items()
    before = {name.removesuffix(".base_layer"): m.weight.detach().clone() for name, m in found}
    merged = adapter.merge_lora(wrapped).model
    for name, layer in layers(merged).items():
        assert not torch.equal(layer.weight, before[name])
        assert layer.weight.dtype == torch.float32
        assert torch.equal(layer.rounded, layer.weight.bfloat16())
    other = copy.deepcopy(merged)
    assert all(
        a.rounded is not b.rounded
        for a, b in zip(layers(merged).values(), layers(other).values(), strict=True)
    )


@pytest.mark.parametrize(
    ("rate", "dtype", "used"),
    [
        pytest.param(180.0, "auto", True, marks=needs_bfloat16),
        (110.0, "auto", False),
        (180.0, "float32", False),
    ],
)
def test_the_measured_rates_and_the_profile_decide(tiny_folder, monkeypatch, rate, dtype, used, capsys):
    bfloat16_linear._say.cache_clear()
    monkeypatch.setattr(bfloat16_linear, "LEAST", 1)
    monkeypatch.setattr(bfloat16_linear, "product_rates", lambda: {"float32": 100.0, "bfloat16": rate})
    bfloat16_linear.is_faster.cache_clear()
    try:
        loaded = backbone.load(Settings(model=str(tiny_folder), dtype=dtype))
    finally:
        bfloat16_linear.is_faster.cache_clear()
    assert bfloat16_linear.is_used_in(loaded.model) == used
    assert ("1.8 times float32's rate" in capsys.readouterr().out) == used


def test_rates_are_measured_once_for_a_processor(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = []
    monkeypatch.setattr(bfloat16_linear, "_measured", lambda: measured.append(1) or {"float32": 1.0})
    assert [bfloat16_linear.product_rates() for _ in range(3)] == [{"float32": 1.0}] * 3 and len(
        measured
    ) == 1
    path = tmp_path / "synthembed" / "products.json"
    assert list(json.loads(path.read_text()).values()) == [{"float32": 1.0}]
    path.write_text("{torn")
    assert bfloat16_linear.product_rates() == {"float32": 1.0} and len(measured) == 2
    monkeypatch.setattr(bfloat16_linear, "_here", lambda: "another processor")
    assert bfloat16_linear.product_rates() == {"float32": 1.0} and len(measured) == 3


def test_a_measurement_gives_rates_and_leaves_the_threads_alone():
    threads = torch.get_num_threads()
    rates = bfloat16_linear._measured(tokens=64, size=64, rounds=1)
    assert rates["float32"] > 0 and torch.get_num_threads() == threads
