"""Do the counts of the corpus add up, and does the log of a training follow from its settings: steps, learning
rates, tokens, shares of a batch?"""

from __future__ import annotations

import math
from itertools import groupby, pairwise
from pathlib import Path
from statistics import fmean

from synthembed.ground.files import sha256
from synthembed.profile.settings import Train
from synthembed.review.inspection.found import Findings, Run, doubt, held, near, wrong


def corpus(run: Run) -> Findings:
    """Stages 01 and 02: requests, replies, examples, drops, shares."""
    record = run.records.get("01_generate", {})
    usage = run.json("01_generate/usage.json")
    recorded = record.get("settings", {}).get("generate", {}).get("backend") == "recorded"
    if (
        usage and recorded and "replies" in record
    ):  # an endpoint may be asked again, and each reply is counted
        for kind in ("models", "families"):
            total = sum(v["replies"] for v in usage.get(kind, {}).values())
            if total != record["replies"]:
                yield wrong(
                    "counts",
                    "01_generate/usage.json",
                    f"{total:,} replies by {kind}, the record says {record['replies']:,}",
                )
    drops, statistics = run.json("02_analyze/drops.json"), run.json("02_analyze/statistics.json")
    if not drops or not statistics:
        return
    dropped, funnel = sum(drops["reasons"].values()), [count for _, count in drops["funnel"]]
    facts = {
        "kept by drops.json": drops["kept"], "the record": run.records.get("02_analyze", {}).get("examples"),
        "the end of the funnel": funnel[-1] if funnel else None,
        "examples.jsonl": len(run.lines("02_analyze/examples.jsonl")) or None,
    }  # fmt: skip
    for name, count in facts.items():
        if count is not None and count != statistics["examples"]:
            yield wrong(
                "counts",
                "02_analyze",
                f"statistics.json has {statistics['examples']:,} examples, {name} {count:,}",
            )
    if dropped != drops["dropped"] or any(b > a for a, b in pairwise(funnel)):
        yield wrong(
            "counts",
            "02_analyze/drops.json",
            f"{drops['dropped']} dropped, {dropped} by reasons; funnel {funnel}",
        )
    for kind in ("families", "languages"):
        if abs((total := sum(statistics.get(kind, {}).values())) - 100) > 0.5:
            yield wrong(
                "counts", "02_analyze/statistics.json", f"the shares of {kind} add up to {total:.1f} %"
            )
    yield held(
        "corpus", f"{statistics['examples']:,} examples, and the counts of what was dropped add up to them"
    )


def check(run: Run) -> Findings:
    """Every log.jsonl that there is: of stage 03, of its other seeds, and of the ablations' rows."""
    logs = sorted(run.folder.glob("0[35]_*/**/log.jsonl"))
    logs = [p for p in logs if not {"other_settings", "pretraining"} & set(p.relative_to(run.folder).parts)]
    steps = 0
    for path in logs:
        where = path.relative_to(run.folder).as_posix()
        main, log = where.startswith("03_train/"), run.lines(where)
        row = {} if main else run.json(f"{path.parent.relative_to(run.folder).as_posix()}/stage.json", {})
        record = run.records.get("03_train", {}) if main else row
        examples = record.get("data", {}).get("examples") if main else row.get("examples")
        steps += len(log)
        yield from _steps(log, where, record.get("settings", {}), examples)
        yield from _speeds(log, where)
        if main:
            yield from _beside(run, path, where)
    if "03_train" in run.records:
        yield from _facts(run)
    said = (
        f"{steps:,} steps of {len(logs)} trainings have the numbers and the learning rates of their settings"
    )
    yield held("log", said)


def _steps(log: list[dict], where: str, settings: dict, examples: int | None) -> Findings:
    if [line["step"] for line in log] != list(range(1, len(log) + 1)):
        yield wrong("log-steps", where, f"its steps are not 1 to {len(log)}, each once")
        return
    for line in log:
        if not (math.isfinite(line["loss"]) and line["loss"] >= 0 and line["tokens"] > 0):
            yield wrong(
                "log-values", where, f"step {line['step']}: loss {line['loss']}, {line['tokens']} tokens"
            )
    if not settings.get("train"):
        return
    try:
        train = Train(**settings["train"])
    except ValueError:
        yield doubt(
            "log-unchecked",
            where,
            "its settings are of another version of the code: learning rates are not compared",
        )
        return
    if train.max_steps and len(log) > train.max_steps:
        yield wrong("log-steps", where, f"{len(log)} steps, and train.max_steps is {train.max_steps}")
    yield from _rates(log, where, train)
    size = min(train.batch_size, examples or train.batch_size)  # of a corpus smaller than a batch, all of it
    if not train.same_task_batches:
        off = [x for x in log if not near(x["accuracy"] * size, round(x["accuracy"] * size), 1e-4)]
        if off:
            said = f"step {off[0]['step']}: an accuracy of {off[0]['accuracy']} is no share of {size} queries"
            yield wrong("log-values", where, said)


def _rates(log: list[dict], where: str, train: Train) -> Findings:
    from synthembed.training.train import learning_rate  # with torch, which takes seconds

    for number, line in enumerate(log):
        wanted = learning_rate(train, number, len(log))
        if not near(line["lr"] * 1e6, wanted * 1e6, 1e-9):
            yield wrong(
                "log-schedule",
                where,
                f"step {number + 1}: learning rate {line['lr']:.3g}, by its settings {wanted:.3g}",
            )
            return


def _speeds(log: list[dict], where: str) -> Findings:
    """Of one process the share of the machine's rate is tokens per second by a constant: it has one value for
    each time that the training was started."""
    ratios = [
        f"{line['mfu'] / line['tokens_per_s']:.6e}"
        for line in log
        if line.get("tokens_per_s") and line.get("mfu")
    ]
    spans = [ratio for ratio, _ in groupby(ratios)]
    if len(set(spans)) < len(spans):
        yield wrong("log-speed", where, "mfu and tokens_per_s of single steps do not belong together")


def _beside(run: Run, path: Path, where: str) -> Findings:
    """run.json, which a training leaves beside its log, has the log's hash."""
    record = run.json((path.parent / "run.json").relative_to(run.folder).as_posix(), {})
    if (digest := record.get("outputs", {}).get("log.jsonl")) and digest != sha256(path):
        yield wrong("log-edited", where, "its SHA-256 is not the one in run.json, which the training wrote")


def _facts(run: Run) -> Findings:
    record, log = run.records["03_train"], run.lines("03_train/log.jsonl")
    if not log:
        yield wrong("file-missing", "03_train/log.jsonl", "a training without its log")
        return
    fifth = max(1, len(log) // 5)
    found = {
        "steps": len(log),
        "tokens": sum(x["tokens"] for x in log),
        "loss": fmean(x["loss"] for x in log[-fifth:]),
    }
    for name, value in found.items():
        if name in record and not near(record[name], value):
            yield wrong("log-totals", "03_train/stage.json", f"{name} {record[name]:,}, by the log {value:,}")
