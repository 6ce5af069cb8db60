"""Do the scores follow: from mteb's results where they were kept, and averages and intervals from the scores?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from synthembed.evaluation import intervals
from synthembed.evaluation.intervals import BENCHMARK
from synthembed.evaluation.scores import TABLE1, by_system, languages_of
from synthembed.evaluation.suites import units
from synthembed.report.results import ABLATIONS, EVALUATION
from synthembed.review.inspection.found import LEFT_OUT, Finding, Findings, Run, held, near, wrong

SCORED = {EVALUATION: "mteb/results", ABLATIONS: "rows"}


def check(run: Run) -> Findings:
    """Stages 04 and 05."""
    for stage, kept in SCORED.items():
        where = f"{stage}/scores.json"
        scores = run.json(where)
        if scores is None:
            continue
        rows, more = scores["rows"], scores.get("more", [])
        yield from _rows(run, stage, [*rows, *more], where)
        folder = run.folder / stage / kept
        if folder.exists():
            yield from _against_results(run, stage, [*rows, *more], folder)
            yield from _against_units(run, folder)
        else:
            said = f"{len(rows)} scores rest on mteb results that are not kept in git: they are compared with each other only"
            yield Finding(LEFT_OUT, "results-not-kept", where, said)
        pairs = {s: s for s in scores.get("intervals", {})} if stage == EVALUATION else _against(run)
        yield from _intervals(run, stage, scores, pairs, folder if folder.exists() else None)
    yield from _averages(run)
    yield from _passkeys(run)
    yield held("scores", "averages and intervals follow from the scores" + _from_results(run))


def _from_results(run: Run) -> str:
    there = [s for s, kept in SCORED.items() if (run.folder / s / kept).exists()]
    return f", and the scores of {' and '.join(there)} from mteb's results" if there else ""


def _rows(run: Run, stage: str, rows: list[dict], where: str) -> Findings:
    seen, claimed = set(), run.records.get(stage, {}).get("seeds", [])
    for row in rows:
        key = tuple(row.get(k) for k in ("system", "benchmark", "task", "language", "metric", "seed"))
        if key in seen:
            yield wrong("score-twice", where, f"{_named(row)} stands there more than once")
        seen.add(key)
        low = -100 if "spearman" in row["metric"] else 0
        if not low <= row["score"] <= 100:
            yield wrong("score-out-of-range", where, f"{_named(row)}: {row['score']}")
    trained = {r["system"] for r in rows if r.get("seed") is not None}
    for system in sorted(trained):
        found = {r["seed"] for r in rows if r["system"] == system}
        if claimed and stage == EVALUATION and found != set(claimed):
            yield wrong(
                "seeds",
                where,
                f"{system} has scores of seeds {sorted(map(str, found))}, the record claims {claimed}",
            )
    if stage == EVALUATION and claimed and "trained" in {r["system"] for r in rows} - trained:
        yield wrong("seeds", where, "the trained model's scores name no seed")


def _named(row: dict) -> str:
    return f"{row['system']}, {row['task']}, {row['language']}, {row['metric']}"


# --- mteb's results ---------------------------------------------------------------------------------


def _against_results(run: Run, stage: str, rows: list[dict], folder: Path) -> Findings:
    submission = _submission(run)
    for row in rows:
        paths = _paths(folder, row, stage, submission)
        found = [s for p in paths for s in _scores_of(run, p, row)]
        if not found:
            yield wrong(
                "score-without-result", f"{stage}/scores.json", f"{_named(row)}: no mteb result has it"
            )
        elif not any(near(row["score"], round(100 * s, 3), 1e-9) for s in found):
            said = f"{_named(row)}: {row['score']}, by mteb's result {round(100 * found[0], 3)}"
            yield wrong("score-not-of-result", f"{stage}/scores.json", said)


def _submission(run: Run) -> str:
    """The name of the trained model in mteb's results."""
    settings = run.settings(EVALUATION).get("evaluate", {})
    return settings.get("submission", {}).get("name", "synthembed/trained")


def made_from(run: Run, rows: list[dict]) -> list[Path]:
    """The folder (or none) of stage 04 that rows of one system and seed were made from: beside it may lie results of
    what was trained or scored before under its name."""
    folder = run.folder / EVALUATION / SCORED[EVALUATION]
    there = [p.parent for p in _paths(folder, rows[0], EVALUATION, _submission(run))]
    return ([f for f in there if all(_has(run, f, row) for row in rows)] or there)[-1:]


def _has(run: Run, folder: Path, row: dict) -> bool:
    path = folder / f"{row['task'].partition(' (')[0]}.json"
    found = _scores_of(run, path, row) if path.exists() else []
    return any(near(row["score"], round(100 * s, 3), 1e-9) for s in found)


def _paths(folder: Path, row: dict, stage: str, submission: str) -> list[Path]:
    """Where a row's result may lie: below its system's folder, of each revision or seed."""
    task = row["task"].partition(" (")[0]
    if stage == ABLATIONS:
        own = [
            folder / row["system"] / "mteb",
            folder / row["system"] / "seeds" / str(row.get("seed")) / "mteb",
        ]
        return [p for f in own if (p := f / f"{task}.json").exists()]
    names = {row["system"].replace("/", "__"), f"{submission.partition('/')[0]}__{row['system']}"}
    if row["system"] == "trained":
        name = submission.replace("/", "__")
        names = {name, f"{name}-seed-{row.get('seed')}"}
    return [p for name in sorted(names) for p in sorted(folder.glob(f"{name}/*/{task}.json"))]


def _scores_of(run: Run, path: Path, row: dict) -> list[float]:
    result = run.json(path.relative_to(run.folder).as_posix())
    languages = languages_of(result)
    found = [
        s
        for of in result["scores"].values()
        for s in of
        if row["language"]
        in (named := languages[s["hf_subset"]], named.partition(" (")[0])  # as rows once had it
    ]
    return [s.get(row["metric"], s["main_score"]) for s in found]


def _against_units(run: Run, folder: Path) -> Findings:
    """A result's main score is that of its texts' own scores, each taken once."""
    for path in sorted(folder.glob("**/units/*.units.json")):
        name = path.relative_to(run.folder).as_posix()
        record, task = run.json(name), path.name.removesuffix(".units.json")
        result = run.json(
            (path.parents[1] / f"{task}.json").relative_to(run.folder).as_posix(), {"scores": {}}
        )
        for split, of in result["scores"].items():
            for score in of:
                unit = record["units"].get(split, {}).get(score["hf_subset"])
                if unit is None:
                    continue
                once = np.ones((1, units.size(record["kind"], unit)))
                value = float(units.rescored(record["kind"], unit, once)[0])
                if abs(value - score["main_score"]) > 1e-4:
                    said = f"{task}, {score['hf_subset']}: {score['main_score']:.5f}, by its texts' own scores {value:.5f}"
                    yield wrong("result-not-of-texts", name, said)


# --- averages and intervals -------------------------------------------------------------------------


def _against(run: Run) -> dict[str, str]:
    """Row of the ablations → the row it is compared with."""
    listed = run.settings(ABLATIONS).get("ablations", {}).get("rows", [])
    return {row["id"]: row.get("against") or listed[0]["id"] for row in listed}


def _intervals(run: Run, stage: str, scores: dict, pairs: dict[str, str], folder: Path | None) -> Findings:
    where, rows = f"{stage}/scores.json", scores["rows"]
    if stage == EVALUATION:
        rows = [r for r in rows if r["benchmark"] == rows[0]["benchmark"]]
    for name, stored in scores.get("intervals", {}).items():
        if name not in pairs:
            yield wrong("interval-without-scores", where, f"{name}: no such comparison in the settings")
            continue
        system, other = ("trained", name) if stage == EVALUATION else (name, pairs[name])
        try:
            found = intervals.interval(rows, system, other)
            here = intervals.interval(
                rows, system, other, kind=BENCHMARK, units=_texts(folder, stage, system, other, rows, run)
            )
        except ValueError as error:
            yield wrong("interval-without-scores", where, f"{name}: {error}")
            continue
        inner = stored.get(BENCHMARK, here)
        keys = (
            ["delta", "seeds", "tasks"]
            if folder is None
            else ["delta", "low", "high", "seeds", "tasks", "significant", "why"]
        )
        apart = [
            k
            for k in ("delta", "low", "high", "seeds", "tasks", "significant", "why")
            if not _same(stored.get(k), found[k])
        ]
        apart_here = [k for k in keys if not _same(inner.get(k), here[k])]
        both = None not in (inner["low"], inner["high"])
        if not apart and not apart_here and both and not inner["low"] <= inner["delta"] <= inner["high"]:
            apart_here = ["low", "high"]
        if apart or apart_here:
            key, mine, scored = (apart[0], stored, found) if apart else (apart_here[0], inner, here)
            kind = "" if apart else f", {BENCHMARK}"
            yield wrong(
                "interval-not-of-scores",
                where,
                f"{name}{kind}: {key} {mine.get(key)}, by the scores {scored[key]}",
            )


def _same(stored, found) -> bool:
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (stored, found))
    return near(stored, found, 2e-4) if numbers else stored == found


def _texts(folder: Path | None, stage: str, system: str, other: str, rows: list[dict], run: Run):
    """The texts' resampled differences, where their scores were kept: as evaluation.systems and .ablations."""
    if folder is None:
        return None
    if stage == ABLATIONS:
        places = [_of_its_seeds(folder / name, rows, name) for name in (system, other)]
        return units.differences(*places) if all(places) else None
    places = []
    for name in (system, other):
        own = [r for r in rows if r["system"] == name]
        of_seeds = [
            [r for r in own if r.get("seed") == seed] for seed in dict.fromkeys(r.get("seed") for r in own)
        ]
        places.append([folder for of in of_seeds for folder in made_from(run, of)])
    tasks = {r["task"] for r in rows if r["category"] in TABLE1}
    return units.differences(*places, only=tasks) if all(places) else None


def _of_its_seeds(folder: Path, rows: list[dict], system: str) -> list[Path]:
    """Where a row's results lie, of the seeds that its scores are of: others may have been begun or set aside."""
    seeds = dict.fromkeys(str(r.get("seed")) for r in rows if r["system"] == system)
    places = [folder, *(folder / "seeds" / seed for seed in seeds)]  # the main seed's is the folder itself
    return [p / "mteb" for p in places if (p / "mteb" / "model_meta.json").exists()]


def _averages(run: Run) -> Findings:
    """stage.json of 04 has the averages of the first benchmark."""
    stored, rows = run.records.get(EVALUATION, {}).get("averages"), run.results.evaluation
    if not stored or not rows:
        return
    found = by_system([r for r in rows if r["benchmark"] == rows[0]["benchmark"]])
    for system, columns in stored.items():
        for column, value in columns.items():
            mine = found.get(system, {}).get(column)
            if mine is None or not near(mine, value):
                yield wrong(
                    "average-not-of-scores",
                    f"{EVALUATION}/stage.json",
                    f"{system}, {column}: {value:.3f}, by the scores {mine}",
                )


def _passkeys(run: Run) -> Findings:
    where = "06_long_context/scores.json"
    for point in (run.json(where) or {}).get("passkey", ()):
        low, high = intervals.wilson(point["accuracy"], point["queries"])
        right = point["accuracy"] * point["queries"] / 100
        if not (near(low, point["low"]) and near(high, point["high"])) or not near(right, round(right)):
            said = f"{point['variant']}, {point['length']}: {point['accuracy']} [{point['low']:.1f}, {point['high']:.1f}] of {point['queries']} queries"
            yield wrong("passkey-not-of-counts", where, said)
