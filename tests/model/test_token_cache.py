"""Ids that are kept: those of the contract, within bounds, of one tokenizer, never shared with a caller."""

import pytest
from synthembed.model import tokens
from synthembed.model.encoder import Encoder
from synthembed.model.tokens import TokenCache, TokenContract
from tiny_models import byte_tokenizer

TEXTS = ["the cat", "", "日本語", "a longer text " * 20, "the cat"]


@pytest.fixture
def read(monkeypatch) -> list:
    """What the tokenizer was asked for."""
    asked = []
    ids = TokenContract.ids
    monkeypatch.setattr(TokenContract, "ids", lambda *a: asked.append(a[1:]) or ids(*a))
    return asked


def test_kept_ids_are_those_of_the_contract(style, read):
    contract, cache = TokenContract.of(byte_tokenizer(style)), TokenCache()
    for longest in (8, 512):
        expected = contract.ids(TEXTS, longest)
        read.clear()
        first = cache.ids(contract, TEXTS, longest)
        first[0].append(7)  # a caller's own
        assert cache.ids(contract, TEXTS, longest) == expected and len(read) == 1
    assert cache.ids(contract, [], 8) == [] == cache.ids(contract, [], 8)


def test_texts_lengths_and_tokenizers_are_told_apart(read):
    llama, other = (TokenContract.of(byte_tokenizer("llama")) for _ in range(2))
    cache = TokenCache()
    for contract, texts, longest in (
        (llama, ["ab", "c"], 8), (llama, ["a", "bc"], 8), (llama, ["ab", "c"], 3), (llama, ["c", "ab"], 8),
        (other, ["ab", "c"], 8),
    ):  # fmt: skip
        cache.ids(contract, texts, longest)
        cache.ids(contract, texts, longest)
    assert len(read) == 5


def test_what_is_kept_has_a_bound(read):
    contract, cache = TokenContract.of(byte_tokenizer("llama")), TokenCache(limit=1_000)
    for n in range(100):
        cache.ids(contract, [f"text {n}"], 512)
        held = sum(part.nbytes for parts in cache.kept.values() for part in parts)
        assert cache.size == held <= 1_000
    assert 5 < len(cache.kept) < 100
    before = list(cache.kept)
    cache.ids(contract, ["x" * 400], 512)  # too much for it
    assert list(cache.kept) == before


def test_an_encoder_tokenises_what_systems_share_once(llama, read, monkeypatch):
    monkeypatch.setattr(tokens.CACHE, "kept", type(tokens.CACHE.kept)())
    first = Encoder(llama).encode(TEXTS, "the task at hand")
    asked = len(read)
    assert (Encoder(llama).encode(TEXTS, "the task at hand") == first).all() and len(read) == asked
    Encoder(llama).encode(TEXTS, "another task")
    assert len(read) > asked
