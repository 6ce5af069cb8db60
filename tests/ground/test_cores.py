"""Threads go by the cores that a process may use, not by those of the machine."""

import os
import sys
from types import SimpleNamespace

import pytest
import torch
from synthembed.generation import local_server
from synthembed.ground import cores
from synthembed.model import backbone as backbones
from synthembed.profile.settings import Backbone
from synthembed.training import workers


@pytest.fixture
def allowed(tmp_path, monkeypatch):
    """A machine of 64 cores and what a process may use of it."""

    def set_to(bound: int, quota: str | None = None) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)), raising=False)
        monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
        if quota is not None:
            (tmp_path / "cpu.max").write_text(quota)

    return set_to


@pytest.mark.parametrize(
    ("bound", "quota", "found"),
    [
        (64, None, 64), (4, None, 4), (64, "max 100000\n", 64), (64, "200000 100000\n", 2), (64, "150000 100000\n", 2),
        (64, "50000 100000\n", 1), (2, "800000 100000\n", 2),
    ],
)  # fmt: skip
def test_cores_are_those_that_may_be_used(allowed, bound, quota, found):
    allowed(bound, quota)
    assert cores.cores() == found


def test_threads_of_everything_that_computes_are_as_many(allowed, tiny_folder, tmp_path, monkeypatch):
    allowed(64, "200000 100000\n")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(8)
        backbones.load(Backbone(model=str(tiny_folder)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

    def started(command, env, **_):
        raise RuntimeError(f"{env['OMP_NUM_THREADS']} threads each")

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(workers.subprocess, "Popen", started)
    with pytest.raises(RuntimeError, match=r"^1 threads each"):
        workers.launch("a.module", [], 2, tmp_path / "log")

    made = []

    def parameters():
        made.append(SimpleNamespace(model=SimpleNamespace(), cpuparams=SimpleNamespace()))
        return made[0]

    served = SimpleNamespace(listening_address="http://here")
    llama = SimpleNamespace(CommonParams=parameters, Server=lambda _: served)
    monkeypatch.setitem(sys.modules, "xllamacpp", llama)
    monkeypatch.setattr(local_server.embedded, "fetch", lambda _: tmp_path)
    with local_server.server() as url:
        assert url == "http://here/v1" and made[0].cpuparams.n_threads == 2
