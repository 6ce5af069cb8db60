"""From a kernel and from a process: the workers' progress in the cell, Ctrl-C, and a head that is killed."""

import json
import subprocess
import sys
import time

import psutil
import pytest
from cluster_runs import losses, processes_of_ray, python_path, trained
from jupyter_client.manager import start_new_kernel

CODE = """
from pathlib import Path
from cluster_runs import trained
model = trained(Path({folder!r}), {base!r}, 1, **{changes})
print("trained to the end")
"""
LONG = {"train.epochs": 8}  # 24 steps; every second one is written to the storage, which takes seconds


@pytest.fixture(scope="module")
def long(base, tmp_path_factory):
    """Losses of the run of one process."""
    folder = tmp_path_factory.mktemp("long")
    trained(folder, base, None, **LONG)
    return losses(folder)


@pytest.fixture
def code(base, tmp_path, monkeypatch):
    """What trains in a cluster of its own, in a process that finds the tests' modules."""
    monkeypatch.setenv("PYTHONPATH", python_path())
    return CODE.format(folder=str(tmp_path / "run"), base=str(base), changes=json.dumps(LONG))


def heard(client, until: str, patience: float = 600) -> str:
    """What a cell prints, until ``until`` is in it or the cell is over."""
    text, deadline = "", time.monotonic() + patience
    while until not in text:
        assert time.monotonic() < deadline, text
        message = client.get_iopub_msg(timeout=patience)
        content = message["content"]
        text += content.get("text", "") + " ".join(content.get("traceback", []))
        if content.get("execution_state") == "idle":
            break
    return text


def until(there, patience: float = 600) -> None:
    deadline = time.monotonic() + patience
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def saved(folder) -> bool:
    return any(folder.glob("cluster/*/checkpoint_*/checkpoints/step-*"))


def assert_ended(family: list[psutil.Process]) -> None:
    assert family  # a cluster's daemons and its worker
    _, left = psutil.wait_procs(family, timeout=120)
    assert not left


def test_a_cell_shows_the_workers_leaves_nothing_running_when_told_to_stop_and_goes_on(long, code, tmp_path):
    kernel, client = start_new_kernel(startup_timeout=600)
    try:
        client.execute(code)
        assert "RayTrainWorker" in heard(client, "RayTrainWorker")
        until(lambda: saved(tmp_path / "run"))
        family = processes_of_ray("ray", psutil.Process(kernel.provisioner.pid))
        kernel.interrupt_kernel()
        assert "KeyboardInterrupt" in heard(client, "KeyboardInterrupt")
        assert_ended(family)
        assert len(losses_of(tmp_path / "run")) < len(long)
        client.wait_for_ready(timeout=600)
        client.execute(code)
        text = heard(client, "trained to the end")
        assert "resuming after step" in text and "trained to the end" in text
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert losses(tmp_path / "run") == pytest.approx(long, rel=1e-5)


def losses_of(folder) -> list[float]:
    return losses(folder) if (folder / "log.jsonl").exists() else []


def test_a_killed_head_ends_the_run_and_a_restart_goes_on_from_the_last_checkpoint(
    long, code, tmp_path, monkeypatch
):
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")  # a minute otherwise
    with open(tmp_path / "said", "w+") as said:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=said, stderr=subprocess.STDOUT)
        until(lambda: saved(tmp_path / "run") or process.poll() is not None)
        family = processes_of_ray("ray", psutil.Process(process.pid))
        (head,) = processes_of_ray("gcs_server", psutil.Process(process.pid))
        head.kill()
        assert process.wait(600)
        assert_ended(family)
        again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
        assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-4000:]
        assert "resuming after step" in again.stdout + again.stderr
    assert losses(tmp_path / "run") == pytest.approx(long, rel=1e-5)
