"""Figures of the corpus."""

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
