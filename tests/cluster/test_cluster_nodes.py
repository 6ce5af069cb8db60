"""Two nodes of one machine, each by ``ray start``, the second of which is killed with SIGKILL in the middle."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster_runs import assert_same, fixed_ports, killing, trained
from synthembed.cluster import session
from synthembed.ground.files import ROOT
from synthembed.profile.cluster import Cluster

OWN = "TWO_NODES_IN_THIS_PROCESS"  # Ray keeps a cluster's token and packages for the life of a process


def start(*arguments: str) -> subprocess.Popen:
    command = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats",
               "--num-cpus=1", *fixed_ports(), f"--object-store-memory={100 * 2**20}", *arguments]  # fmt: skip
    quick = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "8",
             "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}  # fmt: skip
    return subprocess.Popen(
        command,
        env=os.environ | quick,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


class Group:
    """All processes of a node, as ``killing`` kills a process."""

    def __init__(self, process: subprocess.Popen):
        self.pid = process.pid

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


@pytest.fixture
def two_nodes():
    """(settings that join the head, the second node), each with one CPU."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with socket.socket() as free, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        free.bind(("", 0))
        outward.connect(("192.0.2.1", 1))  # sends nothing; tells which address of this machine Ray takes
        host, port = outward.getsockname()[0], free.getsockname()[1]
    address = f"{host}:{port}"
    head = start("--head", f"--port={port}", "--include-dashboard=false")
    wait_for(host, port)
    second = start(f"--address={address}")
    try:
        yield {"address": address, "workers": 2, "min_workers": 1}, Group(second)
    finally:
        for node in (second, head):
            Group(node).kill()
            node.wait()


def wait_for(host: str, port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
            return
        time.sleep(0.2)
    raise TimeoutError("the head did not start")


@pytest.mark.skipif(OWN in os.environ, reason="this is that process")
def test_two_nodes_in_a_process_of_their_own(tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTEST_"))}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        f"--basetemp={tmp_path / 'own'}",
        __file__,
    ]
    done = subprocess.run(command, cwd=ROOT, env=kept | {OWN: "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.skipif(OWN not in os.environ, reason="runs in the process that the test above starts")
def test_a_node_that_is_killed_costs_no_number(two_nodes, base, alone, tmp_path):
    """The training goes on with the worker that is left."""
    settings, second = two_nodes
    until_both_are_there(settings)
    checkpoint = "cluster/*/checkpoint_*/checkpoints/step-*"
    with killing(tmp_path / "train", checkpoint, lambda: [second]) as killed:
        model = trained(tmp_path / "train", base, 2, placed=settings)
    assert killed
    assert_same(tmp_path / "train", model, alone)


def until_both_are_there(settings) -> None:
    with session.joined(Cluster(**settings)) as ray:
        for _ in range(600):
            if ray.cluster_resources().get("CPU") == 2:
                return
            time.sleep(0.2)
        raise TimeoutError("the second node did not join")
