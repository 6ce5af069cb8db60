"""Forked kernels: the same numbers as a new process, nothing leaks, nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import nbformat
import papermill
import pytest
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from synthembed.ground.files import ROOT
from synthembed.stages import runner, warm_kernels
from synthembed.stages.warm_kernels import HEAVY, Server

pytestmark = pytest.mark.skipif(not warm_kernels.supported(), reason="kernels are forked on Linux alone")
LIGHT = tuple(n for n in HEAVY if n.startswith(("IPython", "ipykernel", "numpy")))


@pytest.fixture(autouse=True, scope="module")
def test_names_do_not_count():
    """pytest's variable changes from test to test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warm_kernels, "OF_LAUNCH", (*warm_kernels.OF_LAUNCH, "PYTEST_CURRENT_TEST"))
        yield


@pytest.fixture(scope="module")
def server():
    """One with few packages, which is soon there."""
    with closing(Server(LIGHT)) as server:
        yield server


def notebook(folder, *cells: str):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbformat.write(made, folder / "in.ipynb")
    return folder / "in.ipynb"


def execute(server: Server | None, folder, *cells: str) -> str:
    """What the cells print."""
    kernels = {"kernel_manager_class": warm_kernels.manager(server)} if server else {}
    done = papermill.execute_notebook(
        notebook(folder, *cells), folder / "out.ipynb", kernel_name="python3", progress_bar=False, cwd=folder,
        **kernels,
    )  # fmt: skip
    return "".join(o["text"] for c in done["cells"] for o in c["outputs"] if o.get("name") == "stdout")


def gone(pid: int, seconds: float = 15) -> bool:
    """Whether a process has ended, within ``seconds``; a zombie has."""
    for _ in range(int(seconds / 0.1)):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False


PARENT = "import os; print(open(f'/proc/{os.getppid()}/cmdline').read().count('fork_server'))"


def test_state_does_not_leak_from_kernel_to_kernel(server, tmp_path):
    first = execute(server, tmp_path, PARENT, "import sys, numpy; numpy.leaked = left = 1; sys.leaked = 1",
                    "os.environ['LEAKED'] = '1'; print(os.getpid())")  # fmt: skip
    asked = (
        "print(hasattr(numpy, 'leaked'), hasattr(sys, 'leaked'), 'left' in globals(), 'LEAKED' in os.environ)"
    )
    second = execute(server, tmp_path, PARENT, "import os, sys, numpy", asked, "print(os.getpid())")
    assert first.splitlines()[0] == second.splitlines()[0] == "1", "these kernels were not forked"
    assert second.splitlines()[1] == "False False False False"
    assert first.splitlines()[1] != second.splitlines()[2]


def test_a_kernel_has_its_folder_environment_and_modules(server, tmp_path):
    """As an ordinary one has; a module of ours is read after the fork."""
    (tmp_path / "edited.py").write_text("value = 1")
    cells = ("import os, sys; sys.path.insert(0, os.getcwd())",  # no kernel looks into its folder by itself
             "import edited; print(os.getcwd(), edited.value)", "print([p for p in sys.path if p], sys.argv[0])",
             "print({k: v for k, v in sorted(os.environ.items()) if not k.startswith(('JPY_', 'PYTEST_'))})",
             "print(__name__, sys.modules['__main__'].__dict__ is globals(), 'synthembed' in sys.modules)")  # fmt: skip
    forked = execute(server, tmp_path, *cells)
    assert forked == execute(None, tmp_path, *cells)
    (tmp_path / "edited.py").write_text("value = 22")
    assert execute(server, tmp_path, *cells).splitlines()[0].endswith(" 22")


def test_a_forked_kernel_gives_the_numbers_of_a_new_one(tmp_path):
    """With all packages: torch's and numpy's products on threads, the tokenizer's threads, mteb's polars."""
    cells = (
        "import torch, numpy as np, sklearn.cluster, synthembed, hashlib",
        "torch.manual_seed(1); x = torch.randn(400, 300); y = x @ x.T",
        "print(torch.initial_seed(), torch.get_num_threads(), y.sum().item(), np.linalg.norm(y.numpy() @ y.numpy()))",
        "print(sklearn.cluster.MiniBatchKMeans(5, random_state=3).fit(x.numpy()).inertia_)",
        "from synthembed.evaluation.suites import embedded_tasks",
        "import polars; print(polars.DataFrame({'a': range(9)}).group_by(polars.col('a') % 2).sum().sort('a'))",
        "import datasets; print(datasets.Dataset.from_dict({'a': [1, 2]}).map(lambda r: {'b': r['a'] + 1})['b'][:])",
        "layer = torch.nn.Linear(300, 50); layer(x).square().mean().backward(); print(layer.weight.grad.sum().item())",
        "import matplotlib.pyplot as plt; print(plt.get_backend(), 'torch.cuda' in __import__('sys').modules)",
    )
    with closing(Server()) as server:
        assert execute(server, tmp_path, PARENT, *cells) == "1\n" + execute(None, tmp_path, *cells)


def test_errors_of_a_kernel_go_where_the_runner_sends_them(server, tmp_path):
    with open(tmp_path / "said", "w") as said, runner._kernel_errors_to(said):
        execute(server, tmp_path, "import os; os.write(2, b'from the kernel') and None")
        execute(server, tmp_path, "import sys; print('more', file=sys.__stderr__)")
    assert "more" in (tmp_path / "said").read_text()


def test_a_kernel_that_is_killed_is_noticed(server, tmp_path):
    with pytest.raises(DeadKernelError):
        execute(server, tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert execute(server, tmp_path, "print(1)") == "1\n"


def test_a_kernel_is_interrupted(server, tmp_path):
    """nbclient interrupts a cell that takes too long, when it is told to."""
    kernels = warm_kernels.manager(server)
    with pytest.raises(PapermillExecutionError, match="KeyboardInterrupt"):
        papermill.execute_notebook(
            notebook(tmp_path, "import time\ntime.sleep(60)"), tmp_path / "out.ipynb", kernel_name="python3",
            progress_bar=False, kernel_manager_class=kernels, execution_timeout=2, interrupt_on_timeout=True,
        )  # fmt: skip


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_a_runner_that_ends(tmp_path, how):
    notebook(
        tmp_path,
        "import os, time\nopen('pids', 'w').write(f'{os.getpid()} {os.getppid()}\\n')\ntime.sleep(300)",
    )
    code = (
        "import papermill; from contextlib import closing; from synthembed.stages import warm_kernels\n"
        f"with closing(warm_kernels.Server({LIGHT!r})) as server:\n"
        "    papermill.execute_notebook('in.ipynb', 'out.ipynb', kernel_name='python3', progress_bar=False, cwd='.',\n"
        "                               kernel_manager_class=warm_kernels.manager(server))"
    )
    run = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    pids = tmp_path / "pids"
    for _ in range(600):
        if pids.exists() and pids.read_text().endswith("\n"):
            break
        time.sleep(0.1)
    kernel, server = map(int, pids.read_text().split())
    assert not gone(kernel, 0.1) and not gone(server, 0.1)
    os.kill(run.pid, how)
    run.wait(30)
    assert gone(kernel) and gone(server)


def test_a_kernel_ends_with_the_process_that_it_was_forked_from(tmp_path):
    with closing(Server(LIGHT)) as server:
        with pytest.raises(DeadKernelError):
            execute(server, tmp_path, "import os, time; os.kill(os.getppid(), 9); time.sleep(60)")
        assert execute(server, tmp_path, "print(1)") == "1\n", "an ordinary kernel goes on"


def test_an_ordinary_kernel_takes_the_place_of_one_that_cannot_be_forked(tmp_path, capsys, monkeypatch):
    said = "an ordinary kernel, since none could be forked: "
    for heavy, why in (
        (("no_such_package",), "ModuleNotFoundError: No module named 'no_such_package'"),
        (("this_starts_a_thread",), "a thread was started"),
        (("synthembed",), "synthembed was imported"),
    ):
        (tmp_path / "this_starts_a_thread.py").write_text("import threading as t; t.Timer(99, print).start()")
        monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'lib'}:{tmp_path}")
        with closing(Server(heavy)) as server:
            assert execute(server, tmp_path, PARENT) == "0\n"
        assert said + why in capsys.readouterr().out
    with closing(Server(LIGHT)) as server:
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        assert execute(server, tmp_path, PARENT) == "0\n"
    assert said + "HF_HOME has changed" in capsys.readouterr().out


def test_it_is_started_where_several_stages_need_it(monkeypatch):
    monkeypatch.setattr(runner, "Server", lambda: open(os.devnull))  # something that can be closed
    for waiting, cold, wanted in (
        (["03_train", "04_evaluate"], False, True), (["03_train", "04_evaluate"], True, False),
        (["00_overview", "04_evaluate", "07_report"], False, False), ([], False, False),
    ):  # fmt: skip
        with runner._server(waiting, cold) as server:
            assert (server is not None) is wanted
