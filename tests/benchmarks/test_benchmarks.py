"""The benchmarks' harness at tiny size: both sides run, agree, and give rows of the agreed form."""

import time
from pathlib import Path

import pytest
from benchmark_rows import KEYS
from synthembed.ground.files import ROOT
from synthembed.model.cpu import onednn_linear
from synthembed.profile.settings import Backbone
from tiny_models import saved_base


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import encode

    monkeypatch.setattr(encode, "BATCH_SIZES", (4,))
    monkeypatch.setattr(encode, "GROWTH", (500, 5_000))
    monkeypatch.setattr(encode, "alone", lambda side, *work: (side(*work), 0.0))  # no process of its own
    monkeypatch.setattr(
        encode, "in_turn", lambda sides: {name: run() is None or 1.0 for name, run in sides.items()}
    )


def checked(rows, names):
    assert [r["name"] for r in rows] == names
    for row in rows:
        assert set(row) == KEYS and row["ours"] > 0 and row["ratio"] > 0
    for row in rows:
        if "least cosine" in row["check"]:
            assert float(row["check"].split("least cosine ")[1].split(",")[0]) > 0.9999


def test_encode(tmp_path):
    from benchmarks import encode

    saved_base(tmp_path)
    rows = encode.run(Backbone(model=str(tmp_path)), scale=0.01)
    bounds = ["bound", "bound-onednn"] if onednn_linear.use_onednn() else ["bound"]
    names = ["queries", "mix", "documents", *bounds, "mteb", "bfloat16", "int8", "growth"]
    checked(rows, [f"encode/{n}" for n in names])


def test_train(tmp_path, monkeypatch):
    """Ours and the plain peer in processes of their own, the other sides in this one; that losses agree is checked in
    plain() and rounded()."""
    from synthembed.corpus import example_files
    from synthembed.model import backbone

    from benchmarks import train

    class Here(train.Side):
        def __init__(self, folder, kind, batch, size, **options):
            self.kind, self.batch, self.steps = kind, batch, []
            task = {"folder": folder, "kind": kind, "batch": batch, **options}
            self.take = train.ours(task, size, example_files.read(Path(folder) / "triplets.jsonl"))

        def step(self):
            began = time.monotonic()
            loss, facts = self.take()
            self.steps.append({"seconds": time.monotonic() - began, "loss": loss, **facts()})

        def close(self):
            pass

    base, work = saved_base(tmp_path / "base"), tmp_path / "work"
    work.mkdir()
    load = backbone.load
    with monkeypatch.context() as patch:
        patch.setattr(backbone, "load", lambda settings, *_: load(Backbone(model=str(base))))
        train.write_corpus(work, 12, train.TINY)
    plain = train.plain(train.TINY, str(work))
    monkeypatch.setattr(train, "Side", Here)
    rows = [plain, train.rounded(train.TINY, str(work)), *train.bound(train.TINY, str(work))]
    checked(
        rows,
        [
            "train/plain",
            "train/bfloat16",
            "train/bound",
            *(["train/bound-onednn"] if onednn_linear.use_onednn() else []),
        ],
    )
    assert all("losses agree to" in row["check"] for row in rows[:2])


def test_busy(tmp_path, monkeypatch):
    """A short spin and the default one, each in a process of its own, alone and beside busy processes."""
    from synthembed.model import backbone

    from benchmarks import busy, train

    saved_base(tmp_path)
    load = backbone.load
    monkeypatch.setattr(backbone, "load", lambda settings, *_: load(Backbone(model=str(tmp_path))))
    rows = busy.run(train.TINY, texts=2, rounds=1)
    checked(rows, ["busy/encode", "busy/train"])
    assert all("results agree to" in r["check"] and r["ratio"] == r["ours"] for r in rows)


def test_explorers(tmp_path, monkeypatch):
    """Each answers, and a control that changes nothing is no answer."""
    from synthembed.model import backbone
    from synthembed.report.seen import before_after

    from benchmarks import explorers

    saved_base(tmp_path)
    load = backbone.load
    monkeypatch.setattr(backbone, "load", lambda settings, *_: load(Backbone(model=str(tmp_path))))
    monkeypatch.setattr(before_after, "ANSWERS", "find")  # a byte is a token here, and 64 are read
    monkeypatch.setattr(before_after, "DOCUMENTS", ["ab", "cd"])
    ours = before_after.encoder_of
    monkeypatch.setattr(
        before_after,
        "peer_encoder",
        lambda name: ours(explorers.profile.load("smoke"), load(Backbone(model=str(tmp_path)))),
    )
    rows = explorers.run("smoke", rounds=2)
    names = ["prompts", "browse", "tokens", "batch", "neighbours", "passkeys"]
    names += ["playground, a query", "playground, a document"]
    checked(rows, [f"explorers/{name}" for name in names])
    assert all(row["ratio"] == pytest.approx(300 / row["ours"]) for row in rows)
    with pytest.raises(AssertionError, match="its own picture"):
        still = explorers.widgets.tokens(str.split, "a b")
        explorers._measured("still", lambda: still, 0, ["a b", "a  b"], 2)


def test_static_embeddings_know_no_order(llama):
    import numpy as np

    from benchmarks.suite_validity import Static

    vectors = Static(llama).encode(["ab cd", "cd ab", "xy"], normalize=False)
    assert np.allclose(vectors[0], vectors[1], atol=1e-6) and not np.allclose(vectors[0], vectors[2])
    table = llama.model.get_input_embeddings().weight.detach().numpy()
    ids = llama.contract.ids(["xy"], 16)[0][1:-1]
    assert np.allclose(vectors[2], table[ids].mean(0), atol=1e-6)
