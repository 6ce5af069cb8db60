"""What one of pytest's processes has made of the smoke run, for tests in the others that only read it."""

import os
import shutil
from pathlib import Path

FIRST = ("00_overview", "01_generate", "02_analyze")  # stages that need no model


def leave(run: Path, tmp_path_factory) -> None:
    """Copy the first stages of a finished run to where ``found`` looks, all of them or nothing."""
    target = _place(tmp_path_factory)
    part = target.with_name(f"{target.name}-{os.getpid()}")
    for stage in FIRST:
        shutil.copytree(run / stage, part / run.name / stage)
    part.rename(target)


def found(tmp_path_factory) -> Path | None:
    """The run's folder, or None if nobody has left one yet."""
    run = _place(tmp_path_factory) / "smoke"
    return run if run.exists() else None


def _place(tmp_path_factory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-smoke-run"
