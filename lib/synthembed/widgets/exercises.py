"""Exercises of the notebooks: a question, a cell to write in, a check, and a solution that is folded away.

An exercise is four cells, one after the other:

1. Markdown, ``### Exercise 3: ...``: the question;
2. code, tagged ``exercise``: ``answer = None``, which the reader replaces by a value or by ``def answer(...)``;
3. code: ``exercises.check(3, answer, lambda a: ..., "a hint")``;
4. Markdown: ``<details><summary>Solution</summary>`` with a block of Python in place of cell 2.

Cells tagged ``exercise`` or ``explore`` (a widget and its parameters) are no part of a stage's code: who writes
in them does not make a finished stage stale, so they must not write to a stage. An exercise that is not solved
stops nothing. The tests run every notebook unsolved, solved, and with answers that are wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable

NOT_SOLVED, WRONG, SOLVED = "not solved yet", "not right yet", "solved"
BLOCK = re.compile(r"<details>\s*<summary>Solution.*?```python\n(.*?)```.*?</details>", re.S)


def check(number: int, answer, right: Callable[[object], bool], hint: str = "") -> None:
    """Print whether ``answer`` is the one that is asked for: ``right(answer)`` says so, and is asked only if
    there is an answer. An answer that ``right`` cannot read is wrong, and what it raised is shown."""
    if answer is None or answer is ...:
        print(f"Exercise {number}: {NOT_SOLVED}.")
        return
    try:
        said, why = bool(right(answer)), hint
    except Exception as error:  # the reader's own code may raise anything, and a run goes on
        said, why = False, f"{type(error).__name__}: {error}"
    print(f"Exercise {number}: {SOLVED}." if said else f"Exercise {number}: {WRONG}. {why}".rstrip())


def solved(cells: list[dict]) -> list[dict]:
    """The cells of a notebook with each exercise's solution in the place of its ``answer = None``. Raises
    ValueError for an exercise whose four cells are not as above."""
    cells = [dict(cell) for cell in cells]
    for n, cell in enumerate(cells):
        if "exercise" not in cell["metadata"].get("tags", []):
            continue
        question, checked, solution = (
            cells[n - 1], *(cells[n + 1 : n + 3] + [{"source": "", "cell_type": ""}] * 2)[:2],
        )  # fmt: skip
        found = BLOCK.search("".join(solution["source"]))
        if (
            not "".join(question["source"]).startswith("### Exercise ")
            or "exercises.check(" not in "".join(checked["source"])
            or found is None
        ):
            raise ValueError(
                f"cell {n}, an exercise, is not between its question, its check and its solution"
            )
        cell["source"] = found[1]
    return cells
