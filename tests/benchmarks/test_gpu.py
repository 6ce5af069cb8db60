"""The GPU benchmark at tiny size on this machine: complete, valid and honest about what it left out."""

import json
import os
import signal
import subprocess
import sys
import time
import types

import pytest
import torch
from benchmark_rows import KEYS
from synthembed.ground.files import PACKAGE, ROOT
from synthembed.model import packed_rows

HERE = torch.cuda.is_available()


@pytest.fixture(autouse=True)
def importable(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv(
        "XDG_CACHE_HOME", str(tmp_path / "no-cache")
    )  # the tokenizer is made, as where none lies


@pytest.fixture
def bench():
    from benchmarks.gpu_model import TINY, Bench

    return Bench(TINY)


def names() -> list[str]:
    from benchmarks import gpu
    from benchmarks.gpu_model import TINY, Bench

    return [f"gpu/{name}" for found, *_ in gpu.parts(Bench(TINY)) for name in found]


def test_the_whole_command_at_tiny_size(tmp_path, capsys):
    from benchmarks import gpu
    from benchmarks.gpu_model import TINY

    out = tmp_path / "bench" / "gpu.json"
    rows = gpu.run(TINY, out=out)
    assert json.loads(out.read_text()) == rows
    assert sorted(r["name"] for r in rows) == sorted(names())
    assert all(set(r) == KEYS for r in rows) and gpu.failed(rows) == []
    left = {r["name"]: r["check"] for r in rows if r["ours"] is None}
    assert all(("CUDA" in why or "not installed" in why) for why in left.values())
    measured = {r["name"]: r for r in rows if r["ours"] is not None}
    for name in ("half-precision", "packed", "cached-gradients", "resume"):
        assert measured[f"gpu/check/{name}"]["check"] == "passed"
    for name in ("encode/documents", "encode/queries", "encode/mix"):
        row = measured[f"gpu/{name}"]
        assert row["ours"] > 0 and row["ratio"] > 0 and float(row["check"].split("cosine ")[1]) > 0.9999
        share = measured[f"gpu/{name}/mfu"]
        assert share["ratio"] == pytest.approx(row["ratio"]) and "2N useful" in share["check"]
    step = measured["gpu/train"]["check"]
    ours, peers = (float(step.split(f"{whose} ")[1].split(";")[0]) for whose in ("; loss", "the peer's loss"))
    assert ours == pytest.approx(peers, rel=1e-3)  # one learned nothing yet, the other neither
    assert "4N useful" in measured["gpu/train/mfu"]["check"]
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in names())


def test_in_bfloat16_as_a_gpu_runs_it(bench, monkeypatch):
    """Half precision, and training under autocast: vectors are the peer's, and the losses are near."""
    from synthembed.ground import hardware

    from benchmarks import gpu_checks, gpu_speed

    named = hardware.dtype_of
    half = lambda name, on: torch.bfloat16 if name == "auto" else named(name, on)  # noqa: E731
    monkeypatch.setattr(hardware, "dtype_of", half)
    assert next(bench.base.model.parameters()).dtype == torch.bfloat16
    rows = {
        r["name"]: r for part in (gpu_speed.rate, gpu_checks.resuming, gpu_speed.step) for r in part(bench)
    }
    rows |= {r["name"]: r for r in gpu_speed.encode(bench, "queries")}
    assert rows["check/resume"]["check"] == "passed" and rows["encode/queries/mfu"]["ours"] > 0
    assert float(rows["encode/queries"]["check"].split("cosine ")[1]) > 0.999
    check = rows["train"]["check"]  # the peer's cosines are of 16 bits, times 50
    ours, peers = (
        float(check.split(f"{whose} ")[1].split(";")[0]) for whose in ("; loss", "the peer's loss")
    )
    assert ours == pytest.approx(peers, rel=0.05)


def test_without_time_every_row_says_so_and_the_file_is_valid(tmp_path):
    from benchmarks import gpu
    from benchmarks.gpu_model import TINY

    rows = gpu.run(TINY, minutes=0.02, out=tmp_path / "gpu.json")
    assert json.loads((tmp_path / "gpu.json").read_text()) == rows
    assert [r["name"] for r in rows] == names()
    skipped = [r for r in rows if r["check"].startswith("skipped: ")]
    assert len(skipped) == len(rows) and all("s are left of the run" in r["check"] for r in skipped)


def test_a_killed_run_leaves_what_it_measured(tmp_path):
    out = tmp_path / "gpu.json"
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("gpu/check/"):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    rows = json.loads(out.read_text())
    assert rows and rows[0]["name"] == "gpu/model" and all(set(r) == KEYS for r in rows)


def test_without_a_gpu_nothing_is_measured_and_no_file_is_written(tmp_path, capsys, monkeypatch):
    from benchmarks import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.run(out=tmp_path / "gpu.json") == [] and not (tmp_path / "gpu.json").exists()
    assert "no GPU here" in capsys.readouterr().out


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_parts_end_in_time_and_none_costs_another(tmp_path, capsys):
    from benchmarks.gpu_parts import NotHere, Run
    from benchmarks.measure import row

    def slow():
        yield row("a", 1.0, None, "", "s", "")
        time.sleep(60)

    def wrong():
        yield row("c", 1.0, 2.0, "peer", "s", "first")
        yield row("c", 1.0, 4.0, "peer", "s", "then")
        raise ValueError("no such thing\nand more")

    def absent():
        raise NotHere("not installed: thing")
        yield

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    clock = Clock()
    run = Run(tmp_path / "x.json", 1, clock)
    assert not run.part(["a", "b"], 3, slow)
    assert not run.part(["c", "d"], 5, wrong)
    assert not run.part(["e"], 5, absent) and not run.part(["f"], 5, full)
    clock.now = 59.0
    assert not run.part(["g"], 5, slow)
    assert run.part(["h"], 2, lambda: [row("h", 3.0, None, "", "s", "")])
    found = {r["name"].removeprefix("gpu/"): r["check"] for r in json.loads(run.out.read_text())}
    assert found == {
        "a": "", "b": "skipped: its 3 s were over", "c": "then", "d": "failed: ValueError: no such thing",
        "e": "not measured: not installed: thing", "f": "skipped: out of memory",
        "g": "skipped: 1 s are left of the run, the part may take 5", "h": "",
    }  # fmt: skip
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_difference_that_is_too_large_or_no_number_fails():
    from benchmarks import gpu
    from benchmarks.gpu_checks import difference

    rows = [difference("x", found, 0.1, "") for found in (0.05, 0.2, float("nan"))]
    assert [r["check"].split(":")[0] for r in rows] == ["passed", "FAILED", "FAILED"]
    assert len(gpu.failed(rows)) == 2 and "NaN" not in json.dumps(rows)


def reference(q, k, v, starts_q, starts_k, max_q, max_k, *, scale, window_size, enable_gqa):
    """What the varlen kernel is documented to give; differentiable."""
    out, left = [], window_size[0]
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    for a, b, c, d in zip(starts_q, starts_q[1:], starts_k, starts_k[1:], strict=False):
        at, seen = torch.arange(b - a)[:, None] + (d - c) - (b - a), torch.arange(d - c)[None]
        mask = (seen <= at) & ((seen >= at - left) if left >= 0 else True)
        weights = torch.einsum("qhd,khd->hqk", q[a:b], k[c:d]) * (scale or q.shape[-1] ** -0.5)
        weights = weights.masked_fill(~mask, float("-inf")).softmax(-1)
        out.append(torch.einsum("hqk,khd->qhd", weights, v[c:d]))
    return torch.cat(out)


@pytest.mark.parametrize(("kernel", "passes"), [
    (reference, True),
    (lambda *args, window_size, **options: reference(*args, window_size=(-1, 0), **options), False),
], ids=["right", "blind to windows"])  # fmt: skip
def test_the_check_of_the_varlen_kernel_tells_right_from_wrong(bench, kernel, passes, monkeypatch):
    from torch.nn.attention import varlen

    from benchmarks import gpu_checks

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    rows = list(gpu_checks.against_grouped(bench))
    assert [r["name"] for r in rows] == ["check/varlen", "check/varlen-backward"]
    assert all((r["check"] == "passed") == passes for r in rows)


@pytest.mark.skipif(HERE, reason="the levers run themselves where a GPU is")
def test_levers_that_need_a_gpu_compare_and_clean_up(bench, monkeypatch):
    """With stand-ins for the libraries that are not here: what is switched is switched back."""
    from torch.nn.attention import varlen
    from transformers.models.mistral import modeling_mistral

    from benchmarks import gpu_levers

    rope, kernel = modeling_mistral.apply_rotary_pos_emb, packed_rows._varlen
    calls = []

    def patch(rope, rms_norm, swiglu, model, **options):
        modeling_mistral.apply_rotary_pos_emb = lambda *a, **o: (calls.append("fused"), original(*a, **o))[1]

    original = rope
    liger, ao = types.ModuleType("liger_kernel.transformers"), types.ModuleType("torchao.quantization")
    liger.apply_liger_kernel_to_mistral = patch
    ao.Float8DynamicActivationFloat8WeightConfig, ao.PerRow = dict, int
    ao.quantize_ = lambda model, config: calls.append("fp8")
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", liger)
    monkeypatch.setitem(sys.modules, "torchao.quantization", ao)
    monkeypatch.setattr(gpu_levers, "needs", lambda *package: None)
    monkeypatch.setattr(gpu_levers, "needs_cuda", lambda bench: None)
    monkeypatch.setattr(packed_rows, "uses_varlen", lambda model: True)
    monkeypatch.setattr(varlen, "varlen_attn", reference)
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    for name in ("varlen-places", "liger", "fp8", "compile"):
        (row,) = gpu_levers.LEVERS[name](bench)
        assert row["name"] == f"lever/{name}" and row["ratio"] > 0
        assert float(row["check"].split("cosine ")[1]) > 0.9999
    assert "fused" in calls and "fp8" in calls
    assert modeling_mistral.apply_rotary_pos_emb is rope and packed_rows._varlen is kernel


def test_a_batch_of_one_form_gives_the_same_vectors(bench):
    """What a CUDA graph replays, run here without one."""
    from benchmarks.gpu_levers import of_one_form

    instruction, texts = bench.works["queries"][0]
    encoder = bench.encoder()
    with torch.inference_mode():
        found = of_one_form(bench, encoder.rows(texts, instruction))()
    expected = torch.from_numpy(encoder.encode(texts, instruction))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)


def test_what_is_not_installed_is_said_by_name():
    from benchmarks.gpu_levers import needs
    from benchmarks.gpu_parts import NotHere

    with pytest.raises(NotHere, match="not installed: thing-kernel"):
        needs("no_such_package_here", "thing-kernel")


def test_the_page_is_the_one_that_the_command_writes():
    from benchmarks import gpu

    text = gpu.PAGE.read_text(encoding="utf-8")
    rows = json.loads(gpu.OUT.read_text()) if gpu.OUT.exists() else []
    assert gpu.page(text, rows) == text, "python -m benchmarks.gpu --docs writes it anew"
    assert all(f"| {name} |" in text for name in names())


def test_copies_share_weights_and_a_slice_has_its_own(bench):
    base, copy, short = bench.base.model, bench.copy().model, bench.slice(torch.float32, 1).model
    assert copy.layers[0] is not base.layers[0] and copy.layers[0].mlp is not base.layers[0].mlp
    assert copy.layers[0].mlp.up_proj.weight is base.layers[0].mlp.up_proj.weight
    assert len(short.layers) == 1 and len(base.layers) == 2
    assert short.layers[0].mlp.up_proj.weight is not base.layers[0].mlp.up_proj.weight
    half = bench.slice(torch.bfloat16).model
    assert half.norm.weight.dtype == torch.bfloat16 and half.rotary_emb.inv_freq.dtype == torch.float32
    assert base.norm.weight.dtype == bench.dtype
