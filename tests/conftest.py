"""What every room's tests may ask for; nothing is fetched from a hub."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # several share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch
from synthembed.model.backbone import Backbone
from synthembed.model.tokens import TokenContract
from tiny_models import byte_tokenizer, tiny_model

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")


@pytest.fixture(params=["llama", "mistral", "qwen"])
def style(request) -> str:
    return request.param


@pytest.fixture
def backbone(style) -> Backbone:
    return Backbone(tiny_model(style), TokenContract.of(byte_tokenizer(style)), {"model": f"tiny-{style}"})


@pytest.fixture
def llama() -> Backbone:
    return Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {"model": "tiny-llama"})


@pytest.fixture
def tiny_folder(tmp_path):
    """A saved base model, as a user's local folder."""
    folder = tmp_path / "base"
    tiny_model("llama").save_pretrained(folder)
    byte_tokenizer("llama").save_pretrained(folder)
    return folder


@pytest.fixture
def one_thread():
    """Tiny products: a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
