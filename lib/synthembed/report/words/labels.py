"""Names of what ran, from the records of a run: "Gemma-3-270M, 12 layers", "suite: retrieval in English, 3 tasks".

A number of ours stands under the name of what made it, never under the paper's name of what it stands for.
"""

from __future__ import annotations

from typing import Any

from synthembed import paper
from synthembed.report.results import ABLATIONS, EVALUATION, Number, Results

SYSTEM_NAMES = {
    "base": "untouched base model",
    "trained": "trained on synthetic data only",
    "static": "mean of the base's token embeddings",
    "bm25": "BM25",
    "minilm": "all-MiniLM-L6-v2",
    "me5-small-4bit": "multilingual-e5-small, 4 bits",
    "random": "random vectors (chance)",
}
OF_THE_BASE = ("base", "trained")  # named with their model
MODELS = {"embedded:gemma3-270m": "Gemma-3-270M", "embedded:smollm2-135m": "SmolLM2-135M"}
# data.setting in words; of what is installed, docstrings stand in for MS-MARCO.
DATA = {
    "public": {
        "synthetic": "synthetic data only", "synthetic+msmarco": "synthetic + MS-MARCO", "msmarco": "MS-MARCO only",
        "labelled": "labelled sets only", "full": "synthetic + labelled sets",
    },
    "installed": {
        "synthetic": "synthetic data only", "synthetic+msmarco": "synthetic + docstring pairs",
        "msmarco": "docstring pairs only", "labelled": "the installed labelled sets only",
        "full": "synthetic + the installed labelled sets",
    },
}  # fmt: skip
CHANGES = {
    "backbone.pooling": "{} pooling",
    "lora.rank": "LoRA rank {}",
    "train.max_steps": "{} steps",
    "train.document_max_length": "documents cut at {} tokens",
}
CHANGED_TO = {
    ("train.instruction", "none"): "no instruction",
    ("train.instruction", "task-type"): "a fixed prefix for each task type",
    ("data.shuffled", True): "every query with another one's documents",
    ("train.hard_negatives", False): "no hard negatives",
    ("backbone.initialisation", "random"): "random weights",
}
# Told by other words, or, as how often a row was trained, no change to what it is.
NAMED_ELSEWHERE = ("data.setting", "backbone.model", "backbone.layers", "seeds")
SUITE = "embedded"
# The suite's own names of columns that the paper has for its benchmarks.
SUITE_COLUMNS = {
    ("table3", "BEIR"): "suite: retrieval in English, {tasks} task{s}",
    ("table3", "MTEB"): "suite: all in English, {tasks} task{s}",
    ("table4", "BUCC 2018 (4 langs)"): "suite: translations, {languages} languages into English",
    ("table4", "Tatoeba (112 langs)"): "suite: translations, {languages} languages into English",
}


def model_name(backbone: dict[str, Any]) -> str:
    """A base model as readers know it, with how many of its layers were used if not all."""
    name = str(backbone.get("model") or "the base model")
    said = (
        MODELS.get(name) or name.removeprefix("hub:").removeprefix("embedded:").rstrip("/").rsplit("/", 1)[-1]
    )
    layers = f", {backbone['layers']} layers" if backbone.get("layers") else ""
    return said + layers + (", random weights" if backbone.get("initialisation") == "random" else "")


def base_of(results: Results) -> str:
    """The model that this run trained, or "the base model" if it has not said."""
    for stage in ("03_train", EVALUATION, ABLATIONS):
        if backbone := results.stage(stage).get("settings", {}).get("backbone"):
            return model_name(backbone)
    return "the base model"


def data_name(results: Results, setting: str, stage: str = "03_train") -> str:
    """Training data in words: what stands in for a public set is named, not the set."""
    labelled = results.stage(stage).get("settings", {}).get("data", {}).get("labelled", "public")
    return DATA.get(labelled, DATA["public"]).get(setting, setting)


def short(system: str, results: Results) -> str:
    """A system of the main evaluation, without its model's name."""
    if system == "trained":
        return f"trained on {data_name(results, results.setting())}"
    return SYSTEM_NAMES.get(system, system)


def label(system: str, results: Results, stage: str = EVALUATION) -> str:
    """A system's name for readers, with the model that it is; of an ablation, what it changes."""
    if stage == ABLATIONS:
        return _ablation(system, results)
    if system in OF_THE_BASE:
        return f"{base_of(results)}: {short(system, results).removesuffix(' base model')}"
    return short(system, results)


def _ablation(system: str, results: Results) -> str:
    changes = results.changes(ABLATIONS, system)
    if len(changes) < 2:  # the record does not know this row
        return system
    own, common = changes
    said = []
    backbone = {k.removeprefix("backbone."): v for k, v in own.items() if k.startswith("backbone.")}
    if "model" in backbone:
        said.append(model_name(backbone))
    for key, value in own.items():
        if key == "data.setting" and value != common.get(key):
            said.append(data_name(results, value, ABLATIONS))
        elif key == "pretrain" or key.startswith("pretrain."):
            said.append("contrastive pre-training first")
        elif (key, value) in CHANGED_TO if isinstance(value, str | int | bool) else False:
            said.append(CHANGED_TO[key, value])
        elif key in CHANGES:
            said.append(CHANGES[key].format(value))
        elif key not in NAMED_ELSEWHERE and not key.startswith("evaluate."):
            said.append(f"{key} = {value}")
    if said:
        return ", ".join(dict.fromkeys(said))
    setting = common.get("data.setting", results.setting())
    return f"{base_of(results)}: {data_name(results, setting, ABLATIONS)}"


def column(artefact: str, name: str, numbers: list[Number | None], benchmark: str) -> str:
    """A column's name over numbers of ours: the paper's if its benchmark is the paper's, or else what ran."""
    form, found = SUITE_COLUMNS.get((artefact, name)), [n for n in numbers if n]
    if benchmark != SUITE or form is None or not found:
        return name
    tasks = max(n.tasks for n in found)
    languages = max(len({r["language"] for r in n.rows}) for n in found)
    return form.format(tasks=tasks, languages=languages, s="" if tasks == 1 else "s")


def benchmark_name(name: str, tasks: int = 0) -> str:
    """A benchmark with how many of its tasks ran, and a warning if the paper's numbers are not of it."""
    if name == SUITE:
        return "embedded suite" + (f", {tasks} task{'s' if tasks > 1 else ''}" if tasks else "")
    return f"{name} (not the paper's benchmark)" if "why" in paper.benchmarks().get(name, {"why"}) else name
