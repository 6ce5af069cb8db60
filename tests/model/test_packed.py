"""Rows without padding: the same states and the same gradients as one row at a time."""

import copy

import pytest
import torch
from synthembed.model import adapter, packed_rows
from synthembed.model.backbone import Backbone
from synthembed.model.cpu import lean_layers, onednn_linear
from synthembed.model.encoder import row_vectors
from synthembed.model.tokens import TokenContract
from synthembed.profile.settings import Lora
from tiny_models import byte_tokenizer, tiny_model

ROWS = [[1, *range(20, 20 + n), 2] for n in (9, 9, 4, 4, 4, 1, 13)]


@pytest.mark.parametrize("queries", [packed_rows.QUERIES, 4])
@pytest.mark.parametrize("prefix", [[], [1, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39]])
def test_states_are_those_of_each_row_alone(style, prefix, queries, monkeypatch):
    monkeypatch.setattr(packed_rows, "QUERIES", queries)
    model = tiny_model(style).double()
    with torch.inference_mode():
        alone = [
            model(input_ids=torch.tensor([prefix + r])).last_hidden_state[0, len(prefix) :] for r in ROWS
        ]
        made = packed_rows.prefix_of(model, prefix) if prefix else None
        states = packed_rows.forward(model, ROWS, made)
        ends = packed_rows.forward(model, ROWS, made, ends=True)
    assert (states - torch.cat(alone)).abs().max() < 1e-12
    assert (ends - torch.stack([a[-1] for a in alone])).abs().max() < 1e-12


@pytest.mark.parametrize("pooling", ["last", "mean", "weighted-mean"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_gradients_are_those_of_padded_rows(style, pooling, checkpointing):
    found = {}
    for padding in (None, "right"):
        base = Backbone(tiny_model(style).double(), TokenContract.of(byte_tokenizer(style)), {})
        model = adapter.add_lora(base, Lora(rank=4, alpha=8, dropout=0), 0)
        for name, p in model.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(p, std=0.05, generator=torch.Generator().manual_seed(1))
        model.model.double().train()
        if checkpointing:
            model.model.enable_input_require_grads()
            model.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        vectors = row_vectors(model, ROWS, pooling, padding=padding)
        (vectors * torch.linspace(-1, 1, vectors.numel()).view_as(vectors)).sum().backward()
        found[padding] = {n: p.grad for n, p in model.model.named_parameters() if p.requires_grad}
    for name, gradient in found["right"].items():
        assert gradient.norm() > 0 or "q_proj" in name or "lora_A" in name, name
        assert (found[None][name] - gradient).norm() <= 1e-9 * gradient.norm().clamp_min(1e-12), name


def test_calls_that_are_not_packed_are_as_before(style):
    model, ids = tiny_model(style).double(), torch.tensor([[*range(20, 45)], [*range(50, 75)]])
    mask = torch.ones_like(ids)
    mask[1, 18:] = 0
    with torch.inference_mode():
        before = model(input_ids=ids, attention_mask=mask).last_hidden_state
        packed_rows.forward(model, ROWS, ends=True)
        after = model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(before[0], after[0]) and torch.equal(before[1, :18], after[1, :18])


def test_attention_that_was_asked_for_is_kept(llama):
    llama.model.config._attn_implementation = "eager"
    assert not packed_rows.supports(llama.model)


def test_a_kernel_that_cannot_run_is_not_used(capsys):
    """The probe that decides on a GPU; on a CPU the varlen kernel does not run."""
    assert packed_rows._varlen_agrees(torch.device("cpu"), torch.bfloat16, 4, 2, 8) is False
    assert "it is not used" in capsys.readouterr().out


def test_the_varlen_kernel_gets_the_rows_windows_and_prefix(monkeypatch):
    """What is handed to the kernel, with a reference in its place that follows its documented meaning."""
    from torch.nn.attention import varlen

    def reference(q, k, v, starts_q, starts_k, max_q, max_k, *, scale, window_size, enable_gqa):
        out, left = torch.empty_like(q), window_size[0]
        assert window_size[1] == 0 and max_q >= 1 and max_k >= max_q and enable_gqa
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        for a, b, c, d in zip(starts_q, starts_q[1:], starts_k, starts_k[1:], strict=False):
            at = torch.arange(b - a)[:, None] + (d - c) - (b - a)
            seen = torch.arange(d - c)[None]
            mask = (seen <= at) & ((seen >= at - left) if left >= 0 else True)
            weights = torch.einsum("qhd,khd->hqk", q[a:b], k[c:d]) * (scale or q.shape[-1] ** -0.5)
            weights = weights.masked_fill(~mask, float("-inf")).softmax(-1)
            out[a:b] = torch.einsum("hqk,khd->qhd", weights, v[c:d])
        return out

    monkeypatch.setattr(varlen, "varlen_attn", reference)
    monkeypatch.setattr(packed_rows, "uses_varlen", lambda model: True)
    for style in ("llama", "mistral"):
        model, prefix = tiny_model(style).double(), [1, *range(30, 40)]
        with torch.inference_mode():
            made = packed_rows.prefix_of(model, prefix)
            for ends in (False, True):
                found = packed_rows.forward(model, ROWS, made, ends)
                monkeypatch.setattr(packed_rows, "uses_varlen", lambda model: False)
                expected = packed_rows.forward(model, ROWS, made, ends)
                monkeypatch.setattr(packed_rows, "uses_varlen", lambda model: True)
                assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize("prefix", [[], [1, *range(30, 40)]])
def test_the_varlen_kernels_places_are_made_once_a_batch(prefix, monkeypatch):
    """The same tensors in every layer, and those that the rows' lengths give."""
    from torch.nn.attention import varlen

    calls = []

    def remember(q, k, v, starts_q, starts_k, *lengths, **options):
        calls.append((starts_q, starts_k, len(q)))
        return torch.zeros_like(q)

    monkeypatch.setattr(varlen, "varlen_attn", remember)
    model = tiny_model("mistral", layers=4)
    with torch.inference_mode():
        made = packed_rows.prefix_of(model, prefix) if prefix else None
        monkeypatch.setattr(packed_rows, "uses_varlen", lambda model: True)
        packed_rows.forward(model, ROWS, made, ends=True)
    (first, keys, tokens), *between, (last, last_keys, rows) = calls
    assert len(calls) == 4 and all(q is first and k is keys for q, k, _ in between) and last_keys is keys
    lengths = torch.tensor([len(row) for row in ROWS])
    assert tokens == lengths.sum() and rows == len(ROWS)
    assert first.diff().tolist() == lengths.tolist() and last.diff().tolist() == [1] * len(ROWS)
    assert keys.diff().tolist() == (lengths + len(prefix)).tolist() and keys.dtype == torch.int32


@pytest.mark.parametrize("prefix", [[], [1, 30, 31, 32]])
def test_a_batch_is_filled_to_a_round_number_and_nothing_changes(style, prefix, monkeypatch):
    """Where oneDNN serves: states, the last ones and gradients without the filling row."""
    rows = [[1, *range(20, 20 + n), 2] for n in (30, 30, 9, 2)]  # 79 tokens: 80 by five binary digits
    model, found, lengths = tiny_model(style).double(), {}, []
    original = packed_rows._run
    monkeypatch.setattr(
        packed_rows, "_run", lambda m, r, layout: (lengths.append(layout.lengths), original(m, r, layout))[1]
    )
    for filled in (False, True):
        monkeypatch.setattr(onednn_linear, "use_onednn", lambda filled=filled: filled)
        made = packed_rows.prefix_of(model, prefix) if prefix else None
        states, ends = (
            packed_rows.forward(model, rows, made),
            packed_rows.forward(model, rows, made, ends=True),
        )
        assert lengths[-1] == [32, 32, 11, 4, *([1] if filled else [])]
        model.zero_grad()
        (states.square().sum() + ends.sum()).backward()
        found[filled] = [states, ends, model.layers[0].mlp.up_proj.weight.grad.clone()]
    for plain, filled in zip(*found.values(), strict=True):
        torch.testing.assert_close(filled, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tokens", [1, 31, 32, 33, 79, 1000, 1025, 2047, 4097])
def test_a_filling_row_is_short(tokens, monkeypatch):
    monkeypatch.setattr(onednn_linear, "use_onednn", lambda: True)
    total = tokens + sum(map(len, onednn_linear.filling_row(tokens, 7, torch.device("cpu"))))
    assert tokens <= total <= tokens * 1.0625 and bin(total).rstrip("0").count("1") <= 5
    assert len(bin(total).removeprefix("0b").rstrip("0")) <= 5
    monkeypatch.setattr(onednn_linear, "use_onednn", lambda: False)
    assert onednn_linear.filling_row(tokens, 7, torch.device("cpu")) == []


# Families whose layers differ: norms after their parts, norms of queries and keys, factors, windows.
SIZE = dict(
    vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
FAMILIES = {
    "llama": {}, "mistral": {"sliding_window": 8}, "qwen3": {}, "olmo2": {}, "phi3": {}, "gpt_neox": {},
    "gemma3_text": {"sliding_window": 8, "query_pre_attn_scalar": 8}, "granite": {"residual_multiplier": 0.5},
}  # fmt: skip


def family(name: str) -> torch.nn.Module:
    from transformers import CONFIG_MAPPING, AutoModel

    torch.manual_seed(1)
    return AutoModel.from_config(CONFIG_MAPPING[name](**(SIZE | FAMILIES[name]))).double().eval()


def multiplied(model: torch.nn.Module, run) -> int:
    """Rows that go through the linear layers of the last decoder layer in a pass."""
    counts, layer = [], model.layers[-1]
    hooks = [
        m.register_forward_hook(lambda m, args, out: counts.append(args[0].shape[-2]))
        for m in layer.modules()
        if isinstance(m, torch.nn.Linear)
    ]
    run()
    for hook in hooks:
        hook.remove()
    return sum(counts)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_layer_computes_the_last_tokens_alone_and_the_same(name):
    model, rows = family(name), [[1, *range(20, 20 + n), 2] for n in (40, 23, 23, 1)]
    with torch.no_grad():
        alone = torch.stack([model(input_ids=torch.tensor([r])).last_hidden_state[0, -1] for r in rows])
        lean_layers.use_in_mlps(model)
        found = packed_rows.forward(model, rows, ends=True)
        less = multiplied(model, lambda: packed_rows.forward(model, rows, ends=True))
        all_of_it = multiplied(model, lambda: packed_rows.forward(model, rows))
    assert (found - alone).abs().max() < 1e-12
    cut = hasattr(model.layers[-1], "self_attn")  # GPT-NeoX has other names, and is run whole
    assert less < (0.6 if cut else 1.01) * all_of_it, (
        "queries, outputs and the MLP are of the last tokens alone"
    )


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3_text"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_last_layer_is_cut_short_with_an_adapter_without_it_and_in_a_copy(name, checkpointing):
    model, rows = family(name), [[1, *range(20, 20 + n), 2] for n in (9, 9, 3)]
    packed_rows.forward(model, rows, ends=True)  # before the adapter takes the projections in

    def same(model):
        states, ends = packed_rows.forward(model, rows), packed_rows.forward(model, rows, ends=True)
        last = torch.tensor([len(r) for r in rows]).cumsum(0) - 1
        assert (states[last] - ends).abs().max() < 1e-12
        return states[last], ends

    wrapped = adapter.add_lora(Backbone(model, None, {}), Lora(rank=2, dropout=0), 0).model.double().train()
    for parameter_name, parameter in wrapped.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.1)
    if checkpointing:
        wrapped.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    gradients = []
    for vectors in same(wrapped):
        wrapped.zero_grad()
        vectors.square().sum().backward()
        gradients.append([p.grad.clone() for p in wrapped.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for whole, short in zip(*gradients, strict=True):
        torch.testing.assert_close(short, whole, rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        same(wrapped.merge_and_unload().eval())
        other = copy.deepcopy(model)
        same(other)
        other.layers[-1].mlp.down_proj.weight.zero_()
        assert (same(other)[1] - same(model)[1]).abs().max() > 1e-3, "a copy has parts of its own"
