"""A run at the paper's scale and a laptop run, both made up."""

import json
from pathlib import Path

import pytest
from made_runs import embedded, mteb, row, write_run
from synthembed import paper
from synthembed.ground.files import write_json


@pytest.fixture
def full(tmp_path) -> Path:
    """A run at the paper's scale, with the published scores as its own, and ablations on MTEB."""
    main = mteb("trained") + [
        row("trained", "MIRACL", "MIRACLRetrieval", "Multil.", 55.0 + n, language, "ndcg_at_10")
        for n, language in enumerate(["ara", "ben", "eng", "swa"])
    ]
    more = [row("trained", "MIRACL", "MIRACLRetrieval", "Multil.", 95.5, "swa", "recall_at_100")]
    ablated = [*mteb("default", "w/ synthetic + msmarco"), *mteb("mean", "w/ synthetic + msmarco", -0.4)]
    fills = {"default": {"table5": "E5_mistral-7b (default)"}, "mean": {"table5": "w/ mean pool"}}
    plan = {
        "rows": [{"id": "default", "set": {}}, {"id": "mean", "set": {"backbone.pooling": "mean"}}],
        "set": {"data.setting": "synthetic+msmarco"},
    }
    top = write_run(
        tmp_path / "full", {"rows": main, "more": more, "fills": {"trained": paper.fills("full")}},
        {"rows": ablated, "fills": fills, "examples": {"default": 900_000, "mean": 900_000}},
        [{"variant": "window 4k, base 1e4", "paper_row": "window 4k, base 10^4", "length": 256, "queries": 50, "candidates": 100,
          "accuracy": 98.0, "benchmark": "personalised passkey"}],
        {"examples": 507_000, "families": {"sts": 19.5, "short-long": 63}, "languages": {"English": 43.0},
         "instructions": 150_000, "language_count": 93, "quality": {"language_as_requested": 0.99}},
    )  # fmt: skip
    record = json.loads((top / "05_ablations" / "stage.json").read_text())
    record["settings"]["ablations"] = plan
    write_json(top / "05_ablations" / "stage.json", record)
    return top


@pytest.fixture
def small(tmp_path) -> Path:
    """A laptop run: the embedded suite, trained on synthetic data, three seeds."""
    seeds = [r for seed, level in ((1, 60), (2, 61), (3, 63)) for r in embedded("trained", level, seed=seed)]
    lexical = [r for r in embedded("bm25", 70) if r["category"] in ("Retr.", "Rerank")]
    rows = [*embedded("base", 40), *embedded("static", 45), *seeds, *embedded("minilm", 75), *lexical]
    return write_run(
        tmp_path / "small", {"rows": rows, "fills": {"trained": paper.fills("synthetic")}},
        statistics={"examples": 2000, "families": {"sts": 20.0}, "languages": {"English": 44.0},
                    "instructions": 570, "language_count": 44},
        setting="synthetic",
    )  # fmt: skip
