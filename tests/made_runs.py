"""Results of runs that nobody ran, for the report: written as the stages write them, then spoilt by the tests."""

import json
from pathlib import Path

from synthembed import paper, profile
from synthembed.ground.files import write_json
from synthembed.profile.reading import assign
from synthembed.report import verdicts
from synthembed.report.results import Results

METRIC = {
    "Class.": "accuracy", "Clust.": "v_measure", "PairClass.": "max_ap", "Rerank": "map_at_1000",
    "Retr.": "ndcg_at_10", "STS": "cosine_spearman", "Summ.": "cosine_spearman",
}  # fmt: skip


def row(system, benchmark, task, category, score, language="eng", metric=None, **more):
    metric = metric or METRIC[category]
    return {"system": system, "benchmark": benchmark, "task": task, "category": category,
            "language": language, "metric": metric, "score": score, **more}  # fmt: skip


def mteb(system, column="full data", shift=0.0, only=None, benchmark="MTEB(eng, v1)", **more):
    """Rows of all 56 sets (or ``only`` some), as published in a column of Table 17."""
    rows = paper.table("table17")["rows"].items()
    return [
        row(system, benchmark, task, r["category"], r[column] + shift, **more)
        for task, r in rows if only is None or task in only
    ]  # fmt: skip


def embedded(system, level, **more):
    """Two tasks of every category of the embedded suite."""
    return [
        row(system, "embedded", f"Embedded{c}{n}", c, level + n, **more) for c in METRIC for n in range(2)
    ]


def write_run(
    top: Path, evaluation=None, ablations=None, passkey=None, statistics=None, setting="full", **evaluate
):
    """The results of a run of the paper's profile by the paper's mteb, which the tests then spoil."""
    settings = profile.load("paper").model_dump(mode="json") | {"ablations": {}}
    settings["data"]["setting"], settings["evaluate"] = setting, settings["evaluate"] | evaluate
    examples = {"synthetic": 500_000, "full": 1_800_000}.get(setting, 900_000)
    found = {
        "03_train": ("run.json", {}),
        "02_analyze": ("statistics.json", statistics or {"examples": 500_000}), "04_evaluate": ("scores.json", evaluation),
        "05_ablations": ("scores.json", ablations), "06_long_context": ("scores.json", passkey and {"passkey": passkey}),
    }  # fmt: skip
    for stage, (file, data) in found.items():
        if data is not None:
            (top / stage).mkdir(parents=True, exist_ok=True)
            write_json(top / stage / file, data)
            write_json(top / stage / "stage.json", {
                "stage": stage, "status": "done", "profile": "made-up", "profile_hash": "0" * 16, "commit": "c0ffee",
                "settings": settings, "seeds": [42], "versions": {"mteb": "1.0.2"}, "wall_s": 1.0,
                "machine": {"gpu": "V100", "processor": "x86_64", "cores": 2}, "data": {"examples": examples},
            })  # fmt: skip
    return top


def by_id(top: Path) -> dict[str, dict]:
    return {e["id"]: e for e in verdicts.verdicts(Results(top))}


def made_otherwise(top: Path, *stages: str, version: str | None = None, **changes) -> dict[str, dict]:
    """The verdicts once settings of ``stages`` were others, and mteb of another ``version``."""
    for stage in stages:
        record = json.loads((top / stage / "stage.json").read_text())
        for key, value in changes.items():
            assign(record["settings"], key.replace("__", "."), value)
        record["versions"]["mteb"] = version or record["versions"]["mteb"]
        write_json(top / stage / "stage.json", record)
    return by_id(top)
