"""The smoke run through papermill: skipping, rebuilding what depends, and executed copies."""

import json
import os
import re
from collections import defaultdict
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import nbformat
import papermill
import pytest
import shared_smoke_run
from synthembed import profile
from synthembed.corpus import evaluation_texts, example_files, filters
from synthembed.corpus.example import Drops
from synthembed.generation import two_steps
from synthembed.ground import console
from synthembed.ground.files import ROOT, sha256
from synthembed.stages import runner, warm_kernels
from synthembed.stages.record import STAGES, stale
from synthembed.widgets import exercises

COURSE = [stage for stage in STAGES if stage < "08"]  # those with exercises


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    """The whole smoke run, made once for all tests of this file; a copy is left to tests that only read one."""
    with on_one_core():
        made = runner.run_stages("smoke", [], "", list(STAGES), tmp_path_factory.mktemp("results"))
    shared_smoke_run.leave(made, tmp_path_factory)
    return made


@contextmanager
def on_one_core():
    """Where other tests want the cores too. The language model of stage 01 has a thread for each that it sees, and
    those spin while they wait for one another."""
    if "PYTEST_XDIST_WORKER" not in os.environ or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})  # benchmarks of one core take the first
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def kernels():
    """Of a process that has imported torch once, as a run's own kernels are; test_warm_kernels.py has what is asked
    of them."""
    if not warm_kernels.supported():
        yield warm_kernels.of_this_python()
        return
    with pytest.MonkeyPatch.context() as patch, closing(warm_kernels.Server()) as server:
        patch.setattr(warm_kernels, "OF_LAUNCH", (*warm_kernels.OF_LAUNCH, "PYTEST_CURRENT_TEST"))
        yield warm_kernels.manager(server)


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


def test_four_workers_would_share_each_batch_as_it_is_cut_for_one(smoke):
    """Else they cut it anew, draw other dropout, and benchmarks.kills compares two trainings."""
    log = (smoke / "03_train" / "log.jsonl").read_text(encoding="utf-8")
    tokens = [json.loads(line)["tokens"] for line in log.splitlines()]
    assert min(tokens) // 4 >= profile.load("smoke").train.chunk_tokens


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


def test_the_exported_model_gives_our_vectors_for_texts_of_every_task_of_the_suite(smoke):
    """Four of each set, as far apart as its order has them."""
    from sentence_transformers import SentenceTransformer
    from synthembed.model import backbone, export
    from synthembed.model.encoder import Encoder

    folder, by_set = smoke / "03_train" / "model", defaultdict(set)
    for found in evaluation_texts.suite():
        if found.kind != "label":
            by_set[found.set].add(found.text)
    texts = sorted(t for of_set in by_set.values() for t in sorted(of_set)[:: max(1, len(of_set) // 4)][:4])
    assert len(by_set) > 25 and len(texts) > 3 * len(by_set)
    ours = Encoder(backbone.load(profile.Backbone(model=str(folder))))
    theirs = SentenceTransformer(str(folder), device="cpu")
    for name in ("document", "STS"):
        some = texts if name == "document" else texts[::10]
        expected = ours.encode(some, export.PROMPTS.get(name, ""))
        found = theirs.encode(some, prompt_name=name, batch_size=64)
        worst = (expected * found).sum(1)
        assert worst.min() > 0.9999, some[int(worst.argmin())]


def test_an_executed_notebook_shows_the_last_line_of_progress(smoke):
    cells = json.loads((smoke / "04_evaluate" / "04_evaluate.ipynb").read_text())["cells"]
    for outputs in (cell.get("outputs", []) for cell in cells):
        names = [o.get("name") for o in outputs]
        assert not any(a == b == "stdout" for a, b in pairwise(names))
        text = "".join("".join(o["text"]) for o in outputs if o.get("name") == "stdout")
        text += "".join(
            o["data"].get("text/plain", "")
            for o in outputs
            if "lines of log" in o.get("data", {}).get("text/html", "")
        )
        assert console.last_only(text) == text


@pytest.mark.parametrize("name", STAGES)
def test_links_of_an_executed_notebook_lead_to_what_is_there(smoke, name):
    place = smoke / name / f"{name}.ipynb"
    cells = json.loads(place.read_text(encoding="utf-8"))["cells"]
    prose = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    shown = "".join(
        "".join(o.get("data", {}).get("text/html", "")) for c in cells for o in c.get("outputs", ())
    )
    links = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'href="([^"]+)"', shown)
    files = [link.partition("#")[0] for link in links if not link.startswith(("http", "#"))]
    assert len(files) > 8 and not [file for file in files if not (place.parent / file).exists()]


def test_a_second_run_skips_everything(smoke, capsys):
    before = {p: p.stat().st_mtime_ns for p in smoke.rglob("*") if p.is_file()}
    runner.run_stages("smoke", [], "", list(STAGES), smoke.parent)
    assert capsys.readouterr().out.count("finished before, skipped") == len(STAGES)
    assert before == {p: p.stat().st_mtime_ns for p in smoke.rglob("*") if p.is_file()}


def checked(notebook: Path) -> list[str]:
    """What the checks of an executed notebook's exercises said, in order."""
    cells = nbformat.read(notebook, as_version=4).cells
    printed = [o.text for c in cells if c.cell_type == "code" for o in c.outputs if o.get("name") == "stdout"]
    return re.findall(r"^Exercise \d: ([a-z ]+)", "".join(printed), re.M)


@pytest.mark.parametrize("name", COURSE)
def test_an_unsolved_exercise_says_so_and_stops_nothing(smoke, name):
    said = checked(smoke / name / f"{name}.ipynb")
    assert len(said) >= 3 and set(said) == {exercises.NOT_SOLVED}


def solved_and_wrong(name: str, out: Path) -> Path:
    """A notebook with every exercise solved, and after its check the check of an answer that nobody gives."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    cells = []
    for cell in exercises.solved(notebook.cells):
        cells.append(nbformat.from_dict(cell))
        if "exercises.check(" in cell["source"]:
            cells.append(nbformat.v4.new_code_cell("answer = object()\n" + cell["source"]))
    notebook.cells = cells
    nbformat.write(notebook, out)
    return out


@pytest.mark.parametrize("name", STAGES)
def test_a_notebook_of_a_finished_run_is_run_with_its_solutions_and_no_byte_changes(
    smoke, kernels, name, tmp_path
):
    def everything() -> dict:
        return {p: (sha256(p), p.stat().st_mtime_ns) for p in smoke.rglob("*") if p.is_file()}

    before = everything()
    papermill.execute_notebook(
        solved_and_wrong(name, tmp_path / "in.ipynb"), tmp_path / "out.ipynb", progress_bar=False, cwd=ROOT,
        parameters={"profile": "smoke", "results": str(smoke.parent)}, kernel_name="python3",
        kernel_manager_class=kernels,
    )  # fmt: skip
    assert everything() == before
    assert "is read and not written to" in (tmp_path / "out.ipynb").read_text()
    said = checked(tmp_path / "out.ipynb")
    if name not in COURSE:
        return
    assert len(said) >= 6 and set(said[::2]) == {exercises.SOLVED} and set(said[1::2]) == {exercises.WRONG}


def test_a_missing_artefact_reruns_its_stage_and_only_that(smoke, capsys):
    """The report is rebuilt; what it reads is not."""
    (smoke / "07_report" / "tables" / "table5.csv").unlink()
    runner.run_stages("smoke", [], "", list(STAGES), smoke.parent)
    said = capsys.readouterr().out
    assert "07_report: runs, because 07_report/tables/table5.csv is missing" in said
    assert said.count("skipped") == len(STAGES) - 1


def test_what_depends_is_rebuilt_and_nothing_else(smoke, capsys):
    (smoke / "01_generate" / "replies.jsonl").unlink()
    plan = profile.load("smoke")
    assert "replies.jsonl is missing" in stale("01_generate", plan, smoke)
    assert stale("02_analyze", plan, smoke) == stale("08_beyond", plan, smoke) == "its input is missing"
    assert stale("03_train", plan, smoke) is None
    with on_one_core():
        runner.run_stages("smoke", [], "", list(STAGES), smoke.parent)
    said = capsys.readouterr().out
    assert "01_generate: runs" in said
    assert said.count("skipped") == len(STAGES) - 1  # the same bytes came back, so nothing after it runs


def test_the_examples_of_stage_02_are_the_same_bytes_from_another_process(smoke, tmp_path):
    items, drops = two_steps.read_items(smoke / "01_generate"), Drops()
    replies = example_files.from_replies(smoke / "01_generate" / "replies.jsonl", items, drops)
    settings, texts = profile.load("smoke").analyze, evaluation_texts.suite_texts()
    example_files.write(tmp_path / "examples.jsonl", filters.filtered(replies, settings, drops, items, texts))
    found = (smoke / "02_analyze" / "examples.jsonl").read_bytes()
    assert found and (tmp_path / "examples.jsonl").read_bytes() == found


def test_settings_reach_the_stages_that_read_them(smoke):
    changed = profile.load("smoke", ["long_context.queries=3"])
    reasons = {s: stale(s, changed, smoke) for s in STAGES}
    assert [s for s, r in reasons.items() if r] == ["00_overview", "06_long_context"]  # 00 shows all settings
