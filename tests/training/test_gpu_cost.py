"""The memory that is computed for a GPU, against what autograd keeps and what lives at once on tensors without
data; and the hours, against each other."""

import weakref
from dataclasses import replace

import pytest
import torch
from synthembed.model import adapter, packed_rows
from synthembed.model.backbone import Backbone
from synthembed.paper import registry
from synthembed.profile.settings import Lora
from synthembed.training import contrastive, gpu_cost
from synthembed.training.gpu_cost import GPUS, MISTRAL_7B, Shape
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModel, MistralConfig

SMALL = Shape(hidden=512, intermediate=1536, layers=2, heads=8, kv_heads=2, head_dim=64, vocabulary=64)
RANK, TOKENS = 16, 1_024


class Flash(torch.autograd.Function):
    """Keeps what a flash kernel keeps: q, k, v, what it gives, a float32 sum a head and token."""

    @staticmethod
    def forward(ctx, q, k, v):
        out = torch.empty_like(q)
        sums = q.new_empty(q.shape[1], q.shape[2], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, sums)
        return out

    @staticmethod
    def backward(ctx, gradient):
        return tuple(torch.empty_like(x) for x in ctx.saved_tensors[:3])


class Masked(torch.autograd.Function):
    """Keeps what CUDA's dropout keeps: a mask of one byte a number."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(torch.empty_like(x, dtype=torch.bool))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx, gradient):
        return torch.empty_like(gradient)


class Living(TorchDispatchMode):
    """Bytes of the storages that are alive, and the most that ever were."""

    def __init__(self, known):
        super().__init__()
        self.now = self.peak = 0
        self.known = {t.untyped_storage()._cdata for t in known}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf.untyped_storage())
        return found

    def see(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.drop, key, size)

    def drop(self, key, size):
        self.known.discard(key)
        self.now -= size


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(packed_rows, "_grouped", lambda q, k, v, *rest: Flash.apply(q, k, v).transpose(1, 2))
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: Masked.apply(x))


def without_data(shape: Shape, checkpointing: bool) -> torch.nn.Module:
    """A model with LoRA as a GPU has it (bfloat16 below, float32 adapters); to be called in a fake mode."""
    config = MistralConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim, sliding_window=None,
    )  # fmt: skip
    with torch.device("meta"):
        base = AutoModel.from_config(config, dtype=torch.bfloat16)
    model = adapter.add_lora(Backbone(base, None, {}), Lora(rank=RANK, dropout=0.1), 0).model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def passed(model: torch.nn.Module) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return packed_rows.forward(model, [[1] * (TOKENS // 2)] * 2, None, ends=True)


def kept(shape: Shape, checkpointing: bool) -> int:
    """Bytes that the graph of one pass keeps beside the parameters."""
    model, found = without_data(shape, checkpointing), {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        own = {p.untyped_storage()._cdata for p in model.parameters()}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                found[storage._cdata] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out = passed(model)
        del out
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("shape", [SMALL, replace(MISTRAL_7B, vocabulary=64)], ids=["small", "7B"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_layer_keeps_what_the_formula_says(shape, checkpointing, as_on_a_gpu):
    """One layer more; without checkpointing the graph also keeps a 16-bit copy of the layer's adapter."""
    two, three = (kept(replace(shape, layers=n), checkpointing) for n in (2, 3))
    copies = 0 if checkpointing else replace(shape, layers=1).lora(RANK) * gpu_cost.BFLOAT16
    one = replace(shape, layers=1)
    assert three - two == TOKENS * gpu_cost.kept_of_a_token(one, RANK, checkpointing) + copies


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_peak_of_a_pass_and_its_gradients_is_within_the_estimate(checkpointing, as_on_a_gpu):
    shape = replace(MISTRAL_7B, layers=6, vocabulary=64)
    model = without_data(shape, checkpointing)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        living = Living(model.parameters())
        with living:
            passed(model).sum().backward()
    parts = gpu_cost.memory(shape, RANK, TOKENS, 0, checkpointing, texts=2)
    aside = ("weights", "CUDA", "peak")  # of the optimiser's three arrays the gradient alone is there
    estimate = sum(v for k, v in parts.items() if k not in aside)
    assert 0.6 * estimate < living.peak / 1e9 < estimate


def test_the_loss_keeps_vectors_and_one_gradient(monkeypatch):
    monkeypatch.setattr(contrastive, "SIMILARITIES", 2**12)
    vectors, places = torch.randn(384, 512, requires_grad=True), torch.arange(128)
    with Living([]) as living:
        living.see(vectors.untyped_storage())
        loss, _ = contrastive.info_nce(vectors, places, places + 128, places, 0.02)
        loss.backward()
    texts = gpu_cost.memory(replace(MISTRAL_7B, hidden=512), texts=384)["vectors and gradient"]
    assert texts * 1e9 <= living.peak < 1.3 * texts * 1e9


def test_the_shape_is_that_of_the_paper():
    assert MISTRAL_7B.lora(16) == registry.published()["scalars"]["trainable_params_exact_derived"]
    assert MISTRAL_7B.parameters == 7_241_732_096 - 32_000 * 4_096  # the release's, without its head
    assert gpu_cost.paper_hours() == {"training": (32, 18), "MTEB(eng, v1)": (8, 72)}
    config = MistralConfig(
        vocab_size=SMALL.vocabulary, hidden_size=SMALL.hidden, intermediate_size=SMALL.intermediate,
        num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2, head_dim=64,
    )  # fmt: skip
    with torch.device("meta"):
        made = AutoModel.from_config(config)
    assert sum(p.numel() for p in made.parameters()) == SMALL.parameters
    assert Backbone(made, None, {}).matrix_parameters() == SMALL.matrices


def test_the_papers_settings_fit_in_80_gb_and_smaller_memory_needs_smaller_chunks():
    assert gpu_cost.memory()["peak"] < 40
    assert gpu_cost.memory(checkpointing=False)["peak"] > 80
    tokens = gpu_cost.graph_tokens_in(80)
    assert gpu_cost.memory(graph_tokens=tokens)["peak"] <= 76.01
    assert gpu_cost.graph_tokens_in(20) == 0


def test_hours_follow_operations_and_the_papers_hours_are_judged():
    run = gpu_cost.RUNS["training"]
    assert gpu_cost.gpu_hours(run, GPUS["A100"]) / gpu_cost.gpu_hours(run, GPUS["H100"]) == pytest.approx(
        989 / 312
    )
    hours = gpu_cost.gpu_hours(run, GPUS["V100"])
    assert gpu_cost.implied(run, 1, hours) == pytest.approx(gpu_cost.UTILISATION * run.useful / run.made)
    judged = gpu_cost.against_the_paper()
    assert judged.count("| no |") + judged.count("| yes |") == len(gpu_cost.READINGS)
