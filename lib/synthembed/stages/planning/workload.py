"""How much work a profile asks for, by arithmetic: texts, tokens and operations of every part of its stages.

The same parts are turned into seconds on this machine (forecast) and into hours and money on GPUs (bill).
Nothing is loaded but configurations: lengths are what the prompts ask for, and of public sets and benchmarks
what mteb's own statistics or their papers say.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from synthembed.ground.files import PACKAGE
from synthembed.labelled import public_sets
from synthembed.profile.settings import Data, Profile, Source
from synthembed.stages.definitions import stages_of
from synthembed.training import gpu_cost

OWN = ("base", "trained")
# N of peers that travel in packages: layers times (4 h^2 + 2 h i) of their encoders.
PEERS = {"minilm": 6 * (4 * 384**2 + 2 * 384 * 1536), "me5-small-4bit": 12 * (4 * 384**2 + 2 * 384 * 1536)}

# The paper's bases, by their config.json; XLM-R's MLP has no gate: two matrices in the place of three.
SHAPES = {
    "mistralai/Mistral-7B-v0.1": gpu_cost.MISTRAL_7B,
    "meta-llama/Llama-2-7b-hf": gpu_cost.Shape(4096, 11008, 32, 32, 32, 128, 32_000),
    "FacebookAI/xlm-roberta-large": gpu_cost.Shape(1024, 4096 * 2 // 3, 24, 16, 16, 64, 250_002),
}

INSTALLED = 1_000  # examples of the stand-ins from installed packages

TOKENS_PER_WORD = {True: 1.3, False: 2.3}  # of English, and of the mean of the other languages; assumed
INSTRUCTION = 20.0  # tokens before a query: "Instruct: ", a sentence, "Query: "
UNIT_WORDS = {"sentence": 15, "phrase": 6, "passage": 60}
CHARACTERS = {True: 4.2, False: 2.4}  # of a token, in Latin letters and in other scripts; assumed
BYTES = 4.0  # of a token of the embedded suite, whose languages are many
SAMPLE = 1_000


@dataclass(frozen=True)
class Work:
    """A part of a stage: ``tokens`` that each pass through ``matrices`` parameters, ``useful`` operations a
    parameter and token that the result needs and ``made`` ones (2N, 4N, 6N, 8N). ``texts`` counts rows;
    ``tokens`` None: nobody can say."""

    stage: str
    what: str
    tokens: float | None
    matrices: float
    useful: int
    made: int
    texts: float = 0.0
    steps: float = 0.0

    @property
    def operations(self) -> float | None:
        return None if self.tokens is None else self.tokens * self.matrices * self.made


def works(profile: Profile, shape: gpu_cost.Shape, workers: int = 1) -> Iterator[Work]:
    """Every part that runs a model, in the order of the profile's stages, on ``workers`` that share each batch."""
    stages = stages_of(profile)
    return (part for part in _works(profile, shape, workers) if part.stage in stages)


def _works(profile: Profile, shape: gpu_cost.Shape, workers: int) -> Iterator[Work]:
    seeds = len(profile.training_seeds)
    yield from _trainings("03_train", profile, shape, workers, "")
    for system in profile.evaluate.systems:
        times = seeds if system == "trained" else 1
        yield from evaluation("04_evaluate", profile, shape, system, times)
    for row in profile.ablations.rows:
        of_row = profile.with_overrides(profile.ablations.set | row.set)
        of_shape = shape_of_row(profile, of_row, shape)
        yield from _trainings("05_ablations", of_row, of_shape, workers, f"{row.id}, ")
        yield from evaluation(
            "05_ablations", of_row, of_shape, "trained", len(of_row.training_seeds), f"{row.id}, "
        )
    yield _passkeys(profile, shape)
    yield from _experiments(profile, shape, workers)


def _experiments(profile: Profile, shape: gpu_cost.Shape, workers: int) -> Iterator[Work]:
    """Notebook 08: rows of equal settings share their trainings; of readings, the passes that they add."""
    seen = set()
    for experiment in profile.experiments.questions:
        for row in experiment.rows:
            settings = profile.of_row(experiment, row)
            if (key := f"{settings.hash()} {row.corpus} {row.soup}") in seen:
                continue
            seen.add(key)
            of_shape, seeds = shape_of_row(profile, settings, shape), len(settings.training_seeds)
            name = f"{experiment.id}/{row.id}, "
            yield from _trainings("08_beyond", settings, of_shape, workers, name)
            again = {r.instruction for r in row.readings} - {"own"}
            passes = seeds * (1 + len(again) + 0.3 * len(row.scored_at))  # a learning curve reads a part
            yield from evaluation("08_beyond", settings, of_shape, "trained", passes, name)


def shape_of_row(profile: Profile, row: Profile, shape: gpu_cost.Shape) -> gpu_cost.Shape:
    """The shape of an ablation's base: the main one's, or what the other base's own files say."""
    if row.backbone == profile.backbone:
        return shape
    return known_shape(row.backbone.model, row.backbone.layers) or shape


@cache
def known_shape(model: str, layers: int | None) -> gpu_cost.Shape | None:
    """From a base's configuration, where that is at hand without a network; else None."""
    from synthembed.ground.weights import embedded

    if found := SHAPES.get(model.removeprefix("hub:")):
        return replace(found, layers=layers or found.layers)
    try:
        from transformers import AutoConfig

        return gpu_cost.shape_of(
            AutoConfig.from_pretrained(embedded.folder_of(model), local_files_only=True), layers
        )
    except (embedded.BackboneError, OSError, ValueError, AttributeError):
        return None


# -- training ------------------------------------------------------------------------------------


def _trainings(
    stage: str, profile: Profile, shape: gpu_cost.Shape, workers: int, name: str
) -> Iterator[Work]:
    seeds = len(profile.training_seeds)
    if profile.pretrain:
        first = profile.for_pretraining()
        pairs = profile.pretrain.limit or (math.inf if first.train.max_steps else None)
        yield training(stage, first, shape, workers, f"{name}pre-training", pairs, seeds)
    yield training(stage, profile, shape, workers, f"{name}training", None, seeds)


def training(
    stage: str,
    profile: Profile,
    shape: gpu_cost.Shape,
    workers: int = 1,
    what: str = "training",
    examples: float | None = None,
    seeds: int = 1,
) -> Work:
    """A training of ``seeds`` models; 6N where the graphs of a worker's share of a batch do not stay, and 2N
    more with checkpointing."""
    settings, each = profile.train, step_tokens(profile)
    made = useful = 6 if settings.method == "full" else 4
    made += 0 if settings.graph_tokens + settings.chunk_tokens >= each / workers else 2
    made += 2 if settings.gradient_checkpointing is True else 0
    count = steps(profile, examples) * seeds
    texts = count * settings.batch_size * (3 if settings.hard_negatives else 2)
    return Work(stage, what, count * each, shape.matrices, useful, made, texts, count)


def steps(profile: Profile, examples: float | None = None) -> float:
    """As many as the epochs give, and ``max_steps`` at most. Of how many pairs to pre-train on there are, nobody
    can say without a limit: then it is ``max_steps``."""
    most = profile.train.max_steps or math.inf
    if examples is None:
        examples = sum(_examples(profile))
    return min(most, max(1.0, profile.train.epochs * examples / profile.train.batch_size))


def _examples(profile: Profile) -> tuple[float, float]:
    """Examples of a training: synthetic ones, as far as a number says which are taken, and labelled ones."""
    data, ours = profile.data, 0.0
    if data.setting not in ("msmarco", "labelled"):
        ours = profile.generate.examples * (data.select.share if data.select else 1.0)
        ours = min(ours, data.select.examples or ours) if data.select else ours
    return ours, labelled_examples(data)


def labelled_examples(data: Data) -> float:
    """Examples that a setting draws of the public sets, by the sizes of their table, ratios and limits."""
    if data.setting == "synthetic":
        return 0.0
    if data.labelled == "installed":
        return INSTALLED
    total = 0.0
    for entry in public_sets.PUBLIC:
        if data.setting in ("labelled", "full") or entry.name == public_sets.MSMARCO:
            own = data.sets.get(entry.name, Source())
            drawn = entry.size * (entry.ratio if own.ratio is None else own.ratio)
            total += min(drawn, own.limit or drawn)
    return total


def step_tokens(profile: Profile) -> float:
    """Tokens of a training step: a query with its instruction and two documents, each cut as the profile
    says. A labelled example has as many as docs/gpu.md assumes."""
    ours, theirs = _examples(profile)
    query, documents = synthetic_tokens(profile)
    mean = gpu_cost.RUNS["training"].tokens if profile.data.labelled == "public" else 45.0
    labelled = min(mean, profile.train.max_length), 2 * min(mean, profile.train.document_length)
    share = ours / (ours + theirs) if ours + theirs else 1.0
    query = share * query + (1 - share) * labelled[0]
    documents = share * documents + (1 - share) * labelled[1]
    if not profile.train.hard_negatives:
        documents /= 2
    return profile.train.batch_size * (query + documents)


def synthetic_tokens(profile: Profile) -> tuple[float, float]:
    """Mean tokens of a synthetic example's query and documents, by what its prompt asks for."""
    from synthembed.generation import request_bodies

    draw, number = request_bodies.sampler(profile), profile.generate.examples
    tasks = _AnyTask()
    numbers = random.Random(0).sample(range(number), min(SAMPLE, number))
    query_most, document_most = profile.train.max_length, profile.train.document_length
    found = [0.0, 0.0]
    for item in (draw.example(n, tasks) for n in numbers):
        query, document, count = _words(item)
        rate = TOKENS_PER_WORD[item.language == "en"]
        found[0] += min(query * rate + INSTRUCTION, query_most)
        found[1] += count * min(document * rate, document_most)
    return found[0] / len(numbers), found[1] / len(numbers)


class _AnyTask(dict):
    """Stands for every list of tasks that nobody has thought up yet."""

    def get(self, *_):
        return ["A task"]


def _words(item) -> tuple[float, float, int]:
    """(words of the query, words of a document, documents) of an example, as its prompt asks."""
    asked = dict(item.placeholders)
    number = float(re.findall(r"\d+", str(asked.get("num_words", 0)))[0])
    unit = UNIT_WORDS.get(asked.get("unit"), 0)
    return {
        "short-long": (9, number, 2), "long-short": (number, 3, 2), "long-long": (number, number, 1),
        "short-short": (8, 8, 1), "sts": (unit, unit, 2), "bitext": (unit, unit, 2),
    }[item.family]  # fmt: skip


# -- evaluation ----------------------------------------------------------------------------------


def evaluation(
    stage: str, profile: Profile, shape: gpu_cost.Shape, system: str, times: float = 1, name: str = ""
) -> Iterator[Work]:
    """One system on each benchmark of the profile, 2N; systems without products (bm25, static) have none."""
    matrices = PEERS.get(system, shape.matrices if system in OWN else 0)
    for benchmark in profile.evaluate.benchmarks:
        texts, tokens = benchmark_tokens(
            benchmark, tuple(profile.evaluate.tasks or ()), profile.evaluate.max_length
        )
        tokens = None if tokens is None else tokens * times
        yield Work(stage, f"{name}{system} on {benchmark}", tokens, matrices, 2, 2, texts * times)


@cache
def benchmark_tokens(benchmark: str, tasks: tuple[str, ...], most: int) -> tuple[float, float | None]:
    """(texts, tokens) of a benchmark or of its ``tasks``, each text cut at ``most`` tokens on average."""
    if benchmark == "embedded":
        return _embedded(tasks)
    from synthembed.evaluation.suites import benchmarks

    texts = tokens = 0.0
    for task in (t for loaded in benchmarks.load([benchmark]).values() for t in loaded):
        if tasks and task.metadata.name not in tasks:
            continue
        counted = task_tokens(task, most)
        if counted is None:
            return texts, None
        texts, tokens = texts + counted[0], tokens + counted[1]
    return texts, tokens


def _embedded(tasks: tuple[str, ...]) -> tuple[float, float]:
    from synthembed.evaluation.suites.names import TASKS

    top, texts, size = PACKAGE / "evaluation/suites/data", 0.0, 0.0
    for name, _, folder, *_ in TASKS:
        shared = folder.partition("/")[0] if folder.startswith("readings/") else folder
        share = 0.5 if shared != folder else 1.0
        if name in (tasks or {n for n, *_ in TASKS}):
            for path in (top / shared).rglob("*.jsonl"):
                size += share * path.stat().st_size
                texts += share * path.read_bytes().count(b"\n")
    return texts, size / BYTES


def task_tokens(task, most: int) -> tuple[float, float] | None:
    """(texts, tokens) of one of mteb's tasks by the statistics that come with mteb; None if it has none."""
    if parts := getattr(task, "tasks", None):  # CQADupstack is the mean of twelve
        counted = [task_tokens(part, most) for part in parts]
        return None if None in counted else tuple(map(sum, zip(*counted, strict=True)))
    stats = task.metadata.descriptive_stats or {}
    texts = tokens = 0.0
    for split in task.metadata.eval_splits:
        of_split = stats.get(split)
        if not of_split:
            return None
        by_subset = of_split.get("hf_subset_descriptive_stats") or {"": of_split}
        for subset, found in by_subset.items():
            if subset and subset not in task.hf_subsets:
                continue
            languages = task.metadata.hf_subsets_to_langscripts.get(subset) or []
            latin = not languages or all(code.endswith("Latn") for code in languages)
            for count, mean in _statistics(found):
                texts += count
                tokens += count * min(mean / CHARACTERS[latin], most)
    return texts, tokens


def _statistics(found: dict) -> Iterator[tuple[float, float]]:
    """(distinct texts, mean characters) of each kind of text that mteb counted."""
    for name, part in found.items():
        if name.endswith("_statistics") and isinstance(part, dict) and part.get("average_text_length"):
            mean = float(part["average_text_length"])
            yield min(float(part["unique_texts"]), part["total_text_length"] / mean), mean


def _passkeys(profile: Profile, shape: gpu_cost.Shape) -> Work:
    settings = profile.long_context
    sets = settings.queries if settings.candidates_per == "query" else 1
    variants = max(1, len(settings.variants))
    tokens = sum(settings.lengths) * settings.candidates * sets * variants
    texts = len(settings.lengths) * settings.candidates * sets * variants
    return Work("06_long_context", f"{variants} variants", float(tokens), shape.matrices, 2, 2, texts)
