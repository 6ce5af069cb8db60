"""oneDNN's products are torch's: values, gradients, and where they are used."""

import copy
import ctypes
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed.model import adapter
from synthembed.model.cpu import onednn_linear
from synthembed.profile.settings import Lora
from torch import nn

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


@needs_onednn
@given(
    shape=st.sampled_from([(1,), (7,), (1, 5), (3, 4)]),
    inner=st.integers(1, 70),
    outer=st.integers(1, 70),
    bias=st.booleans(),
    frozen=st.booleans(),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=60)
def test_values_and_gradients_are_those_of_float64(shape, inner, outer, bias, frozen, seed):
    torch.manual_seed(seed)
    x = torch.randn(*shape, inner, requires_grad=True)
    weight = torch.randn(outer, inner, requires_grad=not frozen)
    b = torch.randn(outer, requires_grad=True) if bias else None
    gradient = torch.randn(*shape, outer)
    leaves = [t for t in (x, weight, b) if t is not None and t.requires_grad]
    ours = onednn_linear._Product.apply(x, weight, b)
    exact = nn.functional.linear(*(None if t is None else t.double() for t in (x, weight, b)))
    torch.testing.assert_close(ours.double(), exact, atol=1e-4, rtol=1e-4)
    found = torch.autograd.grad(ours, leaves, gradient)
    wanted = torch.autograd.grad(exact, leaves, gradient.double())
    for a, e in zip(found, wanted, strict=True):
        assert a.shape == e.shape
        torch.testing.assert_close(a.double(), e.double(), atol=1e-4, rtol=1e-4)


@needs_onednn
def test_a_transposed_weight_and_an_inference_tensor_serve():
    x, weight = torch.randn(6, 5), torch.randn(5, 9)
    with torch.inference_mode():
        torch.testing.assert_close(onednn_linear._onednn(x, weight.T), x @ weight, atol=1e-5, rtol=1e-5)


def test_other_dtypes_and_no_rows_go_to_torch():
    weight = torch.randn(3, 4, dtype=torch.float64)
    x = torch.randn(2, 4, dtype=torch.float64)
    assert torch.equal(onednn_linear.linear(x, weight), nn.functional.linear(x, weight))
    assert onednn_linear.linear(torch.empty(0, 4), weight.float()).shape == (0, 3)


def test_plain_linear_layers_alone_change_and_lora_with_them(llama, monkeypatch):
    monkeypatch.setattr(onednn_linear, "use_onednn", lambda: True)
    base = copy.deepcopy(llama)
    onednn_linear.use_in(base.model)
    kinds = {type(m) for m in base.model.modules() if isinstance(m, nn.Linear)}
    assert kinds == {onednn_linear.FastLinear}
    wrapped = adapter.add_lora(base, Lora(rank=2), 0)
    lora = [m for n, m in wrapped.model.named_modules() if "lora_A.default" in n or "lora_B.default" in n]
    assert {type(m) for m in lora} == {onednn_linear.FastLinear}


def test_intel_processors_keep_torchs_own(monkeypatch, tmp_path):
    def told(text):
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(onednn_linear, "Path", lambda _: tmp_path / "cpuinfo")
        onednn_linear.use_onednn.cache_clear()
        return onednn_linear.use_onednn()

    try:
        assert not told("vendor_id : GenuineIntel\nflags : avx512f")
        assert not told("vendor_id : AuthenticAMD\nflags : avx2")
        assert told("vendor_id : AuthenticAMD\nflags : avx2 avx512f") == torch.backends.mkldnn.is_available()
    finally:
        monkeypatch.undo()
        onednn_linear.use_onednn.cache_clear()


GROWTH = """
import ctypes, torch
from synthembed.model.cpu import onednn_linear

class Heap(ctypes.Structure):
    _fields_ = [(n, ctypes.c_size_t) for n in "a b c d e f g used free keep".split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Heap
weight = torch.randn(256, 256)
before = 0
for rows in range(1, 601):
    onednn_linear._onednn(torch.randn(rows, 256), weight)
    if rows == 100:
        before = mallinfo().used
print(mallinfo().used - before)
"""


@needs_onednn
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not glibc")
def test_memory_does_not_grow_with_the_number_of_shapes():
    """Neither oneDNN's own cache of shapes nor torch's keeps them all (1,024 each by default)."""
    grown = {}
    for name, capacity in (("ours", {}), ("default", {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024", "LRU_CACHE_CAPACITY": "1024"})):  # fmt: skip
        environment = {n: v for n, v in os.environ.items() if not n.endswith("CACHE_CAPACITY")} | capacity
        done = subprocess.run([sys.executable, "-c", GROWTH], env=environment, capture_output=True, text=True, check=True)  # fmt: skip
        grown[name] = int(done.stdout.split()[-1])
    assert grown["ours"] < grown["default"] / 10, grown
