"""Kernels that are forked from a process which has imported torch and its neighbours once.

Each stage's kernel takes seconds of CPU to import the same packages. ``Server`` starts fork_server.py as a
process of its own, which imports them and forks for each stage; the fork becomes an ordinary ipykernel.
Linux only: a forked kernel is no child of the runner, and is watched by its pidfd. Whatever fails here ends
in an ordinary kernel and one line that says so.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

# mteb is left out: it imports polars, whose threads do not survive a fork.
HEAVY = (
    "IPython.core.interactiveshell", "ipykernel.kernelapp", "ipykernel.ipkernel", "numpy", "pandas",
    "scipy.stats", "sklearn.linear_model", "sklearn.cluster", "torch", "datasets", "transformers",
    "sentence_transformers", "peft", "transformers.models.llama.modeling_llama",
)  # fmt: skip
PATIENCE = 120  # seconds for the imports
# A kernel runs in the folder of the shell, and a reader's own pandas.py there is not the package.
ALONE = "--IPKernelApp.ignore_cwd=True"
LAUNCHER = [sys.executable, "-m", "ipykernel_launcher"]
OF_LAUNCH = ("JPY_PARENT_PID", "JPY_SESSION_NAME")  # differ from kernel to kernel; no package reads them


class ColdStart(RuntimeError):
    """No kernel can be forked; the message says why."""


def supported() -> bool:
    return sys.platform == "linux" and hasattr(os, "fork") and hasattr(os, "pidfd_open")


class Server:
    """The process with the packages; ``close`` ends it, and so does the end of this process."""

    def __init__(self, heavy: tuple[str, ...] = HEAVY):
        self.environment = dict(os.environ)
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(PATIENCE)
        with theirs:
            fd = str(theirs.fileno())
            self.process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("fork_server.py"), fd, *heavy], pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=self.environment,  # and not what C libraries have added to this process's own
                start_new_session=True,  # an interrupt of the terminal is the runner's to handle
            )  # fmt: skip
        self.replies = self.channel.makefile("r", encoding="utf-8")
        self.ready = False

    def fork(self, command: list[str], env: dict[str, str], cwd: str | None) -> int:
        """The process id of a new kernel; it writes where this process does. Raises ColdStart."""
        if command[:3] != LAUNCHER:
            raise ColdStart(f"the kernel's command is {' '.join(command[:3])}")
        if changed := {k for k, _ in env.items() ^ self.environment.items()} - set(OF_LAUNCH):
            raise ColdStart(f"{', '.join(sorted(changed))} has changed since the packages were imported")
        if not self.ready:
            self._reply()
            self.ready = True
        request = {"arguments": command[3:], "env": env, "cwd": cwd or os.getcwd()}
        try:
            with tempfile.TemporaryFile() as file:
                file.write(json.dumps(request).encode())
                file.flush()
                socket.send_fds(self.channel, [b"f"], [file.fileno(), 1, 2])
                return self._reply()["pid"]
        except OSError as error:
            raise ColdStart(f"the process with the packages is gone: {error}") from None

    def warm(self) -> bool:
        """Whether it has imported the packages, or failed to: ``fork`` does not wait."""
        return self.ready or bool(select.select([self.channel], [], [], 0)[0])

    def _reply(self) -> dict:
        try:
            line = self.replies.readline()
        except OSError as error:
            raise ColdStart(str(error)) from None
        if not line:
            raise ColdStart("the process with the packages has ended")
        reply = json.loads(line)
        if "error" in reply:
            raise ColdStart(reply["error"])
        return reply

    def close(self) -> None:
        """End the process, and with it every kernel that is left."""
        self.replies.close()
        self.channel.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Forked:
    """What a kernel manager asks of a process, for one that is not our child."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int):
        self.pid, self.returncode = pid, None
        self.pidfd = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """None while it runs. How it ended is the server's to know: 1."""
        if self.returncode is None and select.select([self.pidfd], [], [], 0)[0]:
            os.close(self.pidfd)
            self.returncode = 1
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            select.select([self.pidfd], [], [])
        return self.poll()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def of_this_python() -> type:
    """A class of kernel managers, for papermill, whose kernels are of this process's Python. What Jupyter finds
    under the name python3 may be another environment's, left in a user's folder or named by JUPYTER_PATH."""
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class Own(AsyncKernelManager):
        @property
        def kernel_spec(self):
            return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict(extra_arguments=[ALONE]))

    return Own


def manager(server: Server) -> type:
    """Of ``of_this_python``; the kernels are forked by ``server``."""
    from jupyter_client.provisioning import LocalProvisioner

    class Provisioner(LocalProvisioner):
        async def launch_kernel(self, cmd, **kwargs):
            try:
                pid = server.fork(
                    cmd, kwargs["env"] | {"JPY_PARENT_PID": str(os.getpid())}, kwargs.get("cwd")
                )
                self.process = Forked(pid)
            except (ColdStart, OSError) as error:
                print(f"an ordinary kernel, since none could be forked: {error}", flush=True)
                return await super().launch_kernel(cmd, **kwargs)
            self.pid = self.pgid = pid  # it leads a session of its own
            self.cwd = kwargs.get("cwd")
            return self.connection_info

    class Manager(of_this_python()):
        async def _async_pre_start_kernel(self, **kwargs):
            if self.provisioner is None:
                self.provisioner = Provisioner(
                    kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
                )
            return await super()._async_pre_start_kernel(**kwargs)

    return Manager
