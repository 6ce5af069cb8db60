"""What figures draw, and that the same one is the same files."""

import matplotlib
import pytest
from synthembed.report import figures


def test_the_funnel_is_drawn_with_what_was_dropped_and_nothing_else(tmp_path):
    steps = [
        ("replies", 1200),
        ("valid", 1100),
        ("without: refusal phrase", 1100),
        ("without: exact duplicate", 1094),
    ]
    figure = figures.drop_funnel(steps)
    axis = figure.axes[0]
    assert [t.get_text().strip() for t in axis.texts] == ["100 (8.3%)", "6 (0.5%)"]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["not what was asked for", "exact duplicate"]
    assert axis.get_title(loc="left") == "1,094 of 1,200 replies became examples"
    figures.save(figure, tmp_path, "drop_funnel")
    assert {p.suffix for p in tmp_path.iterdir()} == {".png", ".svg"}


def test_a_run_that_dropped_nothing_has_a_figure_that_says_so():
    axis = figures.drop_funnel([("replies", 3), ("valid", 3)]).axes[0]
    assert not axis.texts and axis.get_title(loc="left") == "3 of 3 replies became examples"


def test_a_training_log_without_a_gradient_norm_is_drawn_without_it():
    line = {"step": 1, "loss": 2.0, "accuracy": 0.5, "lr": 0.1}
    drawn = lambda log: [axis.get_title() for axis in figures.loss_curve(log).axes]  # noqa: E731
    assert drawn([line | {"gradient_norm": 1.0}]) == [
        "InfoNCE loss", "in-batch accuracy", "gradient norm", "learning rate"
    ]  # fmt: skip
    assert "gradient norm" not in drawn([line])


@pytest.mark.parametrize("salt", [None, "a reader's"])
def test_the_same_figure_is_the_same_files_whatever_stands_around_it(tmp_path, salt):
    """Clips, markers and hatches of an SVG are named by a salt that is drawn anew where none is set."""
    rows = [
        {"variant": "v", "length": n, "accuracy": 50.0, "low": 40, "high": 60, "candidates": 9, "queries": 9}
        for n in (256, 512)
    ]
    figures.save(figures.figure5(rows), tmp_path / "first", "figure5")
    with matplotlib.rc_context({"svg.hashsalt": salt, "font.size": 20, "savefig.dpi": 40}):
        figures.save(figures.figure5(rows), tmp_path / "again", "figure5")
    figures.plt.close("all")
    for name in ("figure5.svg", "figure5.png"):
        first = (tmp_path / "first" / name).read_bytes()
        assert first == (tmp_path / "again" / name).read_bytes(), name
    assert b"dc:date" not in (tmp_path / "first" / "figure5.svg").read_bytes()
