"""A reproducible companion to "Improving Text Embeddings with Large Language Models" (ACL 2024).

The rooms, in the order of the paper's road. A room imports from those above it and never from those
below; CI holds that (import-linter, pyproject.toml). docs/architecture.md walks through them.

    ground       where things lie, files, seeds, progress, this machine, models from packages
    profile      one YAML file = one run: typed settings, the taxonomy of tasks they are checked against
    paper        the paper's numbers, and which of ours belongs to each
    cluster      more than one process or machine: Ray places functions and actors
    generation   requests -> replies of an LLM: recorded, live, batch; cost                  notebook 01
    corpus       replies -> examples: filters, analysis, contamination                       notebook 02
    labelled     labelled data, mined negatives, the mixture that is trained on              notebook 03
    model        texts -> vectors: base model, tokens, encoder, packed rows; cpu/ below it   notebooks 03, 04
    training     examples -> a trained model: InfoNCE, gradient caching, LoRA                notebook 03
    evaluation   a model -> scores: mteb, protocol, suites, ablations, passkeys              notebooks 04-06
    report       scores -> verdicts, claims, tables, figures, a page                         notebook 07
    beyond       what the paper leaves open: experiments, readings, curves, their figures    notebook 08
    widgets      what the notebooks show
    stages       a stage and its record, the papermill runner
    review       a finished run checked from its files alone; the board of runs
    commands     the command line

The names below can be imported from here; they are loaded when they are first used.
"""

import os
import sys
from importlib import import_module

# OpenMP's threads spin while they wait for one another. Where other processes want the cores too, they spin
# for a thread that the system has taken off its core: an encoding pass and a training step became several
# times slower. A short spin costs little there and nothing on idle cores, where sleeping at once costs a tenth
# (docs/decisions.md). The variables are read when torch is loaded, so they are set before it, and not where it
# is loaded already or where a user has said how to wait. GNU's OpenMP (torch on Linux) reads the first, LLVM's
# (macOS) and Intel's (Windows) the second.
if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("KMP_BLOCKTIME", "0")

_PUBLIC = {
    "Profile": "profile.settings",
    "load_profile": "profile.settings:load",
    "Example": "corpus.example",
    "load_backbone": "model.backbone:load",
    "Encoder": "model.encoder",
    "encode_to": "model.vector_files",
    "export": "model.export",
    "info_nce": "training.contrastive",
    "cached_backward": "training.contrastive",
    "train": "training.train",
    "evaluate": "evaluation.systems",
    "Results": "report.results",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, original = _PUBLIC[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), original or name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
