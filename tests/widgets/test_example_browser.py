"""Browsing examples: generated text stays text, and controls have a parameter twin."""

import pandas as pd
import pytest
from made_examples import make
from synthembed.corpus import analysis
from synthembed.widgets import example_browser

ATTACK = "<script>alert('x')</script><img src=x onerror=alert(1)>"


@pytest.fixture
def frame():
    return analysis.frame(
        [make(1, ATTACK, ATTACK), make(2, "bonjour", "salut", language="fr"), make(3, "a", "b", family="sts")]
    )


def test_generated_markup_stays_text(frame):
    for shown in (
        example_browser.table(frame),
        example_browser.table(frame, width=10, whole=True),
        example_browser.browse(frame).shown.value,
        example_browser.browse(frame)._repr_mimebundle_()["text/html"],
        frame._repr_html_(),
    ):
        assert "&lt;script&gt;" in shown and "<script" not in shown and "<img" not in shown
    assert "&lt;b&gt;" in example_browser.table(frame.rename(columns={"query": "<b>"}))


def test_browsing_by_controls_and_by_arguments_shows_the_same(frame):
    by_arguments = example_browser.browse(frame, family="sts", rows=2)
    by_hand = example_browser.browse(frame)
    family, _, _, _, rows = by_hand.controls
    family.value, rows.value = "sts", 2
    assert by_hand.shown.value == by_arguments.shown.value
    assert "1 example<" in by_hand.shown.value and "bonjour" not in by_hand.shown.value
    french = example_browser.browse(frame, language="French").shown.value
    assert "bonjour" in french and "script" not in french


def test_a_word_is_looked_for_in_all_texts_as_it_is_written(frame):
    assert "1 example<" in example_browser.browse(frame, containing="SALUT").shown.value
    assert "0 examples" in example_browser.browse(frame, containing="b.njour").shown.value


def test_what_was_dropped_is_shown_with_its_reason(frame):
    frame = frame.assign(outcome=["kept", "language mismatch", "kept"])
    assert "bonjour" not in example_browser.browse(frame).shown.value
    dropped = example_browser.browse(frame, outcome="dropped").shown.value
    assert "bonjour" in dropped and "language mismatch" in dropped and "1 example<" in dropped
    assert example_browser.browse(frame, outcome="language mismatch").shown.value == dropped
    assert "3 examples" in example_browser.browse(frame, outcome="all").shown.value


def test_a_text_that_is_cut_unfolds_whole(frame):
    shown = example_browser.table(frame, width=8, whole=True)
    assert "<details><summary>&lt;script…</summary>&lt;script&gt;alert" in shown
    assert "<details" not in example_browser.table(frame, width=8)


def test_a_missing_text_is_an_empty_cell():
    frame = pd.DataFrame({"query": ["q", "r"], "negative": [None, "n"]}).fillna(float("nan"))
    assert "nan" not in example_browser.table(frame) and "<td" in example_browser.table(frame)
