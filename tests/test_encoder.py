"""The encoder gives the vectors of the plain computation, whatever the batch, order and cache."""

import numpy as np
import pytest
import torch
from conftest import byte_tokenizer, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed.backbone import Backbone, TokenContract
from synthembed.encoder import Encoder, budget_batches, pool, with_instruction

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
    for cache in (True, False):
        assert_same(Encoder(backbone, pooling, batch_tokens=256, prefix_cache=cache), TEXTS, instruction)


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


def test_out_of_memory_halves_the_batch_and_goes_on(llama, monkeypatch):
    encoder, calls = Encoder(llama, batch_tokens=10_000), []
    forward = encoder._forward

    def failing(rows, prefix):
        calls.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("injected")
        return forward(rows, prefix)

    monkeypatch.setattr(encoder, "_forward", failing)
    texts = [f"text {i}" for i in range(12)]
    assert np.allclose(encoder.encode(texts), Encoder(llama).encode(texts), atol=1e-6)
    assert calls[0] == 12 and max(calls[3:]) <= 6


def test_pooling_ignores_padding_on_either_side():
    hidden, mask = torch.randn(1, 5, 4), torch.ones(1, 5, dtype=torch.long)
    for kind in ("last", "mean"):
        expected = pool(hidden, mask, kind)
        noise = torch.randn(1, 3, 4)
        empty = torch.zeros(1, 3, dtype=torch.long)
        right = pool(torch.cat([hidden, noise], 1), torch.cat([mask, empty], 1), kind)
        left = pool(torch.cat([noise, hidden], 1), torch.cat([empty, mask], 1), kind)
        assert torch.allclose(expected, right) and torch.allclose(expected, left)


@given(st.lists(st.integers(1, 500), max_size=60), st.integers(1, 2000))
def test_batches_hold_everything_once_within_the_budget(lengths, tokens):
    batches = list(budget_batches(lengths, tokens))
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= tokens for b in batches)
    if batches:
        assert lengths[batches[0][0]] == max(lengths)
