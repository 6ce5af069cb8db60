"""Where the time goes: stacks are told apart, a watched stage gives what it gives unwatched."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from synthembed import profile
from synthembed.ground.files import PACKAGE, ROOT
from synthembed.stages import sampling
from synthembed.stages.fingerprints import code_hash
from synthembed.stages.record import Stage, stale

SITE, LIB, OURS = "/venv/lib/python3.11/site-packages", "/usr/lib/python3.11", str(PACKAGE)
NOTEBOOK = [(f"{SITE}/ipykernel/kernelbase.py", "execute"), ("/tmp/ipykernel_7/1.py", "<module>")]
MTEB = (f"{SITE}/mteb/evaluate.py", "evaluate")
ENCODER = [(f"{OURS}/model/encoder.py", "encode_rows"), (f"{SITE}/torch/nn/modules/module.py", "_call_impl")]
LINEAR = [(f"{OURS}/model/cpu/onednn_linear.py", "_onednn"), (f"{SITE}/torch/_ops.py", "__call__")]
BACKWARD = (f"{SITE}/torch/autograd/graph.py", "_engine_run_backward")


def stack(*frames: tuple[str, str]):
    """A stack of (file, function), the innermost last."""
    frame = None
    for file, function in [(f"{LIB}/asyncio/base_events.py", "run_forever"), *NOTEBOOK, *frames]:
        frame = SimpleNamespace(f_code=SimpleNamespace(co_filename=file, co_name=function), f_back=frame)
    return frame


@pytest.mark.parametrize(("frames", "kind"), [
    ([], sampling.OWN),
    ([(f"{SITE}/pandas/core/frame.py", "merge")], sampling.OWN),
    ([MTEB, *ENCODER, *LINEAR], sampling.PRODUCTS),
    ([MTEB, *ENCODER, (f"{SITE}/torch/nn/modules/linear.py", "forward")], sampling.PRODUCTS),
    ([(f"{OURS}/training/contrastive.py", "add")], sampling.PRODUCTS),
    ([(f"{OURS}/training/contrastive.py", "cached_backward"), BACKWARD], sampling.BACKWARD),
    ([BACKWARD, (f"{SITE}/torch/autograd/function.py", "apply"), *LINEAR], sampling.PRODUCTS),
    ([BACKWARD, (f"{OURS}/model/cpu/lean_layers.py", "backward")], sampling.MODEL),
    ([*ENCODER, (f"{OURS}/model/packed_rows.py", "_grouped")], sampling.ATTENTION),
    ([*ENCODER, (f"{SITE}/transformers/integrations/sdpa_attention.py", "sdpa_attention_forward")], sampling.ATTENTION),
    ([*ENCODER, (f"{SITE}/transformers/models/llama/modeling_llama.py", "forward"),
      (f"{SITE}/torch/nn/functional.py", "silu")], sampling.MODEL),
    ([(f"{SITE}/torch/optim/adamw.py", "step"), (f"{SITE}/torch/_tensor.py", "wrapped")], sampling.MODEL),
    ([(f"{OURS}/model/tokens.py", "ids"), (f"{SITE}/transformers/tokenization_utils_base.py", "__call__")],
     sampling.TOKENISING),
    ([MTEB, (f"{SITE}/sklearn/linear_model/_logistic.py", "fit")], sampling.MTEB),
    ([MTEB, (f"{SITE}/pandas/core/frame.py", "merge")], sampling.MTEB),
    ([MTEB, (f"{OURS}/evaluation/suites/embedded_tasks.py", "load_data")], sampling.OWN),
    ([(f"{OURS}/ground/files.py", "read_lines"), (f"{LIB}/json/decoder.py", "decode")], sampling.FILES),
    ([("<frozen importlib._bootstrap>", "_find_and_load"), (f"{SITE}/transformers/models/x.py", "<module>")],
     sampling.IMPORTS),
    ([(f"{LIB}/concurrent/futures/_base.py", "result"), (f"{LIB}/threading.py", "wait")], sampling.WAITING),
    ([(f"{LIB}/selectors.py", "select")], sampling.WAITING),
])  # fmt: skip
def test_a_stack_is_the_work_of_its_innermost_known_frame(frames, kind):
    assert sampling.kind_of(stack(*frames)) == kind


def opened_and_closed(results: Path, monkeypatch, switch: str) -> tuple[dict, Path]:
    monkeypatch.setenv(sampling.SWITCH, switch)
    stage = Stage.open("00_overview", "smoke", results=str(results), anew=True)
    (stage.folder / "made.txt").write_text("made")
    return stage.close(fact=1), stage.folder


def test_a_watched_stage_is_the_same_stage(tmp_path, monkeypatch):
    """Its seconds are all of its time; outputs, fingerprint and freshness are those of any other."""
    plain, folder = opened_and_closed(tmp_path, monkeypatch, "")
    assert not (folder / "where.json").exists()
    seen, folder = opened_and_closed(tmp_path, monkeypatch, "1")
    for key in ("outputs", "fingerprint", "code", "inputs"):
        assert seen[key] == plain[key], key
    assert list(seen["outputs"]) == ["made.txt"]
    assert stale("00_overview", profile.load("smoke"), tmp_path / "smoke") is None
    found = json.loads((folder / "where.json").read_text())
    assert list(found["seconds"]) == list(sampling.KINDS)
    assert sum(found["seconds"].values()) == pytest.approx(
        found["wall_s"], rel=0.1, abs=0.05
    )  # each is rounded
    sampling.add_process(folder, found["opened"] - 2)
    assert json.loads((folder / "where.json").read_text())["start_s"] == pytest.approx(2)
    opened_and_closed(tmp_path, monkeypatch, "")
    assert not (folder / "where.json").exists()  # an older one would be of another run


def test_how_a_stage_is_watched_is_no_part_of_its_code(monkeypatch):
    before, read = code_hash("00_overview"), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: read(p) + (b" " if p.name == "sampling.py" else b""))
    assert code_hash("00_overview") == before


def test_minutes_are_drawn_and_stand_in_the_page(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import minutes

    _, folder = opened_and_closed(tmp_path, monkeypatch, "1")
    (tmp_path / "minutes.md").write_text("before\n<!-- minutes -->\nold\n<!-- /minutes -->\nafter\n")
    said = minutes.write(folder.parent, tmp_path)
    page = (tmp_path / "minutes.md").read_text()
    assert said in page and "old" not in page and page.startswith("before") and page.endswith("after\n")
    assert "| all |" in said and "00_overview" in said and "torch" in said
    assert 1_000 < (tmp_path / "minutes.png").stat().st_size < 100_000
