"""The report where results are missing."""

import json

from synthembed.report import page


def test_the_report_survives_missing_stages(tmp_path):
    entries = page.build(tmp_path, tmp_path / "07_report")
    assert {e["verdict"] for e in entries} == {"not run"}
    assert "Not run." in (tmp_path / "07_report" / "report.html").read_text()


def run(folder, score: float):
    (folder / "06_long_context").mkdir(parents=True)
    row = {"variant": "as it is", "length": 32, "queries": 4, "accuracy": score, "low": 0.0, "high": 100.0,
           "fills": {}, "benchmark": "own passkey data", "candidates": 4, "candidates_per": "length"}  # fmt: skip
    (folder / "06_long_context" / "scores.json").write_text(json.dumps({"passkey": [row]}))
    return folder


def test_a_run_s_numbers_stand_beside_the_committed_ones_where_they_differ(tmp_path):
    own, reference = run(tmp_path / "runs" / "small", 75.0), run(tmp_path / "results" / "small", 50.0)
    out = own / "07_report"
    page.build(own, out, reference)
    text = (out / "report.html").read_text()
    assert "Beside the committed run" in text and "as it is, length 32" in text and "+25" in text
    (one,) = json.loads((out / "reference.json").read_text())["different"]
    assert (one["reference"], one["own"]) == (50.0, 75.0)
    page.build(reference, tmp_path / "again", reference)
    assert "Beside the committed run" not in (tmp_path / "again" / "report.html").read_text()
