"""The process behind warm_kernels.py: imports packages once, then forks kernels.

It starts no thread of Python's, computes nothing and touches no GPU, and it looks before every fork. Modules
of ours are imported after the fork, so that edited code is seen. Run as a file: it is told the descriptor of
its channel and the names of the packages.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import warnings
from pathlib import Path

UNSAFE = ("polars", "mteb", "synthembed")  # the first two start threads when they are imported
PR_SET_PDEATHSIG = 1


def main() -> None:
    if sys.path[0] == str(Path(__file__).parent):  # a kernel finds no modules here
        del sys.path[0]
    os.environ.pop("JPY_PARENT_PID", None)  # ipykernel reads it when it is imported
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    request = serve(channel, sys.argv[2:])
    if request is not None:  # this is a fork by now
        channel.close()
        become(request)


def serve(channel: socket.socket, heavy: list[str]) -> dict | None:
    """Answer requests until the runner closes the channel or ends: None. In a fork: its request."""

    def say(**reply) -> None:
        channel.sendall(json.dumps(reply).encode() + b"\n")

    kernels, here = [], os.getpid()
    try:
        for name in heavy:
            importlib.import_module(name)
        gc.freeze()  # what was imported stays: a fork's collector leaves its pages alone
        threads = _threads()
        say(ready=True)
        while True:
            data, fds, *_ = socket.recv_fds(channel, 1, 3)
            if not data:
                break
            kernels = [pid for pid in kernels if not _ended(pid)]
            if reason := _unsafe(threads):
                say(error=reason)
            else:
                with warnings.catch_warnings():  # newer Pythons warn of the threads of OpenBLAS
                    warnings.simplefilter("ignore")
                    pid = os.fork()
                if not pid:
                    return _settle(fds, here)
                kernels.append(pid)
                say(pid=pid)
            for fd in fds:
                os.close(fd)
    except OSError:
        pass  # the runner is gone
    except Exception as error:
        say(error=f"{type(error).__name__}: {error}")
    for pid in kernels:
        if not _ended(pid):
            os.killpg(pid, signal.SIGKILL)
    return None


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _unsafe(threads: int) -> str | None:
    """Why this process must not be forked. The threads that are there after the imports are OpenBLAS's and
    jemalloc's, which see to forks themselves (OpenBLAS by ending its own)."""
    torch = sys.modules.get("torch")
    if threading.active_count() != 1 or _threads() > threads:
        return "a thread was started"
    if torch and torch.cuda.is_initialized():
        return "the GPU was touched"
    found = [name for name in UNSAFE if name in sys.modules]
    return f"{found[0]} was imported" if found else None


def _ended(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG)[0] == pid


def _settle(fds: list[int], parent: int) -> dict:
    """Make a fork what a new process would be: its own session, files, environment, folder; it ends with the
    process that it was forked from."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with open(fds[0], "rb") as file:
        file.seek(0)
        request = json.loads(file.read())
    for fd, at in zip(fds[1:], (1, 2), strict=True):
        os.dup2(fd, at)
        os.close(fd)
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # Python's own generator does so by itself
    return request


def become(request: dict) -> None:
    """An ipykernel, as ``python -m ipykernel_launcher`` is one."""
    from ipykernel import kernelapp

    launcher = Path(kernelapp.__file__).parent.with_name("ipykernel_launcher.py")
    sys.argv = [str(launcher), *request["arguments"]]
    kernelapp.launch_new_instance([*request["arguments"], f"--IPKernelApp.parent_handle={os.getppid()}"])


if __name__ == "__main__":
    main()
