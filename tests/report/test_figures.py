"""What figures draw, and that the same one is the same files."""

import matplotlib
import numpy as np
import pytest
from synthembed.report import figures
from synthembed.report.seen import illustrations


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


def test_a_figures_text_is_legible_at_the_width_of_a_page():
    """A wider one is scaled down, its text with it: 9 points on 8 inches at least, whatever is drawn."""
    points = [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]
    length = {"length": 256, "accuracy": 50.0, "low": 40, "high": 60, "candidates": 9, "queries": 9}
    curve = {"series": {"window 4k, base 10^4": [9.0]}, "x_context_length": [256]}
    change = {
        "row": "w/ r=8",
        "ran": "LoRA rank 8",
        "our_delta": 1.0,
        "paper_delta": 0.3,
        "within_noise": True,
    }
    score = {"Class.": 50.0, "Avg": 50.0}
    drawn = {
        "map": illustrations.topic_maps(
            dict.fromkeys(["base", "static", "trained", "minilm"], points), ["a", "b", "c"]
        ),
        "table1": figures.category_bars({f"system {n}": score for n in range(7)}, ["Class.", "Avg"]),
        "table5": figures.deltas([change]),
        "figure5": figures.figure5([length | {"variant": "window 32k, base 1e6"}], curve),
        "prefix-cache": figures.prefix_cache(["Query", ":"], [["a"], ["b"]]),
        "turns": illustrations.turns([1e4, 1e5, 1e6], 8, 512, 64),
        "masks": illustrations.masks({str(n): np.tri(4, dtype=bool) for n in range(4)}),
        "figure3": figures.figure3({}),
    }
    for name, figure in drawn.items():
        written = [t for t in figure.findobj(matplotlib.text.Text) if t.get_text().strip()]
        assert figure.get_figwidth() <= 8 and min(t.get_fontsize() for t in written) >= 9, name
    assert sum(axis.axison for axis in drawn["map"].axes) == 4
    figures.plt.close("all")
