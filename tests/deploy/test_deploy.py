"""Files for clusters: as far as they can be tried without one. The Slurm script is run by a stand-in srun."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from synthembed.ground.files import ROOT

from benchmarks.kills import free_ports

DEPLOY = ROOT / "deploy"
RAY = Path(sys.executable).with_name("ray")
SHELLCHECK = Path(sys.executable).with_name("shellcheck")


def own_ports() -> str:
    """Options of `ray start`: the ports of a node's agents."""
    return " ".join(f"--{name}={port}" for name, port in free_ports().items())


def shell_texts() -> dict[str, str]:
    task = yaml.safe_load((DEPLOY / "skypilot/task.yaml").read_text())
    told = {f"skypilot {part}": f"#!/usr/bin/env bash\n{task[part]}" for part in ("setup", "run")}
    return told | {"slurm": (DEPLOY / "slurm/run.sbatch").read_text()}


@pytest.mark.parametrize("name", shell_texts())
@pytest.mark.skipif(not SHELLCHECK.exists(), reason="shellcheck is not installed (make extras)")
def test_shell_texts_pass_shellcheck(name):
    found = subprocess.run([SHELLCHECK, "-"], input=shell_texts()[name], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


SRUN = 'while [[ $1 == --* ]]; do shift; done; exec "$@"'  # options away, the rest is run here


def write_commands(folder: Path, bodies: dict[str, str]) -> None:
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (folder / name).chmod(0o755)


def stated(text: str) -> list[str]:
    """Settings of a profile that a file sets, and profiles that it names."""
    return re.findall(r"--set\s+\"?([a-z_.]+)=", text)


@pytest.mark.parametrize(
    "path", [p.relative_to(DEPLOY) for p in DEPLOY.rglob("*") if p.is_file()], ids=lambda p: p.as_posix()
)
def test_settings_and_versions_are_those_of_the_project(path):
    from synthembed.profile.settings import Profile

    text = (DEPLOY / path).read_text()
    for setting in stated(text):
        section, _, name = setting.partition(".")
        assert name in type(getattr(Profile(name="any", cluster={}), section)).model_fields, setting
    for name in re.findall(r"--profile ([a-z]+)", text):
        assert (ROOT / "profiles" / f"{name}.yaml").exists()
    locked = re.search(r"^ray==([\d.]+)$", (ROOT / "requirements-extras.lock").read_text(), re.M).group(1)
    for version in re.findall(r'rayVersion: "([\d.]+)"', text):
        assert version == locked
    for copied in re.findall(r"^COPY (.*) \./$", text, re.M):
        assert all((ROOT / name).exists() for name in copied.split())


def test_the_job_for_kubernetes_mounts_what_it_names():
    claim, job = yaml.safe_load_all((DEPLOY / "kuberay/rayjob.yaml").read_text())
    assert (claim["kind"], job["kind"], job["apiVersion"]) == ("PersistentVolumeClaim", "RayJob", "ray.io/v1")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        assert pod["volumes"] == [
            {"name": "data", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
        ]
        for container in pod["containers"]:
            assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    workers = groups[1]
    gpus = int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    assert f"cluster.workers={workers['replicas'] * gpus}" in job["spec"]["entrypoint"]


def test_the_slurm_script_puts_its_job_back_before_the_time_limit(tmp_path):
    bodies = {
        "srun": SRUN,
        "scontrol": f'if [[ $1 == requeue ]]; then echo "$2" > "{tmp_path}/requeued"; else echo node1; fi',
        # As Debian has it: the name leads to the node alone, and the first address of the network is the one.
        "hostname": 'case $1 in --ip-address) echo 127.0.1.1;; *) echo "fe80::1 10.0.0.7 172.17.0.1 ";; esac',
        "ray": "exec sleep 60",
        "python": "exit 0",
        "synthembed": f'echo "$@" > "{tmp_path}/asked"; touch "{tmp_path}/running"; exec sleep 60',
    }
    write_commands(tmp_path, bodies)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "BIN": str(tmp_path), "RAY_AUTH_TOKEN": "t",
        "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "node1", "SLURM_JOB_ID": "77",
    }  # fmt: skip
    script = subprocess.Popen([shutil.which("bash"), DEPLOY / "slurm/run.sbatch", "run"], env=environment)
    try:
        while not (tmp_path / "running").exists():
            assert script.poll() is None
            time.sleep(0.05)
        script.send_signal(signal.SIGUSR1)
        assert script.wait(30) == 143
    finally:
        script.kill()
    assert (tmp_path / "requeued").read_text() == "77\n"
    assert "cluster.address=10.0.0.7:6379" in (tmp_path / "asked").read_text()


@pytest.mark.skipif(not RAY.exists(), reason="Ray is not installed (make extras)")
def test_the_slurm_script_joins_two_nodes_and_starts_the_run_on_the_first(tmp_path):
    stand_in = {"srun": SRUN, "scontrol": "printf 'node1\\nnode2\\n'", "hostname": "echo 127.0.0.1"}
    path, bin_ = tmp_path / "path", tmp_path / "bin"
    for folder in (path, bin_):
        folder.mkdir()
    write_commands(path, stand_in)
    # As on a node of a laptop: a small store, one core each, and ports of its own.
    # The first node's first attempt fails, as where it does not come up in Ray's 30 seconds.
    (bin_ / "ray").write_text(
        "#!/usr/bin/env bash\n"
        f'[[ -e "{tmp_path}/tried" ]] || {{ touch "{tmp_path}/tried"; exit 1; }}\n'
        f"own=({own_ports()})\n"
        f'[[ " $* " == *" --head "* ]] && own=({own_ports()})\n'
        '[[ $1 == start ]] && set -- "$@" "${own[@]}" --num-cpus=1 --object-store-memory=90000000\n'
        f'exec "{RAY}" "$@"\n'
    )
    (bin_ / "python").write_text(f'#!/usr/bin/env bash\nexec "{sys.executable}" "$@"\n')
    (bin_ / "synthembed").write_text(
        f"#!{sys.executable}\n"
        "import os, sys, time, ray\n"
        "address = next(a for a in sys.argv if a.startswith('cluster.address=')).partition('=')[2]\n"
        "ray.init(address=address, logging_level='ERROR')\n"
        "end = time.time() + 240\n"
        "while sum(n['Alive'] for n in ray.nodes()) < 2 and time.time() < end: time.sleep(0.2)\n"
        "print('NODES', sum(n['Alive'] for n in ray.nodes()), 'ARGUMENTS', *sys.argv[1:])\n"
    )
    for file in bin_.iterdir():
        file.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "PATH": f"{path}:{os.environ['PATH']}", "BIN": str(bin_), "PORT": str(port),
        "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[1-2]", "RAY_AUTH_TOKEN": "t" * 64,
    }  # fmt: skip
    found = subprocess.run(
        [shutil.which("bash"), DEPLOY / "slurm/run.sbatch", "run", "--profile", "smoke"],
        env=environment, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    line = next(x for x in found.stdout.splitlines() if x.startswith("NODES"))
    wanted = f"run --set cluster.address=127.0.0.1:{port} --set cluster.workers=2 --set cluster.grid=[] --profile smoke"
    assert line == f"NODES 2 ARGUMENTS {wanted}", found.stdout[-3000:] + found.stderr[-3000:]
    assert "t" * 64 not in found.stdout + found.stderr
    import psutil

    left = [
        p
        for p in psutil.process_iter(["cmdline"])
        if f"127.0.0.1:{port}" in " ".join(p.info["cmdline"] or ())
    ]
    _, alive = psutil.wait_procs(left, timeout=20)
    assert not alive, [p.info for p in alive]
