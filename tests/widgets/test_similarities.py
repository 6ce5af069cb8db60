"""Similarity playground, a suite's neighbours and the passkey viewer: what they show is what was handed in."""

import numpy as np
import pytest
from synthembed.evaluation import passkey
from synthembed.widgets import passkey_viewer, similarities

ATTACK = "<script>alert(1)</script>"


def letters(texts: list[str], instructions: list[str]) -> np.ndarray:
    """A model that counts letters, of the instruction as well."""
    read = [(one + text).lower() for one, text in zip(instructions, texts, strict=True)]
    counts = np.array([[1.0 + text.count(c) for c in "abcdefghij"] for text in read])
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


class Loads:
    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return letters


def test_known_numbers_load_no_model_and_a_change_loads_each_once():
    loads = {"first": Loads(), "second": Loads()}
    made = similarities.playground(
        loads, "bad cab", ["a cab", "jig"], "", {"first": [0.5, 0.25], "second": [0.1, 0.2]}
    )
    assert "<b>0.500</b>" in made.shown.value and "<b>0.200</b>" in made.shown.value
    assert [x.count for x in loads.values()] == [0, 0]
    query, documents, instruction = made.controls
    query.value, instruction.value = "jig", "find"
    documents.value = "jig\n\nhead\n"
    assert [x.count for x in loads.values()] == [1, 1]
    cosines = letters(["jig", "head"], ["", ""]) @ letters(["jig"], ["find"])[0]
    assert all(f"{x:.3f}" in made.shown.value for x in cosines)


def test_a_text_is_encoded_once_whatever_else_changes():
    asked = []

    def counting(texts, instructions):
        asked.append(len(texts))
        return letters(texts, instructions)

    made = similarities.playground({"m": lambda: counting}, "a", ["b", "c"])
    for query in ("bee", "cab"):
        made.controls[0].value = query
    assert asked == [3, 1, 1], "the first answer takes one pass"
    made.controls[1].value = "b\nd\nh"
    assert asked[3:] == [2], "what stayed is not encoded again"
    cosines = letters(["b", "d", "h"], [""] * 3) @ letters(["cab"], [""])[0]
    assert all(f"{x:.3f}" in made.shown.value for x in cosines)
    made.controls[2].value, made.controls[1].value = "find", "cab\nb"
    cosines = letters(["cab", "b"], ["", ""]) @ letters(["cab"], ["find"])[0]
    assert asked[4:] == [1] and all(f"{x:.3f}" in made.shown.value for x in cosines), (
        "under an instruction it is another"
    )


def test_a_change_shows_the_same_as_an_argument_and_text_is_escaped():
    made = similarities.playground({"m": Loads()}, "a", ["b"])
    made.controls[0].value, made.controls[1].value = ATTACK, f"{ATTACK}\nbee"
    again = similarities.playground({"m": Loads()}, ATTACK, [ATTACK, "bee"])
    assert made.shown.value == again.shown.value and "<script" not in made.shown.value
    made.controls[1].value = "  \n"
    assert "at least one document" in made.shown.value


def test_a_model_that_is_not_there_is_told_in_its_place():
    def absent():
        raise FileNotFoundError("the trained weights are not kept in a committed run")

    made = similarities.playground({"trained": absent}, "a", ["b"], known={"trained": [0.3]})
    assert "0.300" in made.shown.value
    made.controls[0].value = "another"
    assert "are not kept in a committed run" in made.shown.value


def test_neighbours_are_those_of_the_chosen_text_and_another_topic_is_grey():
    texts, labels = ["one", "two", ATTACK], ["x", "x", "y"]
    nearest = {"base": [[[1, 0.9], [2, 0.8]], [[0, 0.7]] * 2, [[0, 0.6]] * 2]}
    made = similarities.neighbours(texts, labels, nearest)
    assert "x, 0.90" in made.shown.value and "<script" not in made.shown.value
    assert made.shown.value.count("color:#767676") == 1
    made.controls[0].value = 2
    assert made.shown.value == similarities.neighbours(texts, labels, nearest, 2).shown.value
    assert made.shown.value.count("x, 0.60") == 2


@pytest.fixture
def documents() -> list[passkey.Passkeys]:
    line = "The road goes on past the mill. "
    made = [n * line + f"Ada Abara's pass key is {n}. Keep it in mind. " + 10 * line for n in (10, 2)]
    return [
        passkey.Passkeys(n, ["What is the pass key of Ada Abara?"], [d], [range(1)], [0])
        for n, d in zip((64, 8), made, strict=True)
    ]


def test_a_window_shows_the_statement_or_says_how_many_layers_it_takes(documents):
    made = passkey_viewer.passkeys(documents, lambda text: len(text.split()), 3, 64, window=64)
    length, _, window = made.controls
    assert "pass key is 10.</span>" in made.shown.value
    behind = 6 + 4 + 70  # words of the statement and its sentence, and of ten lines after it
    assert f"begins {behind} tokens before the end" in made.shown.value
    window.value = 30
    assert "it takes 3 of 3 layers" in made.shown.value and "too few" not in made.shown.value
    window.value = 10
    assert "it takes 9 of 3 layers" in made.shown.value and "too few" in made.shown.value
    window.value = 64
    assert "it takes 2 of 3 layers" in made.shown.value
    statement = made.shown.value.partition("pass key is 10.")[0].rpartition("<span")[2]
    assert "background" not in statement, "what one layer does not see is not blue"
    length.value = 8
    assert "pass key is 2" in made.shown.value


def test_a_document_without_a_statement_is_shown_whole():
    shown = passkey_viewer.passkey_page(
        "?", "Nothing here. Nothing there.", "Ada", lambda t: len(t.split()), 2, 4
    )
    assert "Nothing here" in shown and "Nothing there" in shown
