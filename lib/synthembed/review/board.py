"""The board, results/board.md: one row a run, each checked; below them published successors, as published.

``results/board/<name>.yaml`` names a run that is kept in results/ and who made it. Everything else of a row is
read from the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import yaml

from synthembed import paper
from synthembed.evaluation.scores import averages_by_seed
from synthembed.ground import run_folders
from synthembed.ground.files import ROOT, shown
from synthembed.profile.strict_yaml import load as load_yaml
from synthembed.report.rendering import Block, Table, markdown
from synthembed.report.results import EVALUATION, Results
from synthembed.review.checking import Review, review
from synthembed.stages.definitions import stages_in

PACKAGE_DATA = ("published.yaml",)
KEYS = {"run": str, "by": str, "note": str}
COLUMNS = [
    "base",
    "trained on",
    "steps",
    "minutes",
    "seeds",
    "base Avg",
    "Avg",
    "Retr.",
    "STS",
    "Class.",
    "Multil.",
    "Bitext",
    "commit",
    "by",
]
ABOUT = """# The board

Written by `synthembed board` from the runs that `results/board/` names; nothing here is typed by hand. Each run was checked by `synthembed check`: it follows from itself, which does not say that it would repeat. Rows of one table were measured on the same tasks with the same version of mteb; between tables nothing compares.

To add yours: `synthembed run --run my-name`, then `synthembed board --add my-name --by "Your Name"`. It checks the run, keeps it in `results/my-name/` without its weights, and writes `results/board/my-name.yaml`; commit both.
"""


class BoardError(RuntimeError):
    """An entry that cannot stand on the board, and why."""


@dataclass(frozen=True)
class Entry:
    name: str
    run: Path
    by: str
    note: str


def entries(folder: Path | None = None) -> list[Entry]:
    """The entries in results/board/, by name. Raises BoardError naming file, key and remedy."""
    folder = folder or run_folders.committed() / "board"
    return [_entry(path) for path in sorted(folder.glob("*.yaml"))]


def _entry(path: Path) -> Entry:
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BoardError(f"{shown(path)}: not valid YAML: {error}") from None
    wrong = not isinstance(data, dict) or set(data) - set(KEYS) or {"run", "by"} - set(data)
    if wrong or not all(isinstance(v, KEYS[k]) and len(v.splitlines()) < 2 for k, v in data.items()):
        raise BoardError(
            f"{shown(path)}: an entry has run (a folder below results/), by and, if wanted, note, each one line of text"
        )
    run = (ROOT / data["run"]).resolve()
    if not run.is_relative_to(run_folders.committed().resolve()) or not any(run.glob("*/stage.json")):
        raise BoardError(
            f"{shown(path)}: run: {data['run']} is no run below {shown(run_folders.committed())}"
        )
    return Entry(path.stem, run, data["by"], data.get("note", ""))


def add(run: Path, by: str, note: str = "") -> Path:
    """Put a run of one's own on the board: checked, kept in results/, named by a YAML file, which is returned.
    Raises BoardError if it contradicts itself, has no row or lies elsewhere, and FileExistsError if results/ has another run of its name."""
    for name, value in (("by", by), ("note", note)):
        if len(value.splitlines()) > 1:  # it would end its row or its list
            raise BoardError(f"--{name} {value!r}: one line of text")
    own = run.parent.resolve() == run_folders.own().resolve()
    if not own and not run.is_relative_to(run_folders.committed()):
        places = f"{shown(run_folders.own())} nor in {shown(run_folders.committed())}"
        raise BoardError(f"{shown(run)} lies neither in {places}: copy its folder to the first of them")
    _refuse(run, review(run))
    _row(Entry(run.name, run, by, note))  # who has no row is refused before anything is written
    if own:
        if (run_folders.committed() / run.name).exists():
            there = shown(run_folders.committed() / run.name)
            raise FileExistsError(f"{there} is another run's: run yours under a name of its own (--run NAME)")
        run = run_folders.keep(run.name, stages_in(run))
    path = run_folders.committed() / "board" / f"{run.name}.yaml"
    path.parent.mkdir(exist_ok=True)
    data = {"run": run.relative_to(ROOT).as_posix(), "by": by} | ({"note": note} if note else {})
    path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _refuse(run: Path, found: Review) -> None:
    if not found.follows:
        raise BoardError(f"{shown(run)} cannot stand on the board.\n{found.text()}")


def write(path: Path | None = None) -> Path:
    """Check every entry's run and write board.md. Raises BoardError with what a run contradicts itself in."""
    listed = entries()
    for entry in listed:
        _refuse(entry.run, review(entry.run))
    path = path or run_folders.committed() / "board.md"
    path.write_text(text(listed), encoding="utf-8")
    return path


def text(listed: list[Entry]) -> str:
    """The board as Markdown; runs of one suite in one table, the highest average first."""
    suites: dict[str, list[tuple[float, tuple]]] = {}
    for entry in listed:
        suite, average, row = _row(entry)
        suites.setdefault(suite, []).append((average, row))
    parts = [ABOUT]
    for suite, rows in sorted(suites.items()):
        best = [row for _, row in sorted(rows, key=lambda r: -r[0])]
        parts.append(f"## {suite}\n\n{markdown(Table('', [Block('run', COLUMNS, best)]))}")
    if notes := [f"- {e.name}: {e.note}" for e in listed if e.note]:
        parts.append("## Notes\n\n" + "\n".join(notes) + "\n")
    return "\n".join([*parts, published()])


def _row(entry: Entry) -> tuple[str, float, tuple]:
    """(suite, average, row) of a run: everything from its files."""
    results = Results(entry.run)
    rows, record, train = results.evaluation, results.stage(EVALUATION), results.stage("03_train")
    rows = [r for r in rows if rows and r["benchmark"] == rows[0]["benchmark"]]
    found = {s: _mean([r for r in rows if r["system"] == s]) for s in ("trained", "base")}
    if not found["trained"] or not train:
        raise BoardError(f"{shown(entry.run)}: no trained model has been evaluated in it")
    settings, machine = train["settings"], train["machine"]
    layers = settings["backbone"].get("layers")
    minutes = sum(map(run_folders.seconds_of, results.records.values())) / 60
    device = machine.get("gpu") or f"{machine.get('cores')} cores"
    tasks = {r["task"] for r in rows if r["system"] == "trained"}
    suite = f"{rows[0]['benchmark']}: {len(tasks)} tasks, mteb {record['versions']['mteb']}, {record['settings']['evaluate']['max_length']} tokens a text"
    values = [
        settings["backbone"]["model"] + (f", {layers} layers" if layers else ""),
        f"{settings['data']['setting']}, {train['data']['examples']:,}", str(train["steps"]),
        f"{minutes:.0f} ({device})", str(len(train["seeds"])), found["base"].get("Avg"), found["trained"].get("Avg"),
        *(found["trained"].get(c) for c in ("Retr.", "STS", "Class.", "Multil.", "Bitext")),
        (record.get("commit") or "unknown")[:10], entry.by,
    ]  # fmt: skip
    return suite, found["trained"].get("Avg", -1.0), ("", entry.name, values)


def _mean(rows: list[dict]) -> dict[str, float]:
    by_seed = list(averages_by_seed(rows).values())
    return {c: fmean(s[c] for s in by_seed if c in s) for c in (by_seed[0] if by_seed else {})}


def published() -> str:
    """Models that came after the paper, with the numbers of their authors."""
    data = load_yaml((Path(__file__).parent / "published.yaml").read_text(encoding="utf-8"))
    table1 = paper.table("table1")["rows"]
    rows = [
        ("", f"the paper: {paper.short(row)}", ["7B", "MTEB, 56 English sets", table1[row]["Avg"], "Table 1"])
        for row in dict.fromkeys(paper.fills(setting)["table1"] for setting in ("synthetic", "full"))
    ]
    rows += [
        ("", r["model"], [r["parameters"], r["benchmark"], r["score"], r["source"]]) for r in data["models"]
    ]
    return f"## As published, not run by us\n\n{data['about'].strip()}\n\n" + markdown(
        Table("", [Block("model", ["parameters", "benchmark", "score", "source"], rows)])
    )
