"""What must stay in step: pins and environments, and what must not be in the repository."""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from synthembed.ground.files import ROOT


def pins(*locks: str) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    lines = [
        line for lock in locks or ("requirements.lock",) for line in (ROOT / lock).read_text().splitlines()
    ]
    for line in lines:
        if line and not line.startswith(("#", "-")):
            requirement = Requirement(line)
            found.setdefault(requirement.name.lower().replace("_", "-"), []).append(requirement)
    return found


def test_the_lock_pins_everything_that_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    assert not pins().keys() & pins("requirements-extras.lock").keys()
    locked = pins("requirements.lock", "requirements-extras.lock")
    wanted = [text for extra in ("dev", "site", "own", "cluster") for text in optional[extra]]
    for text in project["dependencies"] + wanted:
        wanted = Requirement(text)
        found = locked[wanted.name.lower()]
        assert all(str(next(iter(r.specifier)).operator) == "==" for r in found)
        assert all(wanted.specifier.contains(next(iter(r.specifier)).version) for r in found), text


def test_this_environment_is_the_locked_one():
    from importlib.metadata import version

    for name in (
        "torch",
        "transformers",
        "peft",
        "mteb",
        "openai",
        "pandas",
        "papermill",
        "sentence-transformers",
    ):
        (pin,) = pins()[name]
        assert pin.specifier.contains(version(name).partition("+")[0]), name


def test_conda_users_get_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    listed = environment["dependencies"][-1]["pip"]
    assert listed == ["-r requirements.lock", "-e ."]
    python = next(d for d in environment["dependencies"] if str(d).startswith("python"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert python == f"python{project['requires-python']}"


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines()]


def test_the_repository_holds_no_key_and_no_place():
    secret = re.compile(rb"sk-[A-Za-z0-9_-]{20,}|/(work|root|home)/[a-z]")
    for path in tracked():
        if path.exists() and path.suffix not in (".png", ".gz"):
            assert not secret.search(path.read_bytes()), path
            assert path.stat().st_size < 5_000_000, path


def test_the_readmes_table_is_that_of_the_committed_run():
    from synthembed.report import page, results

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert page.readme_table(results.Results(ROOT / "results" / "laptop")) in text
