"""Evaluation over the workers of a cluster: small tasks by the part, large corpora by the block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from mteb.abstasks import AbsTaskRetrieval

from synthembed.cluster import actor_pool, session
from synthembed.evaluation.large import parts
from synthembed.evaluation.protocol import MtebEncoder
from synthembed.evaluation.suites.embedded_tasks import Embedded
from synthembed.ground.console import Progress
from synthembed.model.blocks import store as blocks
from synthembed.model.blocks.spread import BlockWorker, on_cpu
from synthembed.profile.cluster import Cluster

SHARED = 8  # blocks of a corpus from which on all workers encode it together


class TaskWorker(BlockWorker):
    """What a worker holds to score parts of tasks: the model, as mteb sees it."""

    def __init__(self, model: MtebEncoder):
        super().__init__(model.encoder)
        self.model = model

    def score(self, number: int, task, wanted: list[tuple[str, list[str]]], folder: Path) -> list[dict]:
        by_hand, found = task.data_loaded, []
        for split, subsets in wanted:
            if not by_hand:
                parts.load(task, subsets)
            found.append(parts.score(self.model, task, split, subsets, folder))
        if not by_hand and task.data_loaded:
            task.unload_data()
        return found


@contextmanager
def placed(cluster: Cluster | None, model: MtebEncoder) -> Iterator[None]:
    """``model`` evaluated by ``cluster``'s workers within the block; with no cluster, by this process. The
    weights travel to the nodes through Ray, once to each."""
    if cluster is None:
        yield
        return
    with session.joined(cluster) as ray, ExitStack() as held:
        model.storage = cluster.storage
        with on_cpu(model.encoder):  # until they are sent: this process encodes queries
            pool = held.enter_context(actor_pool.actors(ray, partial(TaskWorker, model), cluster))
        model.pool = pool
        try:
            yield
        finally:
            model.pool = None


def ahead(model: MtebEncoder, tasks: list, folder: Path) -> None:
    """Have all parts of ``tasks`` scored and kept below ``folder``, but for those of corpora so large that
    they are better encoded by all workers together."""
    jobs = [job for task in tasks for job in _jobs(task, folder)]
    progress = Progress("  over the workers", "pieces", every=30)
    numbered = ((n, task, wanted, folder) for n, (task, wanted, _) in enumerate(jobs))
    for done, ((number, *_), found) in enumerate(model.pool.map("score", numbered), 1):
        task, wanted, of_data = jobs[number]
        for (split, subsets), part in zip(wanted, found, strict=True):
            parts.keep(part, folder, task, split, subsets, of_data)
        progress(done, len(jobs), task.metadata.name)


def _jobs(task, folder: Path) -> Iterator[tuple]:
    """(task, parts, hash of its data) for one worker: of retrieval a language, of others the whole task."""
    of_data = parts.content(task)
    wanted = [p for p in parts.of(task) if parts.kept(folder, task, *p, of_data) is None]
    if not isinstance(task, AbsTaskRetrieval):
        if wanted:
            yield task, wanted, of_data
        return
    for subset in dict.fromkeys(tuple(subsets) for _, subsets in wanted):
        of_subset = [p for p in wanted if tuple(p[1]) == subset]
        if max(documents(task, split, subset[0]) for split, _ in of_subset) <= SHARED * blocks.BLOCK:
            yield task, of_subset, of_data


def documents(task, split: str, subset: str) -> int:
    """How many documents a corpus has: counted where it is loaded, otherwise as mteb's statistics say; 0 if
    these do not."""
    if task.data_loaded:
        return len(task.dataset[subset][split]["corpus"])
    if isinstance(task, Embedded):
        return 0
    said = (task.metadata.descriptive_stats or {}).get(split) or {}
    of_subset = (said.get("hf_subset_descriptive_stats") or {}).get(subset) or said
    return of_subset.get("num_documents") or 0
