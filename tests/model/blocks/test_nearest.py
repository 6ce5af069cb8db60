"""Exact search in blocks: against a whole sort in float64, with ties, however the corpus is cut up."""

import faiss
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from synthembed.model.blocks.nearest import merged, nearest


def expected(queries, vectors, k):
    """Highest cosine first, of equals the earlier one: a sort of everything."""
    q, v = (x.astype(float) / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, vectors))
    order = np.argsort(-np.round(q @ v.T, 12), axis=1, kind="stable")[:, :k]
    return order


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.integers(1, 30),
    st.lists(st.integers(0, 60), max_size=4),
)
def test_ties_and_cuts_move_nothing(seed, count, k, cuts):
    # Axes and their negatives: cosines are -1, 0 and 1, without rounding, and nearly all of them tied.
    rng = np.random.default_rng(seed)
    axes = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)
    vectors, queries = axes[rng.integers(0, 6, count)], axes[rng.integers(0, 6, 4)]
    blocks = np.split(vectors, sorted(min(c, count) for c in cuts))
    blocks = [b for b in blocks if len(b)]
    cosines, places = nearest(queries, blocks, k)
    assert places.tolist() == expected(queries, vectors, k).tolist()
    assert np.array_equal(cosines, np.take_along_axis(queries @ vectors.T, places, 1))


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_parts_of_a_corpus_that_are_searched_apart_give_one_answer(seed, parts):
    rng = np.random.default_rng(seed)
    vectors, queries = rng.normal(size=(40, 8)).astype(np.float32), rng.normal(size=(5, 8)).astype(np.float32)
    vectors[20:30] = vectors[:10]  # ties across parts
    cut = np.array_split(vectors, parts)
    starts = np.cumsum([0, *map(len, cut)])
    found = [
        nearest(queries, np.array_split(p, 2), 12, start=int(s)) for p, s in zip(cut, starts, strict=False)
    ]
    whole = nearest(queries, [vectors], 12)
    got = merged(found, 12)
    assert np.allclose(got[0], whole[0], atol=1e-6)
    assert [set(r) for r in got[1].tolist()] == [set(r) for r in whole[1].tolist()]


def test_the_same_as_faiss_where_nothing_is_tied():
    rng = np.random.default_rng(0)
    vectors, queries = (
        rng.normal(size=(3_000, 24)).astype(np.float32),
        rng.normal(size=(9, 24)).astype(np.float32),
    )
    index = faiss.IndexFlatIP(24)
    faiss.normalize_L2(there := vectors.copy())
    faiss.normalize_L2(asked := queries.copy())
    index.add(there)
    values, places = index.search(asked, 50)
    ours = nearest(queries, np.array_split(vectors, 7), 50)
    assert np.array_equal(ours[1], places) and np.allclose(ours[0], values, atol=1e-6)


def test_fewer_vectors_than_are_asked_for_and_float16(monkeypatch):
    vectors = np.eye(3, dtype=np.float16)
    cosines, places = nearest(vectors[:1], [vectors[:2], vectors[2:]], 10)
    assert places.tolist() == [[0, 1, 2]] and cosines.tolist() == [[1, 0, 0]]
    from synthembed.model.blocks import nearest as module

    monkeypatch.setattr(module, "SCORES", 1)  # one query at a time
    assert nearest(vectors, [vectors], 1)[1].tolist() == [[0], [1], [2]]
