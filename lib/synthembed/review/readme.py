"""The parts of README.md that runs write: the picture, the finding, the claims, how long it took, the table.

Each stands between two marks, of which the first names part and run, and is replaced when that run is written:
the page may have its table from one run and its claims from a longer one.
"""

from __future__ import annotations

import re
from pathlib import Path

from synthembed.evaluation.scores import TABLE1, by_system_of_equal_tasks
from synthembed.ground import run_folders
from synthembed.ground.files import ROOT, read_json
from synthembed.report import page
from synthembed.report.claims import by_badge
from synthembed.report.results import EVALUATION, Results
from synthembed.report.tables import label

PICTURES = ("hero", "table1")  # the first that the run has


class MarkMissing(RuntimeError):
    """A page without the marks of a part."""


def write(results: Results, readme: Path) -> None:
    """Put every part that the page wants of this run between its marks, which name run and part. Raises MarkMissing
    where none is of this run, where one is not closed, or is of no part."""
    text, made = readme.read_text(encoding="utf-8"), parts(results)
    mark = f"written by `synthembed report --run {results.name} --readme` -->"
    wanted = re.findall(rf"<!-- (\w+): {re.escape(mark)}\n", text)
    if not wanted:
        raise MarkMissing(
            f"{readme.name} has no <!-- picture: {mark}: put it and <!-- /picture --> on lines of their own; "
            f"other parts are {', '.join(made)}"
        )
    for name in wanted:
        begin, end = f"<!-- {name}: {mark}\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not closed or name not in made:
            wrong = f"no {end} after {begin.strip()}" if name in made else f"an unknown part {name!r}"
            raise MarkMissing(f"{readme.name} has {wrong}: parts are {', '.join(made)}")
        text = before + begin + made[name] + end + after
    readme.write_text(text, encoding="utf-8")


def parts(results: Results) -> dict[str, str]:
    return {
        "picture": picture(results), "finding": "\n".join(f"{n}. {s}" for n, s in enumerate(finding(results), 1)) + "\n",
        "claims": claims(results), "minutes": minutes(results), "results": page.readme_table(results),
    }  # fmt: skip


def claims(results: Results) -> str:
    """What became of the paper's claims, a line a verdict, with the page that has the numbers."""
    ledger, trainings = _ledger(results), _trainings(results)
    trained = f"run `{results.name}`, {trainings} {'seed' if trainings == 1 else 'seeds'}"
    address = f"results/{results.name}/07_report/tables/claims.md"
    head = f"The paper's {len(ledger)} claims ({trained}; [each with its numbers]({address})):\n\n"
    return head + "".join(f"- **{badge}**: {', '.join(ids)}\n" for badge, ids in by_badge(ledger).items())


def _ledger(results: Results) -> list[dict]:
    """By claims.json as the run has it."""
    return read_json(results.folder / "07_report" / "claims.json", [])


def _trainings(results: Results) -> int:
    return len(results.stage("03_train").get("seeds", [1]))


def picture(results: Results) -> str:
    """The run's first figure, with its numbers as the text for those who do not see it."""
    folder = results.folder / "07_report" / "figures"
    file = next((folder / f"{name}.png" for name in PICTURES if (folder / f"{name}.png").exists()), None)
    if file is None:
        return "*The run has no figure yet.*\n"
    found = _averages(results)
    said = "; ".join(
        f"{label(name, results)}: "
        + ", ".join(f"{c} {values[c]:.0f}" for c in (*TABLE1, "Avg") if c in values)
        for name, values in found.items()
        if name in ("base", "trained")
    )
    path = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
    return f"![Scores by category, in points of 100. {said}]({path.as_posix()})\n"


def finding(results: Results) -> list[str]:
    """Three sentences: what training did, beside whom that stands, and which of the paper's claims it shows."""
    found, record = _averages(results), results.stage("03_train")
    if not {"base", "trained"} <= found.keys():
        return ["Base and trained model have not both been evaluated in this run."]
    ours, base = found["trained"]["Avg"], found["base"]["Avg"]
    interval = results.scores[EVALUATION].intervals.get("base", {})
    bounds = (
        f" (95 % on tasks like these: {interval['low']:+z.1f} to {interval['high']:+z.1f})"
        if interval.get("low") is not None
        else ""
    )
    chance = (
        f", where random vectors have {found['random']['Avg']:.1f}"
        if "Avg" in found.get("random", {})
        else ""
    )
    tasks = len({r["task"] for r in _rows(results) if r["category"] in TABLE1})
    trainings = _trainings(results)
    once = "one training" if trainings == 1 else f"{trainings} trainings"
    base_model = record["settings"]["backbone"]
    layers = f", {base_model['layers']} layers" if base_model.get("layers") else ""
    return [
        f"In {once} of {record['steps']:,} steps on {results.setting()} data ({record['data']['examples']:,} examples) the average of "
        f"`{base_model['model']}`{layers} over {tasks} tasks went from {base:.1f} to {ours:.1f}, by {ours - base:+z.1f}{bounds}{chance}.",
        _beside(results, found, ours),
        _claims(results),
    ]  # fmt: skip


def _beside(results: Results, found: dict, ours: float) -> str:
    """Models that others trained and that have every category."""
    intervals, said = results.scores[EVALUATION].intervals, []
    others = {
        s: v["Avg"]
        for s, v in found.items()
        if "Avg" in v and s not in ("trained", "base", "static", "random")
    }
    for system, value in sorted(others.items(), key=lambda x: -x[1]):
        said.append(
            f"{label(system, results)} ({value:.1f}) is {'ahead of it' if value > ours else 'not ahead'}"
        )
    if not said:
        return "No model that others trained was measured beside it."
    noise = all(intervals.get(s, {}).get("within_noise", True) for s in others)
    doubt = "; on other tasks of these kinds the order may differ" if noise else ""
    return f"Of models that others trained, {' and '.join(said)}{doubt}."


def _claims(results: Results) -> str:
    ledger = _ledger(results)
    told = ", ".join(
        f"{len(ids)} {'is' if len(ids) == 1 else 'are'} {b}" for b, ids in by_badge(ledger).items()
    )
    return f"Of the paper's {len(ledger)} claims {told}; the suite is small and made for this project, so no number of it stands beside a published one."


def minutes(results: Results) -> str:
    """What the run took, and on what."""
    seconds = sum(map(run_folders.seconds_of, results.records.values()))
    machine = results.stage("03_train").get("machine", {})
    device = machine.get("gpu") or f"{machine.get('cores', '?')} cores{_products(machine)}, no GPU"
    return f"The committed run took {seconds / 60:.0f} minutes ({device}); setting up downloads the packages first.\n"


def _products(machine: dict) -> str:
    """What a processor can do at once, and in which numbers it multiplies: minutes differ by it about twofold."""
    if "products" not in machine:
        return ""
    return f" with {machine['instructions']}, products in {machine['products']}"


def _rows(results: Results) -> list[dict]:
    rows = results.evaluation
    return [r for r in rows if r["benchmark"] == rows[0]["benchmark"]]


def _averages(results: Results) -> dict[str, dict[str, float]]:
    """Systems that have every category, as the table has them."""
    return by_system_of_equal_tasks(_rows(results)) if results.evaluation else {}
