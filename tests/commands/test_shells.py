"""Shells, services and files as they are elsewhere: closed streams, names that lead out of a folder, bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from synthembed.adapt import adaptation
from synthembed.commands.command_line import app
from synthembed.commands.options import plain_errors
from synthembed.ground import run_folders
from synthembed.ground.files import PACKAGE, ROOT
from typer.testing import CliRunner


def shell(line: str, runs) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(ROOT / "lib"), os.environ["PYTHONPATH"]])
    settings = {"SYNTHEMBED_RUNS": str(runs), "PYTHON": sys.executable, "PYTHONPATH": path}
    return subprocess.run(["sh", "-c", line], env=os.environ | settings, capture_output=True, text=True)


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_run_bears_closed_streams(tmp_path, closed):
    done = shell(f'"$PYTHON" -m synthembed run --profile smoke --only 00 {closed}', tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "smoke" / "00_overview" / "00_overview.ipynb").exists()


@pytest.mark.parametrize("arguments", ["--help", "runs", "run --profile smoke"])
def test_a_current_folder_that_was_removed_is_told_in_a_sentence(tmp_path, arguments):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = shell(f"cd '{gone}' && rmdir '{gone}' && \"$PYTHON\" -m synthembed {arguments}", tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("the current folder is gone"), done.stderr
    assert len(done.stderr.splitlines()) == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "a/b", ".", "..", ".hidden", "a\\b"])
def test_a_run_is_one_folder_below_the_others(tmp_path, monkeypatch, name):
    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path / "runs"))
    for command in (["run", "--only", "00"], ["reask"]):
        done = CliRunner().invoke(app, [*command, "--profile", "smoke", "--run", name])
        assert done.exit_code == 2 and "a plain name" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden", "''"])
def test_so_is_one_that_a_profile_names(tmp_path, monkeypatch, name):
    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path / "runs"))
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: smoke\nname: {name}\n", encoding="utf-8")
    for command in (["run", "--only", "00"], ["reask"]):
        done = CliRunner().invoke(app, [*command, "--profile", str(mine)])
        assert done.exit_code == 1 and "the profile's name, which its run's folder has" in done.output
    assert list(tmp_path.iterdir()) == [mine]


def test_a_name_that_no_file_system_takes_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path))
    done = CliRunner().invoke(app, ["run", "--profile", "smoke", "--only", "00", "--run", "雪" * 100])
    assert done.exit_code == 2 and "200 bytes at most" in done.output
    done = CliRunner().invoke(app, ["estimate", "--profile", "x" * 300])
    assert done.exit_code == 1 and "Check the name." in done.output


@pytest.mark.parametrize("given", ["train.max_steps=", "generate.languages= ", "generate.budget_usd=\t"])
def test_a_variable_of_the_shell_that_is_not_set_takes_no_limit_away(given):
    done = CliRunner().invoke(app, ["estimate", "--profile", "smoke", "--set", given])
    assert done.exit_code == 2 and f"{given.partition('=')[0]}=null" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--profile", "smoke", "--only", "03", "--from", "01"], "leave --from out"),
        (["clean", "--days", "nan"], "--days"),
        (["clean", "--days", "-1"], "--days"),
    ],
)
def test_options_that_say_two_things_or_nothing_are_refused(tmp_path, monkeypatch, arguments, said):
    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path))
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and said in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_a_disk_that_is_full_is_told_in_a_sentence(tmp_path):
    done = shell('"$PYTHON" -m synthembed runs > /dev/full', tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "has room" in done.stderr


def test_a_report_that_cannot_be_written_is_told_in_a_sentence(tmp_path, monkeypatch):
    from synthembed.report import page

    def build(*_):
        raise PermissionError(13, "Permission denied", "runs/laptop")

    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path))
    monkeypatch.setattr(page, "build", build)
    done = CliRunner().invoke(app, ["report", "--run", "laptop"])
    assert done.exit_code == 1 and "runs/laptop: Permission denied. Work in a folder" in done.output


def test_a_file_that_may_not_be_read_is_told_so(capsys):
    with pytest.raises(typer.Exit), plain_errors():
        raise PermissionError(13, "Permission denied", "texts.txt")
    said = capsys.readouterr().err
    assert said.startswith("texts.txt: Permission denied.") and "what is read must be readable" in said


def test_a_home_that_the_shell_left_as_it_is_written_is_the_home(tmp_path, monkeypatch):
    """bash does so in --out=~/site, and nobody expands what a notebook is given."""
    from synthembed.report.web import book

    asked: list[Path] = []
    monkeypatch.setattr(book, "build", lambda run, out: asked.append(out) or out / "index.html")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["site", "--out=~/site"])
    assert done.exit_code == 0 and asked == [tmp_path / "site"], done.output
    assert adaptation.documents_of("~/documents") == tmp_path / "documents"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_profile_of_another_encoding_is_an_error_that_shows_where(tmp_path, encoding):
    mine = tmp_path / "mine.yaml"
    mine.write_bytes("description: für alle\nextends: smoke\n".encode(encoding))
    done = CliRunner().invoke(app, ["estimate", "--profile", str(mine)])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert "UTF-8" in done.output


def test_the_folder_of_runs_is_told_as_files_of_variables_tell_it(tmp_path, monkeypatch):
    """KEY=~/runs in such a file, or KEY= where nothing is meant."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SYNTHEMBED_RUNS", "~/runs")
    CliRunner().invoke(app, ["runs"])
    assert run_folders.own() == tmp_path / "runs"
    monkeypatch.setenv("SYNTHEMBED_RUNS", "")
    CliRunner().invoke(app, ["runs"])
    assert run_folders.own() == ROOT / "runs"


def test_a_folder_that_the_doctor_may_not_look_into_is_told_in_a_sentence(monkeypatch):
    from synthembed.stages import doctor

    def folders():
        raise PermissionError(13, "Permission denied", "/another/users/runs")

    monkeypatch.setattr(doctor, "_folders", folders)
    done = CliRunner().invoke(app, ["doctor", "--profile", "smoke"])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert "/another/users/runs: Permission denied" in done.output


def test_a_command_that_runs_notebooks_builds_no_grammar_of_uris(tmp_path):
    """Three seconds of each start on a slow machine; papermill asks for it by way of jsonschema."""
    code = (
        "import synthembed.commands, papermill, sys; print([m for m in sys.modules if m.startswith('lark')])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    ).stdout  # fmt: skip
    assert said.strip() == "[]"
