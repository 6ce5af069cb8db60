"""Hard-negative mining: exact ranks, what may be drawn, and a cache that is not asked twice."""

import numpy as np
import pytest
import torch
from synthembed.corpus.texts import words
from synthembed.labelled import mining
from synthembed.labelled.mining import NOTHING, Asked, merge, unpack
from synthembed.profile.settings import Negatives
from tiny_models import saved_base

TEXTS = [f"{a} {b} by the {c}" for a in ("red", "blue", "old") for b in ("boat", "house", "road", "tree") for c in ("sea", "hill", "town")]  # fmt: skip
CORPUS = [(f"d{n}", text) for n, text in enumerate(TEXTS)]


def asked(numbers, known=()):
    """Queries that repeat most of their positive's words."""
    return [
        Asked(f"q{n}", f"where is the {TEXTS[n]}", f"d{n}", TEXTS[n], frozenset({f"d{n}", *known}))
        for n in numbers
    ]


def documents():
    return iter(CORPUS)


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_ranks_are_those_of_brute_force_in_any_blocks(block):
    """Against a full sort: random scores of either sign, with many ties, more documents than a block."""
    generator = np.random.default_rng(block)
    scores = generator.normal(size=(9, 300)).round(1).astype(np.float32)
    best = torch.full((9, 40), NOTHING)
    for first in range(0, 300, block):
        best = merge(best, torch.from_numpy(scores[:, first : first + block]), first)
    rows, found = unpack(best)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :40]
    assert (rows == expected).all()
    assert (found == np.take_along_axis(scores, expected, 1)).all()


def test_fewer_documents_than_ranks_leave_places_empty():
    rows, scores = unpack(merge(torch.full((1, 5), NOTHING), torch.tensor([[-0.5, 0.25]]), 0))
    assert rows.tolist() == [[1, 0, -1, -1, -1]] and scores[0, :2].tolist() == [0.25, -0.5]
    assert np.isneginf(scores[0, 2:]).all()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved_base(tmp_path_factory.mktemp("encoder"), "qwen")


def settings(model, **more):
    return Negatives(encoder=str(model), max_length=64, **({"depth": 10} | more))


def similarities(model, queries):
    """Brute force: a matrix of cosines by sentence-transformers itself."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(model))
    left = encoder.encode([f"query: {q.query}" for q in queries], normalize_embeddings=True)
    right = encoder.encode([f"passage: {t}" for t in TEXTS], normalize_embeddings=True)
    return left @ right.T


def bm25(queries):
    import bm25s

    index = bm25s.BM25()
    index.index([words(t) for t in TEXTS], show_progress=False)
    return np.stack([index.get_scores([w for w in words(q.query) if w in index.vocab_dict]) for q in queries])


@pytest.mark.parametrize(("lexical", "margin"), [(False, None), (False, 0.05), (True, None), (True, 0.5)])
def test_candidates_are_the_top_ranks_but_for_known_positives(model, tmp_path, monkeypatch, lexical, margin):
    """What may be drawn, against the whole matrix of scores; blocks and chunks that do not divide it."""
    monkeypatch.setattr(mining, "BLOCK", 5)
    monkeypatch.setattr(mining, "CHUNK", 3)
    queries = asked(range(0, 36, 5), known=("d7", "d30"))
    chosen = Negatives(encoder="bm25", depth=10, margin=margin) if lexical else settings(model, margin=margin)
    full = bm25(queries) if lexical else similarities(model, queries)
    seen = {}
    original = mining.candidates

    def spy(ranks, number, known, how):
        seen[number] = (known, original(ranks, number, known, how))
        return list(seen[number][1])

    monkeypatch.setattr(mining, "candidates", spy)
    negatives, _ = mining.mine(queries, documents, chosen, 0, tmp_path)
    for number, one in enumerate(queries):
        known, found = seen[number]
        assert known == {int(d[1:]) for d in one.known}
        score = full[number].astype(np.float64)
        order = [
            r for r in np.argsort(-score, kind="stable") if r not in known and (not lexical or score[r] > 0)
        ][:10]
        positive = score[int(one.positive[1:])]
        if margin is not None:
            order = [r for r in order if score[r] <= positive - margin * abs(positive)]
        assert sorted(score[found].round(4)) == sorted(score[order].round(4))  # ties in any order
        if found:
            assert negatives[one.id] in [TEXTS[r] for r in found]
    assert any(found for _, found in seen.values())
    if margin is not None:
        every = sum(len(f) for _, f in seen.values())
        assert every < 10 * len(queries), "the margin left nothing out"


def test_the_draw_depends_on_seed_and_query_alone(tmp_path):
    chosen = Negatives(encoder="bm25", depth=20)
    queries = asked(range(36))
    first, _ = mining.mine(queries, documents, chosen, 1, tmp_path / "a")
    backwards, _ = mining.mine(queries[::-1], documents, chosen, 1, tmp_path / "b")
    other, _ = mining.mine(queries, documents, chosen, 2, tmp_path / "a")
    assert first == backwards and len(first) == 36
    assert sum(first[q] != other[q] for q in first) > 18


def test_no_copy_of_the_positive_is_drawn(tmp_path):
    """A corpus of which all but one document repeat the positive's words."""
    one = Asked("q", "the old road", "a", "The old road.", frozenset({"a"}))
    copies = [
        ("a", "The old road."),
        ("b", "the OLD road"),
        ("c", "The old road to the hill"),
        ("d", "the old road!"),
    ]
    negatives, counts = mining.mine([one], lambda: iter(copies), Negatives(encoder="bm25"), 0, tmp_path)
    assert negatives == {"q": "The old road to the hill"} and not counts
    negatives, counts = mining.mine([one], lambda: iter(copies[:2]), Negatives(encoder="bm25"), 0, tmp_path)
    assert negatives == {} and counts == {"candidates repeat the positive": 1}


def test_no_candidate_is_counted(tmp_path):
    strange = Asked("q", "quelque chose", "d1", TEXTS[1], frozenset({"d1"}))
    assert mining.mine([strange], documents, Negatives(encoder="bm25"), 0, tmp_path) == (
        {},
        {"no candidate": 1},
    )
    assert mining.mine([], documents, Negatives(encoder="bm25"), 0, tmp_path) == ({}, {})


def test_an_encoder_that_is_nowhere_names_the_remedy(tmp_path):
    with pytest.raises(
        mining.MiningError, match=r"data.negatives.encoder 'hub:nobody/nothing' .* or null for no"
    ):
        mining.mine(asked([0]), documents, Negatives(encoder="hub:nobody/nothing"), 0, tmp_path)


def test_vectors_and_ranks_are_kept_and_an_interrupted_run_goes_on(model, tmp_path, monkeypatch):
    monkeypatch.setattr(mining, "BLOCK", 10)
    queries, encoded = asked([3, 20]), []
    encode = mining.Dense._encode

    def counted(self, texts):
        encoded.append(len(texts))
        if encoded[1:] == [2, 10, 10, 10]:
            raise KeyboardInterrupt
        return encode(self, texts)

    monkeypatch.setattr(mining.Dense, "_encode", counted)
    with pytest.raises(KeyboardInterrupt):
        mining.mine(queries, documents, settings(model), 0, tmp_path)
    assert len(list(tmp_path.glob("vectors-*.npy"))) == 3 and not list(tmp_path.glob("*.partial"))
    encoded.clear()
    first, _ = mining.mine(queries, documents, settings(model), 0, tmp_path)
    assert encoded == [1, 10, 6]  # the probe, and the two blocks that were missing
    encoded.clear()
    again, _ = mining.mine(queries, documents, settings(model), 0, tmp_path)
    assert encoded == [1] and again == first
    mining.mine(queries, documents, settings(model, document_prefix="d: "), 0, tmp_path)
    assert sum(encoded) > 36  # another prefix is another encoder
