"""One Ray for a file's tests, small and quiet; without Ray there is nothing to test here."""

import os
from importlib.util import find_spec

import pytest
from cluster_runs import SMALL, python_path, trained
from synthembed.cluster import session
from synthembed.profile.cluster import Cluster
from tiny_models import saved_base

os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # seconds that a dead worker goes unnoticed
# Seconds that a worker of a dead node is waited for, of which Ray hears every 20; then as many are tried as there are.
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "10")
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process of each group; no node drains
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # processes that nothing here needs
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets every other test go first, on two cores
collect_ignore_glob = [] if find_spec("ray") else ["test_*"]


@pytest.fixture(scope="module")
def cluster():
    """One Ray for the file, with four processes at most; it listens on loopback alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path())  # workers find the tests' modules
        patch.setattr(session, "CLOSES_WITHIN_S", 5.0)  # what is at work on nothing may be ended sooner
        with session.joined(Cluster(**SMALL)) as connected:
            yield connected


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return saved_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def alone(base, tmp_path_factory):
    """(folder, model) of the run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, trained(folder, base, None)
