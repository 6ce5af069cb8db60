"""From examples to the rows of one step: which examples, which texts, cut into which chunks.

Everything here is a function of (settings, examples, seed, step), so every worker computes the same
batch and takes its own share of the chunks.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

import torch

from synthembed.corpus.example import Example
from synthembed.ground.console import WARNED
from synthembed.ground.seeding import seed_of
from synthembed.model import packed_rows
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import budget_batches
from synthembed.model.instructions import query_text
from synthembed.model.tokens import TokenContract
from synthembed.profile.settings import Train
from synthembed.training.contrastive import excluded_pairs

Made = TypeVar("Made")


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message says why and what to do."""


def task_of(example: Example) -> str:
    """What ``train.same_task_batches`` keeps apart: task families, and data sets of labelled pairs."""
    source, slash, _ = example.id.partition("/")
    return f"{example.family} {source if slash else ''}"


def groups_of(settings: Train, examples: list[Example]) -> list[list[int]]:
    """Indices that may share a batch: all of them, or those of each task.

    A task with fewer examples than a batch goes with the others of its family that are small, and these, if
    they do not fill one together, with the family's smallest that does. A family that has fewer than a batch
    makes a smaller batch, of two examples or more; nothing can be told apart in a batch of one.
    """
    if not settings.same_task_batches:
        return [list(range(len(examples)))]
    families: dict[str, dict[str, list[int]]] = {}
    for number, example in enumerate(examples):
        tasks = families.setdefault(example.family, {})
        tasks.setdefault(task_of(example), []).append(number)
    groups = []
    for _, tasks in sorted(families.items()):
        found = [tasks[t] for t in sorted(tasks)]
        large = [group for group in found if len(group) >= settings.batch_size]
        small = sorted(i for group in found if len(group) < settings.batch_size for i in group)
        if large and len(small) < settings.batch_size:
            min(large, key=len).extend(small)
        elif len(small) > 1:
            large.append(small)
        groups += large
    return groups


def batches_an_epoch(settings: Train, examples: list[Example]) -> int:
    """Full batches of one epoch; of each group, a last batch that is not full is left out of it."""
    groups = groups_of(settings, examples)
    if not groups:
        raise TrainingError(
            "train.same_task_batches: no family has two examples, and a batch of one tells nothing apart; "
            "allow mixed batches"
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


def made(make: Callable[[int], Made], steps: Iterable[int], ahead: bool) -> Iterator[Made]:
    """``make(step)`` of each step in order; with ``ahead`` a thread makes the next one while one is used."""
    if not ahead:
        yield from map(make, steps)
        return
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future] = deque(maxlen=2)
        for step in steps:
            waiting.append(thread.submit(make, step))
            if len(waiting) == 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


# --- what a training leaves out ------------------------------------------------------------------

LOOKED_AT = 20_000  # examples whose texts are counted; of more, evenly spaced ones


def losses(settings: Train, examples: list[Example], contract: TokenContract, seed: int) -> dict:
    """What a run does not see: ``queries`` and ``documents`` with how many of them are cut after how many tokens,
    and ``left_out``, examples of each task that are in no batch of it.

    Of more than LOOKED_AT examples the texts of evenly spaced ones are counted. Raises TrainingError if an
    instruction leaves a query no room, as all its queries would be one.
    """
    refuse_long_instructions(settings, examples, contract)
    some = examples[:: -(-len(examples) // LOOKED_AT) or 1]
    texts = {
        "queries": [query_text(e, settings.instruction) for e in some],
        "documents": [d for e in some for d in (e.documents() if settings.hard_negatives else [e.positive])],
    }
    found: dict = {"examples": len(examples), "looked_at": len(some)}
    for kind, longest in (("queries", settings.max_length), ("documents", settings.document_length)):
        before = contract.read["cut"]
        contract.ids(texts[kind], longest)
        cut = contract.read["cut"] - before
        found[kind] = {"texts": len(texts[kind]), "cut": cut, "at": longest}
    found["epochs"] = steps_of(settings, examples) / batches_an_epoch(settings, examples)
    return found | {"left_out": left_out(settings, examples, seed)}


def refuse_long_instructions(settings: Train, examples: list[Example], contract: TokenContract) -> None:
    bare = {e.instruction: replace(e, query="") for e in examples}
    before = [query_text(e, settings.instruction) for e in bare.values()]
    for example, ids in zip(bare.values(), contract.ids(before, settings.max_length), strict=True):
        if len(ids) >= settings.max_length:
            raise TrainingError(
                f"example {example.id}: what stands before its query is as long as train.max_length = "
                f"{settings.max_length} tokens, so that all such queries would be one: raise train.max_length, or "
                f"shorten the instruction ({example.instruction[:60]!r})"
            )


def left_out(settings: Train, examples: list[Example], seed: int) -> dict[str, int]:
    """How many examples of each task are in no batch of the whole run."""
    batch_of, seen = schedule(settings, examples, seed), set()
    for step in range(steps_of(settings, examples)):
        seen.update(map(id, batch_of(step)))
        if len(seen) == len(examples):
            break
    return dict(Counter(task_of(e).strip() for e in examples if id(e) not in seen))


def said(found: dict) -> str:
    """``losses`` in words; a warning where more than 1 % is lost and the run was not asked to be shorter."""
    lines = []
    of = "" if found["looked_at"] == found["examples"] else f", of {found['looked_at']:,} examples looked at"
    for kind, key in (("queries", "max_length"), ("documents", "document_max_length")):
        cut, texts, longest = (found[kind][name] for name in ("cut", "texts", "at"))
        key = "max_length" if longest == found["queries"]["at"] else key
        told = f"{cut:,} of {texts:,} {kind} are cut at {longest} tokens{of}"
        lines.append(f"warning: {told}: raise train.{key}" if cut > WARNED * texts else told)
    if out := sum(found["left_out"].values()):
        named = ", ".join(f"{task} {count:,}" for task, count in found["left_out"].items())
        told = f"{out:,} of {found['examples']:,} examples are in no batch of {found['epochs']:.2g} epochs ({named})"
        lost = out > WARNED * found["examples"] and found["epochs"] >= 1
        lines.append(f"warning: {told}: lower train.batch_size, or raise train.epochs" if lost else told)
    return "\n".join(lines)


# --- the rows of a step --------------------------------------------------------------------------


def _rows(contract: TokenContract, texts: list[tuple[str, int]]) -> list[list[int]]:
    """Token ids of (text, most tokens), in their order."""
    rows = []
    for longest, some in groupby(texts, key=itemgetter(1)):
        rows += contract.ids([text for text, _ in some], longest)
    return rows


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
        documents = positives + [d for e in examples if settings.hard_negatives for d in e.documents()[1:]]
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
        self.texts = [e.query for e in examples], documents  # bare, for a teacher
        asked = [(q, settings.max_length) for q in queries]
        asked += [(d, settings.document_length) for d in documents]
        texts = list(dict.fromkeys(asked))
        rows = _rows(backbone.contract, texts)
        backbone.contract.check(rows)
        self.tokens = sum(map(len, rows))
        self.padded = not packed_rows.supports(backbone.model)
        place = self._cut(rows, settings, seed, workers)
        at = {text: place[i] for i, text in enumerate(texts)}
        self.query_rows = torch.tensor([at[one] for one in asked[: len(queries)]])
        self.document_rows = torch.tensor([at[one] for one in asked[len(queries) :]])

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

    def size_of(self, chunk: list[list[int]]) -> int:
        """Tokens that a chunk takes, padding included."""
        return len(chunk) * len(chunk[0]) if self.padded else sum(map(len, chunk))

    def keep(self, tokens: int) -> int:
        """How many chunks of each worker may keep their graphs within a budget of tokens."""
        counts = []
        for start in range(0, len(self.chunks), self.per_worker):
            left, count = tokens, 0
            for chunk in self.chunks[start : start + self.per_worker]:
                left -= self.size_of(chunk)
                if left < 0:
                    break
                count += 1
            counts.append(count)
        return min(counts)
