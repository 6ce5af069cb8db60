"""Two nodes of one machine, each by ``ray start``, the second of which is killed with SIGKILL in the middle."""

import os
import subprocess
import sys
import time

import pytest
from cluster_runs import assert_same, killing, python_path, trained
from synthembed.cluster import session
from synthembed.ground.files import ROOT
from synthembed.profile.cluster import Cluster

OWN = "TWO_NODES_IN_THIS_PROCESS"  # Ray keeps a cluster's token and packages for the life of a process
QUICK = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "8"}


@pytest.fixture
def two_nodes(monkeypatch):
    """(settings that join the head, the second node), each with one CPU."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("PYTHONPATH", python_path())
    from benchmarks import kills

    with kills.Nodes.started(QUICK) as nodes:
        os.environ.update(nodes.token)
        yield {"address": nodes.address, "workers": 2, "min_workers": 1}, nodes.second


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
