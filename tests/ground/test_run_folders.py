"""Where runs lie, locks on any file system, what is left in a run, and how one becomes the committed one."""

import errno
import json
import os

import filelock
import pytest
from synthembed.ground import run_folders


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folders, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(run_folders.ELSEWHERE, raising=False)
    return tmp_path


def finished(run, *stages):
    for stage in stages:
        (run / stage).mkdir(parents=True)
        (run / stage / "stage.json").write_text(json.dumps({"status": "done"}))
    return run


def test_a_reader_s_own_run_comes_before_the_committed_one(checkout, monkeypatch):
    committed = finished(checkout / "results" / "laptop", "00_overview")
    assert run_folders.find("laptop") == committed == run_folders.reference("laptop")
    own = finished(checkout / "runs" / "laptop", "00_overview")
    assert run_folders.find("laptop") == own and run_folders.find("results/laptop") == committed
    monkeypatch.setenv(run_folders.ELSEWHERE, "elsewhere")
    assert run_folders.find("laptop") == committed and run_folders.own() == checkout / "elsewhere"
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*results/lapto or .*elsewhere/lapto; there are laptop"
    ):
        run_folders.find("lapto")


def test_a_run_of_the_home_folder_is_found_by_its_tilde(checkout, monkeypatch):
    monkeypatch.setenv("HOME", str(checkout / "home"))
    run = finished(checkout / "home" / "runs" / "mine", "00_overview")
    assert run_folders.find("~/runs/mine") == run
    with pytest.raises(FileNotFoundError, match=r"home/runs/other; there are"):
        run_folders.find("~/runs/other")
    with pytest.raises(FileNotFoundError, match="there are"):
        run_folders.find("~nobody-of-this-name/runs")


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_a_warning_with_its_remedy(tmp_path, monkeypatch, code):
    def refuses(*given):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(filelock._unix.fcntl, "flock", refuses)
    with (
        pytest.warns(UserWarning, match="no locks.*start one only, or set SYNTHEMBED_RUNS"),
        run_folders.locked(tmp_path, "01_generate"),
    ):
        pass
    run_folders.unlock(tmp_path, "01_generate")


def test_a_folder_that_cannot_be_written_is_no_folder_without_locks(tmp_path, monkeypatch):
    def refuses(*given):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(filelock._unix.fcntl, "flock", refuses)
    with pytest.raises(OSError, match="broken"):
        run_folders.lock(tmp_path, "01_generate")


def test_what_is_left_is_listed_and_cleaned_and_what_was_paid_for_is_not(checkout):
    run = finished(checkout / "runs" / "mine", "03_train")
    for name in (
        "03_train/other_settings/abc/model",
        "03_train/model",
        ".work/03_train/model",
        ".work/01_generate",
    ):
        (run / name).mkdir(parents=True)
        (run / name / "file").write_bytes(b"x" * 1_000_000)
    said = run_folders.table(run_folders.listing())
    assert "own run, 1 stages finished" in said and "4.0 MB" in said
    assert "other settings of 03_train" in said and "03_train, begun anew and not finished" in said
    assert run_folders.clean(run, days=1) == []
    with run_folders.locked(run, "01_generate"):
        gone = run_folders.clean(run)
    assert [about["folder"].relative_to(run).as_posix() for about in gone] == [
        "03_train/other_settings/abc", ".work/03_train",
    ]  # fmt: skip
    assert (run / "03_train" / "model" / "file").exists() and (
        run / ".work" / "01_generate" / "file"
    ).exists()


def test_a_complete_run_becomes_the_committed_one_without_weights(checkout):
    own = finished(checkout / "runs" / "laptop", "03_train", "05_ablations")
    old = finished(checkout / "results" / "laptop", "03_train")
    for name in (
        "03_train/model/weights",
        "03_train/log.jsonl",
        "05_ablations/rows/a/stage.json",
        ".work/x/y",
    ):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text("new")
    for name in ("03_train/loss.png", "03_train/model/weights"):
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_text("old")
    with pytest.raises(FileNotFoundError, match="07_report is not finished"):
        run_folders.keep("laptop", ["03_train", "07_report"])
    assert (old / "03_train" / "loss.png").exists()
    run_folders.keep("laptop", ["03_train", "05_ablations"])
    found = sorted(p.relative_to(old).as_posix() for p in old.rglob("*") if p.is_file())
    assert found == [
        "03_train/log.jsonl",
        "03_train/model/weights",
        "03_train/stage.json",
        "05_ablations/stage.json",
    ]
    assert (
        old / "03_train" / "model" / "weights"
    ).read_text() == "old"  # of the maintainer's checkout, not in git
