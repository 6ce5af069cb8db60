"""Which examples are trained on: draws that nest, families, languages, consistency, mined negatives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed import profile
from synthembed.labelled import mixture, selection
from synthembed.profile.experiment_settings import Consistency, Mined, Selection
from tiny_training import example

ANIMALS = ["heron", "otter", "badger", "lynx", "weasel", "magpie", "adder", "marten"]


def animal(n: int, **changes):
    name = ANIMALS[n % len(ANIMALS)]
    values = {"query": f"where does the {name} live", "positive": f"the {name} lives by the river",
              "negative": f"a {name} is on the coin"}  # fmt: skip
    return example(n, **values | changes)


CORPUS = [animal(n) for n in range(8)]


@given(st.floats(0.05, 1), st.floats(0.05, 1), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_a_smaller_draw_lies_in_a_larger_one_and_keeps_the_order(a, b, seed):
    less, more = (selection.selected(CORPUS, Selection(share=s), seed)[0] for s in sorted((a, b)))
    assert {e.id for e in less} <= {e.id for e in more}
    assert [e for e in CORPUS if e in more] == more and len(more) == round(max(a, b) * 8)


def test_what_is_left_out_is_counted_under_its_reason():
    some = [animal(0), animal(1, family="sts"), animal(2, language="de"), animal(3, target_language="fr")]
    found, counts = selection.selected(some, Selection(without=["sts"], languages=["en"]), 1)
    assert [e.id for e in found] == ["e0"]
    assert counts == {"of another family": 1, "in another language": 2}


def test_a_mixture_says_what_was_left_out_and_keeps_nothing_else(capsys):
    chosen = profile.load("smoke", ["data.select={families: [sts]}"])
    made = mixture.mixture(chosen, [animal(0), animal(1, family="sts")])
    assert [e.id for e in made.examples] == ["e1"]
    assert made.about["sets"]["synthetic"] == {"examples": 1, "left_out": {"of another family": 1}}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(selection.embedded, "cache_folder", lambda: tmp_path)


def test_mined_negatives_are_others_documents_and_never_a_query_s_own():
    same = animal(8, id="twin", positive="the heron is a bird of the lake", query=CORPUS[0].query)
    made, without = selection.with_negatives([*CORPUS, same], Mined(encoder="bm25", depth=4, count=2), 1)
    own = {CORPUS[0].positive, same.positive}
    assert without == 0 and all(1 + len(e.further) == 2 for e in made)
    for e in made:
        known = own if e.query == CORPUS[0].query else {e.positive}
        assert not known & {e.negative, *e.further} and e.positive not in (e.negative, *e.further)
    kept, _ = selection.with_negatives(CORPUS, Mined(encoder="bm25", depth=4, keep_written=True), 1)
    assert [e.negative for e in kept] == [e.negative for e in CORPUS] and all(e.further for e in kept)


def test_a_margin_keeps_out_what_scores_like_the_positive():
    """A document that says what the positive says is a false negative: by BM25 it scores as high."""
    double = animal(1, query="where is the coin", positive="the heron lives by the river too", negative=None)
    corpus = [animal(0, negative=None), double, *CORPUS[2:]]
    loose, strict = (
        selection.with_negatives(corpus, Mined(encoder="bm25", depth=1, margin=m), 1)[0] for m in (None, 0.2)
    )
    assert loose[0].negative == double.positive and strict[0].negative is None


def test_an_inconsistent_pair_is_one_whose_positive_another_document_beats():
    wrong = animal(3, positive="nothing of the kind is said here", negative=None)
    corpus = [*CORPUS[:3], wrong, *CORPUS[4:]]
    judge = Consistency(encoder="bm25")
    good = selection.consistent(corpus, judge)
    bad = selection.consistent(corpus, judge.model_copy(update={"take": "others"}))
    assert wrong in bad and CORPUS[0] in good and len(good) + len(bad) == len(corpus)
