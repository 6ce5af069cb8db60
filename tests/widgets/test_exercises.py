"""Exercises: what a check says, and how a solution takes the place of an answer."""

import json

import pytest
from synthembed.stages import fingerprints
from synthembed.widgets import exercises


def said(capsys, *args) -> str:
    exercises.check(*args)
    return capsys.readouterr().out.strip()


def test_a_check_tells_unsolved_wrong_and_solved(capsys):
    right = lambda a: abs(a - 4) < 0.1  # noqa: E731
    assert said(capsys, 1, None, right) == said(capsys, 1, ..., right) == "Exercise 1: not solved yet."
    assert said(capsys, 1, 5, right, "count again") == "Exercise 1: not right yet. count again"
    assert said(capsys, 1, 4, right, "count again") == "Exercise 1: solved."


def test_an_answer_that_raises_is_wrong_and_stops_nothing(capsys):
    def broken(x):
        raise ZeroDivisionError("by zero")

    assert (
        said(capsys, 2, broken, lambda a: a(1) == 2)
        == "Exercise 2: not right yet. ZeroDivisionError: by zero"
    )
    assert "TypeError" in said(capsys, 2, object(), lambda a: a > 1)


def exercise(solution: str = "```python\nanswer = 2\n```") -> list[dict]:
    return [
        {"cell_type": "markdown", "metadata": {}, "source": ["### Exercise 1: two\n"]},
        {"cell_type": "code", "metadata": {"tags": ["exercise"]}, "source": ["answer = None"]},
        {"cell_type": "code", "metadata": {}, "source": ["exercises.check(1, answer, lambda a: a == 2)"]},
        {"cell_type": "markdown", "metadata": {},
         "source": [f"<details><summary>Solution</summary>\n\n{solution}\n\n</details>"]},
    ]  # fmt: skip


def test_a_solution_takes_the_place_of_the_answer():
    cells = exercise()
    assert exercises.solved(cells)[1]["source"] == "answer = 2\n"
    assert cells[1]["source"] == ["answer = None"]


@pytest.mark.parametrize("cells", [exercise()[1:], exercise()[:2], exercise()[:3], exercise("answer = 2")])
def test_an_exercise_that_lacks_a_part_is_refused(cells):
    with pytest.raises(ValueError, match="between its question, its check and its solution"):
        exercises.solved(cells)


@pytest.mark.parametrize("tag", ["exercise", "explore", ""])
def test_only_cells_that_a_reader_writes_in_leave_a_stage_fresh(tag, tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()

    def hash_with(source: str) -> str:
        cell = {"cell_type": "code", "metadata": {"tags": [tag]} if tag else {}, "source": [source]}
        (tmp_path / "notebooks" / "n.ipynb").write_text(json.dumps({"cells": [cell]}))
        return fingerprints.code_hash("n")

    assert (hash_with("answer = None") == hash_with("answer = 4")) is bool(tag)
