"""From examples to the rows of one step: which examples, which texts, cut into which chunks.

Everything here is a function of (settings, examples, seed, step), so every worker computes the same
batch and takes its own share of the chunks.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from synthembed.corpus.example import Example
from synthembed.ground.seeding import seed_of
from synthembed.model import packed_rows
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import budget_batches
from synthembed.model.instructions import query_text
from synthembed.profile.settings import Train
from synthembed.training.contrastive import excluded_pairs


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message says why and what to do."""


def task_of(example: Example) -> str:
    """What ``train.same_task_batches`` keeps apart: task families, and data sets of labelled pairs."""
    source, slash, _ = example.id.partition("/")
    return f"{example.family} {source if slash else ''}"


def groups_of(settings: Train, examples: list[Example]) -> list[list[int]]:
    """Indices that may share a batch: all of them, or those of each task that fills a batch."""
    if not settings.same_task_batches:
        return [list(range(len(examples)))]
    tasks: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        tasks.setdefault(task_of(example), []).append(number)
    return [tasks[t] for t in sorted(tasks) if len(tasks[t]) >= settings.batch_size]


def batches_an_epoch(settings: Train, examples: list[Example]) -> int:
    """Full batches of one epoch; of each group, a last batch that is not full is left out."""
    groups = groups_of(settings, examples)
    if not groups:
        raise TrainingError(
            f"train.same_task_batches: no task has train.batch_size = {settings.batch_size} examples; "
            "lower the batch size or allow mixed batches"
        )
    return sum(max(1, len(group) // settings.batch_size) for group in groups)


def steps_of(settings: Train, examples: list[Example]) -> int:
    """Optimiser steps of a run."""
    steps = max(1, int(batches_an_epoch(settings, examples) * settings.epochs))
    return min(steps, settings.max_steps or steps)


def schedule(settings: Train, examples: list[Example], seed: int):
    """``step -> examples``: the batches of a permutation that is drawn anew for each epoch.

    The order does not depend on the number of workers, and a step can be asked for out of turn.
    """
    groups, per_epoch = groups_of(settings, examples), batches_an_epoch(settings, examples)

    @lru_cache(maxsize=1)  # of a permutation of millions, one draw an epoch
    def order(epoch: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed_of(seed, "epoch", epoch))
        batches = []
        for group in groups:
            size = min(settings.batch_size, len(group))
            drawn = torch.tensor(group)[torch.randperm(len(group), generator=generator)]
            batches += list(drawn[: len(group) // size * size].split(size))
        if len(groups) > 1:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator)]
        return batches

    def batch_of(step: int) -> list[Example]:
        epoch, number = divmod(step, per_epoch)
        return [examples[i] for i in order(epoch)[number].tolist()]

    return batch_of


class Batch:
    """Texts of one step as rows of ids, each distinct text once, in chunks cut by token budget.

    ``chunks`` are in the order in which ``workers`` hold them, an equal number each; ``seeds`` go
    with them. ``query_rows`` and ``document_rows`` say where a text's vector lies when the vectors of
    all chunks are put one after the other.
    """

    def __init__(
        self, examples: list[Example], backbone: Backbone, settings: Train, seed: int = 0, workers: int = 1
    ):
        queries = [query_text(e, settings.instruction) for e in examples]
        positives = [e.positive for e in examples]
        documents = positives + [e.negative for e in examples if e.negative and settings.hard_negatives]
        self.masked, self.excluded = 0, None
        self.positives = torch.arange(len(examples))
        if settings.mask_known_positives:
            distinct = list(dict.fromkeys(documents))
            column = {d: n for n, d in enumerate(distinct)}
            self.positives = torch.tensor([column[p] for p in positives])
            bare = [e.query for e in examples]
            self.excluded = excluded_pairs(bare, positives, distinct, self.positives.tolist())
            repeated = len(documents) - len(distinct)
            self.masked = self.excluded._nnz() + repeated * len(examples)
            documents = distinct
        texts = list(dict.fromkeys(queries + documents))
        rows = backbone.contract.ids(texts, settings.max_length)
        backbone.contract.check(rows)
        self.tokens = sum(map(len, rows))
        self.padded = not packed_rows.supports(backbone.model)
        place = self._cut(rows, settings, seed, workers)
        at = {text: place[i] for i, text in enumerate(texts)}
        self.query_rows = torch.tensor([at[q] for q in queries])
        self.document_rows = torch.tensor([at[d] for d in documents])

    def _cut(self, rows: list[list[int]], settings: Train, seed: int, workers: int) -> dict[int, int]:
        """Cut ``rows`` into chunks and deal them out; returns the place of each row's vector."""
        budget = settings.chunk_tokens
        if workers > 1:  # a small batch is still shared by all
            budget = min(budget, max(max(map(len, rows)), self.tokens // workers))
        cut = list(budget_batches([len(r) for r in rows], budget, self.padded))
        seeds = [seed_of(seed, "chunk", n) for n in range(len(cut))]
        while len(cut) % workers:  # equal numbers, so that all meet in every exchange; no loss reads these
            cut.append([cut[-1][-1]])
            seeds.append(0)
        dealt = [n for worker in range(workers) for n in range(worker, len(cut), workers)]
        self.chunks = [[rows[i] for i in cut[n]] for n in dealt]
        self.seeds = [seeds[n] for n in dealt]
        place: dict[int, int] = {}
        for place_, i in enumerate(i for n in dealt for i in cut[n]):
            place.setdefault(i, place_)
        self.per_worker = len(cut) // workers
        return place

    def share(self, worker: int) -> slice:
        """Which of ``chunks`` and ``seeds`` are this worker's."""
        return slice(worker * self.per_worker, (worker + 1) * self.per_worker)

    def sizes(self) -> list[int]:
        """How many vectors each worker makes."""
        shares = range(0, len(self.chunks), self.per_worker)
        return [sum(map(len, self.chunks[s : s + self.per_worker])) for s in shares]

    def keep(self, tokens: int) -> int:
        """How many chunks of each worker may keep their graphs within a budget of tokens."""
        counts = []
        for start in range(0, len(self.chunks), self.per_worker):
            left, count = tokens, 0
            for chunk in self.chunks[start : start + self.per_worker]:
                left -= len(chunk) * len(chunk[0]) if self.padded else sum(map(len, chunk))
                if left < 0:
                    break
                count += 1
            counts.append(count)
        return min(counts)
