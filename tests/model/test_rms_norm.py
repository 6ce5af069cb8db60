"""RMSNorm in few passes gives what a model's own norm gives, forward and backward."""

import copy

import pytest
import torch
from synthembed.model.cpu import rms_norm
from synthembed.model.cpu.rms_norm import RmsNorm
from torch import nn
from transformers import CONFIG_MAPPING, AutoModel
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

IDS = torch.arange(40, 63)[None]


def norm_of(kind: type, size: int = 24) -> nn.Module:
    made = kind(size, eps=1e-5)
    nn.init.normal_(made.weight)
    return made


def pair(kind: type) -> tuple[nn.Module, RmsNorm]:
    """A model's own norm, and ours in the place of its copy."""
    stock = norm_of(kind).requires_grad_(False)
    holder = nn.ModuleList([copy.deepcopy(stock)])
    rms_norm.use_in(holder)
    assert type(holder[0]) is RmsNorm and holder[0].state_dict().keys() == stock.state_dict().keys()
    return stock, holder[0]


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma3RMSNorm, nn.RMSNorm])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_values_and_gradients_are_those_of_float64(kind, turned, size):
    torch.manual_seed(0)
    _, ours = pair(kind)
    x = (torch.randn(2, 7, 3, 24) * size).requires_grad_()
    weights = torch.randn(2, 3, 7, 24) if turned else torch.randn(2, 7, 3, 24)
    found, exact = [], []
    for given, into in ((x, found), (x.detach().double().requires_grad_(), exact)):
        seen = given.transpose(1, 2) if turned else given
        factor = ours.weight.to(seen.dtype) + (kind is Gemma3RMSNorm)
        plain = seen * torch.rsqrt(seen.pow(2).mean(-1, keepdim=True) + 1e-5) * factor
        y = ours(seen) if into is found else plain
        into += [y, torch.autograd.grad((y * weights).sum(), given)[0] * size]
    for mine, right in zip(found, exact, strict=True):
        torch.testing.assert_close(mine.double(), right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma3RMSNorm])
def test_in_float64_the_gradient_is_that_of_the_formula(kind):
    torch.manual_seed(0)
    ours = pair(kind)[1].double()
    x = torch.randn(3, 5, 24, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours, x)


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma3RMSNorm])
def test_a_trained_weight_has_the_gradient_of_the_models_own(kind):
    torch.manual_seed(0)
    stock, ours = pair(kind)
    x = torch.randn(3, 5, 24, requires_grad=True)
    for made in (stock, ours):
        made.requires_grad_(True)
    found, expected = (torch.autograd.grad(m(x).square().sum(), [x, m.weight]) for m in (ours, stock))
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, right)
    torch.testing.assert_close(ours(x.bfloat16()).float(), stock(x).detach(), rtol=2e-2, atol=2e-2)


def test_x_and_a_number_a_token_are_kept():
    ours, kept = pair(LlamaRMSNorm)[1], []
    x = torch.randn(50, 24, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        ours(x)
    new = [t for t in kept if t.data_ptr() not in (x.data_ptr(), ours.weight.data_ptr())]
    assert [t.shape for t in new] == [(50, 1)]


@pytest.mark.parametrize("family", ["llama", "qwen3", "olmo2", "gemma3_text", "gemma2"])
def test_every_norm_of_a_family_is_taken_over(family):
    config = CONFIG_MAPPING[family](
        vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    stock = AutoModel.from_config(config).eval()
    for name, parameter in stock.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter, 0.5, 0.2)
    ours = copy.deepcopy(stock)
    rms_norm.use_in(ours)
    assert not any("Norm" in type(m).__name__ and type(m) is not RmsNorm for m in ours.modules())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in stock.named_parameters()]
    ours.requires_grad_(False)
    with torch.no_grad():
        expected, found = (m(input_ids=IDS).last_hidden_state for m in (stock, ours))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class Doubled(LlamaRMSNorm):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("made", [nn.LayerNorm(24), nn.LayerNorm(24, bias=False), norm_of(Doubled)])
def test_a_norm_that_gives_something_else_stays(made):
    holder = nn.ModuleList([made])
    rms_norm.use_in(holder)
    assert holder[0] is made
