"""What stands under a figure: a reader of the picture alone is told what rows are, how sure it is, what lacks."""

import matplotlib.pyplot as plt
import pytest
from synthembed.beyond import outcomes, pictures
from synthembed.profile.experiment_settings import Experiment

ABOUT = {"question": "What does it give?", "varied": "a setting", "held": "all else"}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def scored(
    rows: dict[str, tuple[int, int, float]], waiting=(), task="EmbeddedAdvice", languages=("eng",)
) -> dict:
    """scores.json of trainings of three seeds: row → (examples, steps, score)."""
    lines = [
        {"system": f"q/{name}", "seed": seed, "task": task, "category": "Retr.", "score": score + seed, "language": language}
        for name, (_, _, score) in rows.items() for seed in range(3) for language in languages
    ]  # fmt: skip
    sizes = {
        f"q/{name}": {"examples": examples, "steps": steps} for name, (examples, steps, _) in rows.items()
    }
    return {"rows": lines, "intervals": {}, "sizes": sizes, "waiting": dict(waiting)}


def drawn(experiment: dict, found: dict) -> tuple[str, list[str], object]:
    """The words under the figure, the names at its rows, and the figure."""
    figure = pictures.draw(found, Experiment(id="q", **ABOUT | experiment))
    words = " ".join(t.get_text() for t in figure.texts).replace("\n", " ")
    return words, [t.get_text() for t in figure.axes[0].get_yticklabels()], figure


def test_rows_of_one_size_say_it_once_and_others_each_their_own():
    rows = [{"id": "a", "note": "as it was"}, {"id": "b"}]
    words, names, _ = drawn({"rows": rows}, scored({"a": (240, 10, 50), "b": (240, 10, 51)}))
    assert names == ["a", "b"] and "Each training: 10 steps, drawn from 240 examples." in words
    assert "Rows: a, as it was." in words and "over 3 trainings a row, that differ in seed" in words
    words, names, _ = drawn({"rows": rows}, scored({"a": (240, 10, 50), "b": (120, 10, 51)}))
    assert names == ["a (240 ex.)", "b (120 ex.)"] and "Each training: 10 steps." in words
    words, names, _ = drawn({"rows": rows}, scored({"a": (240, 10, 50), "b": (120, 5, 51)}))
    assert names == ["a (240 ex., 10 steps)", "b (120 ex., 5 steps)"] and "Each training" not in words


def test_rows_without_a_score_are_named_those_of_too_few_examples_with_their_number():
    rows = [{"id": n} for n in ("a", "refusals", "leakage", "other")]
    waiting = {
        "q/refusals": "not run: 7 examples, and two batches are 48", "q/leakage": "not run: 0 examples, and two batches are 48",
        "q/other": "not recorded: nowhere.jsonl. Make it with\nsynthembed make it",
    }  # fmt: skip
    words, names, _ = drawn({"rows": rows}, scored({"a": (240, 10, 50)}, waiting))
    assert names == ["a"]
    assert "No training, as these are too few examples: refusals 7, leakage 0." in words
    assert "Not run here: other." in words


@pytest.mark.parametrize(("axis", "predicted"), [("examples", True), ("layers", False)])
def test_no_more_layers_are_predicted_than_a_base_has(axis, predicted):
    rows = [{"id": f"r{x}", "x": x} for x in (2, 4, 8)]
    found = scored({f"r{x}": (240, 10, 50 + x) for x in (2, 4, 8)})
    words, _, figure = drawn({"kind": "curve", "axis": axis, "rows": rows}, found)
    assert (", 16 would have" in words) == predicted
    assert (max(figure.axes[0].lines[-2 if predicted else -1].get_xdata()) > 8) == predicted
    assert "Without the largest it foretold" in words


def test_a_heat_map_names_the_languages_of_its_columns():
    found = scored({"all": (600, 10, 50)}, languages=("eng", "deu", "eng+jpn"))
    words, _, _ = drawn({"kind": "heat", "rows": [{"id": "all"}]}, found)
    assert "Tested on European: deu; other: jpn." in words


def test_a_longer_caption_makes_a_higher_figure_and_leaves_the_axes_their_size():
    found, rows = scored({"a": (240, 10, 50)}), [{"id": "a"}]
    long = drawn({"rows": rows, "held": "one thing and another, " * 60}, found)[2]
    short = drawn({"rows": rows}, found)[2]
    inches = [f.axes[0].get_position().height * f.get_figheight() for f in (short, long)]
    assert long.get_figheight() > short.get_figheight() + 1 and abs(inches[0] - inches[1]) < 0.1


def test_of_one_row_readings_have_their_own_names():
    one = Experiment(id="q", rows=[{"id": "own", "readings": [{"id": "empty"}]}], **ABOUT)
    assert [name for name, _ in outcomes.systems_of(one).values()] == ["own", "empty"]
    two = Experiment(id="q", rows=[{"id": "own", "readings": [{"id": "empty"}]}, {"id": "b"}], **ABOUT)
    assert [name for name, _ in outcomes.systems_of(two).values()] == ["own", "own, empty", "b"]
