"""Being connected to Ray: a cluster of this machine for the run, or one that is there already.

The library travels with the job (``py_modules``), and the versions of what computes are compared with
those of every node before work begins there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import math
import os
import platform
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import psutil

from synthembed.ground.files import PACKAGE
from synthembed.ground.hardware import release
from synthembed.profile.cluster import Cluster

INSTALL = 'install it with: pip install "synthembed[cluster]"'
COMPARED = ("ray", "torch", "transformers", "tokenizers", "peft", "safetensors", "numpy", "mteb")
CLOSES_WITHIN_S = 20.0
STARTS = 3
SHIPPED = {"py_modules": [str(PACKAGE)], "excludes": ["__pycache__"]}  # this library, whatever a node has
# Read by Ray when it is imported: quiet, plain lines in a notebook's cell, no report to its makers.
MANY_NODES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_COLOR_PREFIX": "0", "RAY_TRAIN_V2_ENABLED": "1",
}  # fmt: skip


class ClusterError(RuntimeError):
    """Ray is missing, cannot be reached, or differs from what runs here; the message says what to do."""


@contextmanager
def joined(cluster: Cluster) -> Iterator[ModuleType]:
    """The module ``ray``, connected; on leaving, however that comes about, the connection and a local cluster
    are closed. Within another ``joined`` its connection serves, and stays open.

    A local cluster listens on loopback alone and asks for a token; one that is joined has its own address,
    token (``RAY_AUTH_TOKEN``, or Ray's own file) and dashboard. Raises ClusterError without Ray, without a
    cluster at ``address``, and where a node runs other versions than this process.
    """
    ray = _installed(cluster.address == "local")
    if ray.is_initialized():
        yield ray
        return
    release()  # workers may share a GPU with this process
    try:
        _connect(ray, cluster)
        check(ray)
        yield ray
    finally:
        _close(ray)


def gpus_per_worker(ray: ModuleType, cluster: Cluster) -> float:
    """The setting, or one where the cluster has any."""
    if cluster.gpus_per_worker is not None:
        return cluster.gpus_per_worker
    return 1.0 if ray.cluster_resources().get("GPU") else 0.0


def fits(ray: ModuleType, cluster: Cluster, gpus: float) -> None:
    """Raises ClusterError where a local cluster has too few GPUs for its workers; of one that is joined and may
    grow it is said, since the work then waits."""
    needed = (cluster.min_workers or cluster.workers) * gpus
    there = ray.cluster_resources().get("GPU", 0.0)
    cpus = (cluster.min_workers or cluster.workers) * cluster.cpus_per_worker
    if needed <= there and cpus <= ray.cluster_resources().get("CPU", 0.0):
        return
    told = f"{cluster.workers} workers want {needed:g} GPUs and {cpus:g} CPUs, the cluster has {there:g} and "
    told += f"{ray.cluster_resources().get('CPU', 0.0):g}"
    if cluster.address == "local":
        raise ClusterError(f"{told}: set cluster.workers or cluster.gpus_per_worker lower")
    print(f"{told}: waiting for more", flush=True)


def check(ray: ModuleType) -> None:
    """Raises ClusterError if a node that is alive runs other versions than this process."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    look = ray.remote(num_cpus=0)(lambda: versions())
    asked = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)).remote()
        for node in nodes
    ]
    for node, found in zip(nodes, ray.get(asked), strict=True):
        compare(found, versions(), f"node {node['NodeManagerAddress']}")


def compare(theirs: dict[str, str], ours: dict[str, str], who: str) -> None:
    """Raises ClusterError naming each package in which ``who`` differs from this process."""
    different = [
        f"{name} {theirs.get(name, 'missing')} (here {ours.get(name, 'missing')})"
        for name in sorted(theirs | ours)
        if theirs.get(name) != ours.get(name)
    ]
    if different:
        raise ClusterError(
            f"{who} has {', '.join(different)}: install the same there (pip install -r requirements.lock); if it is "
            "this library's code that differs, it was edited meanwhile: restart this process"
        )


@cache
def versions() -> dict[str, str]:
    """Package → version, Python's and the digest of this library's code, of this process."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    found = {"python": platform.python_version(), "synthembed's code": digest.hexdigest()[:12]}
    for name in COMPARED:
        if importlib.util.find_spec(name):
            found[name] = importlib.metadata.version(name)
    return found


def _installed(local: bool) -> ModuleType:
    """``ray``, imported with the environment that it is to have; raises ClusterError if it is not there."""
    if importlib.util.find_spec("ray") is None:
        raise ClusterError(f"cluster: Ray is not installed; {INSTALL}")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # What Ray does on its own on a Mac and on Windows: a node's address is 127.0.0.1, and nothing listens
    # beyond it. The variable is for Ray's processes, the constant for this one.
    os.environ[MANY_NODES] = "0" if local else "1"
    if local and "ray" not in sys.modules:
        _want_token()
    ray = import_module("ray")
    import_module("ray._private.ray_constants").ENABLE_RAY_CLUSTER = not local
    return ray


def _want_token() -> None:
    """Token authentication, with a token that this process and its children alone know unless there is one.
    Where Ray was imported before, it does so by itself."""
    if os.environ.setdefault("RAY_AUTH_MODE", "token") != "token":
        return
    there = (Path.home() / ".ray" / "auth_token").exists()
    if not there and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _connect(ray: ModuleType, cluster: Cluster) -> None:
    common = {"log_to_driver": True, "logging_level": "ERROR", "runtime_env": SHIPPED}
    _refuse_what_cannot_begin(ray, cluster)
    if cluster.address != "local":
        try:
            ray.init(address=cluster.address, **common)
        except (ConnectionError, ray.exceptions.RayError, RuntimeError, ValueError) as error:
            raise ClusterError(
                f"cluster.address = {cluster.address}: no Ray cluster answers there ({error}): start one with "
                "ray start --head, or set cluster.address=local"
            ) from None
        return
    cpus = max(os.cpu_count() or 1, math.ceil(cluster.workers * cluster.cpus_per_worker))
    memory = {"object_store_memory": cluster.object_store_mb * 2**20} if cluster.object_store_mb else {}
    for attempt in range(1, STARTS + 1):
        # Ray Train's own actors look for "the" cluster of the machine, which may be someone else's.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ["RAY_GCS_SERVER_PORT"] = str(port)
        common["runtime_env"] = SHIPPED | {"env_vars": {"RAY_ADDRESS": f"127.0.0.1:{port}"}}
        try:
            context = ray.init(
                address="local", num_cpus=cpus, include_dashboard=cluster.dashboard, dashboard_host="127.0.0.1",
                **memory, **common,
            )  # fmt: skip
            break
        except Exception as error:  # a plain one, if a daemon was not there in time
            _close(ray)
            if attempt == STARTS:
                raise ClusterError(
                    f"Ray did not start here, {STARTS} times: {error}; it gives its daemons 15 to 30 seconds, "
                    "which a very busy machine may exceed"
                ) from None
        finally:
            del os.environ["RAY_GCS_SERVER_PORT"]
    if cluster.dashboard:
        print(f"dashboard: http://{context.dashboard_url}", flush=True)


def _refuse_what_cannot_begin(ray: ModuleType, cluster: Cluster) -> None:
    """Raises ClusterError for what no second try or idle machine would mend, of which Ray's own error says little."""
    said = os.environ.get("RAY_ADDRESS", "")
    if cluster.address == "auto" and "://" in said:
        raise ClusterError(
            f"RAY_ADDRESS = {said}: Ray Client cannot train: start this on a machine of the cluster, and set it to "
            "host:port, such as 10.0.0.1:6379, or unset it"
        )
    if cluster.address == "local" and cluster.dashboard:
        lacking = getattr(ray._private.utils, "get_dashboard_dependency_error", lambda: None)()
        if lacking:
            raise ClusterError(
                f'cluster.dashboard: the Ray that is installed has no page ({lacking}): pip install "ray[default]" '
                "-c requirements.lock -c requirements-extras.lock, or set cluster.dashboard=false"
            )


def _close(ray: ModuleType) -> None:
    """Disconnect; of a local cluster wait until all its processes have ended, and end what has not."""
    family = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if str(Path(ray.__file__).parent) in " ".join(child.cmdline()):  # a daemon
                family += [child, *child.children(recursive=True)]
    ray.shutdown()
    os.environ.pop(MANY_NODES, None)  # else a ``ray start`` from this process could join nothing
    _, left = psutil.wait_procs(family, timeout=CLOSES_WITHIN_S)
    for process in left:
        process.kill()
