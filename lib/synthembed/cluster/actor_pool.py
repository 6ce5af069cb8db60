"""Work for several workers, each of which holds what is costly to make, such as a model.

Ray places the workers. Where one died another takes its place, and what it had before it is given to others.
Two pieces of work wait at each worker and no more, however many there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from synthembed.cluster import session
from synthembed.cluster.session import ClusterError
from synthembed.profile.cluster import Cluster

AHEAD = 2  # the piece that a worker is at, and the next
PATIENCE_S = 60.0  # without any news, before it is said that one waits
NEVER_RAN = "The actor never ran"
REMEDY = (
    "Their node's logs (/tmp/ray/session_latest/logs) have more. Give each more memory (fewer workers, or less for each "
    "to do at once), mend its environment, or set cluster.retries higher where nodes come and go"
)


class Holder:
    """What lives in a worker's process: ``held`` is what ``make`` gave there."""

    held = None

    def awake(self) -> None:
        pass

    def ready(self, make: Callable[[], Any]) -> None:
        self.held = self.held or make()

    def call(self, method: str, *arguments):
        return getattr(self.held, method)(*arguments)


@dataclass(eq=False)
class Work:
    arguments: tuple
    lost: int = 0  # workers that died over it


@dataclass
class Pool:
    """Workers that hold something (``actors``); ``map`` gives them work."""

    ray: ModuleType
    workers: list
    make: Any  # a reference to what makes what they hold
    retries: int
    place: Callable[[], Any]  # a new worker
    begun: set = field(default_factory=set)  # workers that hold it

    def share(self, value):
        """``value`` sent to each node once: stands for it as an argument of work."""
        return self.ray.put(value)

    def map(self, method: str, jobs: Iterable[tuple]) -> Iterator[tuple[tuple, Any]]:
        """Each of ``jobs`` (the method's arguments) with what ``method`` of a held thing gave, as they end.

        ``jobs`` are drawn when there is room. Raises what the method or ``make`` raised, and ClusterError for a job over
        which more than ``retries`` workers died, or if more than that die in a row before they hold anything.
        """
        lost = self._lost()
        waiting, again, free = iter(jobs), deque(), deque()
        running = {worker.awake.remote(): (worker, None) for worker in self.workers}
        beginning = {worker: Work((self.make,)) for worker in self.workers}
        while True:
            while free and (work := again.popleft() if again else _next(waiting)):
                worker = free.popleft()
                running[worker.call.remote(method, *work.arguments)] = worker, work
            if free and not any(work and work is not beginning.get(w) for w, work in running.values()):
                return
            (ref,) = self.ray.wait(list(running), num_returns=1, timeout=PATIENCE_S)[0] or (None,)
            if ref is None:
                self._say_what_is_awaited(running.values(), beginning)
                continue
            worker, work = running.pop(ref)
            begin = beginning.get(worker)  # none if it is dead, and this the second that is heard of it
            begins = work is None or work is begin
            try:
                result = self.ray.get(ref)
            except lost as error:
                free = deque(w for w in free if w is not worker)
                if begin:
                    another = self._in_the_place_of(worker)
                    beginning[another] = beginning.pop(worker)
                    running[another.awake.remote()] = another, None
                if not begins:
                    self._count(work, method, error)
                    again.append(work)
                elif worker not in self.begun:
                    self._count(begin, "beginning", error)
                continue
            except self.ray.exceptions.RayTaskError as error:  # what was raised there, not Ray's wrapping
                raise error.cause from error
            if work is None:
                running[worker.ready.remote(self.make)] = worker, beginning[worker]
                continue
            if begin:
                free.extend([worker] * (AHEAD if begins else 1))
            if begins:
                work.lost = 0
                self.begun.add(worker)
            else:
                yield work.arguments, result

    def _in_the_place_of(self, worker):
        """A new worker, placed as soon as there is room. Ray's own restarts have no end and tell no cause where a
        process dies each time before it can answer."""
        self.ray.kill(worker)  # it may be out of reach only, and would keep its GPU
        self.workers[self.workers.index(worker)] = another = self.place()
        return another

    def _say_what_is_awaited(self, running, beginning) -> None:
        absent = {worker for worker, work in running if work is None}
        begin = {worker for worker, work in running if work and work is beginning.get(worker)}
        print(
            f"waiting: of {len(self.workers)} workers {len(absent)} are not placed yet and {len(begin)} are beginning; "
            f"{self.ray.available_resources().get('CPU', 0):g} CPUs are free",
            flush=True,
        )

    def _lost(self) -> tuple[type[Exception], ...]:
        kinds = self.ray.exceptions
        return (
            kinds.RayActorError, kinds.WorkerCrashedError, kinds.ObjectLostError, kinds.OutOfMemoryError,
            kinds.RuntimeEnvSetupError,
        )  # fmt: skip

    def _count(self, work: Work, method: str, error: Exception) -> None:
        work.lost += 1
        if work.lost > self.retries:
            raise ClusterError(
                f"{work.lost} workers died over the same piece of work ({method}): {_last_line(error)}\n{REMEDY}"
            ) from error
        print(f"a worker died ({method}): another one takes over", flush=True)


@contextmanager
def actors(ray: ModuleType, make: Callable[[], Any], cluster: Cluster) -> Iterator[Pool]:
    """``cluster.workers`` workers with what ``make`` gives in each of them, placed by a ``ray`` that is
    connected (``session.joined``); they end with the block. ``make`` is sent to each node once."""
    gpus = session.gpus_per_worker(ray, cluster)
    session.fits(ray, cluster, gpus)
    sent = ray.put(make)
    placed = ray.remote(Holder).options(
        num_cpus=cluster.cpus_per_worker, num_gpus=gpus, max_restarts=0, max_task_retries=0,
        scheduling_strategy="SPREAD",
    )  # fmt: skip
    workers = [placed.remote() for _ in range(cluster.workers)]
    pool = Pool(ray, workers, sent, cluster.retries, placed.remote)
    try:
        yield pool
    finally:
        for worker in pool.workers:
            ray.kill(worker)


def _next(jobs: Iterator[tuple]) -> Work | None:
    job = next(jobs, None)
    return None if job is None else Work(job)


def _last_line(error: Exception) -> str:
    """Of Ray's error, which says the cause last, but for a note on a worker that had not begun."""
    lines = [line for line in str(error).strip().splitlines() if not line.strip().startswith(NEVER_RAN)]
    return (lines or [type(error).__name__])[-1]
