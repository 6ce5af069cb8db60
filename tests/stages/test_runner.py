"""The runner of notebooks: what it says, and what it keeps of a notebook that fails."""

import json
import os
import subprocess
import sys

import nbformat
import pytest
from synthembed.ground.run_folders import StageBusy
from synthembed.stages import record, runner


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """A checkout of notebooks that fail."""
    (tmp_path / "notebooks").mkdir()
    for stage in ("01_generate", "02_analyze"):
        notebook = nbformat.v4.new_notebook(cells=[
            nbformat.v4.new_code_cell("profile = ''\noverrides = []\nrun = ''\nresults = ''", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(f"print('begins')\nraise ValueError('nothing to read in {stage}')"),
        ])  # fmt: skip
        notebook.metadata["language_info"] = {"name": "python"}
        nbformat.write(notebook, tmp_path / "notebooks" / f"{stage}.ipynb")
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    return tmp_path


def test_a_notebook_that_fails_stops_the_run_and_is_named(notebooks, capfd):
    stages = ["01_generate", "02_analyze"]
    with pytest.raises(
        runner.StageFailed, match="01_generate: ValueError: nothing to read in 01_generate"
    ) as failed:
        runner.run_stages("smoke", [], "", stages, notebooks / "results")
    executed = notebooks / "results" / "smoke" / "01_generate" / "01_generate.ipynb"
    assert str(failed.value).endswith("The executed notebook: " + str(executed))
    outputs = [o for cell in json.loads(executed.read_text())["cells"] for o in cell.get("outputs", ())]
    assert any(o.get("ename") == "ValueError" for o in outputs)
    said = capfd.readouterr().out
    assert "1/2 01_generate: runs, because" in said and "begins" in said and "2/2" not in said


def test_a_finished_stage_is_skipped_and_one_without_its_notebook_is_not(tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(runner, "stale", lambda stage, profile, folder: None)
    monkeypatch.setattr(runner, "execute", lambda stage, *rest: ran.append(stage))
    for stage in record.STAGES:
        folder = tmp_path / "smoke" / stage
        folder.mkdir(parents=True)
        (folder / "stage.json").write_text(json.dumps({"notebook": f"{stage}.ipynb"}))
        if stage != "02_analyze":
            (folder / f"{stage}.ipynb").touch()
    runner.run_stages("smoke", [], "", list(record.STAGES), tmp_path)
    said = capsys.readouterr().out
    assert ran == ["02_analyze"] and "runs, because 02_analyze/02_analyze.ipynb is missing" in said
    assert said.count("finished before, skipped") == len(record.STAGES) - 1


def test_a_finished_stage_that_fails_when_it_is_made_anew_keeps_its_notebook(notebooks, capfd):
    place = notebooks / "results" / "smoke" / "01_generate"
    place.mkdir(parents=True)
    (place / "stage.json").write_text(json.dumps({"status": "done", "outputs": {}}))
    (place / "01_generate.ipynb").write_text("the old one")
    with pytest.raises(runner.StageFailed) as failed:
        runner.run_stages("smoke", [], "", ["01_generate"], notebooks / "results", anew=True)
    assert (place / "01_generate.ipynb").read_text() == "the old one"
    executed = notebooks / "results" / "smoke" / ".work" / "01_generate.ipynb"
    assert str(failed.value).endswith(str(executed)) and "nothing to read" in executed.read_text()


def test_a_stage_that_another_process_makes_is_refused_untouched(notebooks):
    code = (
        "import sys; from pathlib import Path; from synthembed.ground import run_folders\n"
        "run_folders.lock(Path(sys.argv[1]), '01_generate'); print('locked', flush=True); sys.stdin.read()"
    )
    run = notebooks / "results" / "smoke"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert other.stdout.readline() == "locked\n"
    with pytest.raises(StageBusy, match=f"process {other.pid} on"):
        runner.run_stages("smoke", [], "", ["01_generate"], notebooks / "results")
    assert not (run / "01_generate").exists()
    other.communicate("")


def test_a_kernel_that_is_killed_is_told_in_a_few_lines(notebooks):
    path = notebooks / "notebooks" / "03_train.ipynb"
    notebook = nbformat.read(notebooks / "notebooks" / "02_analyze.ipynb", as_version=4)
    notebook.cells[1].source = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    nbformat.write(notebook, path)
    with pytest.raises(runner.StageFailed) as failed:
        runner.run_stages("smoke", [], "", ["03_train"], notebooks / "results")
    said = str(failed.value)
    assert said.startswith("03_train: the notebook's kernel was killed") and "memory" in said
    assert "train.chunk_tokens" in said and "Run the same command again" in said and said.count("\n") < 4


def test_an_executed_copy_shows_its_parameters_once():
    def cell(source, *tags):
        return {
            "cell_type": "code",
            "metadata": {"tags": list(tags)},
            "source": source.splitlines(keepends=True),
        }

    own = cell('profile = "laptop"  # type: str  a name\noverrides = []  # type: list', "parameters")
    given = cell('# Parameters\nprofile = "smoke"\noverrides = ["a.b=1"]\n', "injected-parameters")
    rest = cell("1 + 1")
    found = runner._parameters_once([own, given, rest])
    assert ["".join(c["source"]) for c in found] == [
        'profile = "smoke"  # type: str  a name\noverrides = ["a.b=1"]  # type: list', "1 + 1"
    ]  # fmt: skip
    assert runner._parameters_once([rest]) == [rest]


def test_a_long_log_is_folded_and_none_of_it_lost():
    lines = [f"line {n} <b>\n" for n in range(40)]
    (found,) = runner._joined(runner.LOG, [{"output_type": "stream", "name": "stdout", "text": lines}])
    assert found["data"]["text/plain"] == "".join(lines)
    assert (
        "40 lines of log" in found["data"]["text/html"] and "line 39 &lt;b&gt;" in found["data"]["text/html"]
    )
    (short,) = runner._joined(runner.LOG, [{"output_type": "stream", "name": "stdout", "text": lines[:5]}])
    assert short["text"] == lines[:5]


@pytest.mark.parametrize("tags", [[], [runner.WHOLE]])
def test_what_a_cell_is_there_to_show_is_not_folded(tmp_path, tags):
    lines = [f"line {n}\n" for n in range(40)]
    cell = {
        "cell_type": "code", "metadata": {"tags": tags}, "source": [],
        "outputs": [{"output_type": "stream", "name": "stdout", "text": lines}],
    }  # fmt: skip
    about = {"papermill": {"input_path": "a", "output_path": "b"}}
    (tmp_path / "a.ipynb").write_text(json.dumps({"metadata": about, "cells": [cell]}))
    runner._forget_paths(tmp_path / "a.ipynb")
    (output,) = json.loads((tmp_path / "a.ipynb").read_text())["cells"][0]["outputs"]
    assert output.get("text") == (lines if tags else None)


def test_the_overview_is_made_again_when_the_papers_profile_was_edited(tmp_path, capsys):
    from synthembed import profile as profiles

    def run() -> dict:
        runner.run_stages("smoke", [], "", ["00_overview"], tmp_path)
        return json.loads(place.read_text(encoding="utf-8"))

    place = tmp_path / "smoke" / "00_overview" / "stage.json"
    first = run()
    assert first["paper_profile"] == profiles.load("paper").hash()
    place.write_text(json.dumps(first | {"paper_profile": "that of another paper.yaml"}), encoding="utf-8")
    capsys.readouterr()
    assert run()["paper_profile"] == first["paper_profile"]
    assert (
        "00_overview: runs, because the paper's profile, which it shows, changed" in capsys.readouterr().out
    )
    run()
    assert "00_overview: finished before, skipped" in capsys.readouterr().out


def test_a_kernel_is_of_this_python_whatever_jupyter_finds(tmp_path, monkeypatch):
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    about = {"argv": ["/bin/false", "{connection_file}"], "display_name": "another's", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(about))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    runner.run_stages("smoke", [], "", ["00_overview"], tmp_path)
    assert json.loads((tmp_path / "smoke" / "00_overview" / "stage.json").read_text())["status"] == "done"


def test_a_kernel_imports_nothing_of_the_shells_folder_and_its_checks_hold(notebooks, monkeypatch):
    """Not a reader's own pandas.py; not the repository whose hook calls; not without asserts."""
    cells = [
        "profile = ''\noverrides = []\nrun = ''\nresults = ''",
        "import importlib.util, os\nassert not importlib.util.find_spec('of_a_reader')\nassert 'GIT_DIR' not in os.environ",
        "assert False, 'the notebook checks'",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, notebooks / "notebooks" / "01_generate.ipynb")
    (notebooks / "of_a_reader.py").write_text("")
    monkeypatch.chdir(notebooks)
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    monkeypatch.setenv("GIT_DIR", str(notebooks / "another" / ".git"))
    with pytest.raises(runner.StageFailed, match="AssertionError: the notebook checks"):
        runner.run_stages("smoke", [], "", ["01_generate"], notebooks / "runs")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("Kernel didn't respond in 600 seconds", "did not answer in 600 s"),
        ("Kernel died before", "was killed"),
    ],
)
def test_a_kernel_has_minutes_to_answer_and_one_that_does_not_is_named(notebooks, monkeypatch, error, said):
    given = {}

    def execute(*_, **settings):
        given.update(settings)
        raise RuntimeError(error)

    monkeypatch.setattr("papermill.execute_notebook", execute)
    with pytest.raises(runner.StageFailed, match=f"01_generate: .*{said}"):
        runner.run_stages("smoke", [], "", ["01_generate"], notebooks / "results")
    assert given["start_timeout"] == 600


@pytest.mark.parametrize("left", ["", '{"status": "do', "\0\0\0"])
def test_a_record_that_a_crash_left_empty_is_named_and_nothing_is_lost(notebooks, left):
    place = notebooks / "results" / "smoke" / "01_generate"
    place.mkdir(parents=True)
    (place / "stage.json").write_text(left)
    (place / "replies.jsonl").write_text("paid for")
    with pytest.raises(
        runner.StageFailed, match=r"01_generate/stage\.json is empty or damaged .*delete this file alone"
    ):
        runner.run_stages("smoke", [], "", ["01_generate"], notebooks / "results")
    assert (place / "replies.jsonl").read_text() == "paid for"
