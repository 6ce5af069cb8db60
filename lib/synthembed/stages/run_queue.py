"""Several runs, one after the other: one that fails does not stop the rest, and what became of each is said."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from synthembed.ground import run_folders
from synthembed.ground.files import read_json, shown
from synthembed.stages.record import STAGES

FAILED, DONE = "failed", "done"


def outcome(profile: str, make: Callable[[], Path]) -> dict:
    """Run ``make``, which returns a run's folder, and say what became of it: profile, status, seconds, run, report
    (both None if it failed before there was one), stages {name: seconds, earlier sittings included}, verdicts {kind: count},
    error (None, or the message). Errors of ours and of the file system are told; others are faults, and raised."""
    started = time.monotonic()
    found = {"profile": profile, "status": DONE, "seconds": 0.0, "run": None, "report": None, "stages": {},
             "verdicts": {}, "error": None}  # fmt: skip
    try:
        found |= _of_run(make())
    except Exception as error:
        if not (type(error).__module__.startswith("synthembed.") or isinstance(error, OSError)):
            raise
        found |= {"status": FAILED, "error": str(error)}
    return found | {"seconds": round(time.monotonic() - started, 1)}


def _of_run(folder: Path) -> dict:
    records = {stage: read_json(folder / stage / "stage.json", {}) for stage in STAGES}
    report = folder / "07_report" / "report.html"
    counts: dict[str, int] = {}
    for entry in read_json(folder / "07_report" / "verdicts.json", []):
        counts[entry["verdict"]] = counts.get(entry["verdict"], 0) + 1
    return {
        "run": shown(folder),
        "report": shown(report) if report.exists() else None,
        "stages": {
            s: round(run_folders.seconds_of(r), 1) for s, r in records.items() if r.get("status") == "done"
        },
        "verdicts": counts,
    }


def summary(outcomes: list[dict]) -> str:
    """A line for each run, and the count: what a queue that ran overnight is read by in the morning."""
    wide = max(len(o["profile"]) for o in outcomes)
    lines = []
    for o in outcomes:
        error = (o["error"] or "").strip().splitlines()
        what = o["report"] or o["run"] or (error[0] if error else "no reason was given")
        lines.append(f"{o['status']:6}  {o['profile']:{wide}}  {_clock(o['seconds'])}  {what}")
    failed = [o["profile"] for o in outcomes if o["status"] == FAILED]
    lines.append(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} runs are done"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{int(seconds % 60):02d}"
