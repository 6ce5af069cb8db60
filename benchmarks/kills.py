"""A run by Ray on two nodes of this machine, of which a worker and then a node are killed at random moments:
``python -m benchmarks.kills [RUNS] [SEED]``.

Each run makes stages 03 to 05 of the smoke profile. A stage is drawn for each of the two deaths, and a moment
within it; the victim gets SIGKILL, and a node that died is followed by another one. The run must end by itself
with the scores of the run that one process makes on one core (``runs/kills-alone``), to the last digit. Of a
classifier that is asked of rounding: sums of several workers, in another order, move a text that lies on a border.
Writes results/bench/kills.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from synthembed.ground import run_folders
from synthembed.ground.files import ROOT, read_json, write_json

from benchmarks.measure import row

RUNS = 5
STARTS = 10  # of a node, whose daemons a busy machine keeps from their work
GIVEN = ("01_generate", "02_analyze")  # copied from the run of one process: they know no workers
PLACED = ("03_train", "04_evaluate", "05_ablations")
WORKERS = ("ray::RayTrainWorker", "ray::Holder", "ray::_there")  # as processes of Ray call themselves
# The other systems are not ours, and no worker's. In 16 bits sums in another order are other numbers (docs/cluster.md).
SETTINGS = ("evaluate.systems=[base, trained]", "backbone.dtype=float32")
ONE_CORE = {"OMP_NUM_THREADS": "1"}  # as a worker has; of more threads, too, sums come in another order
CLASSIFIED = 0.25  # points, of a classifier's accuracy: five texts of two thousand
SUBNET = "10.213"  # of the pairs of interfaces; private, and as good as any
AGENTS = (
    "metrics-export-port",
    "dashboard-agent-grpc-port",
    "dashboard-agent-listen-port",
    "runtime-env-agent-port",
)


class Network:
    """A network namespace for a node, joined to this machine's by a pair of interfaces: with an address, ports and
    a loopback of its own, as another machine has. Raises OSError where it cannot be had: not on Linux, or not root."""

    def __init__(self, number: int):
        self.name, there = f"kills-{os.getpid()}-{number}", f"{SUBNET}.{number}"
        here, self.interface = f"kills{number}", f"node{number}"
        self._ip("netns", "add", self.name)
        try:
            self._ip("link", "add", here, "type", "veth", "peer", "name", self.interface, "netns", self.name)
            self._ip("address", "add", f"{there}.1/24", "dev", here)
            self._ip("link", "set", here, "up")
            self._ip("-n", self.name, "address", "add", f"{there}.2/24", "dev", self.interface)
            for own in ("lo", self.interface):
                self._ip("-n", self.name, "link", "set", own, "up")
            self._ip("-n", self.name, "route", "add", "default", "via", f"{there}.1")
        except OSError:
            self.end()
            raise

    @property
    def entered(self) -> list[str]:
        """What a command begins with that is to run in it."""
        return ["ip", "netns", "exec", self.name]

    def end(self) -> None:
        """Its interfaces go with it, when its last process has."""
        self._ip("netns", "delete", self.name)

    @staticmethod
    def _ip(*words: str) -> None:
        try:
            subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            raise OSError(f"ip {' '.join(words)}: {error.stderr.strip()}") from None


class Node:
    """``ray start``, in a process group of its own, and in ``network`` if that is given."""

    process = None

    def __init__(self, *arguments: str, environment: dict[str, str], network: Network | None = None):
        self.network = network
        ray = str(Path(sys.executable).parent / "ray")
        self.command = [*(network.entered if network else ()), ray, "start", "--block", "--disable-usage-stats",
                        "--num-cpus=1", f"--object-store-memory={100 * 2**20}", *arguments]  # fmt: skip
        own = {"RAY_worker_niceness": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
        own |= {"GLOO_SOCKET_IFNAME": network.interface if network else interface_of(outward())}
        self.environment, self.killed = os.environ | own | environment, False

    def start(self) -> Node:
        """Returns when its daemons are at work. Raises TimeoutError if they do not come to it."""
        for _ in range(STARTS):
            with tempfile.TemporaryFile("w+") as said:
                self.process = subprocess.Popen(
                    [*self.command, *(f"--{name}={port}" for name, port in free_ports().items())], stdout=said,
                    stderr=subprocess.STDOUT, env=self.environment, start_new_session=True,
                )  # fmt: skip
                if self._started(said) and not self.killed:
                    return self
            self._end()
            if self.killed:  # meanwhile, by whoever wants it no more
                return self
        raise TimeoutError(f"{STARTS} times a node did not start: Ray gives its daemons 15 seconds")

    def _started(self, said) -> bool:
        """Whether it says so before it gives up."""
        while self.process.poll() is None:
            time.sleep(0.2)
            said.seek(0)
            if "Ray runtime started" in said.read():
                return True
        return False

    @property
    def pid(self) -> int:
        return self.process.pid

    def family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def kill(self) -> None:
        """All its processes at once, as where a machine is switched off."""
        self.killed = True
        self._end()

    def _end(self) -> None:
        if self.process is None:
            return
        family = self.family()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for process in family:  # what has left the group
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()

    def gone(self) -> None:
        """Kill it, and leave nothing of its network."""
        self.kill()
        if self.network:
            self.network.end()


def outward() -> str:
    """The address of this machine that Ray takes for a node's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect(("192.0.2.1", 1))  # sends nothing
        return asked.getsockname()[0]


def interface_of(address: str) -> str:
    """Which gloo is to listen at: by the machine's name it finds the loopback, which no other node reaches."""
    return next(name for name, all_ in psutil.net_if_addrs().items() if address in [a.address for a in all_])


def free_ports(names: tuple[str, ...] = AGENTS) -> dict[str, int]:
    """Of a node's agents: a raylet that has to be told of them waits the longer, the busier the machine is."""
    with contextlib.ExitStack() as held:
        free = [held.enter_context(socket.socket()) for _ in names]
        for each in free:
            each.bind(("", 0))
        return {name: each.getsockname()[1] for name, each in zip(names, free, strict=True)}


@dataclass
class Nodes:
    """Two nodes; the first one has the head and the run's own process, the second may die."""

    address: str
    head: Node
    others: list[Node]  # the last one lives, or is about to
    token: dict[str, str]  # what whoever joins them has in its environment
    environment: dict[str, str]

    @classmethod
    @contextlib.contextmanager
    def started(cls, environment: dict[str, str] | None = None):
        """Both, each with one CPU; they end with the block."""
        port = free_ports(("port",))["port"]
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        environment = token | (environment or {})
        head = Node("--head", f"--port={port}", "--include-dashboard=false", environment=environment).start()
        nodes = cls(f"{outward()}:{port}", head, [], token, environment)
        try:
            nodes.another()
            yield nodes
        finally:
            for node in (*nodes.others, head):
                node.gone()

    def another(self) -> None:
        """A second node, also in the place of one that died, in a network of its own where that can be had. Raises
        TimeoutError if none starts."""
        try:
            network = Network(len(self.others))
        except OSError:
            network = None
        self.others.append(Node(f"--address={self.address}", environment=self.environment, network=network))
        self.others[-1].start()

    @property
    def second(self) -> Node:
        return self.others[-1]

    def workers(self) -> list[psutil.Process]:
        """Processes that train, encode or have a row, of both nodes."""
        found = []
        for process in [*self.head.family(), *self.second.family()]:
            with contextlib.suppress(psutil.Error):
                if " ".join(process.cmdline()).startswith(WORKERS):
                    found.append(process)
        return found


@dataclass
class Killer:
    """Kills a worker and a node of ``nodes`` while ``run`` goes on, in the stages and after the shares of their
    time in the run of one process that ``draw`` gives."""

    nodes: Nodes
    run: Path
    draw: random.Random
    lasts: dict[str, float]
    deaths: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        for kind, stage in self.planned():
            if not self._until(stage):
                return
            self.over.wait(self.draw.random() * self.lasts[stage])
            victims = self.nodes.workers() if kind == "worker" else [self.nodes.second]
            while kind == "worker" and not victims and not self.over.wait(0.05):
                victims = self.nodes.workers()
            if self.over.is_set() or not victims:
                return
            victim = self.draw.choice(victims)
            what = kind if kind == "node" else " ".join(victim.cmdline()).strip()
            with contextlib.suppress(psutil.Error):
                victim.kill()
                self.deaths.append(f"{what} in {self._at()}")
            if kind == "node":
                threading.Thread(target=self._another, daemon=True).start()  # which may take minutes

    def _another(self) -> None:
        try:
            self.nodes.another()
        except TimeoutError as error:
            print(f"no node in the place of the dead one: {error}", flush=True)

    def planned(self) -> list[tuple[str, str]]:
        first, second = sorted(self.draw.choices(PLACED, k=2))
        kinds = self.draw.sample(["worker", "node"], 2)
        return [(kinds[0], first), (kinds[1], second)]

    def _at(self) -> str:
        return max((s for s in PLACED if (self.run / s).exists()), default=PLACED[0])

    def _until(self, stage: str) -> bool:
        """Whether the stage, or a later one, has workers before the run is over."""
        while not self.over.wait(0.05):
            if self._at() >= stage and self.nodes.workers():
                return True
        return False


def made(name: str, stages: tuple[str, ...], settings: tuple[str, ...], environment=None) -> Path:
    """The run folder of a run of the smoke profile. Raises RuntimeError with the end of its log if it fails."""
    folder = run_folders.own() / name
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "synthembed", "run", "--profile", "smoke", "--run", name]
    command += [word for stage in stages for word in ("--only", stage)]
    command += [word for setting in settings for word in ("--set", setting)]
    log = folder / "kills.log"
    with open(log, "w", encoding="utf-8") as file:
        failed = subprocess.run(
            command, cwd=ROOT, env=os.environ | (environment or {}), stdout=file, stderr=subprocess.STDOUT
        ).returncode
    if failed:
        raise RuntimeError(f"{name}: it ended with {failed}:\n{log.read_text(encoding='utf-8')[-3000:]}")
    return folder


def scores_of(run: Path) -> dict[str, dict]:
    """What must not depend on who died: the rows of scores.json, of both stages that have one."""
    return {s: {k: read_json(run / s / "scores.json")[k] for k in ("rows", "more")} for s in PLACED[1:]}


def disturbed(number: int, seed: int, alone: Path) -> tuple[list[str], list[str], list[str], int]:
    """(who died where, what differs from ``alone``, what by rounding, second nodes in a network of their own) of
    one run."""
    run = run_folders.own() / f"kills-{number}"
    shutil.rmtree(run, ignore_errors=True)
    for stage in GIVEN:
        shutil.copytree(alone / stage, run / stage)
    lasts = {s: read_json(alone / s / "stage.json")["wall_s"] for s in PLACED}
    with Nodes.started() as nodes:
        killer = Killer(nodes, run, random.Random(f"{seed}/{number}"), lasts)
        thread = threading.Thread(target=killer)
        thread.start()
        try:
            placed = json.dumps({"address": nodes.address, "workers": 2, "min_workers": 1})
            made(run.name, PLACED, (*SETTINGS, f"cluster={placed}"), ONE_CORE | nodes.token)
        finally:
            killer.over.set()
            thread.join()
    apart = sum(node.network is not None for node in nodes.others)
    return killer.deaths, *differences(scores_of(run), scores_of(alone)), apart


def differences(found: dict, expected: dict) -> tuple[list[str], list[str]]:
    """The rows that are not the expected ones, in words; those apart that rounding explains."""
    wrong, rounded = [], []
    for stage, kinds in expected.items():
        for kind, rows in kinds.items():
            for there, here in zip(found[stage][kind], rows, strict=True):
                if there == here:
                    continue
                near = here["category"] == "Class." and abs(there["score"] - here["score"]) <= CLASSIFIED
                said = f"{stage}: {here['system']} {here['task']} {there['score']}, alone {here['score']}"
                (rounded if near else wrong).append(said)
    return wrong, rounded


def run(runs: int = RUNS, seed: int = 0) -> list[dict]:
    alone = made("kills-alone", (*GIVEN, *PLACED), SETTINGS, ONE_CORE)
    rows = sum(len(rows) for kinds in scores_of(alone).values() for rows in kinds.values())
    same, apart, said = 0, 0, []
    for number in range(1, runs + 1):
        started = time.monotonic()
        deaths, different, rounded, networks = disturbed(number, seed, alone)
        apart += networks
        same += not different and len(deaths) == 2
        equal = f"{rows - len(different) - len(rounded)} of {rows} scores to the last digit"
        others = "; ".join(different + [f"by rounding {one}" for one in rounded])
        said.append(f"{'; '.join(deaths) or 'nobody died'}: {equal}{others and '; '}{others}")
        print(f"run {number} of {runs}, {time.monotonic() - started:.0f} s: {said[-1]}", flush=True)
    unit = "runs with both deaths and the same scores"
    said.append(f"{apart} second nodes in a network namespace of their own")
    return [row("kills/smoke", same, runs, "all of them", unit, " | ".join(said))]


if __name__ == "__main__":
    rows = run(*(int(word) for word in sys.argv[1:3]))
    (ROOT / "results" / "bench").mkdir(parents=True, exist_ok=True)
    write_json(ROOT / "results" / "bench" / "kills.json", rows)
    sys.exit(rows[0]["ratio"] < 1)
