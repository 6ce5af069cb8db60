"""Does the embedded suite rank systems as real benchmarks do? (docs/suite-validity.md)

    python -m benchmarks.suite_validity REAL --trained MODEL --half MODEL [--systems NAME ...]

REAL is a folder of real benchmark data with a ``load.py`` (names(), load(name) → dict by type), read at
run time and never copied. Both sides run in mteb's task classes under one protocol. Results are kept
per system in results/suite_validity/, so that systems can be scored one by one and a stopped run goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import random
import time
from pathlib import Path

import mteb
import numpy as np
from datasets import Dataset, DatasetDict
from scipy.stats import rankdata, spearmanr
from synthembed import profile
from synthembed.evaluation import mteb_runs, protocol, scores, systems
from synthembed.evaluation.suites import embedded_tasks
from synthembed.ground import files
from synthembed.model import backbone
from synthembed.model.encoder import Encoder, Static
from threadpoolctl import threadpool_limits

# Real sets by name, and mteb's task of it, whose instruction is used.
REAL = {
    "STSBenchmark": "STSBenchmark",
    "Banking77": "Banking77Classification",
    "SIB200/eng_Latn": "SIB200Classification",
    "SIB200/deu_Latn": "SIB200Classification",
    "SNLIPairs": "XNLI",
    "SciFact": "SciFact",
    "XQuAD/en": "XQuADRetrieval",
    "Tatoeba/fra": "Tatoeba",
    "Tatoeba/cmn": "Tatoeba",
    "Tatoeba/hin": "Tatoeba",
    "Tatoeba/swh": "Tatoeba",
    "SIB200Clustering/eng_Latn": "SIB200ClusteringS2S",
}
TYPES = {
    "sts": "STS", "classification": "Classification", "clustering": "Clustering",
    "pair": "PairClassification", "retrieval": "Retrieval", "bitext": "BitextMining",
}  # fmt: skip
CAP = 200  # pairs, test texts or queries taken from a set, with a fixed seed
DOCUMENTS = 400  # documents of a retrieval set: those judged for the queries taken, then others
SYSTEMS = ["bm25", "static", "base", "half-trained", "trained", "minilm"]
FOLDER = files.ROOT / "results" / "suite_validity"
WIDE, SOLVED = 3.0, 97.0  # a task tells nothing if all systems are within 3 points, or the best is over 97


# --- the real sets as mteb tasks -----------------------------------------------------------------


def real_tasks(folder: Path) -> list:
    """One mteb task per real set, with mteb's own instruction for it."""
    spec = importlib.util.spec_from_file_location("realdata", folder / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if missing := set(REAL) - set(module.names()):
        raise SystemExit(f"{folder} has no {', '.join(sorted(missing))}: name a folder that has all of REAL")
    return [_task(name, module.load(name)) for name in REAL]


def _task(name: str, data: dict):
    kind = TYPES[data["type"]]
    base, _, score = embedded_tasks.KINDS[kind]
    known = mteb.get_task(REAL[name])
    prompt = known.metadata.prompt or known.abstask_prompt
    made = embedded_tasks.metadata(f"Real-{name.replace('/', '-')}", "real", kind, score, prompt, name)
    content = json.dumps([data, CAP, DOCUMENTS], sort_keys=True, default=str).encode()
    made.dataset["revision"] = hashlib.sha256(content).hexdigest()[:40]

    def load_data(self, num_proc=None, **kwargs):
        self.dataset, self.data_loaded = READERS[data["type"]](data), True

    body = {"metadata": made, "load_data": load_data}
    if kind == "Clustering":  # all texts, as in the suite
        body |= {"max_document_to_embed": None, "max_fraction_of_documents_to_embed": None}
    return type(made.name, (base,), body)()


def _some(rows: list, most: int = CAP) -> list:
    """``most`` of the rows at random, the same ones every time, in their order."""
    return [rows[i] for i in sorted(random.Random(0).sample(range(len(rows)), min(most, len(rows))))]


def _table(**columns) -> Dataset:
    rows = list(zip(*columns.values(), strict=True))
    kept = _some(rows)
    return Dataset.from_dict({name: [r[i] for r in kept] for i, name in enumerate(columns)})


def _retrieval(data: dict) -> dict:
    queries = _some(sorted(data["queries"]), CAP // 2)
    judged = {q: {d: s for d, s in data["qrels"][q].items()} for q in queries}
    needed = {d for found in judged.values() for d in found}
    others = _some(sorted(set(data["corpus"]) - needed), max(0, DOCUMENTS - len(needed)))
    ids = sorted(needed) + others
    split = {
        "corpus": Dataset.from_dict(
            {"id": ids, "title": [""] * len(ids), "text": [data["corpus"][i] for i in ids]}
        ),
        "queries": Dataset.from_dict({"id": queries, "text": [data["queries"][q] for q in queries]}),
        "relevant_docs": judged,
        "top_ranked": None,
    }
    return {"default": {"test": split}}


def _classification(data: dict) -> DatasetDict:
    names = sorted(set(data["train_labels"]))
    train = Dataset.from_dict(
        {"text": data["train_texts"], "label": [names.index(x) for x in data["train_labels"]]}
    )
    test = _table(text=data["test_texts"], label=[names.index(x) for x in data["test_labels"]])
    return DatasetDict(train=train, test=test)


READERS = {
    "sts": lambda d: DatasetDict(test=_table(sentence1=d["s1"], sentence2=d["s2"], score=d["scores"])),
    "pair": lambda d: DatasetDict(test=_table(sentence1=d["s1"], sentence2=d["s2"], labels=d["labels"])),
    "bitext": lambda d: DatasetDict(test=_table(sentence1=d["s1"], sentence2=d["s2"])),
    "clustering": lambda d: DatasetDict(
        test=Dataset.from_dict({"sentences": d["texts"], "labels": d["labels"]})
    ),
    "classification": _classification,
    "retrieval": _retrieval,
}


# --- the systems ---------------------------------------------------------------------------------


def system(name: str, models: dict[str, Path | None]):
    """A model for mteb, the tasks that it can do, and what its weights are."""
    plan = profile.load("laptop")
    if name in ("bm25", "minilm"):
        model, can = systems.peer(name)
        return model, can, name
    source, style = plan.backbone, "none" if name == "static" else plan.train.instruction
    if name in models:
        if models[name] is None:
            raise SystemExit(f"no folder was given for the system {name!r}: --trained and --half name them")
        source = source.model_copy(update={"model": str(models[name]), "layers": None})
    loaded = backbone.load(source, plan.seed)
    made = Static if name == "static" else Encoder
    encoder = made(loaded, plan.backbone.pooling, plan.evaluate.max_length, plan.evaluate.batch_tokens)
    weights = hashlib.sha256()
    for parameter in loaded.model.parameters():
        weights.update(parameter.detach().float().numpy().tobytes())
    return (
        protocol.MtebEncoder(encoder, f"synthembed/{name}", "1", style),
        lambda task: True,
        weights.hexdigest(),
    )


def score(name: str, models: dict, suite: list, real: list) -> dict[str, list[dict]]:
    """Rows of both sides for one system; what has been scored is read back."""
    model, can, weights = system(name, models)
    found = {}
    for side, tasks in (("suite", suite), ("real", real)):
        prompts = [str(t.metadata.prompt) for t in tasks]
        identity = hashlib.sha256(json.dumps([weights, sorted(prompts)]).encode()).hexdigest()[:12]
        start = time.monotonic()
        folder = FOLDER / name / f"{side}-{identity}"
        with threadpool_limits(1, "blas"):  # numpy's threads and torch's get in each other's way
            found[side] = mteb_runs.run_tasks(model, [t for t in tasks if can(t)], folder, name, side)
        print(f"{name}, {side}: {time.monotonic() - start:.0f} s", flush=True)
    return found


# --- what is compared ----------------------------------------------------------------------------


def categories(rows: dict[str, list[dict]], shared: list[str]) -> dict[str, dict[str, float]]:
    """system → category → mean over its tasks, for the categories that both sides have."""
    return {s: {c: v for c, v in scores.averages(r).items() if c in shared} for s, r in rows.items()}


def mean_standard(means: dict[str, dict[str, float]], shared: list[str]) -> dict[str, float]:
    """system → mean over its categories of (score - mean) / deviation among the systems there.

    So a system that lacks categories (BM25 has retrieval only) stands where it stands in those it has.
    """
    total = {s: [] for s in means}
    for category in shared:
        values = {s: m[category] for s, m in means.items() if category in m}
        middle, spread = np.mean(list(values.values())), np.std(list(values.values()))
        for s, value in values.items():
            total[s].append((value - middle) / spread)
    return {s: float(np.mean(v)) for s, v in total.items()}


def agreement(one: dict[str, float], other: dict[str, float]) -> tuple[float, int]:
    """Spearman of two rankings over the systems in both, and how many those are."""
    names = [s for s in one if s in other]
    return float(spearmanr([one[s] for s in names], [other[s] for s in names])[0]), len(names)


def show(suite: dict[str, list[dict]], real: dict[str, list[dict]]) -> None:
    """Print the tables of docs/suite-validity.md."""
    have = [{r["category"] for rows in side.values() for r in rows} for side in (suite, real)]
    shared = [c for c in scores.CATEGORIES.values() if all(c in h for h in have)]
    means = {"suite": categories(suite, shared), "real": categories(real, shared)}
    full = {k: {s: m for s, m in v.items() if len(m) == len(shared)} for k, v in means.items()}
    total = {k: {s: float(np.mean(list(m.values()))) for s, m in v.items()} for k, v in full.items()}
    standard = {k: mean_standard(v, shared) for k, v in means.items()}
    print(
        f"\n| system | {' | '.join(shared)} | Mean | rank | rank with BM25 |\n|{'---|' * (len(shared) + 4)}"
    )
    for side in ("suite", "real"):
        places, places_all = _places(total[side]), _places(standard[side])
        for s, m in means[side].items():
            cells = [f"{m[c]:.1f}" if c in m else "" for c in shared]
            mean = f"{total[side][s]:.1f}" if s in total[side] else ""
            cells += [mean, places.get(s, ""), places_all[s]]
            print(f"| {side}: {s} | {' | '.join(cells)} |")
    print("\n| Spearman of the two rankings | value | systems |\n|---|---|---|")
    compared = {"mean of shared categories": (total["suite"], total["real"])}
    compared["mean standard score, with BM25"] = (standard["suite"], standard["real"])
    for c in shared:
        compared[c] = tuple({s: m[c] for s, m in v.items() if c in m} for v in means.values())
    for name, pair in compared.items():
        print("| {} | {:.2f} | {} |".format(name, *agreement(*pair)))
    for title, rows in (("task of the suite", suite), ("real set", real)):
        _tasks(title, rows)


def _places(values: dict[str, float]) -> dict[str, str]:
    ranks = rankdata([-v for v in values.values()])
    return {s: f"{r:g}" for s, r in zip(values, ranks, strict=True)}


def _tasks(title: str, rows: dict[str, list[dict]]) -> None:
    """Score of every task and system; tasks that tell nothing are marked."""
    names = dict.fromkeys(r["task"] for found in rows.values() for r in found)
    print(f"\n| {title} | {' | '.join(rows)} | widest gap |\n|{'---|' * (len(rows) + 2)}")
    for task in names:
        values = {}
        for s, found in rows.items():
            if of_task := [r["score"] for r in found if r["task"] == task]:
                values[s] = float(np.mean(of_task))
        gap = max(values.values()) - min(values.values())
        mark = " does not discriminate" if gap < WIDE or max(values.values()) > SOLVED else ""
        cells = [f"{values[s]:.1f}" if s in values else "" for s in rows]
        print(
            f"| {task.removeprefix('Embedded').removeprefix('Real-')} | {' | '.join(cells)} | {gap:.1f}{mark} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path, help="folder with real benchmark data and its load.py")
    parser.add_argument("--trained", type=Path, help="exported model: results/<run>/03_train/model")
    parser.add_argument("--half", type=Path, help="a model trained for half the steps")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    asked = parser.parse_args()
    models = {"trained": asked.trained, "half-trained": asked.half}
    real = real_tasks(asked.real)
    found = {s: score(s, models, embedded_tasks.embedded(), real) for s in asked.systems}
    show({s: f["suite"] for s, f in found.items()}, {s: f["real"] for s, f in found.items()})


if __name__ == "__main__":
    main()
