"""Whole runs as Ray tasks, each with its share of the machines; begun again where one dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from synthembed.cluster import session
from synthembed.cluster.session import ClusterError
from synthembed.profile.cluster import Cluster


def spread(
    function: Callable[..., Any], jobs: Sequence[tuple], cluster: Cluster, folder: Path
) -> Iterator[tuple[int, Any]]:
    """(number, ``function(*job)``) of each job as it ends, ``cluster.workers`` of them at a time.

    A job whose process or node dies is begun again ``cluster.retries`` times, so ``function`` goes on from
    what it left in ``folder``, which all nodes must see. What ``function`` raises is raised here, and what
    runs then is cancelled. Values that jobs share travel once. Raises ClusterError where Ray gives up.
    """
    with session.joined(cluster) as ray:
        gpus = session.gpus_per_worker(ray, cluster)
        session.fits(ray, cluster.model_copy(update={"workers": 1, "min_workers": None}), gpus)
        sent: dict[int, Any] = {}  # by identity: a mixture of two million examples is one object for all rows
        arguments = [[_put(ray, value, sent) for value in job] for job in jobs]
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / f".seen-{uuid4().hex}"
        mark.touch()
        task = ray.remote(_there).options(
            num_cpus=cluster.cpus_per_worker, num_gpus=gpus, max_retries=cluster.retries
        )
        waiting, running = list(range(len(jobs)))[::-1], {}
        try:
            while waiting or running:
                while waiting and len(running) < cluster.workers:
                    number = waiting.pop()
                    running[
                        task.remote(function, gpus, str(mark), session.versions(), *arguments[number])
                    ] = number
                (done, *_), _ = ray.wait(list(running), num_returns=1)
                yield running.pop(done), ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause or error) from None
        except ray.exceptions.RayError as error:
            raise ClusterError(f"a task died {cluster.retries + 1} times: {error}") from None
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
            mark.unlink(missing_ok=True)


def _put(ray, value: Any, sent: dict[int, Any]) -> Any:
    if id(value) not in sent:
        sent[id(value)] = ray.put(value)
    return sent[id(value)]


def _there(function: Callable, gpus: float, mark: str, versions: dict[str, str], *job: Any) -> Any:
    """One job, on a node that sees the results and runs the versions of the process that sent it."""
    session.compare(session.versions(), versions, "a node")
    if not Path(mark).exists():
        raise ClusterError(
            f"{Path(mark).parent} is not there on every node: keep the results in a folder that all of them share"
        )
    if 0 < gpus < 1:
        import torch

        if torch.cuda.is_available():  # Ray counts parts of a GPU and bounds no memory
            torch.cuda.set_per_process_memory_fraction(gpus)
    return function(*job)
