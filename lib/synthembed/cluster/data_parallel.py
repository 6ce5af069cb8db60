"""One loop in several processes that torch.distributed joins, placed and begun again by Ray Train.

What a loop needs to go on lies in its folder; ``saved()`` copies that to the storage, and processes
that begin again, wherever that is, find it in theirs. Imports Ray: import it within ``session.joined``.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.fs
import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import (
    _set_torch_distributed_env_vars,
    _setup_torch_process_group,
    _TorchBackend,
)

from synthembed.cluster import session
from synthembed.cluster.session import ClusterError
from synthembed.profile.cluster import Cluster

Loop = Callable[..., None]  # loop(folder, saved, *arguments), the same in every process
# Seconds that a process waits for another one: the first may score a point of a learning curve, or write a large
# checkpoint, for longer than torch's half an hour. That one has died is Ray's to notice.
WAITS_S = 12 * 3600
WRITES = 3  # attempts to write a checkpoint, with pauses of 1, 2, ... seconds
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


def run(
    loop: Loop, arguments: tuple, cluster: Cluster, name: str, folder: Path,
    begin: Iterable[Path] = (), final: tuple[type, ...] = (),
) -> None:  # fmt: skip
    """Run ``loop`` in ``cluster.workers`` processes; what they saved last is in ``folder`` then. To be called
    within ``session.joined``.

    They begin with the files ``begin`` of ``folder``, or with what an earlier run of this ``name`` has left
    in the storage. A loop that loses a process or a node is begun again, ``cluster.retries`` times; an
    exception of the kinds ``final`` is not tried again. Raises that exception, or ClusterError.
    """
    filesystem, place = opened(cluster.storage or str(folder / "cluster"))
    gpus = session.gpus_per_worker(ray, cluster)
    session.fits(ray, cluster, gpus)
    held = {path.relative_to(folder).as_posix(): path.read_bytes() for path in begin}
    elastic = (cluster.min_workers, cluster.workers) if cluster.min_workers else cluster.workers
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "job": ray.put((loop, arguments, final)), "begin": ray.put(held), "versions": session.versions(),
        },
        torch_config=(_Loopback if cluster.address == "local" else TorchConfig)(timeout_s=WAITS_S),
        scaling_config=ray.train.ScalingConfig(
            num_workers=elastic, use_gpu=gpus > 0,
            resources_per_worker={"CPU": cluster.cpus_per_worker} | ({"GPU": gpus} if gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name, storage_path=place, storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=cluster.retries),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )  # fmt: skip
    result = _waited_for(trainer)
    if isinstance(result.return_value, BaseException):
        raise result.return_value
    if result.checkpoint is not None:
        with result.checkpoint.as_directory() as last:
            shutil.copytree(last, folder, dirs_exist_ok=True)
    filesystem.delete_dir(f"{place}/{name}")
    if not cluster.storage:
        shutil.rmtree(folder / "cluster", ignore_errors=True)


def opened(storage: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """(file system, path in it) of a folder or of any URL that fsspec reads, such as s3://bucket/runs."""
    try:
        found, path = fsspec.core.url_to_fs(storage)
    except (ImportError, ValueError) as error:
        raise ClusterError(f"cluster.storage = {storage}: {error}") from None
    if "local" in fsspec.utils.get_protocol(storage) or "file" in fsspec.utils.get_protocol(storage):
        return pyarrow.fs.LocalFileSystem(), os.path.abspath(path)
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(found)), path


def _waited_for(trainer: TorchTrainer):
    """``trainer.fit()``, beside this thread: an interrupt is then raised here at once, whatever Ray waits for,
    and this process keeps its own handler of it."""
    outcome: dict[str, Any] = {}

    def fit() -> None:
        try:
            outcome["result"] = trainer.fit()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    error = outcome.get("error")
    if isinstance(error, ray.train.TrainingFailedError):
        raise ClusterError(said(error)) from None
    if error is not None:
        raise error
    return outcome["result"]


def said(error: BaseException) -> str:
    """What the processes that failed said, each once."""
    failures = getattr(error, "worker_failures", {})
    lines = dict.fromkeys(str(e).strip().splitlines()[-1] for e in failures.values() if str(e).strip())
    return "; ".join(lines) or str(error)


def _worker(config: dict) -> Any:
    """One process: its folder as the last checkpoint has it, and the loop in it."""
    session.compare(
        session.versions(), config["versions"], f"worker {ray.train.get_context().get_world_rank()}"
    )
    loop, arguments, final = ray.get(config["job"])
    with tempfile.TemporaryDirectory(prefix="synthembed-") as name:
        folder = Path(name)
        if (last := ray.train.get_checkpoint()) is not None:
            last.to_directory(folder)
        else:
            for path, content in ray.get(config["begin"]).items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
        try:
            loop(folder, lambda: _save(folder), *arguments)
        except final as error:  # the same on every process, and the next time
            return error


def _save(folder: Path) -> None:
    """Copy the folder to the storage; every process must ask, the first one writes."""
    first = ray.train.get_context().get_world_rank() == 0
    ray.train.report(
        {}, ray.train.Checkpoint.from_directory(folder) if first else None, checkpoint_upload_fn=_upload
    )


def _upload(checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
    """Into the storage, again if it fails: a hiccup of a network is cheaper than all workers begun anew."""
    storage = ray.train.get_context().get_storage()
    for attempt in range(1, WRITES + 1):
        try:
            return storage.persist_current_checkpoint(checkpoint, name)
        except (OSError, RuntimeError) as error:
            if attempt == WRITES:
                raise
            print(f"the storage did not take the checkpoint ({error}); trying again", flush=True)
            time.sleep(attempt)


@dataclass
class _Loopback(TorchConfig):
    """Processes of one machine that find each other by a file and speak over loopback: torch's own store
    would listen on every address."""

    @property
    def backend_cls(self):
        return _ByFile


class _ByFile(_TorchBackend):
    place = ""

    def on_start(self, worker_group, backend_config) -> None:
        gpus = worker_group.get_resources_per_worker().get("GPU", 0) > 0
        self.place = tempfile.mkdtemp(prefix="synthembed-")
        worker_group.execute(_speak_over_loopback)
        worker_group.execute(_set_torch_distributed_env_vars)
        ray.get([
            worker_group.execute_single_async(
                rank, _setup_torch_process_group, backend="nccl" if gpus else "gloo", world_rank=rank,
                world_size=len(worker_group), init_method=f"file://{self.place}/store", timeout_s=backend_config.timeout_s,
            )
            for rank in range(len(worker_group))
        ])  # fmt: skip

    def on_shutdown(self, worker_group, backend_config) -> None:
        try:
            super().on_shutdown(worker_group, backend_config)
        finally:  # not before: later groups, as FSDP's, meet there too
            shutil.rmtree(self.place, ignore_errors=True)


def _speak_over_loopback() -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = LOOPBACK
