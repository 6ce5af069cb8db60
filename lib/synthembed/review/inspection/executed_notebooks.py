"""Do the executed notebooks belong to this code, were they run from top to bottom, and do they show what the
files say?

An executed notebook is written after stage.json, which names its hash since then; of older runs only its
cells, its clock and the numbers that it prints can be compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from statistics import fmean

from papermill.translators import PythonTranslator

from synthembed.evaluation.scores import by_system
from synthembed.ground import notebook_links
from synthembed.ground.files import sha256
from synthembed.review.inspection.found import Findings, Run, doubt, held, wrong
from synthembed.review.inspection.provenance import tree_for, tree_of
from synthembed.stages.fingerprints import ASIDE

PARAMETERS = "# Parameters"  # papermill's own cell begins so


def check(run: Run) -> Findings:
    cells = printed = 0
    for stage, record in run.records.items():
        name = record.get("notebook", f"{stage}.ipynb")
        path = run.folder / stage / name
        if not path.exists():
            made = wrong if "notebook" in record else doubt  # a stage that was run by hand has none
            yield made("notebook-missing", f"{stage}/{name}", "the executed notebook is not there")
            continue
        notebook, where = run.json(f"{stage}/{name}"), f"{stage}/{name}"
        if (digest := record.get("notebook_sha256")) and digest != sha256(path):
            yield wrong("notebook-edited", where, "its SHA-256 is not the one in stage.json")
        yield from _order(notebook, where, record)
        tree = tree_for(record, stage)
        if tree is None:
            yield doubt(
                "notebook-unknown",
                where,
                "the code that made it is not in this checkout: its cells are not compared",
            )
        else:
            source = _source(tree, stage)
            cells += len(source["cells"])
            yield from _cells(notebook, source, where)
            yield from _around(notebook, source, record, stage, where)
        for what, shown, wanted in _printed(run, stage, notebook):
            printed += 1
            if shown != wanted:
                yield wrong("notebook-output", where, f"{what}: it shows {shown}, the files say {wanted}")
    if not any("notebook_sha256" in r for r in run.records.values()):
        yield doubt(
            "notebook-unhashed",
            "",
            "the records do not name the notebooks' hashes: only what they print can be compared",
        )
    yield held(
        "notebooks",
        f"{cells} cells are those of the code that is named; {printed} printed numbers and tables follow from the files",
    )


def _source(tree: Path, stage: str) -> dict:
    return json.loads((tree / "notebooks" / f"{stage}.ipynb").read_text(encoding="utf-8"))


def _text(cell: dict) -> str:
    """A cell's text, with the links that it has in notebooks/ if it is prose."""
    text = "".join(cell["source"])
    return notebook_links.of_source(text) if cell["cell_type"] == "markdown" else text


def _is_aside(cell: dict) -> bool:
    """Whether no artefact is made from a cell, so that it is in no hash of code."""
    return cell["cell_type"] != "code" or bool(ASIDE & set(cell["metadata"].get("tags", ())))


def _is_parameters(cell: dict) -> bool:
    return "parameters" in cell["metadata"].get("tags", ())


def _code(cell: dict) -> str:
    """A cell's text; of the parameters their names and comments, since papermill's values stand in them."""
    return (
        re.sub(r"^(\w+) = .*?(\s+# .*)?$", r"\1\2", _text(cell), flags=re.M)
        if _is_parameters(cell)
        else _text(cell)
    )


def _cells(notebook: dict, source: dict, where: str) -> Findings:
    """Papermill's cell and values aside, the cells that artefacts are made from are the source's, one by one; the
    values are those that it was given."""
    own, theirs = (
        [_code(c) for c in of["cells"] if not _is_aside(c) and not _text(c).startswith(PARAMETERS)]
        for of in (notebook, source)
    )
    given = notebook["metadata"].get("papermill", {}).get("parameters", {})
    shown = "\n".join(
        _text(c) for c in notebook["cells"] if _is_parameters(c) or _text(c).startswith(PARAMETERS)
    )
    for name, value in given.items():
        if not re.search(rf"^{name} = {re.escape(PythonTranslator.translate(value))}(\s|$)", shown, re.M):
            yield wrong(
                "notebook-source",
                where,
                f"its parameters do not show {name} = {PythonTranslator.translate(value)}",
            )
    if len(own) != len(theirs):
        yield wrong("notebook-source", where, f"it has {len(own)} code cells, its code {len(theirs)}")
    if (apart := _first_other(own, theirs)) is not None:
        yield wrong("notebook-source", where, f"a cell is not the code's: {apart!r}")


def _around(notebook: dict, source: dict, record: dict, stage: str, where: str) -> Findings:
    """Prose, exercises and what one explores may be written anew, and the stage's code stays what it was: they are
    this checkout's or those of the commit that made the stage."""
    own, theirs = ([_text(c) for c in of["cells"] if _is_aside(c)] for of in (notebook, source))
    if own == theirs:
        return
    before = tree_of(record["commit"]) if record.get("commit") else None
    if before is None or record.get("uncommitted_changes"):
        said = "its prose is not this checkout's, and that of the commit that made it is not here"
        yield doubt("notebook-prose", where, said)
        return
    then = [_text(c) for c in _source(before, stage)["cells"] if _is_aside(c)]
    if own != then:
        said = "its prose is neither this checkout's nor that of the commit that made it"
        yield wrong("notebook-source", where, f"{said}: {_first_other(own, then)!r}")


def _first_other(own: list[str], theirs: list[str]) -> str | None:
    """The first line of ``own`` that is not in its place in ``theirs``; None if all cells of both are equal."""
    for mine, other in zip(own, theirs, strict=False):
        if mine != other:
            lines = (x for x in mine.splitlines() if x not in other.splitlines())
            return next(lines, "a line is missing").strip()[:80]
    return None


def _order(notebook: dict, where: str, record: dict) -> Findings:
    """Every code cell ran once, from top to bottom, without an error, within the stage's time."""
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    counts = [c.get("execution_count") for c in code]
    wanted = list(range(1, len(code) + 1))
    merged = next((n for n, c in enumerate(code, 1) if _is_parameters(c)), None)
    if notebook["metadata"].get("papermill", {}).get("parameters") and not any(
        _text(c).startswith(PARAMETERS) for c in code
    ):  # the cell with papermill's values ran after ours, and its values were put into ours
        wanted = [n if n <= (merged or 0) else n + 1 for n in wanted]
    if counts != wanted:
        yield wrong("notebook-order", where, f"its cells ran in the order {counts}")
    if any(o["output_type"] == "error" for c in code for o in c["outputs"]):
        yield wrong("notebook-failed", where, "a cell raised")
    about = notebook["metadata"].get("papermill", {})
    given = about.get("parameters", {}).get("profile")
    if (
        given
        and record.get("profile")
        and given.rpartition("/")[2].removesuffix(".yaml") != record["profile"]
    ):
        yield wrong(
            "notebook-profile", where, f"it ran with profile {given}, its record says {record['profile']}"
        )
    if about.get("start_time") and record.get("started"):
        begin, end = (datetime.fromisoformat(about[k]) for k in ("start_time", "end_time"))
        started = datetime.fromisoformat(record["started"])
        if not begin.timestamp() - 2 <= started.timestamp() <= end.timestamp() + 2:
            yield doubt(
                "notebook-clock",
                where,
                f"it ran from {begin:%Y-%m-%d %H:%M}, its stage from {started:%Y-%m-%d %H:%M}",
            )


# --- what is printed --------------------------------------------------------------------------------


def _printed(run: Run, stage: str, notebook: dict):
    """(what, shown, wanted) of every number of a notebook that this module can compute from the run's files."""
    outputs = [o for c in notebook["cells"] for o in c.get("outputs", ())]
    lines = [line for o in outputs if o.get("name") == "stdout" for line in "".join(o["text"]).splitlines()]
    for pattern, wanted in PRINTED.get(stage, {}).items():
        for line in lines:
            found = re.fullmatch(pattern, line)
            if found and (values := wanted(run, found.groups())) is not None:
                yield repr(line[:60]), found.groups(), tuple(map(str, values))
    if stage == "07_report":
        yield from _tables(run, outputs)


def _tables(run: Run, outputs: list[dict]):
    """An HTML table with the heads of a stored one must be a stored one."""
    stored: dict[str, list[str]] = {}
    for path in sorted((run.folder / "07_report" / "tables").glob("*.html")):
        text = path.read_text(encoding="utf-8").strip()
        stored.setdefault(text.partition("</thead>")[0], []).append(text)
    for output in outputs:
        shown = "".join(output.get("data", {}).get("text/html", "")).strip()
        if same := stored.get(shown.partition("</thead>")[0]):
            apart = None if shown in same else _first_apart(shown, same[0])
            yield "a table", apart or "the stored one", "the stored one"


def _first_apart(shown: str, stored: str) -> str:
    pairs = zip(shown.splitlines(), stored.splitlines(), strict=False)
    mine = next((a for a, b in pairs if a != b), "more or fewer lines")
    return "a row " + " ".join(re.sub(r"<[^>]+>", " ", mine).split())[:80]


def _kept(run: Run, found: tuple) -> list | None:
    drops = run.json("02_analyze/drops.json")
    return drops and [f"{drops['kept']:,}"]


def _speed(run: Run, found: tuple) -> list | None:
    log = run.lines("03_train/log.jsonl")
    if not log:
        return None
    tokens, mfu = sum(x["tokens"] for x in log), fmean(x["mfu"] for x in log)
    seconds = sum(x["tokens"] / x["tokens_per_s"] for x in log)
    return [f"{tokens:,}", f"{tokens / seconds:,.0f}", f"{mfu:.0%}", f"{log[-1]['peak_memory_gb']:.1f}"]


def _system(run: Run, found: tuple) -> list | None:
    means = by_system(run.results.evaluation).get(found[0])
    return means and [found[0], ", ".join(f"{column} {value:.1f}" for column, value in means.items())]


def _averages(run: Run, found: tuple) -> list | None:
    means = by_system(run.results.evaluation)
    shown = [s for s in means if f"{s!r}: " in found[0]]  # one that lacks a category has no average
    if len(run.results.scores["04_evaluate"].benchmarks) > 1 or not {"base", "trained"} & {*shown}:
        return None
    return [str({system: round(means[system].get("Avg", float("nan")), 1) for system in shown})]


def _ablated(run: Run, found: tuple) -> list | None:
    rows = run.results.scores["05_ablations"].rows
    return (
        [len({r["system"] for r in rows}), len({(r["system"], r.get("seed")) for r in rows})]
        if rows
        else None
    )


def _claims(run: Run, found: tuple) -> list | None:
    entries, claims = run.json("07_report/verdicts.json", []), run.json("07_report/claims.json", [])
    counted: dict[str, int] = {}
    for claim in claims:
        counted[claim["verdict"]] = counted.get(claim["verdict"], 0) + 1
    return [len(entries), counted]


Wanted = Callable[[Run, tuple], list | None]
PRINTED: dict[str, dict[str, Wanted]] = {
    "01_generate": {
        r"([\d,]+) requests, ([\d,]+) replies, .*": lambda run, _: [
            f"{run.records['01_generate'].get(k, 0):,}" for k in ("requests", "replies")
        ],
    },
    "02_analyze": {r"([\d,]+) examples kept": _kept},
    "03_train": {r"([\d,]+) tokens, ([\d,]+) tokens/s, MFU (\d+%), peak memory ([\d.]+) GB": _speed},
    "04_evaluate": {r"([\w.@/:-]+): ((?:Class\.|Clust\.|Retr\.|Rerank|STS) \S+(?:, .*)?)": _system, r"(\{'.*\})": _averages},
    "05_ablations": {r"(\d+) rows, (\d+) runs; default .*": _ablated},
    "07_report": {r"(\d+) verdicts; claims: (\{.*\})": _claims},
}  # fmt: skip
