"""The smoke run through papermill: skipping, rebuilding what depends, and errors that help."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import papermill
import pytest
from papermill.exceptions import PapermillExecutionError
from synthembed import profile
from synthembed.ground import files
from synthembed.ground.files import ROOT
from synthembed.report import page, rendering, results, verdicts
from synthembed.stages import fingerprints, runner
from synthembed.stages.record import STAGES, MissingInput, Stage, stale


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Path:
    """The whole smoke run, made once for all tests of this file."""
    results = tmp_path_factory.mktemp("results")
    return runner.run_stages("smoke", [], "", list(STAGES), results)


def test_every_stage_finishes_with_its_record_and_notebook(smoke):
    for name in STAGES:
        record = json.loads((smoke / name / "stage.json").read_text())
        assert record["status"] == "done" and record["profile"] == "smoke"
        assert record["commit"] and record["versions"]["torch"] and record["wall_s"] >= 0
        assert (smoke / name / f"{name}.ipynb").exists()


def test_the_contracts_files_are_there(smoke):
    for name in (
        "01_generate/requests.jsonl", "01_generate/replies.jsonl", "01_generate/usage.json",
        "02_analyze/examples.jsonl", "02_analyze/drops.json", "02_analyze/statistics.json",
        "03_train/model/modules.json", "03_train/log.jsonl", "04_evaluate/scores.json",
        "05_ablations/scores.json", "06_long_context/scores.json", "07_report/verdicts.json",
        "07_report/report.html", "07_report/tables/table1.tex", "07_report/figures/figure2.svg",
    ):  # fmt: skip
        assert (smoke / name).stat().st_size > 0, name


def test_verdicts_follow_the_contract(smoke):
    entries = json.loads((smoke / "07_report" / "verdicts.json").read_text())
    keys = {"id", "artefact", "paper", "ours", "comparable", "tolerance", "verdict", "why", "run"}
    assert all(set(e) == keys for e in entries)
    assert {e["verdict"] for e in entries} <= {"match", "close", "differs", "not comparable", "not run"}
    measured = [e for e in entries if e["ours"] is not None]
    assert measured and not any(e["comparable"] for e in measured)
    assert all(
        set(e["run"]) >= {"benchmark", "commit", "profile_hash", "seeds", "n_seeds", "std"} for e in measured
    )


def test_the_exported_model_gives_our_vectors_for_every_text_of_the_suite(smoke):
    from sentence_transformers import SentenceTransformer
    from synthembed.corpus import evaluation_texts
    from synthembed.model import backbone, export
    from synthembed.model.encoder import Encoder

    folder = smoke / "03_train" / "model"
    texts = sorted(set(evaluation_texts.suite_texts()))
    ours = Encoder(backbone.load(profile.Backbone(model=str(folder))))
    theirs = SentenceTransformer(str(folder), device="cpu")
    for name in ("document", "STS"):
        some = texts if name == "document" else texts[::10]
        expected = ours.encode(some, export.PROMPTS.get(name, ""))
        found = theirs.encode(some, prompt_name=name, batch_size=64)
        worst = (expected * found).sum(1)
        assert worst.min() > 0.9999, some[int(worst.argmin())]


def test_an_executed_notebook_shows_the_last_line_of_progress(smoke):
    """And everything else that it printed, in order."""
    from synthembed.ground import console

    said = "start\na: 1/3 tasks, 2 tasks/s, ETA 0:02  x\na: 3/3 tasks, 2 tasks/s, ETA 0:00\ntable\n"
    said += "b: 1/2 steps, 2 steps/s, ETA 0:01\nc: 1/9 steps, 2 steps/s, ETA 0:01\nno: 1/2\nno: 2/2"
    kept = ["start", "a: 3/3 tasks, 2 tasks/s, ETA 0:00", "table", "b: 1/2 steps, 2 steps/s, ETA 0:01",
            "c: 1/9 steps, 2 steps/s, ETA 0:01", "no: 1/2", "no: 2/2"]  # fmt: skip
    assert console.last_only(said).splitlines() == kept and console.last_only("") == ""
    cells = json.loads((smoke / "04_evaluate" / "04_evaluate.ipynb").read_text())["cells"]
    for outputs in (cell.get("outputs", []) for cell in cells):
        names = [o.get("name") for o in outputs]
        assert not any(a == b == "stdout" for a, b in pairwise(names))
        text = "".join("".join(o["text"]) for o in outputs if o.get("name") == "stdout")
        assert console.last_only(text) == text


def test_a_second_run_skips_everything(smoke, capsys):
    before = {p: p.stat().st_mtime_ns for p in smoke.rglob("*") if p.is_file()}
    runner.run_stages("smoke", [], "", list(STAGES), smoke.parent)
    assert capsys.readouterr().out.count("finished before, skipped") == len(STAGES)
    assert before == {p: p.stat().st_mtime_ns for p in smoke.rglob("*") if p.is_file()}


def test_a_missing_artefact_reruns_its_stage_and_only_that(smoke, capsys):
    """The report is rebuilt; what it reads is not."""
    (smoke / "07_report" / "tables" / "table5.csv").unlink()
    runner.run_stages("smoke", [], "", list(STAGES), smoke.parent)
    said = capsys.readouterr().out
    assert "07_report: runs, because 07_report/tables/table5.csv is missing" in said
    assert said.count("skipped") == len(STAGES) - 1


def test_what_depends_is_rebuilt_and_nothing_else(smoke, capsys):
    (smoke / "02_analyze" / "examples.jsonl").unlink()
    plan = profile.load("smoke")
    assert "examples.jsonl is missing" in stale("02_analyze", plan, smoke)
    assert stale("03_train", plan, smoke) == "its input is missing"
    assert stale("01_generate", plan, smoke) is None
    runner.run_stages("smoke", [], "", list(STAGES), smoke.parent)
    said = capsys.readouterr().out
    assert "02_analyze: runs" in said
    assert said.count("skipped") == len(STAGES) - 1  # the same bytes came back, so nothing after it runs


def test_settings_reach_the_stages_that_read_them(smoke):
    changed = profile.load("smoke", ["long_context.queries=3"])
    reasons = {s: stale(s, changed, smoke) for s in STAGES}
    assert [s for s, r in reasons.items() if r] == ["00_overview", "06_long_context"]  # 00 shows all settings


def test_a_notebook_says_what_is_missing(tmp_path):
    with pytest.raises(
        MissingInput, match=r"03_train needs .*examples\.jsonl.*synthembed run --only 02_analyze"
    ):
        Stage.open("03_train", "smoke", results=str(tmp_path))


def execute(stage: str, out: Path, **parameters):
    papermill.execute_notebook(
        ROOT / "notebooks" / f"{stage}.ipynb", out, parameters=parameters, progress_bar=False, cwd=ROOT,
        kernel_name="python3",
    )  # fmt: skip


def test_papermill_parameters_that_do_not_exist_fail(tmp_path):
    with pytest.raises(PapermillExecutionError, match="unknown notebook parameter profil"):
        execute("00_overview", tmp_path / "out.ipynb", profil="smoke", results=str(tmp_path))


def test_a_notebook_runs_by_itself_with_overrides(tmp_path):
    execute("00_overview", tmp_path / "out.ipynb", profile="smoke", overrides="seed=5", results=str(tmp_path))
    assert json.loads((tmp_path / "smoke/00_overview/stage.json").read_text())["seeds"] == [5]


def test_the_command_explains_itself_without_a_traceback():
    done = subprocess.run(
        [sys.executable, "-m", "synthembed", "run", "--profile", "smoke", "--set", "train.batchsize=4"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "unknown key train.batchsize; did you mean 'batch_size'?" in done.stderr


def test_the_report_survives_missing_stages(tmp_path):
    entries = page.build(tmp_path, tmp_path / "07_report")
    assert {e["verdict"] for e in entries} == {"not run"}
    assert "Not run." in (tmp_path / "07_report" / "report.html").read_text()


def test_a_whole_benchmark_compares_with_the_paper_and_a_part_does_not(tmp_path):
    """MTEB(eng, v1) in full is comparable in Table 1; a part of it, or the embedded suite, is not."""
    from synthembed.evaluation.mteb_runs import tasks_of

    def verdict(settings: list[str]) -> str:
        benchmark, tasks = next(iter(tasks_of(profile.load("paper", settings).evaluate).items()))
        rows = [
            {"system": "trained", "benchmark": benchmark, "task": t.metadata.name, "category": "STS",
             "language": "eng", "metric": t.metadata.main_score, "score": 81.25}
            for t in tasks if t.metadata.type == "STS"
        ]  # fmt: skip
        (tmp_path / "04_evaluate").mkdir(exist_ok=True)
        files.write_json(tmp_path / "04_evaluate" / "scores.json", {"rows": rows})
        entries = {e["id"]: e for e in verdicts.verdicts(results.Results(tmp_path))}
        return entries["table1/w/ synthetic data only/STS"]["verdict"]

    assert verdict([]) == "match"  # the paper has 81.2
    assert verdict(["evaluate.tasks=[STS12]"]) == "not comparable"
    assert verdict(["evaluate.benchmarks=[embedded]"]) == "not comparable"


def test_batches_survive_a_restart_of_the_stage(tmp_path):
    stage = Stage.open("01_generate", "smoke", "generate.backend=batch", results=str(tmp_path))
    (stage.folder / "batches").mkdir()
    (stage.folder / "batches" / "state.json").write_text("[]")
    (stage.folder / "replies.jsonl").write_text("")
    (stage.folder / "requests.jsonl").write_text("")
    again = Stage.open("01_generate", "smoke", "generate.backend=batch", results=str(tmp_path))
    assert (again.folder / "batches" / "state.json").exists() and (again.folder / "replies.jsonl").exists()
    assert not (again.folder / "requests.jsonl").exists()


def test_a_changed_prompt_is_changed_code(monkeypatch):
    before = fingerprints.code_hash("01_generate"), fingerprints.code_hash("07_report")
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: read(p) + (b" " if p.name == "sts.jinja" else b""))
    assert fingerprints.code_hash("01_generate") != before[0]


def test_tables_are_escaped():
    import pandas as pd

    frame = pd.DataFrame([{"system": "<script>alert(1)</script> & co_1", "Avg": 1.25, "none": float("nan")}])
    assert "<script>" not in rendering.to_html(frame)
    assert (
        r"co\_1" in rendering.latex(frame)
        and "1.2" in rendering.markdown(frame)
        and "–" in rendering.markdown(frame)
    )


def test_generated_text_stays_text_in_the_browser_of_examples():
    import pandas as pd
    from synthembed.widgets import example_browser

    bad = "<script>alert(1)</script>"
    frame = pd.DataFrame([{"family": "sts", "language": "English", "query": bad}])
    shown = example_browser.browse(frame, family="sts").children[1].value
    assert bad not in shown + example_browser.table(frame) and "&lt;script&gt;" in shown


def test_code_hash_follows_imports():
    from synthembed.stages.fingerprints import _reached

    names = {p.name for p in _reached("from synthembed.training import train")}
    assert {"train.py", "contrastive.py", "encoder.py", "settings.py", "taxonomy.py"} <= names
    assert not {"page.py", "figures.py", "command_line.py"} & names
    tail = {
        p.as_posix().partition("evaluation/")[2]
        for p in _reached("from synthembed.evaluation import systems")
    }
    assert {"suites/embedded_tasks.py", "suites/benchmarks.py", "mteb_runs.py"} <= tail
    assert fingerprints.code_of("report.page") != fingerprints.code_of("evaluation.passkey")


def test_writes_are_atomic(tmp_path):
    files.write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "x.json", {"a": object()})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
