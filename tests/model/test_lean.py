"""Layers that keep less for the backward pass compute what the model's own compute."""

import copy

import pytest
import torch
from synthembed.model import adapter
from synthembed.model.backbone import Backbone
from synthembed.model.cpu import lean_layers
from synthembed.model.cpu.onednn_linear import with_weights
from synthembed.profile.settings import Lora
from tiny_models import tiny_model
from torch import nn

IDS = torch.arange(40, 63)[None]


def adapted(model: nn.Module, dropout: float) -> nn.Module:
    """A model with an adapter that is not the identity, in float64, in training."""
    model = adapter.add_lora(Backbone(model, None, {}), Lora(rank=4, alpha=8, dropout=dropout), 0).model
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)
    return model.double().train()


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    model.zero_grad(set_to_none=True)
    model(input_ids=IDS).last_hidden_state.square().sum().backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def bytes_kept(model: nn.Module) -> int:
    """Of storages that the graph of a forward pass holds, the weights aside."""
    found = {}

    def note(tensor):
        if not isinstance(tensor, nn.Parameter):
            found[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(input_ids=IDS)
    return sum(t.untyped_storage().nbytes() for t in found.values())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_those_of_the_models_own_mlp(style, dropout, checkpointing):
    stock, ours = tiny_model(style), tiny_model(style)
    lean_layers.use_in_mlps(ours)
    assert all(isinstance(layer.mlp, lean_layers.GatedMlp) for layer in ours.layers)
    stock, ours = adapted(stock, dropout), adapted(ours, dropout)
    if checkpointing:
        for model in (stock, ours):
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    expected, found = gradients(stock), gradients(ours)
    assert expected.keys() == found.keys() and any("lora_A" in name for name in found)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("wide", [False, True])
def test_a_dropped_product_is_dropout_and_a_product(wide):
    torch.manual_seed(0)
    plain = nn.Linear(5, 9 if wide else 3, bias=False).double()
    layer = lean_layers.DroppedLinear.of(copy.deepcopy(plain), 0.4)
    x = torch.randn(2, 7, 5, dtype=torch.float64, requires_grad=True)
    eye = nn.Linear(5, 5, bias=False).double()
    eye.weight.data.copy_(torch.eye(5))
    torch.manual_seed(3)
    y = layer(x)
    torch.manual_seed(3)  # the mask that was drawn: the same numbers, through a layer that shows them
    mask = lean_layers.DroppedLinear.of(eye, 0.4)(torch.ones_like(x)).detach()
    expected = plain(x * mask)
    assert 0 < (mask == 0).sum() < mask.numel()
    torch.testing.assert_close(y, expected)
    weights = torch.randn_like(y)
    for mine, right in zip(
        torch.autograd.grad((y * weights).sum(), [x, layer.weight]),
        torch.autograd.grad((expected * weights).sum(), [x, plain.weight]),
        strict=True,
    ):
        torch.testing.assert_close(mine, right)


def test_less_is_kept():
    """A third less at least, with the model's own MLP and torch's dropout as the measure."""
    lean_one, stock = tiny_model("llama"), tiny_model("llama")
    lean_layers.use_in_mlps(lean_one)
    lean_one, stock = adapted(lean_one, 0.1), adapted(stock, 0.1)
    for module in stock.modules():
        for name in getattr(module, "lora_dropout", {}):
            module.lora_dropout[name] = nn.Dropout(0.1)
            module.lora_A[name] = with_weights(nn.Linear(1, 1, False), module.lora_A[name])
    assert bytes_kept(lean_one) < 0.67 * bytes_kept(stock)


def test_encoding_is_unchanged_and_a_copy_is_its_own():
    stock, ours = tiny_model("llama").eval(), tiny_model("llama").eval()
    lean_layers.use_in_mlps(ours)
    with torch.no_grad():
        expected = stock(input_ids=IDS).last_hidden_state
        assert torch.equal(ours(input_ids=IDS).last_hidden_state, expected)
        other = copy.deepcopy(ours)
        other.layers[0].mlp.up_proj.weight.zero_()
        assert torch.equal(ours(input_ids=IDS).last_hidden_state, expected)
        assert not torch.equal(other(input_ids=IDS).last_hidden_state, expected)
