"""A stage and its record: opening destroys nothing, what it lacks is named, what was paid for survives."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from synthembed.ground import run_folders
from synthembed.ground.places import PlaceError
from synthembed.ground.run_folders import StageBusy
from synthembed.profile import load
from synthembed.stages import record, runner
from synthembed.stages.record import MissingInput, Spec, Stage, stale

NAME, SETTING = "06_long_context", "long_context.queries"


@pytest.fixture(autouse=True)
def small_road(monkeypatch):
    """A stage of two kinds of files: those that it goes on with, and the others. No input, no notebook."""
    spec = Spec((), ("seed", "long_context"), keep=("kept/**/*",), scratch=("checkpoints/*",))
    monkeypatch.setitem(record.STAGES, NAME, spec)


def begun(results: Path, number: int = 3, **more) -> Stage:
    return Stage.open(NAME, "smoke", f"{SETTING}={number}", results=str(results), **more)


def fill(stage: Stage, text: str) -> Stage:
    """What cells do: everything by ``once`` or below ``out``."""
    stage.once("scores.json", lambda: {"made": text})
    (stage.out / "figure.svg").write_text(text)
    (stage.folder / "kept").mkdir(exist_ok=True)
    if not stage.reading:
        with open(stage.folder / "kept" / "replies.jsonl", "a") as file:
            file.write(text + "\n")
    return stage


def made(results: Path, text: str, number: int = 3, **more) -> Path:
    stage = fill(begun(results, number, **more), text)
    stage.close(points=1)
    return stage.folder


def everything(folder: Path) -> dict[str, tuple[str, int]]:
    """File → hash and time of change, of all that lies below a folder."""
    return {
        str(p.relative_to(folder)): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_a_notebook_says_what_is_missing(tmp_path):
    with pytest.raises(
        MissingInput, match=r"03_train needs .*examples\.jsonl.*synthembed run --only 02_analyze"
    ):
        Stage.open("03_train", "smoke", results=str(tmp_path))


def test_batches_survive_a_restart_of_the_stage(tmp_path):
    stage = Stage.open("01_generate", "smoke", "generate.backend=batch", results=str(tmp_path))
    (stage.folder / "batches").mkdir()
    (stage.folder / "batches" / "state.json").write_text("[]")
    (stage.folder / "replies.jsonl").write_text("")
    (stage.folder / "requests.jsonl").write_text("")
    again = Stage.open("01_generate", "smoke", "generate.backend=batch", results=str(tmp_path))
    assert (again.folder / "batches" / "state.json").exists() and (again.folder / "replies.jsonl").exists()
    assert not (again.folder / "requests.jsonl").exists()
    again.close()


def test_a_finished_stage_is_read_and_no_byte_changes(tmp_path, capsys):
    made(tmp_path, "first")
    before = everything(tmp_path)
    capsys.readouterr()
    stage = begun(tmp_path)
    assert stage.reading and "is read and not written to" in capsys.readouterr().out
    assert stage.once("scores.json", lambda: pytest.fail("computed twice")) == {"made": "first"}
    (stage.out / "figure.svg").write_text("another")
    assert stage.close(points=2)["points"] == 1
    fill(stage, "after closing")
    assert everything(tmp_path) == before


def test_cells_that_are_run_once_more_after_closing_change_nothing(tmp_path):
    stage = fill(begun(tmp_path), "first")
    stage.close()
    before = everything(tmp_path)
    fill(stage, "again")
    stage.close()
    assert everything(tmp_path) == before


def test_the_old_stage_lives_until_the_new_one_is_complete(tmp_path):
    folder = made(tmp_path, "old")
    before = everything(folder)
    stage = fill(begun(tmp_path, number=4), "new")
    assert not stage.reading and everything(folder) == before
    assert (stage.folder / "kept" / "replies.jsonl").read_text() == "old\nnew\n"
    stage.close()
    assert stage.folder == folder and json.loads((folder / "scores.json").read_text()) == {"made": "new"}
    assert (folder / "kept" / "replies.jsonl").read_text() == "old\nnew\n"
    assert stale(NAME, load("smoke", f"{SETTING}=4"), folder.parent) is None
    assert sorted(p.name for p in (folder.parent / run_folders.WORK).iterdir()) == [f"{NAME}.lock"]


def test_anew_makes_it_once_more_beside_the_old_one(tmp_path):
    folder = made(tmp_path, "old")
    before = everything(folder)
    stage = fill(begun(tmp_path, anew=True), "new")
    assert not stage.reading and everything(folder) == before
    assert (stage.folder / "kept" / "replies.jsonl").read_text() == "new\n"
    stage.close()
    assert json.loads((folder / "scores.json").read_text()) == {"made": "new"}


def test_a_stage_made_again_by_hand_keeps_the_executed_copy_until_a_run_writes_the_new_one(tmp_path):
    folder = made(tmp_path, "old")
    (folder / f"{NAME}.ipynb").write_text("what the old stage showed")
    record_of = json.loads((folder / "stage.json").read_text())
    (folder / "stage.json").write_text(json.dumps(record_of | {"notebook": f"{NAME}.ipynb"}))
    for text, number in (("new", 4), ("newer", 2)):
        made(tmp_path, text, number)
        assert (folder / f"{NAME}.before.ipynb").read_text() == "what the old stage showed"
        assert not (folder / f"{NAME}.ipynb").exists(), "an old copy must not pass for that of the new stage"
        assert runner._notebook_missing(NAME, folder.parent) == f"{NAME}/{NAME}.ipynb is missing"
        assert stale(NAME, load("smoke", f"{SETTING}={number}"), folder.parent) is None


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from synthembed.ground import run_folders
import test_record
from synthembed.stages import record, runner
record.STAGES[test_record.NAME] = record.Spec((), ("seed", "long_context"), keep=("kept/*",))
stage = test_record.begun(Path({results!r}), 4)
test_record.fill(stage, "new")
print("filled", flush=True)
if {at!r}:  # die between the two renames of the swap, before or after the first
    real, count = run_folders.os.replace, [0]
    def replace(*names):
        if stage.folder in map(Path, names) or Path(names[0]) == stage.run / stage.name:
            count[0] += 1
            if count[0] == {at}:
                run_folders.os.kill(run_folders.os.getpid(), 9)
        real(*names)
    run_folders.os.replace = replace
    stage.close()
sys.stdin.read()
"""


def killed(results: Path, at: int = 0) -> None:
    """A process that makes the stage again and is killed: before closing, or at a rename of the closing."""
    code = CHILD.format(path=[str(Path(__file__).parent), *sys.path], results=str(results), at=at)
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "filled\n"
    if not at:
        child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdin.close()
    child.stdout.close()


def test_a_kill_in_the_middle_leaves_the_old_stage_and_what_is_kept(tmp_path):
    folder = made(tmp_path, "old")
    before = everything(folder)
    killed(tmp_path)
    assert everything(folder) == before
    assert begun(tmp_path).reading  # with the old settings it is still finished and fresh
    stage = begun(tmp_path, number=4)
    assert (stage.folder / "kept" / "replies.jsonl").read_text() == "old\nnew\n"  # resumed
    assert not (stage.folder / "scores.json").exists()
    fill(stage, "newer").close()
    assert json.loads((folder / "scores.json").read_text()) == {"made": "newer"}


@pytest.mark.parametrize("at", [1, 2])
def test_a_kill_while_the_new_stage_takes_its_place_loses_neither(tmp_path, at):
    folder = made(tmp_path, "old")
    before = everything(folder)
    killed(tmp_path, at)
    if at == 1:
        assert everything(folder) == before
    stage = begun(tmp_path, number=4)
    if at == 2:  # the new one was complete
        assert stage.reading and stage.once("scores.json", dict) == {"made": "new"}
    fill(stage, "newer").close()
    assert json.loads((folder / "scores.json").read_text())["made"] == ("newer" if at == 1 else "new")


def test_a_second_process_is_refused_before_it_touches_a_file(tmp_path):
    code = CHILD.format(path=[str(Path(__file__).parent), *sys.path], results=str(tmp_path), at=0)
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "filled\n"
    before = everything(tmp_path)
    with pytest.raises(StageBusy, match=rf"{NAME} of .*process {child.pid} on {os.uname().nodename}"):
        begun(tmp_path, number=2)
    assert everything(tmp_path) == before
    child.communicate("")
    assert not begun(tmp_path, number=2).reading


def test_a_kernel_works_under_the_lock_of_its_runner(tmp_path, monkeypatch):
    code = CHILD.format(path=[str(Path(__file__).parent), *sys.path], results=str(tmp_path), at=0)
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "filled\n"
    monkeypatch.setenv("JPY_PARENT_PID", str(child.pid))
    begun(tmp_path, number=2)
    child.communicate("")


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    """A checkout with a committed run of the report, whose inputs a reader has not made."""
    monkeypatch.setattr(run_folders, "ROOT", tmp_path)
    folder = tmp_path / "results" / "smoke" / "07_report"
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text(
        json.dumps({"status": "done", "inputs": {}, "outputs": {}, "code": ""})
    )
    (folder / "verdicts.json").write_text('["a verdict"]')
    return tmp_path


def test_without_a_run_of_ones_own_a_notebook_shows_the_committed_one(places, capsys):
    before = everything(places)
    stage = Stage.open("07_report", "smoke")
    said = capsys.readouterr().out
    assert "07_report needs" in said and "results/smoke/07_report, which is not written to" in said
    assert stage.once("verdicts.json", list) == ["a verdict"] and stage.run == places / "results" / "smoke"
    stage.close()
    assert everything(places) == before


def test_what_the_committed_run_cannot_answer_is_refused(places):
    for how in ({"overrides": "seed=1"}, {"run": "mine"}, {"results": str(places / "runs")}):
        with pytest.raises(MissingInput, match="07_report needs"):
            Stage.open("07_report", "smoke", **how)


def test_no_paid_backend_is_asked_for_what_a_notebook_lacks(places):
    with pytest.raises(MissingInput, match="02_analyze needs"):
        Stage.open("02_analyze", "smoke", "generate.backend=live")


def worked(stage, step: int, seconds: float, task: str = "") -> None:
    """A step of training of so many seconds in the stage's log, or a scored task."""
    if task:
        place = stage.folder / "kept" / "mteb" / f"{task}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps({"task_name": task, "date": f"{step}", "evaluation_time": seconds}))
        return
    line = {"step": step, "loss": 1.0, "tokens": 100, "tokens_per_s": 100 / seconds, "eta_s": seconds}
    (stage.folder / "kept").mkdir(exist_ok=True)
    with open(stage.folder / "kept" / "log.jsonl", "a") as log:
        log.write(json.dumps(line) + "\n")


def test_a_stage_that_was_resumed_says_what_earlier_sittings_had_done(tmp_path):
    first = begun(tmp_path)
    worked(first, 1, 40.0)
    worked(first, 2, 50.0)
    worked(first, 1, 30.0, task="Kept")
    worked(first, 1, 20.0, task="Again")
    with open(first.folder / "kept" / "log.jsonl", "a") as log:
        log.write('{"step": 3, "tok')  # as a kill leaves it
    record = json.loads((first.folder / "stage.json").read_text())
    assert record["status"] == "running" and run_folders.seconds_of(record) < 10

    second = fill(begun(tmp_path), "resumed")
    worked(second, 3, 70.0)
    worked(second, 2, 25.0, task="Again")  # made again: of the first try nothing is left
    record = second.close()
    assert record["kept_s"] == 120.0 and record["wall_s"] < 10
    assert run_folders.seconds_of(record) == record["wall_s"] + 120.0


def test_of_a_stage_made_again_only_what_it_went_on_with_is_counted(tmp_path):
    first = begun(tmp_path)
    worked(first, 1, 40.0)
    worked(first, 2, 60.0)
    assert fill(first, "old").close()["kept_s"] == 0.0
    again = begun(tmp_path, number=4)
    aside = again.folder / "kept" / run_folders.OTHERS / "key"
    aside.mkdir(parents=True)
    lines = (again.folder / "kept" / "log.jsonl").read_text().splitlines(keepends=True)
    (again.folder / "kept" / "log.jsonl").write_text(lines[0])
    (aside / "log.jsonl").write_text(lines[1])  # of other settings: no part of what this stage is
    assert fill(again, "new").close()["kept_s"] == 40.0
    back = begun(tmp_path)
    place = back.folder / "kept"
    os.replace(place / run_folders.OTHERS / "key" / "log.jsonl", place / "log.jsonl")
    assert fill(back, "old").close()["kept_s"] == 60.0, "what was set aside and is wanted again"
    assert fill(begun(tmp_path, anew=True), "anew").close()["kept_s"] == 0.0


def test_a_record_from_before_has_its_last_sitting_only():
    assert run_folders.seconds_of({"wall_s": 12.5}) == 12.5
    assert run_folders.seconds_of({}) == 0.0


@pytest.mark.parametrize("name", ["../evil", "a/b", "/evil", "..", ".hidden", "a\\b", "x" * 300])
def test_a_stage_is_opened_in_one_folder_below_the_others(tmp_path, name):
    runs, mine = tmp_path / "runs", tmp_path / "mine.yaml"
    mine.write_text(f"extends: smoke\nname: '{name}'\n")
    with pytest.raises(PlaceError, match=r"the run's name: .*a (plain name|name of 200 bytes)"):
        Stage.open("00_overview", "smoke", run=name, results=str(runs))
    with pytest.raises(PlaceError, match=r"the profile's name, .*a (plain name|name of 200 bytes)"):
        Stage.open("00_overview", str(mine), results=str(runs))
    assert list(tmp_path.iterdir()) == [mine]
