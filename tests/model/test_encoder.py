"""The encoder gives the vectors of the plain computation, whatever the batch, order and cache."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed.model import packed_rows
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import Encoder, EncodingError, budget_batches, pool, take
from synthembed.model.instructions import with_instruction
from synthembed.model.tokens import TokenContract
from tiny_models import byte_tokenizer, tiny_model

POOLINGS = ["last", "mean", "weighted-mean"]


@torch.inference_mode()
def plain(backbone: Backbone, text: str, pooling: str, longest: int = 512) -> np.ndarray:
    """One text, no padding, no cache; pooling and normalisation in float64."""
    (ids,) = backbone.contract.ids([text], longest)
    hidden = backbone.model(input_ids=torch.tensor([ids])).last_hidden_state[0].double()
    weights = torch.arange(1, len(ids) + 1, dtype=torch.float64)
    vector = {
        "last": hidden[-1],
        "mean": hidden.mean(0),
        "weighted-mean": (hidden * weights[:, None]).sum(0) / weights.sum(),
    }[pooling]
    return (vector / vector.norm()).numpy()


def assert_same(encoder: Encoder, texts: list[str], instruction: str) -> None:
    vectors = encoder.encode(texts, instruction)
    for text, vector in zip(texts, vectors, strict=True):
        expected = plain(
            encoder.backbone, with_instruction(instruction, text), encoder.pooling, encoder.max_length
        )
        assert float(vector @ expected) > 0.99999, repr(text)


TEXTS = ["the cat", "", " ", "\n", "Query: ", "ab" * 90, "日本語", "a\u0301", "the cat sat on the mat", "x"]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("instruction", ["", "Find what answers the query"])
def test_vectors_are_those_of_the_plain_computation(backbone, pooling, instruction):
    for cache, padding in ((True, None), (False, None), (False, "right"), (False, "left")):
        encoder = Encoder(backbone, pooling, batch_tokens=256, prefix_cache=cache, padding=padding)
        assert_same(encoder, TEXTS, instruction)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokenizers_own_padding_side_does_not_matter(backbone, side):
    backbone.contract.tokenizer.padding_side = side
    assert_same(Encoder(backbone), TEXTS, "Find what answers the query")


@pytest.mark.parametrize("window", [8, 1500, None])
def test_texts_of_one_to_two_thousand_tokens(window):
    model = tiny_model("mistral", window=window)
    backbone = Backbone(model, TokenContract.of(byte_tokenizer("mistral")), {})
    texts = ["x" * n for n in (1, 2, 7, 700, 1_499, 1_500, 1_990)]
    for instruction in ("", "Find what answers the query"):
        encoder = Encoder(backbone, max_length=2_048, batch_tokens=3_000)
        assert_same(encoder, texts, instruction)


def test_batches_do_not_change_a_vector(shared_backbone):
    texts = [f"{'word ' * (n % 13)}{n}" for n in range(60)]
    encode = lambda budget, chosen: Encoder(shared_backbone, batch_tokens=budget).encode(chosen, "the task")  # noqa: E731
    whole = encode(100_000, texts)
    for budget in (1, 64, 1_000):
        assert np.allclose(encode(budget, texts), whole, atol=2e-6)
    alone = np.concatenate([encode(4_096, [text]) for text in texts])
    assert np.allclose(alone, whole, atol=2e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_half_precision_stays_near_the_plain_computation(style, pooling):
    backbone = Backbone(tiny_model(style).bfloat16(), TokenContract.of(byte_tokenizer(style)), {})
    reference = Backbone(tiny_model(style), backbone.contract, {})
    vectors = Encoder(backbone, pooling).encode(TEXTS, "Find what answers the query")
    expected = Encoder(reference, pooling).encode(TEXTS, "Find what answers the query")
    assert (vectors * expected).sum(1).min() > 0.999


def test_models_that_cannot_run_packed_are_padded(llama, monkeypatch):
    monkeypatch.setattr(type(llama.model), "_supports_attention_backend", False)
    encoder = Encoder(llama)
    assert encoder.padding == "right"
    assert_same(encoder, TEXTS, "Find what answers the query")


def test_a_decoder_whose_last_layer_has_other_parts_is_run_whole(llama, monkeypatch):
    """The shortcut at the last token is for parts that are known by name."""
    monkeypatch.setattr(packed_rows, "_parts_of", lambda layer: [])
    assert_same(Encoder(llama), TEXTS, "Find what answers the query")


def test_prefixes_are_computed_once_bounded_and_never_stale(llama, monkeypatch):
    made, compute, encoder = [], packed_rows.prefix_of, Encoder(llama)
    monkeypatch.setattr(packed_rows, "prefix_of", lambda model, ids: made.append(ids) or compute(model, ids))
    for _ in range(3):
        encoder.encode(["one text", "another"], "the task at hand")
    assert len(made) == 1
    for number in range(20):
        encoder.encode(["one text"], f"task {number}")
    assert len(made) == 21 and len(encoder.prefixes) == 8
    before = encoder.encode(["one text"], "the task at hand")
    with torch.no_grad():
        llama.model.layers[0].self_attn.k_proj.weight.mul_(-1)
    assert not np.allclose(encoder.encode(["one text"], "the task at hand"), before, atol=1e-4)
    assert_same(encoder, ["one text"], "the task at hand")


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen"])
def shared_backbone(request):
    model = tiny_model(request.param, window=8)
    return Backbone(model, TokenContract.of(byte_tokenizer(request.param)), {})


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text(max_size=50), min_size=1, max_size=6), budget=st.integers(8, 400), data=st.data()
)
def test_any_texts_any_batches(shared_backbone, texts, budget, data):
    pooling = data.draw(st.sampled_from(POOLINGS))
    instruction = data.draw(st.sampled_from(["", "the task", "ab"]))
    assert_same(Encoder(shared_backbone, pooling, 64, budget), texts, instruction)


def test_the_prefix_is_split_between_tokens(llama):
    """The tokenizer merges the prompt's last token with some texts' first: a split of the string is wrong."""
    contract = llama.contract
    prompt = with_instruction("ab", "")
    apart = contract.ids([prompt], 512)[0][:-1] + contract.ids(["the"], 512)[0][1:]
    whole = contract.ids([prompt + "\u0301the"], 512)[0]
    assert whole != apart
    assert_same(Encoder(llama), ["\u0301the", "the", " the", "a"], "ab")


def test_order_duplicates_and_normalisation(llama):
    encoder = Encoder(llama, batch_tokens=64)
    texts = ["b", "a", "b", "long text " * 8, "a"]
    vectors = encoder.encode(texts)
    assert np.array_equal(vectors[0], vectors[2]) and np.array_equal(vectors[1], vectors[4])
    assert np.allclose(vectors[::-1], encoder.encode(texts[::-1]), atol=1e-6)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert not np.allclose(np.linalg.norm(encoder.encode(texts, normalize=False), axis=1), 1)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_text_is_cut_before_eos(llama):
    assert_same(Encoder(llama, max_length=10), ["the cat sat on the mat " * 5, "short"], "")


def test_out_of_memory_halves_the_budget_and_goes_on(llama, monkeypatch, capsys):
    encoder, calls = Encoder(llama, batch_tokens=10_000), []
    forward = encoder._forward

    def failing(rows, prefix):
        calls.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("injected")
        return forward(rows, prefix)

    monkeypatch.setattr(encoder, "_forward", failing)
    texts = [f"text {i:02d}" for i in range(12)]
    assert np.allclose(encoder.encode(texts), Encoder(llama).encode(texts), atol=1e-6)
    assert calls == [12, 6, 3, 3, 3, 3]  # the halved budget stays
    assert capsys.readouterr().out.count("out of memory: going on with") == 2
    monkeypatch.setattr(
        encoder, "_forward", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("injected"))
    )
    with pytest.raises(
        EncodingError, match="one text of 8 tokens does not fit into memory: lower max_length"
    ):
        encoder.encode(["text 1"])


def test_pooling_ignores_padding_on_either_side():
    hidden, mask = torch.randn(1, 5, 4), torch.ones(1, 5, dtype=torch.long)
    for kind in ("last", "mean"):
        expected = pool(hidden, mask, kind)
        noise = torch.randn(1, 3, 4)
        empty = torch.zeros(1, 3, dtype=torch.long)
        right = pool(torch.cat([hidden, noise], 1), torch.cat([mask, empty], 1), kind)
        left = pool(torch.cat([noise, hidden], 1), torch.cat([empty, mask], 1), kind)
        assert torch.allclose(expected, right) and torch.allclose(expected, left)


@given(st.lists(st.integers(1, 500), max_size=60), st.integers(1, 2000), st.booleans())
def test_batches_hold_everything_once_within_the_budget(lengths, tokens, padded):
    batches = list(budget_batches(lengths, tokens, padded))
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    for batch in batches:
        of_batch = [lengths[i] for i in batch]
        assert len(batch) == 1 or (len(batch) * max(of_batch) if padded else sum(of_batch)) <= tokens
    if batches:
        assert lengths[batches[0][0]] == max(lengths)


def test_a_batch_without_padding_is_filled():
    assert take([10, 9, 9, 1, 1], 0, 29, padded=False) == 4
    assert take([10, 9, 9, 1, 1], 0, 29, padded=True) == 2
