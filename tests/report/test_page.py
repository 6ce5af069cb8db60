"""The report where results are missing."""

from synthembed.report import page


def test_the_report_survives_missing_stages(tmp_path):
    entries = page.build(tmp_path, tmp_path / "07_report")
    assert {e["verdict"] for e in entries} == {"not run"}
    assert "Not run." in (tmp_path / "07_report" / "report.html").read_text()
