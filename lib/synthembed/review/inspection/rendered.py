"""Do verdicts, claims, tables, figures and the page follow from the scores?

They are made once more, in a process of its own, by the code that made them (this checkout's, or that of the
commit that the record names), and compared file by file.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from synthembed.review.inspection.found import Findings, Run, doubt, held, wrong
from synthembed.review.inspection.provenance import made_after, tree_for

REPORT = "07_report"
# What the page says beside the committed run is taken from reference.json: that run may be another one by now.
BUILD = """
import json, sys
from pathlib import Path
from synthembed.paper import reference_run
from synthembed.report import page
run, out = map(Path, sys.argv[1:])
stored = run / "07_report" / "reference.json"
about = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else None
class Stored(reference_run.Comparison):
    def said(self): return about["said"]
    def rows(self): return about["stages"]
    def as_dict(self): return about
    def apart(self, most=20):
        given = ((p["stage"], tuple(p["what"].split(", ")), p["reference"], p["own"], p["tolerance"]) for p in about["different"])
        return [reference_run.Pair(*p) for p in given]
reference_run.compare = lambda *_: Stored(run, run, []) if about else None
page.build(run, out, run)
"""
NAMES = {
    "verdicts.json": "verdict-not-of-scores", "claims.json": "claim-not-of-scores", "report.html": "page-not-of-scores",
    "tables": "table-not-of-scores", "figures": "figure-not-of-scores",
}  # fmt: skip


def check(run: Run) -> Findings:
    record = run.records.get(REPORT)
    if not record:
        return
    tree = tree_for(record, REPORT)
    if tree is None:
        yield doubt(
            "report-by-other-code",
            REPORT,
            "the code that made it is not in this checkout: it is made anew by the code here",
        )
    with tempfile.TemporaryDirectory(prefix="synthembed-") as folder:
        out = Path(folder) / REPORT
        problem = _build(run.folder, out, tree)
        if problem:
            yield wrong("report-not-made", REPORT, f"the report cannot be made from these results: {problem}")
            return
        moved = [s for s in run.records if s != REPORT and made_after(run, s, REPORT)]
        if moved:  # their commits and seconds stand on the page
            said = f"{', '.join(moved)} was made after it: the page and each number's commit are not compared"
            yield doubt("report-is-older", REPORT, said)
        yield from _compared(run.folder / REPORT, out, tree is not None, bool(moved))
        count = sum(p.is_file() for p in out.rglob("*"))
    yield from _facts(run)
    yield held(
        "report",
        f"{count} files of the report were made again from the scores, and are the ones that are there",
    )


def _build(run: Path, out: Path, tree: Path | None) -> str | None:
    """The report of a run by the code in ``tree`` (or here); the last line of what went wrong."""
    out.mkdir(parents=True)
    code = str(tree / "lib") if tree else str(Path(__file__).resolve().parents[3])
    environment = os.environ | {"PYTHONPATH": code, "MPLBACKEND": "agg"}
    # -P: neither this folder nor the script's is searched for modules before the code that is wanted.
    command = [sys.executable, "-P", "-c", BUILD, str(run.resolve()), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace")
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else None


def _compared(stored: Path, made: Path, same_code: bool, older: bool) -> Findings:
    """File by file. By other code than made them, only numbers and verdicts are compared; of a report that is
    ``older`` than a stage, not what it says of that stage's record."""
    for path in sorted(p for p in made.rglob("*") if p.is_file()):
        name = path.relative_to(made).as_posix()
        kind = NAMES.get(name.partition("/")[0])
        mine = stored / name
        if kind is None or not mine.exists():
            if kind and same_code:
                yield wrong("file-missing", f"{REPORT}/{name}", "the report has it, and it is not there")
            continue
        if same_code and older and path.suffix == ".html" and path.parent == made:
            continue
        if same_code:
            if apart := _apart(mine, path, ("run",) if older else ()):
                yield wrong(kind, f"{REPORT}/{name}", apart)
        elif name in ("verdicts.json", "claims.json") and (
            apart := _entries(mine, path, ("ours", "verdict", "comparable"))
        ):
            yield wrong(kind, f"{REPORT}/{name}", apart)


def _apart(stored: Path, made: Path, but: tuple[str, ...] = ()) -> str | None:
    """In what a file is not the one that was made again, ``but`` for these keys of entries; None if it is."""
    if stored.read_bytes() == made.read_bytes():
        return None
    if stored.suffix == ".json":
        return _entries(stored, made, but=but)
    if stored.suffix == ".png":
        return _pixels(stored, made)
    mine, theirs = (_comparable(p.read_text(encoding="utf-8")).splitlines() for p in (stored, made))
    for number, (a, b) in enumerate(zip(mine, theirs, strict=False), 1):
        if a != b:
            return f"line {number}: {_around(a, b)}, by the scores {_around(b, a)}"
    return None if len(mine) == len(theirs) else f"{len(mine)} lines, by the scores {len(theirs)}"


def _comparable(text: str) -> str:
    """matplotlib names the clips and markers of an SVG anew in each process, the way to the run's notebooks
    depends on where a page lies, and the stage that writes the page is at work while it does so: of its own
    record it knows neither end nor seconds."""
    text = re.sub(rf'<tr><td>[^<]*</td><td id="made-[^"]*-{REPORT}">.*?</tr>', "", text)
    text = re.sub(r'href="[^"]*/(\d\d_\w+/\d\d_\w+\.ipynb)', r'href="../\1', text)
    names: dict[str, str] = {}
    return re.sub(
        r"\b([mpch][0-9a-f]{10}|image[0-9a-f]{10})\b",
        lambda m: names.setdefault(m[0], f"id{len(names)}"),
        text,
    )


def _around(text: str, other: str, width: int = 60) -> str:
    """The part of a line in which it is not the other."""
    start = next(
        (n for n, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other))
    )
    begin = max(0, start - width // 2)
    return repr(re.sub(r"\s+", " ", text[begin : begin + width]))


def _entries(stored: Path, made: Path, keys: tuple[str, ...] = (), but: tuple[str, ...] = ()) -> str | None:
    """The first entry of a list of dicts with an ``id`` that is not the same, by ``keys`` or by all ``but`` some."""
    mine, theirs = ({e["id"]: e for e in json.loads(p.read_text(encoding="utf-8"))} for p in (stored, made))
    if apart := mine.keys() ^ theirs.keys():
        return f"{sorted(apart)[0]} is only in one of the two"
    for name, entry in mine.items():
        for key in keys or {**entry, **theirs[name]}:
            if key not in but and entry.get(key) != theirs[name].get(key):
                return f"{name}: {key} is {entry.get(key)!r}, by the scores {theirs[name].get(key)!r}"
    return None


def _pixels(stored: Path, made: Path) -> str | None:
    """Whether two pictures differ by more than the edges of letters do between versions of matplotlib."""
    import numpy as np
    from PIL import Image

    try:
        mine, theirs = (np.asarray(Image.open(p).convert("RGB"), dtype=int) for p in (stored, made))
    except (OSError, SyntaxError):  # cut off, or a pointer of git-lfs
        return "it cannot be read as a picture"
    if mine.shape != theirs.shape:
        return (
            f"{mine.shape[1]} by {mine.shape[0]} pixels, by the scores {theirs.shape[1]} by {theirs.shape[0]}"
        )
    share = float((abs(mine - theirs).max(2) > 64).mean())
    return f"{share:.2%} of its pixels are others" if share > 0.0002 else None


def _facts(run: Run) -> Findings:
    """What stage.json says of the report."""
    record = run.records[REPORT]
    entries, claims = run.json(f"{REPORT}/verdicts.json", []), run.json(f"{REPORT}/claims.json", [])
    if record.get("verdicts", len(entries)) != len(entries):
        yield wrong(
            "verdict-not-of-scores",
            f"{REPORT}/stage.json",
            f"{record['verdicts']} verdicts, verdicts.json has {len(entries)}",
        )
    said = {c["id"]: c["verdict"] for c in claims}
    for name, verdict in record.get("claims", {}).items():
        if said.get(name) != verdict:
            yield wrong(
                "claim-not-of-scores",
                f"{REPORT}/stage.json",
                f"{name} {verdict!r}, claims.json has {said.get(name)!r}",
            )
