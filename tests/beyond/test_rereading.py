"""A trained model read in other ways: what becomes of vectors and instructions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed.beyond import rereading
from synthembed.evaluation.suites.names import TASKS
from synthembed.profile.experiment_settings import Reading


def vectors(n: int = 40, dim: int = 16, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_int8_is_off_by_half_a_step_at_most(seed):
    made = vectors(seed=seed)
    step = (made.max(0) - made.min(0)) / 255
    assert (np.abs(rereading.int8(made) - made) <= step / 2 + 1e-6).all()
    assert all(len(np.unique(column)) <= 256 for column in rereading.int8(made).T)


def test_documents_lose_their_bits_and_queries_only_where_both_are_signs():
    made = vectors()
    for precision in ("int8", "binary-rescored"):
        reading = Reading(id="r", precision=precision)
        assert np.array_equal(rereading.stored(made, reading, True, True), made)
        assert not np.array_equal(rereading.stored(made, reading, False, True), made)
    signs = rereading.stored(made, Reading(id="r", precision="binary"), True, True)
    assert set(np.unique(signs)) == {-1, 1}


def test_fewer_dimensions_are_the_first_ones_at_length_1_again():
    made = vectors()
    cut = rereading.stored(made, Reading(id="r", dims=4), False, True)
    assert cut.shape == (40, 4) and np.allclose(np.linalg.norm(cut, axis=1), 1)
    assert np.allclose(cut[0] / cut[0, 0], made[0, :4] / made[0, 0], rtol=1e-4)
    with pytest.raises(ValueError, match="dims = 17, but vectors have 16"):
        rereading.stored(made, Reading(id="r", dims=17), False, True)


def test_bytes_of_a_vector():
    assert [rereading.bytes_of(640, p) for p in rereading.BITS] == [2560, 640, 80, 80]


def test_rescoring_orders_the_first_documents_by_the_float_query_and_leaves_the_others_behind():
    queries, documents = torch.from_numpy(vectors(5)), torch.from_numpy(np.sign(vectors(60, seed=1)))
    found = rereading.rescored(queries, documents, first=10)
    agreement = torch.where(queries > 0, 1.0, -1.0) @ documents.T
    for n in range(5):
        order = found[n].argsort(descending=True)
        assert set(order[:10].tolist()) == set(agreement[n].topk(10).indices.tolist())
        exact = torch.nn.functional.cosine_similarity(queries[n : n + 1], documents[order[:10]])
        assert (exact.diff() <= 1e-6).all()


class Counting:
    dim = 3

    def __init__(self):
        self.read = []

    def encode(self, texts, instruction="", normalize=None, progress=None):
        self.read += texts
        return np.array([[len(t), len(instruction), 1] for t in texts], np.float32)


def test_a_text_is_encoded_once_for_all_readings():
    encoder = Counting()
    memory = rereading.Remembered(encoder)
    first, again = memory.encode(["a", "bb", "a"], "x"), memory.encode(["bb", "ccc"], "x")
    assert encoder.read == ["a", "bb", "ccc"] and memory.dim == 3
    assert first[1].tolist() == again[0].tolist() == [2, 1, 1]
    memory.encode(["a"], "other")
    assert encoder.read[-1] == "a"


def test_other_instructions_are_others_and_a_missing_one_is_named():
    table = rereading._table()
    prompts = {name: p["query"] if isinstance(p, dict) else p for name, _, _, p, _, _ in TASKS}
    assert table.keys() <= prompts.keys()
    for task, kinds in table.items():
        assert set(kinds) == {"paraphrased", "wrong", "german"}
        assert len({prompts[task], *kinds.values()}) == 4
    assert rereading.instruction_of("any", "own words", "empty") == ""
    with pytest.raises(
        KeyError, match=r"EmbeddedX has no wrong instruction: write one into beyond/instructions\.yaml"
    ):
        rereading.instruction_of("EmbeddedX", "own", "wrong")
