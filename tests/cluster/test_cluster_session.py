"""Being connected to Ray: what is said if that cannot be, who can reach it, and that nothing is left."""

import importlib.util

import psutil
import pytest
from synthembed import profile
from synthembed.cluster import session
from synthembed.cluster.session import ClusterError
from synthembed.profile.cluster import Cluster
from synthembed.profile.reading import ProfileError


def test_without_ray_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(
            ClusterError, match=r'^cluster: Ray is not installed; .*pip install "synthembed\[cluster\]"$'
        ),
        session.joined(Cluster()),
    ):
        pass


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("cluster.address=ray://head:10001", "ray Client cannot train"),
        ("cluster.address=head", "write local, auto or host:port"),
        ("cluster.workers=2 cluster.min_workers=3", "min_workers = 3 is more than workers = 2"),
        ("cluster.workers=2 train.workers=2", "set one of them"),
        ("cluster.wrokers=2", "did you mean 'workers'"),
    ],
)
def test_an_impossible_cluster_is_refused_when_the_profile_is_read(changes, said):
    with pytest.raises(ProfileError, match=said):
        profile.load("smoke", changes)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dashboard": True}, r'has no page \(No module named .aiohttp.\): pip install "ray\[default\]"'),
        ({"address": "auto"}, "RAY_ADDRESS = ray://head:10001: Ray Client cannot train: start this on"),
    ],
)
def test_what_no_second_try_would_mend_is_said_before_the_first(monkeypatch, settings, said):
    ray = session._installed(True)
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    lacking = ImportError("No module named 'aiohttp'")
    monkeypatch.setattr(ray._private.utils, "get_dashboard_dependency_error", lambda: lacking)
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray was begun"))
    with pytest.raises(ClusterError, match=said):
        session._connect(ray, Cluster(**settings))


def test_another_version_on_a_node_is_named():
    with pytest.raises(
        ClusterError, match=r"node 10\.0\.0\.2 has torch 2\.12 \(here 2\.13\): install the same"
    ):
        session.compare({"torch": "2.12", "ray": "1"}, {"torch": "2.13", "ray": "1"}, "node 10.0.0.2")


def test_a_local_cluster_listens_on_loopback_alone_wants_a_token_and_runs_this_code(cluster):
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [
        c.laddr.ip for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 3
    assert {ip.removeprefix("::ffff:") for ip in listening} <= {"127.0.0.1", "::1"}
    there = cluster.get(cluster.remote(lambda: session.versions()).remote())
    assert there == session.versions()
    mode = cluster._raylet.get_authentication_mode()
    assert mode == cluster._raylet.AuthenticationMode.TOKEN


def test_too_few_gpus_are_said_before_anything_is_placed(cluster):
    with pytest.raises(ClusterError, match=r"4 workers want 4 GPUs and 4 CPUs, the cluster has 0 and"):
        session.fits(cluster, Cluster(workers=4), 1.0)


def test_a_connection_within_another_one_is_that_one(cluster):
    with session.joined(Cluster()) as again:
        assert again is cluster
    assert cluster.is_initialized()
