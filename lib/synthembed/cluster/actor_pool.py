"""Work for several workers, each of which holds what is costly to make, such as a model.

Ray places the workers and starts them again where one died; what such a worker had before it is given to
another. Two pieces of work wait at each worker and no more, however many there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from synthembed.cluster import session
from synthembed.cluster.session import ClusterError
from synthembed.profile.cluster import Cluster

AHEAD = 2  # the piece that a worker is at, and the next
PATIENCE_S = 60.0  # without any news, before it is said that one waits


class Empty(RuntimeError):
    """Work came to a worker that was started again and holds nothing yet."""


class Holder:
    """What lives in a worker's process: ``held`` is what ``make`` gave there."""

    held = None

    def awake(self) -> None:
        pass

    def ready(self, make: Callable[[], Any]) -> None:
        self.held = self.held or make()

    def call(self, method: str, *arguments):
        if self.held is None:
            raise Empty
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

    def share(self, value):
        """``value`` sent to each node once: stands for it as an argument of work."""
        return self.ray.put(value)

    def map(self, method: str, jobs: Iterable[tuple]) -> Iterator[tuple[tuple, Any]]:
        """Each of ``jobs`` (the method's arguments) with what ``method`` of a held thing gave, as they end.

        ``jobs`` are drawn when there is room. Raises what the method or ``make`` raised, and ClusterError for a job over
        which more than ``retries`` workers died, or if no worker is left.
        """
        lost = self._lost()
        waiting, again, free = iter(jobs), deque(), deque()
        running = {self._awake(worker): (worker, None) for worker in self.workers}
        beginning = {worker: Work((self.make,)) for worker in self.workers}
        while True:
            while free and (work := again.popleft() if again else _next(waiting)):
                worker = free.popleft()
                running[worker.call.remote(method, *work.arguments)] = worker, work
            if free and not any(work and work is not beginning[w] for w, work in running.values()):
                return
            if not running:
                raise ClusterError("no worker is left")
            (ref,) = self.ray.wait(list(running), num_returns=1, timeout=PATIENCE_S)[0] or (None,)
            if ref is None:
                self._say_what_is_awaited(running.values(), beginning)
                continue
            worker, work = running.pop(ref)
            begins = work is beginning[worker]
            try:
                result = self.ray.get(ref)
            except (*lost, Empty) as error:
                free = deque(w for w in free if w is not worker)
                if work is None:  # it will not be started again
                    continue
                if not isinstance(error, Empty):
                    self._count(work, "beginning" if begins else method, error)
                if not begins:
                    again.append(work)
                if all(w is not worker or other not in (None, beginning[w]) for w, other in running.values()):
                    running[self._awake(worker)] = worker, None
                continue
            except self.ray.exceptions.RayTaskError as error:  # what was raised there, not Ray's wrapping
                raise error.cause from error
            if work is None:
                running[worker.ready.remote(self.make)] = worker, beginning[worker]
                continue
            free.extend([worker] * (AHEAD if begins else 1))
            if begins:
                work.lost = 0
            else:
                yield work.arguments, result

    def _awake(self, worker):
        """Answered when the worker's process is there, be it after it was started again."""
        return worker.awake.options(max_task_retries=-1).remote()

    def _say_what_is_awaited(self, running, beginning) -> None:
        absent = {worker for worker, work in running if work is None}
        begin = {worker for worker, work in running if work is beginning[worker]}
        print(
            f"waiting: of {len(self.workers)} workers {len(absent)} are not placed yet and {len(begin)} are beginning; "
            f"{self.ray.available_resources().get('CPU', 0):g} CPUs are free",
            flush=True,
        )

    def _lost(self) -> tuple[type[Exception], ...]:
        kinds = self.ray.exceptions
        return kinds.RayActorError, kinds.WorkerCrashedError, kinds.ObjectLostError, kinds.OutOfMemoryError

    def _count(self, work: Work, method: str, error: Exception) -> None:
        work.lost += 1
        if work.lost > self.retries:
            raise ClusterError(
                f"{work.lost} workers died over the same piece of work ({method}): {_last_line(error)}"
            ) from error
        print(f"a worker died ({method}): another one takes over", flush=True)


@contextmanager
def actors(ray: ModuleType, make: Callable[[], Any], cluster: Cluster) -> Iterator[Pool]:
    """``cluster.workers`` workers with what ``make`` gives in each of them, placed by a ``ray`` that is
    connected (``session.joined``); they end with the block. ``make`` is sent to each node once."""
    gpus = session.gpus_per_worker(ray, cluster)
    session.fits(ray, cluster, gpus)
    sent = ray.put(
        make
    )  # not the constructor's: Ray would have to keep those of a worker that it starts again
    placed = ray.remote(Holder).options(
        num_cpus=cluster.cpus_per_worker, num_gpus=gpus, max_restarts=-1, max_task_retries=0,
        scheduling_strategy="SPREAD",
    )  # fmt: skip
    pool = Pool(ray, [placed.remote() for _ in range(cluster.workers)], sent, cluster.retries)
    try:
        yield pool
    finally:
        for worker in pool.workers:
            ray.kill(worker)


def _next(jobs: Iterator[tuple]) -> Work | None:
    job = next(jobs, None)
    return None if job is None else Work(job)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
