"""Layers that keep less for the backward pass compute what the model's own compute."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from synthembed.model import adapter
from synthembed.model.backbone import Backbone
from synthembed.model.cpu import lean_layers
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


def test_less_is_kept():
    """A third less at least, with the model's own MLP and PEFT's layers as the measure."""
    lean_one, settings = tiny_model("llama"), Lora()
    lean_layers.use_in_mlps(lean_one)
    lean_one = adapted(lean_one, 0.1)
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=settings.targets)
    stock = get_peft_model(tiny_model("llama"), config).double().train()
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


@pytest.mark.parametrize("family", ["llama", "qwen3", "olmo2", "gemma3_text", "gemma2"])
def test_gates_of_silu_and_of_gelu_keep_less_and_compute_the_same(family):
    """Chosen by what a module has and gives on a probe, not by its name."""
    from transformers import CONFIG_MAPPING, AutoModel

    config = CONFIG_MAPPING[family](
        vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    stock = AutoModel.from_config(config)
    ours = copy.deepcopy(stock)
    lean_layers.use_in_mlps(ours)
    kinds = {layer.mlp.activation for layer in ours.layers}
    assert kinds == {"gelu_tanh" if "gemma" in family else "silu"}
    assert ours.state_dict().keys() == stock.state_dict().keys()
    with torch.no_grad():
        plain, found = (m.eval()(input_ids=IDS).last_hidden_state for m in (stock, ours))
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)
    stock, ours = adapted(stock, 0.3), adapted(ours, 0.3)
    expected, found = gradients(stock), gradients(ours)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)


class Tripled(nn.Module):
    """Has the parts of a gated MLP, and does something else with them."""

    def __init__(self):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = (nn.Linear(8, 8, bias=False) for _ in range(3))
        self.act_fn = nn.functional.silu

    def forward(self, x):
        return 3 * self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


def test_an_mlp_that_gives_something_else_stays():
    other = nn.ModuleList([Tripled()])
    lean_layers.use_in_mlps(other)
    assert type(other[0]) is Tripled
