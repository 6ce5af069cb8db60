"""What every room's tests may ask for; nothing is fetched from a hub."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# Before the package of that name, for this process and those that it starts: a grammar of URIs that is none. jsonschema,
# which Ray and Jupyter import, builds the real one where it finds it, in three seconds of each process.
sys.path.insert(0, str(Path(__file__).parent / "quick_start"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [sys.path[0], os.environ.get("PYTHONPATH")]))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # several share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

# torch and what needs it is imported by who asks for it: the process that deals out the files runs none of them.

# Files that start clusters: one worker has them all. Two at once keep each other's daemons from starting in time.
WITH_RAY = (
    "cluster/test_cluster_notebook.py", "cluster/test_cluster_training.py", "cluster/test_cluster_nodes.py",
    "cluster/test_cluster_benchmarks.py", "cluster/test_cluster_encoding.py", "deploy/test_deploy.py",
    "cluster/test_cluster_session.py",
)  # fmt: skip
# What takes a worker longest, the longest first: whoever is done takes the next file, and no long one is left for the
# end. A file that grows beyond half a minute belongs here (--durations says so in every log).
LONGEST = (
    *WITH_RAY, "notebooks/test_smoke_run.py", "browser/test_site.py", "generation/test_generate.py",
    "training/test_distributed.py", "browser/test_notebooks_in_lab.py", "stages/test_warm_kernels.py",
    "training/test_resume.py", "benchmarks/test_benchmarks.py", "benchmarks/test_gpu.py", "adapt/test_starting.py",
    "evaluation/large/test_survival.py", "evaluation/test_evaluate.py", "faults/test_faults.py",
    "stages/test_record.py", "training/test_training.py",
)  # fmt: skip

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")


def pytest_configure(config):
    if gone := [name for name in LONGEST if not (Path(__file__).parent / name).exists()]:
        raise pytest.UsageError(
            f"tests/conftest.py, LONGEST: no file {', '.join(gone)}; name it as it is called now"
        )
    if hasattr(config.option, "loadscopereorder"):  # else xdist begins with the files of most tests
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    if "PYTEST_XDIST_WORKER" in os.environ:  # one process alone begins with what is quick
        place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "with Ray" if file.endswith(WITH_RAY) else file

    return Files(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(params=["llama", "mistral", "qwen"])
def style(request) -> str:
    return request.param


@pytest.fixture
def backbone(style):
    """A ``Backbone`` of each style."""
    return tiny_backbone(style)


@pytest.fixture
def llama():
    return tiny_backbone("llama")


def tiny_backbone(style: str):
    from synthembed.model.backbone import Backbone
    from synthembed.model.tokens import TokenContract
    from tiny_models import byte_tokenizer, tiny_model

    return Backbone(tiny_model(style), TokenContract.of(byte_tokenizer(style)), {"model": f"tiny-{style}"})


@pytest.fixture
def tiny_folder(tmp_path):
    """A saved base model, as a user's local folder."""
    from tiny_models import saved_base

    return saved_base(tmp_path / "base")


@pytest.fixture
def one_thread():
    """Tiny products: a second thread only waits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
