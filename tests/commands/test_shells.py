"""Shells, services and files as they are elsewhere: closed streams, names that lead out of a folder, bytes."""

import os
import subprocess
import sys

import pytest
from synthembed.commands.command_line import app
from synthembed.ground.files import ROOT
from typer.testing import CliRunner


def shell(line: str, runs) -> subprocess.CompletedProcess:
    settings = {"SYNTHEMBED_RUNS": str(runs), "PYTHON": sys.executable, "PYTHONPATH": str(ROOT / "lib")}
    return subprocess.run(["sh", "-c", line], env=os.environ | settings, capture_output=True, text=True)


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_run_bears_closed_streams(tmp_path, closed):
    done = shell(f'"$PYTHON" -m synthembed run --profile smoke --only 00 {closed}', tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "smoke" / "00_overview" / "00_overview.ipynb").exists()


@pytest.mark.parametrize("name", ["../evil", "a/b", ".", "..", ".hidden", "a\\b"])
def test_a_run_is_one_folder_below_the_others(tmp_path, monkeypatch, name):
    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path / "runs"))
    for command in (["run", "--only", "00"], ["reask"]):
        done = CliRunner().invoke(app, [*command, "--profile", "smoke", "--run", name])
        assert done.exit_code == 2 and "a plain name" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_profile_of_another_encoding_is_an_error_that_shows_where(tmp_path, encoding):
    mine = tmp_path / "mine.yaml"
    mine.write_bytes("description: für alle\nextends: smoke\n".encode(encoding))
    done = CliRunner().invoke(app, ["estimate", "--profile", str(mine)])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert "UTF-8" in done.output
