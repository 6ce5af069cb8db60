"""The embedded evaluation suite: real mteb tasks over data that comes with the library (Sec. 4.2).

Every text was written for this suite by an LLM (docs/data-card.md). Scores on it say how systems
compare with one another here; they are not comparable with published MTEB scores.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict
from mteb.abstasks import (
    AbsTaskBitextMining,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
    AbsTaskSummarization,
)
from mteb.abstasks.task_metadata import TaskMetadata

from synthembed.evaluation.suites import units
from synthembed.evaluation.suites.names import BITEXT_LANGUAGES, RETRIEVAL_LANGUAGES, TASKS

__all__ = ["BITEXT_LANGUAGES", "KINDS", "RETRIEVAL_LANGUAGES", "TASKS", "embedded", "revision"]

PACKAGE_DATA = ("data/**/*.jsonl",)  # read here, and so part of the code's fingerprint

DATA = Path(__file__).parent / "data"


def rows(path: Path) -> list[dict]:
    """The lines of one data file; raises ValueError naming file and line of a bad one."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"suites/{path.relative_to(DATA)}, line {number}: {error}") from None
    return found


def columns(records: list[dict], *names: str) -> Dataset:
    return Dataset.from_dict({name: [r[name] for r in records] for name in names})


def revision(folder: str) -> str:
    """A hash of the task's data: two results compare only if it is equal."""
    digest = hashlib.sha256()
    files = (
        (DATA / folder).rglob("*.jsonl")
        if (DATA / folder).exists()
        else (DATA / folder).parent.glob("*.jsonl")
    )
    for path in sorted(files):
        digest.update(path.relative_to(DATA).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:40]


def metadata(name: str, folder: str, type: str, score: str, prompt, about: str, langs=None) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        description=about,
        dataset={"path": f"synthembed/{folder}", "revision": revision(folder)},
        type=type,
        category="t2c" if type in ("Classification", "Clustering") else "t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=langs or ["eng-Latn"],
        main_score=score,
        date=("2026-01-01", "2026-12-31"),
        domains=["Written"],
        license="apache-2.0",
        annotations_creators="LM-generated",
        dialect=[],
        sample_creation="LM-generated and verified",
        bibtex_citation="",
        prompt=prompt,
    )


class Embedded:
    """What the tasks share: data from ``DATA / folder``, nothing fetched, and each text's own score kept."""

    folder: str
    units: dict | None = None  # of the last evaluation, split → subset (suites/units.py)

    def load_data(self, num_proc: int | None = None, **kwargs) -> None:
        self.dataset = _apart(_data(type(self), revision(self.folder)))
        self.data_loaded = True

    def _evaluate_subset(self, model, data_split, *, hf_split, hf_subset, prediction_folder=None, **more):
        self._folder, self._seen = prediction_folder, None
        scores = super()._evaluate_subset(
            model, data_split, hf_split=hf_split, hf_subset=hf_subset,
            prediction_folder=prediction_folder or Path(), **more,
        )  # fmt: skip
        about = self.metadata
        found = units.of(about.type, about.main_score, data_split, hf_split, self._seen, scores)
        self.units = self.units or {}
        self.units.setdefault(hf_split, {})[hf_subset] = found
        return scores

    def _save_task_predictions(self, predictions, model, prediction_folder, hf_split, hf_subset) -> None:
        self._seen = predictions
        if self._folder:
            super()._save_task_predictions(predictions, model, self._folder, hf_split, hf_subset)


@lru_cache(maxsize=32)
def _data(kind: type, of: str):
    """A task's data, read once a process as long as its files are ``of`` one hash: systems share it."""
    return kind().read()


def _apart(data):
    """Data with dicts and lists of its own; what they hold of mteb's datasets cannot be changed in place."""
    if isinstance(data, dict):
        return type(data)({key: _apart(value) for key, value in data.items()})
    return list(data) if isinstance(data, list) else data


class Queries(Embedded):
    def task_specific_scores(self, scores, qrels, results, hf_split, hf_subset):
        self._seen = scores  # each query's
        return super().task_specific_scores(scores, qrels, results, hf_split, hf_subset)


class RetrievalData(Queries):
    def read(self):
        if not (DATA / self.folder / "corpus.jsonl").exists():  # one folder per language
            return {lang: self.split(DATA / self.folder / lang) for lang in self.metadata.eval_langs}
        return {"default": self.split(DATA / self.folder)}

    @staticmethod
    def split(folder: Path) -> dict:
        relevant: dict[str, dict[str, int]] = {}
        for row in rows(folder / "qrels.jsonl"):
            relevant.setdefault(row["query"], {})[row["doc"]] = row["score"]
        data = {
            "corpus": columns(rows(folder / "corpus.jsonl"), "id", "title", "text"),
            "queries": columns(rows(folder / "queries.jsonl"), "id", "text"),
            "relevant_docs": relevant,
            "top_ranked": None,
        }
        return {"test": data}


class ReadingsData(Queries):
    """Messages with two labels, any one of which says what is alike: the end of ``folder`` names it, and only
    the instruction tells it."""

    def read(self):
        folder, _, label = self.folder.rpartition("/")
        corpus, queries = (rows(DATA / folder / f"{name}.jsonl") for name in ("corpus", "queries"))
        data = {
            "corpus": columns(corpus, "id", "title", "text"),
            "queries": columns(queries, "id", "text"),
            "relevant_docs": {q["id"]: {d["id"]: 1 for d in corpus if d[label] == q[label]} for q in queries},
            "top_ranked": None,
        }
        return {"default": {"test": data}}


class RerankingData(Queries):
    def read(self):
        corpus, queries, relevant, ranked = [], [], {}, {}
        for row in rows(DATA / self.folder / "data.jsonl"):
            queries.append({"id": row["id"], "text": row["query"]})
            candidates = [(text, 1) for text in row["positive"]] + [(text, 0) for text in row["negative"]]
            ids = [f"{row['id']}-{n}" for n in range(len(candidates))]
            corpus += [{"id": i, "title": "", "text": t} for i, (t, _) in zip(ids, candidates, strict=True)]
            relevant[row["id"]] = {i: s for i, (_, s) in zip(ids, candidates, strict=True)}
            ranked[row["id"]] = ids
        data = {
            "corpus": columns(corpus, "id", "title", "text"),
            "queries": columns(queries, "id", "text"),
            "relevant_docs": relevant,
            "top_ranked": ranked,
        }
        return {"default": {"test": data}}


class StsData(Embedded):
    def read(self):
        records = rows(DATA / self.folder / "data.jsonl")
        return DatasetDict(test=columns(records, "sentence1", "sentence2", "score"))


class PairData(Embedded):
    def read(self):
        data = columns(rows(DATA / self.folder / "data.jsonl"), "sentence1", "sentence2", "label")
        return DatasetDict(test=data.rename_column("label", "labels"))


class ClassificationData(Embedded):
    def _calculate_scores(self, y_test, y_pred):
        # mteb hands over a column, which reads its rows one by one whenever a metric looks at it.
        return super()._calculate_scores(np.asarray(y_test), y_pred)

    def read(self):
        files = {s: rows(DATA / self.folder / f"{s}.jsonl") for s in ("train", "test")}
        names = sorted({r["label"] for r in files["train"]})
        return DatasetDict(
            {
                split: columns([r | {"label": names.index(r["label"])} for r in records], "text", "label")
                for split, records in files.items()
            }
        )


class ClusteringData(Embedded):
    max_document_to_embed = None  # all of them
    max_fraction_of_documents_to_embed = None
    max_documents_per_cluster = 512  # texts drawn for each of the 10 clusterings

    def read(self):
        data = columns(rows(DATA / self.folder / "data.jsonl"), "text", "label")
        return DatasetDict(test=data.rename_columns({"text": "sentences", "label": "labels"}))


class SummarizationData(Embedded):
    min_score, max_score = 1, 5

    def read(self):
        records = rows(DATA / self.folder / "data.jsonl")
        names = ("text", "human_summaries", "machine_summaries", "relevance")
        return DatasetDict(test=columns(records, *names))


class BitextData(Embedded):
    def read(self):
        return DatasetDict(
            {
                pair: DatasetDict(
                    test=columns(rows(DATA / self.folder / f"{pair}.jsonl"), "sentence1", "sentence2")
                )
                for pair in self.metadata.eval_langs
            }
        )


# type → (mteb's task class, our data reader, main score)
KINDS = {
    "Retrieval": (AbsTaskRetrieval, RetrievalData, "ndcg_at_10"),
    "InstructionRetrieval": (AbsTaskRetrieval, ReadingsData, "ndcg_at_10"),
    "Reranking": (AbsTaskRetrieval, RerankingData, "map_at_1000"),
    "STS": (AbsTaskSTS, StsData, "cosine_spearman"),
    "PairClassification": (AbsTaskPairClassification, PairData, "max_ap"),
    "Classification": (AbsTaskClassification, ClassificationData, "accuracy"),
    "Clustering": (AbsTaskClustering, ClusteringData, "v_measure"),
    "Summarization": (AbsTaskSummarization, SummarizationData, "cosine_spearman"),
    "BitextMining": (AbsTaskBitextMining, BitextData, "f1"),
}


@cache
def _classes() -> dict[str, type]:
    made = {}
    for name, kind, folder, prompt, about, langs in TASKS:
        base, reader, score = KINDS[kind]
        body = {"folder": folder, "metadata": metadata(name, folder, kind, score, prompt, about, langs)}
        made[name] = type(name, (reader, base), body)
    return made


def embedded(names: list[str] | None = None) -> list:
    """New task objects of the embedded suite, all or those named, ready for ``mteb.evaluate``."""
    classes = _classes()
    for name in names or ():
        if name not in classes:
            raise ValueError(f"evaluate.tasks: {name!r} is not in the embedded suite: {', '.join(classes)}")
    return [classes[name]() for name in names or classes]
