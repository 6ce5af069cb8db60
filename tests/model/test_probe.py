"""The probe that decides how rows run: it finds a trace of a neighbour in any precision, and leaves nothing behind."""

import copy

import pytest
import torch
from synthembed.ground.weights.embedded import BackboneError
from synthembed.model import packed_rows, probe
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import Encoder
from synthembed.model.tokens import TokenContract
from tiny_models import byte_tokenizer, tiny_model
from torch import nn


class Convolution(nn.Module):
    """A causal convolution that does not know where rows begin, before a layer's own MLP."""

    def __init__(self, mlp: nn.Module, share: float):
        super().__init__()
        self.mlp, self.share = mlp, share

    def forward(self, x):
        return self.mlp(x + self.share * torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_decoder_is_packed_in_any_precision(style, dtype):
    assert probe.findings(tiny_model(style).to(dtype)) == probe.Findings("packed")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_trace_of_the_row_before_is_found(dtype):
    model = tiny_model("llama")
    model.layers[0].mlp = Convolution(model.layers[0].mlp, 0.5)
    found = probe.findings(model.to(dtype))
    assert found.how == "padded" and ("depend on the row before" in found.why or "are off by" in found.why)
    assert model.config._attn_implementation == "sdpa" and not model.layers[-1].self_attn._forward_pre_hooks


def test_windows_are_what_they_were(monkeypatch):
    model, seen = tiny_model("mistral", window=4096), []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda **o: seen.append(model.config.sliding_window) or forward(**o)
    )
    assert probe.findings(model).how == "packed" and set(seen) == {probe.EDGE}
    assert model.config.sliding_window == 4096


def test_a_window_that_packing_would_not_keep_is_found(monkeypatch):
    """At the edge of a window of 4,096 tokens, with eleven tokens."""
    monkeypatch.setattr(
        packed_rows, "_grouped",
        lambda q, k, v, before, layout, window, *rest, own=packed_rows._grouped: own(q, k, v, before, layout, None, *rest),
    )  # fmt: skip
    assert probe.findings(tiny_model("mistral", window=4096)).how == "padded"
    assert probe.findings(tiny_model("llama")).how == "packed"


def test_a_row_that_depends_on_its_neighbours_either_way_is_refused():
    model = tiny_model("llama")
    plain = model.layers[0].mlp.forward
    model.layers[0].mlp.forward = lambda x: plain(x) + x.mean((0, 1)) * (x.shape[0] * x.shape[1])
    with pytest.raises(
        BackboneError, match=r"a row of a llama model depends on its neighbours .* padded .* refused"
    ):
        packed_rows.supports(model)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
        {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
         "original_max_position_embeddings": 32},
    ],
)  # fmt: skip
def test_rope_that_depends_on_the_batch_is_packed_up_to_its_length_and_refused_beyond(rope):
    from transformers import AutoModel, LlamaConfig

    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, rope_parameters=rope,
    )  # fmt: skip
    loaded = Backbone(AutoModel.from_config(config).eval(), TokenContract.of(byte_tokenizer("llama")), {})
    assert probe.findings(loaded.model) == probe.Findings("packed", "", 32)
    encoder, texts = Encoder(loaded, max_length=32), ["x", "a long text " * 9]
    together = encoder.encode(texts)
    for number, text in enumerate(texts):
        assert abs(encoder.encode([text])[0] - together[number]).max() < 1e-5
    with pytest.raises(BackboneError, match=r"33 tokens: beyond 32, the RoPE of this llama model"):
        Encoder(loaded, max_length=33)
    with pytest.raises(BackboneError, match="beyond 32"):
        encoder.encode_rows([[1] * 40, [1] * 5])


def test_attention_that_chooses_its_keys_is_never_packed_and_refused_beyond_its_choice(llama):
    """What 12 tokens of a probe cannot show: these may choose 24."""
    llama.model.config.index_topk = 24
    assert probe.findings(llama.model) == probe.Findings(
        "padded", "its attention chooses among the tokens before", 24
    )
    Encoder(llama, max_length=24)
    with pytest.raises(BackboneError, match=r"25 tokens: beyond 24, the choice of keys of this llama model"):
        Encoder(llama, max_length=25)


def test_states_of_another_width_are_refused(tmp_path):
    """As OPT 350M's are, which are projected to half of its hidden size."""
    from transformers import AutoModel, OPTConfig

    config = OPTConfig(
        vocab_size=300, hidden_size=32, word_embed_proj_dim=16, ffn_dim=32, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=64, do_layer_norm_before=False,
    )  # fmt: skip
    with pytest.raises(BackboneError, match="states have 16 numbers, its hidden_size is 32"):
        probe.alone(AutoModel.from_config(config).eval(), probe.ROWS)


def test_a_copy_knows_what_was_found_and_is_not_probed_again(llama, monkeypatch):
    assert packed_rows.supports(llama.model)
    monkeypatch.setattr(probe, "examine", None)
    assert packed_rows.supports(copy.deepcopy(llama.model))
