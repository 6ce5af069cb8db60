"""Figures of the corpus."""

from synthembed.report import figures


def test_the_funnel_is_drawn_with_its_numbers(tmp_path):
    figure = figures.drop_funnel([("replies", 1200), ("valid", 1100), ("without: exact duplicate", 1100)])
    texts = [t.get_text().strip() for t in figure.axes[0].texts]
    assert texts == ["1,200", "1,100  (−100)", "1,100"]
    figures.save(figure, tmp_path, "drop_funnel")
    assert {p.suffix for p in tmp_path.iterdir()} == {".png", ".svg"}
