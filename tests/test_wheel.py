"""The wheel, built from the repository and installed somewhere else: it needs neither the checkout nor git."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from synthembed.ground.files import ROOT

TOOLS = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "requirements.lock")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built without a network, from a copy: building leaves traces beside its sources."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for folder in ("lib", "notebooks", "profiles"):
        shutil.copytree(
            ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for file in TOOLS:
        shutil.copy(ROOT / file, copy)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        out,
        copy,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return site


def run(site: Path, cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """A command of the installed package, on a machine without git and without a home folder to write to."""
    bare = {name: value for name, value in os.environ.items() if name in ("OMP_NUM_THREADS", "SYSTEMROOT")}
    settings = {
        "HOME": "/nowhere/at/all",
        "PATH": "/nowhere",
        "PYTHONPATH": str(site),
        "HF_HUB_OFFLINE": "1",
        "PIP_NO_INDEX": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "synthembed", *arguments], cwd=cwd, capture_output=True, text=True,
        env=bare | settings | environment,
    )  # fmt: skip


def test_the_wheel_carries_all_that_the_library_reads(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    data = {
        p for p in (ROOT / "lib" / "synthembed").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    assert {p.relative_to(ROOT / "lib").as_posix() for p in data} <= inside
    laid_out = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("profiles/*.yaml"), ROOT / "requirements.lock"]
    assert {f"synthembed/project/{p.relative_to(ROOT).as_posix()}" for p in laid_out} <= inside
    assert not [name for name in inside if name.startswith(("tests/", "benchmarks/", "lib/"))]


def test_a_first_run_lays_out_the_project_where_it_is_started(installed, tmp_path):
    before = sorted(installed.rglob("*.ipynb"))
    done = run(installed, tmp_path, "run", "--profile", "smoke", "--only", "00", "--only", "01")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "notebooks" / "00_overview.ipynb").exists() and (
        tmp_path / "profiles" / "smoke.yaml"
    ).exists()
    records = [*tmp_path.rglob("00_overview/stage.json"), *tmp_path.rglob("01_generate/stage.json")]
    assert len(records) == 2 and all('"commit": null' in p.read_text(encoding="utf-8") for p in records)
    assert sorted(installed.rglob("*.ipynb")) == before and not (installed.parent / "results").exists()
    again = run(installed, tmp_path / "notebooks", "run", "--profile", "smoke", "--only", "00")
    assert "finished before, skipped" in again.stdout, (
        again.stdout + again.stderr
    )  # found from a folder below


def test_laying_out_leaves_what_is_there(installed, tmp_path):
    assert run(installed, tmp_path, "init", "here").returncode == 0
    mine = tmp_path / "here" / "profiles" / "smoke.yaml"
    mine.write_text("extends: laptop\n", encoding="utf-8")
    done = run(installed, tmp_path, "init", "here")
    assert done.returncode == 0 and "profiles/smoke.yaml" in done.stdout and "0 notebooks" in done.stdout
    assert mine.read_text(encoding="utf-8") == "extends: laptop\n"


def test_a_folder_that_cannot_be_written_is_named_in_a_sentence(installed, tmp_path):
    (tmp_path / "notebooks").write_text("a file in the way")
    done = run(installed, tmp_path, "run", "--profile", "smoke", "--only", "00")
    assert done.returncode == 1 and "Traceback" not in done.stderr and "notebooks" in done.stderr
