"""Verdicts, tables and claims, from made-up results: no model is touched."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from synthembed import paper, profile
from synthembed.evaluation import intervals
from synthembed.ground.files import write_json
from synthembed.profile.reading import assign
from synthembed.report import claims, evidence, figures, page, rendering, tables, verdicts
from synthembed.report.claims import FAILS, HOLDS, OPEN, SCALE
from synthembed.report.evidence import Evidence
from synthembed.report.results import Results

METRIC = {
    "Class.": "accuracy", "Clust.": "v_measure", "PairClass.": "max_ap", "Rerank": "map_at_1000",
    "Retr.": "ndcg_at_10", "STS": "cosine_spearman", "Summ.": "cosine_spearman",
}  # fmt: skip


def row(system, benchmark, task, category, score, language="eng", metric=None, **more):
    metric = metric or METRIC[category]
    return {"system": system, "benchmark": benchmark, "task": task, "category": category,
            "language": language, "metric": metric, "score": score, **more}  # fmt: skip


def mteb(system, column="full data", shift=0.0, only=None, benchmark="MTEB(eng, v1)", **more):
    """Rows of all 56 sets (or ``only`` some), as published in a column of Table 17."""
    rows = paper.table("table17")["rows"].items()
    return [
        row(system, benchmark, task, r["category"], r[column] + shift, **more)
        for task, r in rows if only is None or task in only
    ]  # fmt: skip


def embedded(system, level, **more):
    """Two tasks of every category of the embedded suite."""
    return [
        row(system, "embedded", f"Embedded{c}{n}", c, level + n, **more) for c in METRIC for n in range(2)
    ]


def write_run(
    top: Path, evaluation=None, ablations=None, passkey=None, statistics=None, setting="full", **evaluate
):
    """The results of a run of the paper's profile by the paper's mteb, which the tests then spoil."""
    settings = profile.load("paper").model_dump(mode="json") | {"ablations": {}}
    settings["data"]["setting"], settings["evaluate"] = setting, settings["evaluate"] | evaluate
    examples = {"synthetic": 500_000, "full": 1_800_000}.get(setting, 900_000)
    found = {
        "03_train": ("run.json", {}),
        "02_analyze": ("statistics.json", statistics or {"examples": 500_000}), "04_evaluate": ("scores.json", evaluation),
        "05_ablations": ("scores.json", ablations), "06_long_context": ("scores.json", passkey and {"passkey": passkey}),
    }  # fmt: skip
    for stage, (file, data) in found.items():
        if data is not None:
            (top / stage).mkdir(parents=True, exist_ok=True)
            write_json(top / stage / file, data)
            write_json(top / stage / "stage.json", {
                "stage": stage, "status": "done", "profile": "made-up", "profile_hash": "0" * 16, "commit": "c0ffee",
                "settings": settings, "seeds": [42], "versions": {"mteb": "1.0.2"}, "wall_s": 1.0,
                "machine": {"gpu": "V100", "processor": "x86_64", "cores": 2}, "data": {"examples": examples},
            })  # fmt: skip
    return top


def by_id(top: Path) -> dict[str, dict]:
    return {e["id"]: e for e in verdicts.verdicts(Results(top))}


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


# --- verdicts ------------------------------------------------------------------------------------


def test_every_id_of_the_registry_has_one_verdict(full, small, tmp_path):
    expected = [c.id for a in paper.artefacts() for c in paper.cells(a)]
    for top in (full, small, tmp_path / "nothing"):
        entries = verdicts.verdicts(Results(top))
        assert [e["id"] for e in entries if e["paper"] is not None] == expected
        assert len({e["id"] for e in entries}) == len(entries)
        assert {e["artefact"] for e in entries} == set(paper.artefacts())
        assert all(e["why"] for e in entries if not e["comparable"])
        assert {e["verdict"] for e in entries} <= set(verdicts.KINDS)


def test_a_whole_benchmark_compares(full):
    found = by_id(full)
    assert found["table1/full data/Avg"]["verdict"] == "match"
    assert found["table1/full data/Avg"]["run"]["benchmark"] == "MTEB(eng, v1)"
    assert found["table3/full data/BEIR"]["verdict"] == "match"
    assert found["table17/SciFact/full data"]["verdict"] == "match"
    assert found["table5/w/ mean pool/delta_avg"]["ours"] == pytest.approx(-0.4)
    assert found["table5/w/ mean pool/Avg"]["verdict"] == "match"
    assert found["table6/sw/Recall@100 E5_mistral-7b full"]["verdict"] == "match"
    assert found["table2/full data/en"]["verdict"] == "close"  # 57.0 for 57.3
    assert found["figure5/window 4k, base 10^4/256"]["verdict"] == "match"
    assert found["figure2/task types/sts"]["verdict"] == "match"
    assert found["table7/full data/Avg"]["verdict"] == "match"
    assert found["table1/w/ synthetic data only/Avg"]["verdict"] == "not run"
    assert found["table1/Glove/Avg"]["why"] == "as published, not run by us"


def made_otherwise(top: Path, *stages: str, version: str | None = None, **changes) -> dict[str, dict]:
    """The verdicts once settings of ``stages`` were others, and mteb of another ``version``."""
    for stage in stages:
        record = json.loads((top / stage / "stage.json").read_text())
        for key, value in changes.items():
            assign(record["settings"], key.replace("__", "."), value)
        record["versions"]["mteb"] = version or record["versions"]["mteb"]
        write_json(top / stage / "stage.json", record)
    return by_id(top)


@pytest.mark.parametrize(
    ("stage", "key", "value", "said"),
    [
        ("03_train", "backbone__model", "HuggingFaceTB/SmolLM2-135M", "mistralai/Mistral-7B-v0.1 in the paper"),
        ("03_train", "train__method", "qlora", "train.method is qlora here and lora in the paper"),
        ("03_train", "train__batch_size", 8, "train.batch_size is 8 here and 2,048 in the paper"),
        ("03_train", "train__max_steps", 3, "train.max_steps is 3 here and not set in the paper"),
        ("03_train", "lora__rank", 1, "lora.rank is 1 here and 16 in the paper"),
        ("03_train", "lora__targets", ["q_proj"], "lora.targets is q_proj here"),
        ("03_train", "train__max_length", 128, "train.max_length is 128 here and 512 in the paper"),
        ("03_train", "backbone__dtype", "float32", "precision of training is float32 here and mixed"),
        ("03_train", "pretrain", {"source": "docstrings"}, "pretrain is source docstrings here"),
        ("03_train", "data__sets", {"fever": {"limit": 100}}, "sets cut otherwise is fever: limit 100 here"),
        ("03_train", "data__labelled", "installed", "data.labelled is installed here and public in the paper"),
        ("02_analyze", "generate__models", {"a-model": 1.0}, "generate.models is a-model 1.0 here"),
        ("02_analyze", "generate__languages", ["en", "de"], "languages asked for is 2 here and 93"),
        ("04_evaluate", "evaluate__dtype", "bfloat16", "evaluate.dtype is bfloat16 here and float16 or float32"),
    ],
)  # fmt: skip
def test_a_run_made_otherwise_than_the_paper_says_does_not_compare(full, stage, key, value, said):
    assert by_id(full)["table1/full data/Avg"]["comparable"]
    entry = made_otherwise(full, stage, **{key: value})["table1/full data/Avg"]
    assert entry["verdict"] == "not comparable" and said in entry["why"]


def test_a_small_corpus_does_not_compare_and_neither_does_what_was_not_recorded(full):
    write_json(full / "02_analyze" / "statistics.json", {"examples": 200, "families": {"sts": 19.5}})
    found = by_id(full)
    for cell in ("table1/full data/Avg", "table5/w/ mean pool/Avg", "figure2/task types/sts"):
        assert "synthetic examples is 200 here and at least 450,000 in the paper" in found[cell]["why"], cell
    shutil.rmtree(full / "03_train")
    assert "backbone.model is not recorded here" in by_id(full)["table1/full data/Avg"]["why"]


def test_every_difference_of_a_toy_run_is_named(full):
    """Three steps of rank 1 with a small model once "matched" the paper."""
    toy = {"backbone__model": "embedded:smollm2-135m", "lora__rank": 1, "train__max_steps": 3}
    why = made_otherwise(full, "03_train", **toy)["table1/full data/STS"]["why"]
    assert [part.partition(" is ")[0] for part in why.split("; ")] == [
        "backbone.model", "lora.rank", "train.max_steps"
    ]  # fmt: skip


def test_a_row_that_the_paper_made_otherwise_is_compared_with_that(full):
    entry = made_otherwise(full, "05_ablations", backbone__pooling="last")["table5/w/ mean pool/Avg"]
    assert entry["comparable"]  # the row's own pooling is mean, as the paper's row has it
    record = json.loads((full / "05_ablations" / "stage.json").read_text())
    record["settings"]["ablations"]["rows"][1]["set"] = {"backbone.pooling": "weighted-mean"}
    write_json(full / "05_ablations" / "stage.json", record)
    assert "backbone.pooling is weighted-mean here and mean" in by_id(full)["table5/w/ mean pool/Avg"]["why"]


def test_a_window_that_is_not_the_papers_does_not_compare(full):
    variants = [{"id": "window 4k, base 1e4", "sliding_window": 512, "rope_theta": 1e4}]
    found = made_otherwise(full, "06_long_context", long_context__variants=variants)
    assert found["figure5/window 4k, base 10^4/256"]["why"] == (
        "sliding_window is 512 here and 4,096 in the paper"
    )


def test_a_number_off_is_close_or_differs(tmp_path):
    for shift, expected in ((0.05, "match"), (0.6, "close"), (2.0, "differs"), (-2.0, "differs")):
        top = write_run(
            tmp_path / str(shift),
            {"rows": mteb("trained", shift=shift), "fills": {"trained": paper.fills("full")}},
        )
        assert by_id(top)["table1/full data/Avg"]["verdict"] == expected


def test_what_newer_mteb_moves_is_not_compared_and_the_version_is_named(full):
    assert by_id(full)["table17/Banking77Classification/full data"]["comparable"]
    found = made_otherwise(full, "04_evaluate", "05_ablations", version="2.26.24")
    for task in paper.moved_by_mteb():
        entry = found[f"table17/{task}/full data"]
        assert entry["verdict"] == "not comparable" and "mteb 2.26.24" in entry["why"], task
    assert "88.2 on their card" in found["table17/Banking77Classification/full data"]["why"]
    for cell in ("table1/full data/Class.", "table1/full data/Avg", "table3/full data/BEIR",
                 "table5/w/ mean pool/delta_avg", "table17/Average/full data"):  # fmt: skip
        assert found[cell]["verdict"] == "not comparable", cell
        assert "of its sets otherwise than the paper's mteb 1.0.2" in found[cell]["why"], cell
    assert found["table1/full data/STS"]["comparable"] and found["table17/SciFact/full data"]["comparable"]


def test_a_part_of_a_benchmark_does_not_compare_but_its_tasks_do(tmp_path):
    rows = mteb("trained", only=["STS12", "SciFact"], benchmark="MTEB(eng, v1), part")
    found = by_id(write_run(tmp_path, {"rows": rows, "fills": {"trained": paper.fills("full")}}))
    assert found["table1/full data/STS"]["verdict"] == "not comparable"
    assert found["table1/full data/STS"]["why"] == "1 of 10 tasks"
    assert found["table17/STS12/full data"]["verdict"] == "match"


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"protocol": "mteb-default"}, "evaluate.protocol is mteb-default"), ({"max_length": 128}, "evaluate.max_length is 128")],
)  # fmt: skip
def test_another_protocol_does_not_compare(tmp_path, settings, why):
    scores = {"rows": mteb("trained"), "fills": {"trained": paper.fills("full")}}
    entry = by_id(write_run(tmp_path, scores, **settings))["table1/full data/Avg"]
    assert entry["verdict"] == "not comparable" and why in entry["why"]


def test_another_metric_is_no_number_at_all(tmp_path):
    rows = [r | {"metric": "max_f1"} if r["category"] == "PairClass." else r for r in mteb("trained")]
    found = by_id(write_run(tmp_path, {"rows": rows, "fills": {"trained": paper.fills("full")}}))
    assert found["table1/full data/PairClass."]["verdict"] == "not run"


def test_an_ablation_on_other_training_data_does_not_compare(full):
    record = json.loads((full / "05_ablations" / "stage.json").read_text())
    record["settings"]["ablations"]["set"] = {"data.setting": "synthetic"}
    write_json(full / "05_ablations" / "stage.json", record)
    entry = by_id(full)["table5/w/ mean pool/Avg"]
    assert entry["verdict"] == "not comparable"
    assert entry["why"] == "data.setting is synthetic here and synthetic+msmarco in the paper"


def test_a_difference_needs_one_budget_and_one_benchmark(full):
    """Figure 3's gain: the main run's model against an ablation with pre-training."""
    path, record_path = full / "05_ablations" / "scores.json", full / "05_ablations" / "stage.json"
    data, record = json.loads(path.read_text()), json.loads(record_path.read_text())
    data["rows"] += mteb("pre", shift=0.5)
    data["fills"]["pre"] = {"figure3": "E5_mistral-7b + full data, w/ cont. pre-train"}
    record["settings"]["ablations"]["rows"].append({"id": "pre", "set": {"data.setting": "full"}})
    write_json(path, data)
    write_json(record_path, record)
    assert by_id(full)["figure3/full data, delta/MTEB All"]["ours"] == pytest.approx(0.5)
    record["settings"]["ablations"]["set"] |= {"train.max_steps": 14}
    write_json(record_path, record)
    assert by_id(full)["figure3/full data, delta/MTEB All"]["verdict"] == "not run"


def test_the_embedded_suite_never_compares(small):
    entries = by_id(small).values()
    assert {e["verdict"] for e in entries if e["ours"] is not None} == {"not comparable"}
    assert "embedded suite" in by_id(small)["table1/w/ synthetic data only/Avg"]["why"]


def test_cheap_variants_of_a_benchmark_are_marked(tmp_path):
    rows = [
        row(
            "trained",
            "MIRACL (hard negatives)",
            "MIRACLRetrievalHardNegatives",
            "Multil.",
            57.3,
            metric="ndcg_at_10",
        )
    ]
    entry = by_id(write_run(tmp_path, {"rows": rows, "fills": {"trained": paper.fills("full")}}))[
        "table2/full data/en"
    ]
    assert entry["ours"] == 57.3 and entry["verdict"] == "not comparable" and "hard negatives" in entry["why"]


def test_a_peer_that_was_run_is_set_beside_its_published_row(tmp_path):
    rows = [*mteb("thenlper/gte-large", shift=0.5), *mteb("intfloat/e5-large-v2")]
    found = by_id(write_run(tmp_path, {"rows": rows, "fills": {}}))
    assert (
        found["table1/GTE_large/Avg"]["comparable"]
        and found["table1/GTE_large/Avg"]["run"]["system"] == "thenlper/gte-large"
    )
    assert (
        found["table1/E5_large-v2/Avg"]["verdict"] == "not comparable"
        and "query: " in found["table1/E5_large-v2/Avg"]["why"]
    )
    assert found["table1/Contriever/Avg"]["verdict"] == "not run"


def test_seeds_give_a_mean_and_a_spread(small):
    entry = by_id(small)["table1/w/ synthetic data only/Avg"]
    assert entry["ours"] == pytest.approx((60 + 61 + 63) / 3 + 0.5, abs=0.01)
    assert entry["run"]["seeds"] == [1, 2, 3] and entry["run"]["n_seeds"] == 3
    assert entry["run"]["std"] == pytest.approx(1.528, abs=0.001)


def test_a_seed_that_did_not_finish_is_left_out(small):
    path = small / "04_evaluate" / "scores.json"
    data = json.loads(path.read_text())
    data["rows"] = [r for r in data["rows"] if not (r.get("seed") == 3 and r["category"] == "STS")]
    write_json(path, data)
    assert by_id(small)["table1/w/ synthetic data only/Avg"]["run"]["seeds"] == [1, 2]


@pytest.mark.parametrize("stage", ["02_analyze", "04_evaluate", "05_ablations", "06_long_context"])
def test_deleting_results_turns_their_verdicts_to_not_run_and_nothing_else(full, stage):
    before = by_id(full)
    shutil.rmtree(full / stage)
    after = by_id(full)
    changed = {i for i in before if before[i] != after[i]}
    from_there = {i for i, e in before.items() if e["run"] and e["run"]["stage"] == stage}
    method = {
        f"{a}/method" for a, about in paper.artefacts("method").items() if about["shown"]["notebook"] == stage
    }
    assert from_there and {i for i in changed if after[i]["verdict"] == "not run"} == from_there | method
    for i in changed - from_there - method:  # of what a model was trained on nothing is known any more
        assert stage == "02_analyze" and "synthetic examples is not recorded here" in after[i]["why"]


def test_of_several_runs_the_best_evidence_counts(full, small):
    entries = {e["id"]: e for e in verdicts.best([verdicts.verdicts(Results(p)) for p in (small, full)])}
    assert entries["table1/full data/Avg"]["run"]["name"] == "full"
    assert entries["table1/w/ synthetic data only/Avg"]["run"]["name"] == "small"


# --- tables --------------------------------------------------------------------------------------


def block(table: rendering.Table, start: str) -> rendering.Block:
    return next(b for b in table.blocks if start in b.heading)


def test_a_metric_in_place_of_the_papers_has_its_own_name(tmp_path):
    """The suite's 32 documents a language leave nothing to Recall@100: Recall@3 is not called so."""
    task = ("trained", "embedded", "EmbeddedMultilingual", "Multil.")
    data = {
        "rows": [row(*task, 50.0, metric="ndcg_at_10")],
        "more": [row(*task, 30.0, metric="recall_at_3")],
        "fills": {"trained": paper.fills("full")},
    }
    published, ours = tables.build("table6", [Results(write_run(tmp_path, data))]).blocks
    assert {c.split()[0] for c in published.columns} == {"nDCG@10", "Recall@100"}
    assert {c.split()[0] for c in ours.columns} == {"nDCG@10", "Recall@3"}


def test_tables_have_the_papers_rows_and_a_block_of_ours(small):
    table = tables.build("table1", [Results(small)])
    published, ours = table.blocks
    assert [name for _, name, _ in published.rows][-1] == "w/ synthetic + msmarco" and len(
        published.rows
    ) == 12
    assert ours.columns == published.columns and "embedded suite" in ours.heading
    values = {name: dict(zip(ours.columns, v, strict=True)) for _, name, v in ours.rows}
    assert values["all-MiniLM-L6-v2"]["Avg"].mean == pytest.approx(75.5)
    assert values["BM25"]["Avg"] is None and values["BM25"]["Retr."].mean == 70.5  # fewer tasks: no average
    assert any("peer" in note for note in table.notes) and any("3 seeds" in note for note in table.notes)
    assert "61.8 ± 1.5" in rendering.markdown(table)


def test_every_table_is_rendered_without_any_result(tmp_path):
    for artefact in paper.artefacts("table"):
        table = tables.build(artefact, [Results(tmp_path)])
        assert len(table.blocks) == 1 and any("Not run" in n for n in table.notes)
    six = tables.build("table6", [Results(tmp_path)]).blocks[0]
    assert len(six.rows) == 17 and len(six.columns) == 10
    assert len(tables.build("table17", [Results(tmp_path)]).blocks[0].rows) == 57


def test_an_encoder_half_that_cannot_be_had_is_said_under_table_7(tmp_path):
    note = next(n for n in tables.build("table7", [Results(tmp_path)]).notes if "Not at this scale" in n)
    assert (
        note.startswith("Not at this scale: XLM-R_large + full data and XLM-R")
        and "pre-trained and not" in note
    )
    entry = by_id(tmp_path)["table7/XLM-R_large + full data/Avg"]
    assert entry["verdict"] == "not run" and entry["why"].startswith("not at this scale: it needs an encoder")


def test_table_17_has_the_suites_tasks_where_mteb_was_not_run(small, full):
    ours = block(tables.build("table17", [Results(small)]), "embedded")
    assert {name for _, name, _ in ours.rows} == {f"Embedded{c}{n}" for c in METRIC for n in range(2)} | {
        "Average"
    }
    assert "w/ synthetic only" in ours.columns
    theirs = block(tables.build("table17", [Results(full)]), "MTEB(eng, v1)")
    assert len(theirs.rows) == 57 and theirs.columns == ["full data"]


def test_runs_stand_side_by_side(full, small):
    headings = [b.heading for b in tables.build("table1", [Results(small), Results(full)]).blocks]
    assert headings[0] == "as published" and headings[1].startswith("small, embedded")
    assert headings[2].startswith("full, MTEB(eng, v1)")


def test_a_delta_within_noise_is_printed_as_such(full):
    path = full / "05_ablations" / "scores.json"
    data = json.loads(path.read_text())
    data["intervals"] = {"mean": {"delta": -0.4, "low": -1.1, "high": 0.2, "within_noise": True}}
    write_json(path, data)
    text = rendering.markdown(tables.build("table5", [Results(full)]))
    assert "-0.4 [-1.1, +0.2], within noise" in text
    data["intervals"]["mean"] |= {"low": -0.6, "high": -0.2, "within_noise": False}
    write_json(path, data)
    assert "within noise" not in rendering.markdown(tables.build("table5", [Results(full)]))
    assert "1 lie within noise" not in page.variance([Results(full)])


def test_files_of_a_table_agree(small, tmp_path):
    import pandas as pd

    table = tables.build("table1", [Results(small)])
    rendering.write(table, tmp_path / "out", "table1")
    frame = pd.read_csv(tmp_path / "out" / "table1.csv")
    mine = frame[frame["row"] == "trained on synthetic data only"].iloc[0]
    assert mine["Avg"] == pytest.approx(61.83, abs=0.01) and mine["Avg std"] == pytest.approx(1.53, abs=0.01)
    assert frame[frame["row"].str.startswith("Glove")].iloc[0]["Avg"] == 42.0
    tex = (tmp_path / "out" / "table1.tex").read_text()
    assert (
        tex.count(r"\begin{tabular}") == 2
        and r"SimCSE\_bert-sup $^\dagger$" in tex
        and r"61.8 $\pm$ 1.5" in tex
    )


# --- claims --------------------------------------------------------------------------------------


def test_claims_name_artefacts_and_quantities_that_exist():
    ids = {c.id for a in paper.artefacts() for c in paper.cells(a)} | {
        f"{a}/method" for a in paper.artefacts("method")
    }
    overnight = {row.id for row in profile.load("overnight").ablations.rows}
    assert len(claims.load()) == 12
    for claim in claims.load():
        assert set(claim["artefacts"]) <= ids, claim["id"]
        for quantity in quantities(claim):
            if quantity.startswith(("cell ", "row ")):
                assert quantity.partition(" ")[2] in ids, quantity
            if quantity.startswith("delta "):
                assert f"table5/{quantity.removeprefix('delta ')}/delta_avg" in ids, quantity
            if quantity.startswith("passkey "):
                assert quantity.removeprefix("passkey ") in paper.systems("figure5")
            if quantity.startswith("change "):
                assert quantity.removeprefix("change ") in overnight, quantity


def quantities(claim: dict) -> list[str]:
    tests = claim["tests"] + claim.get("also", [])
    sides = [s for t in tests for s in (t["left"], t.get("right", 0))] + list(claim.get("bases", {}).values())
    return [q for s in sides for q in (s if isinstance(s, list) else [s]) if isinstance(q, str)]


PUBLISHED = {
    "system best peer/table1/Avg": 64.2, "system best peer/table3/BEIR": 55.6,
    "data languages asked for": 93, "data language_count": 93, "lag table2": 7.2,
    "passkey window 4k, base 10^4": 78.25, "passkey window 32k, base 10^5": 96.25, "longest passkey text": 32_768,
    # What the paper did not measure or print is made up.
    "system base/table1/Avg": 40, "system static/table1/Avg": 42, "change shuffled": -20, "change half-steps": -1,
    "data texts in the language asked for, per cent": 98, "data one-step tasks": 30,
    "data different tasks, per cent of those asked for": 99,
}  # fmt: skip


def in_the_paper(quantity: str) -> Evidence | None:
    """A quantity as the paper has it."""
    cells = {c.id: c.value for a in paper.artefacts() for c in paper.cells(a)}
    kind, _, name = quantity.partition(" ")
    if quantity in PUBLISHED:
        return Evidence(PUBLISHED[quantity])
    if kind == "change":  # on another base: in no claim's tests
        return None
    return Evidence(cells[name if kind in ("cell", "row") else f"table5/{name}/delta_avg"])


@pytest.mark.parametrize("claim", claims.load(), ids=lambda c: c["id"])
def test_every_claim_holds_on_the_papers_numbers_and_fails_on_their_opposite(claim):
    judged = claims.judge(claim, in_the_paper)
    assert judged["verdict"] == HOLDS, judged["evidence"]
    assert claims.judge(claim, lambda q: None)["verdict"] == (SCALE if "needs" in claim else OPEN)
    for number, test in enumerate(claim["tests"]):
        side = test["left"][0] if isinstance(test["left"], list) else test["left"]
        worse = {"at least": -200, "at most": 2000, "within": 50}[test["is"]]

        def opposite(q, side=side, worse=worse):
            found = in_the_paper(q)
            return Evidence(found.value + worse) if q == side else found

        assert claims.judge(claim, opposite)["verdict"] == FAILS, f"test {number} cannot fail"


def test_noise_over_the_bound_leaves_a_claim_open():
    claim = {
        "id": "x",
        "claim": "",
        "where": "",
        "artefacts": [],
        "tests": [{"left": "a", "is": "at least", "right": "b", "by": 1}],
    }
    for value, noise, expected in (
        (3, 1.0, HOLDS),
        (3, 2.5, OPEN),
        (0.5, 0.2, FAILS),
        (0.5, 0.8, OPEN),
        (1, None, HOLDS),
    ):
        verdict = claims.judge(claim, {"a": Evidence(value, noise), "b": Evidence(0)}.get)["verdict"]
        assert verdict == expected, (value, noise)
    apart = {"a": Evidence(9, benchmark="embedded"), "b": Evidence(0, benchmark="BEIR")}
    assert claims.judge(claim, apart.get)["verdict"] == OPEN
    for low, high, expected in ((0.5, 5.5, OPEN), (1.5, 9, HOLDS), (-5, 0.9, FAILS), (-5, 1.1, OPEN)):
        found = {"a": Evidence(3, interval={"low": low, "high": high}), "b": Evidence(0)}
        assert claims.judge(claim, found.get)["verdict"] == expected, (low, high)
    once = {"a": Evidence(3, interval={"low": 2, "high": 4, "seeds": 1, "why": "one seed"}), "b": Evidence(0)}
    judged = claims.judge(claim, once.get)
    assert judged["verdict"] == OPEN and "one seed: no interval of training" in judged["evidence"]

    def scored(system: str, *scores: float, seeds=(0,)) -> Evidence:
        tasks = (("t", "STS"), ("u", "STS"), ("v", "Retr."))
        rows = [
            {"system": system, "task": t, "category": c, "score": x, "language": "en"}
            | ({} if seed is None else {"seed": seed})
            for (t, c), x in zip(tasks, scores, strict=True)
            for seed in seeds
        ]
        return Evidence(sum(scores) / 3, rows=rows)

    for left, right, expected in (
        (scored("a", 14, 1, 3), scored("b", 0, 5, 4), OPEN),  # three tasks that disagree
        (scored("a", 14, 15, 14), scored("b", 0, 1, 0), OPEN),  # two trainings, one seed
        (scored("a", 14, 15, 14), scored("b", 0, 1, 0, seeds=[None]), HOLDS),  # this training, and a peer
        (scored("a", 14, 15, 14, seeds=[0, 1]), scored("b", 0, 1, 0, seeds=[0, 1]), HOLDS),
    ):
        judged = claims.judge(claim, {"a": left, "b": right}.get)
        assert judged["verdict"] == expected, judged["evidence"]
        assert ("one seed" in judged["evidence"]) == (len(left.rows) == 3)
    budgets = {"a": Evidence(9, budget="{}"), "b": Evidence(0, budget="14 steps")}
    assert claims.judge(claim, budgets.get)["verdict"] == OPEN


def test_a_model_at_chance_decides_nothing():
    """Two poolings of a model that has learnt nothing differ by nothing."""
    claim = {
        "id": "x",
        "claim": "",
        "where": "",
        "artefacts": [],
        "tests": [{"left": "a", "is": "within", "by": 2}],
    }
    for level, expected in ((12.0, OPEN), (14.9, OPEN), (15.0, HOLDS), (60.0, HOLDS)):
        judged = claims.judge(claim, {"a": Evidence(0.3, 0.1, level=level, chance=10.0)}.get)
        assert judged["verdict"] == expected
        assert ("at chance level" in judged["evidence"]) == (expected == OPEN)
    beside = {"id": "x", "claim": "", "where": "", "artefacts": [],
              "tests": [{"left": "a", "is": "at least", "right": "b", "by": 10}]}  # fmt: skip
    for left, right, expected in ((60, 11, HOLDS), (13, 3, OPEN)):  # one side at chance is no matter
        found = {n: Evidence(v, level=v, chance=10.0) for n, v in (("a", left), ("b", right))}
        assert claims.judge(beside, found.get)["verdict"] == expected


def test_chance_is_that_of_random_vectors_on_the_same_tasks(small):
    path = small / "04_evaluate" / "scores.json"
    data = json.loads(path.read_text())
    data["rows"] += embedded("random", 59)
    write_json(path, data)
    found = {c["id"]: c for c in claims.ledger(Results(small))}
    assert found["synthetic alone"]["verdict"] == OPEN
    assert "at chance level (61.8, chance 59.5)" in found["synthetic alone"]["evidence"]


def test_a_control_may_refute_a_claim_and_a_half_that_is_not_at_this_scale_decides_nothing():
    claim = {c["id"]: c for c in claims.load()}["synthetic alone"]

    def with_control(value, **more):
        control = Evidence(value, interval={"low": value - 1, "high": value + 1, "seeds": 3} | more)
        return lambda q: control if q == "change shuffled" else in_the_paper(q)

    assert claims.judge(claim, with_control(-20.0))["verdict"] == HOLDS
    refuted = claims.judge(claim, with_control(0.0))
    assert refuted["verdict"] == FAILS and "the change by shuffled is 0" in refuted["evidence"]
    once = claims.judge(claim, with_control(0.0, seeds=1, why="one seed"))
    assert once["verdict"] == HOLDS and claims.ONE_SEED in once["evidence"]
    claim = {c["id"]: c for c in claims.load()}["no pre-training"]
    half = claims.judge(claim, lambda q: None if "XLM-R" in q else in_the_paper(q))
    assert half["verdict"] == HOLDS and "not at this scale: that encoders depend on it" in half["evidence"]


def test_an_effect_on_another_base_is_said_beside_the_verdict():
    claim = {c["id"]: c for c in claims.load()}["instructions"]
    other = Evidence(-0.3, interval={"low": -2.0, "high": 1.4, "why": None})
    find = {"change smollm2-no-instruction": other}
    judged = claims.judge(claim, lambda q: find.get(q) or in_the_paper(q))
    assert judged["verdict"] == HOLDS and judged["bases"] == {"SmolLM2-135M": -0.3}
    assert "On SmolLM2-135M: -0.3 [-2.0, +1.4]." in judged["evidence"]


def test_a_lag_is_measured_against_the_multilingual_peer(tmp_path):
    """Behind by 5 in high-resource languages and by 30 in low-resource ones: the lag is 25."""
    codes = dict(
        zip(
            evidence.HIGH + evidence.LOW,
            ["eng", "fra", "spa", "rus", "tel", "hin", "ben", "swh"],
            strict=True,
        )
    )

    def find(noise, error=None):
        rows = [
            row(system, "embedded", "EmbeddedMultilingual", "Multil.", 90 + spread - behind * (system == "trained"),
                code, "ndcg_at_10", **({"seed": 1} if system == "trained" else {}))
            for n, (short, code) in enumerate(codes.items())
            for behind, spread in [(5 if short in evidence.HIGH else 30, noise * (-1) ** n)]
            for system in ("trained", "me5-small-4bit")
        ]  # fmt: skip
        errors = {
            s: {"EmbeddedMultilingual": dict.fromkeys(codes.values(), error)}
            for s in ("trained", "me5-small-4bit")
        }
        data = {
            "rows": rows,
            "fills": {"trained": paper.fills("synthetic")},
            "errors": errors if error else {},
        }
        return evidence.evidence_of(Results(write_run(tmp_path, data, setting="synthetic")))("lag table2")

    assert find(0).value == pytest.approx(25)
    kept = find(0, error=2.0)
    assert kept.interval["high"] - kept.value == pytest.approx(
        1.96 * 2, abs=0.01
    )  # sqrt(16 * 4) / 4 languages
    claim = {c["id"]: c for c in claims.load()}["high-resource"]
    judged = claims.judge(claim, lambda q: kept)
    assert judged["verdict"] == HOLDS and claims.THIS_ONE in judged["evidence"]


def test_the_ledger_follows_the_run(small, full):
    found = {c["id"]: c for c in claims.ledger(Results(small))}
    assert found["synthetic alone"]["verdict"] == HOLDS and "61.8" in found["synthetic alone"]["evidence"]
    assert found["competitive"]["verdict"] == FAILS
    assert found["state of the art"]["verdict"] == found["longer context"]["verdict"] == SCALE
    whole = {c["id"]: c for c in claims.ledger(Results(full))}
    assert whole["languages"]["verdict"] == whole["diversity"]["verdict"] == HOLDS
    made_otherwise(full, "02_analyze", generate__languages=["en", "de"])
    asked = {c["id"]: c for c in claims.ledger(Results(full))}["languages"]
    assert (
        asked["verdict"] == SCALE and "languages asked for: 2, of 93; needed: a corpus" in asked["evidence"]
    )
    path = small / "04_evaluate" / "scores.json"
    data = json.loads(path.read_text())
    data["rows"] = [r | {"score": 35.0} if r["system"] == "trained" else r for r in data["rows"]]
    write_json(path, data)
    assert {c["id"]: c for c in claims.ledger(Results(small))}["synthetic alone"]["verdict"] == FAILS


def test_variance_is_spoken_of_with_our_spread_if_there_is_one(small, tmp_path):
    assert "1.5 points" in page.variance([Results(small)])
    assert "no spread of its own" in page.variance([Results(tmp_path)])


# --- the report ----------------------------------------------------------------------------------


def test_the_report_is_built_from_several_runs_without_models(full, small, tmp_path):
    """In a process of its own, which must not have loaded what only models need."""
    code = (
        "import sys; from pathlib import Path; from synthembed.report import page; from synthembed.stages import command_line; "
        f"page.build([Path({str(small)!r}), Path({str(full)!r})], Path({str(tmp_path / 'out')!r})); "
        "print([m for m in ('torch', 'transformers', 'mteb', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
    html = (tmp_path / "out" / "report.html").read_text()
    for name in [*paper.artefacts("table"), "figure2", "figure3", "figure5", "claims", "variance"]:
        assert f'id="{name}"' in html, name
    for name in paper.artefacts("table"):
        for form in ("csv", "md", "tex", "html"):
            assert (tmp_path / "out" / "tables" / f"{name}.{form}").stat().st_size > 0
    assert json.loads((tmp_path / "out" / "claims.json").read_text())[0]["run"] == "small"
    assert (tmp_path / "out" / "figures" / "figure2-full.png").exists()


def test_the_command_names_runs_that_are_not_there():
    done = subprocess.run(
        [sys.executable, "-m", "synthembed", "report", "--run", "laptop", "--run", "no-such-run"],
        capture_output=True, text=True, env={"COLUMNS": "200", **__import__("os").environ},
    )  # fmt: skip
    assert done.returncode == 2 and "no folder results/no-such-run" in done.stderr


def test_figures_draw_what_they_are_given():
    bars = {
        "XLM-R_large + full data": {
            "original": {"Retrieval": 10.0},
            "w/ cont. pre-train": {"Retrieval": 25.0},
        }
    }
    figure = figures.figure3(bars)
    texts = [t.get_text() for axis in figure.axes for t in axis.texts]
    assert "+15.0" in texts and "not run" in texts and "+8.2" in texts
    rows = [
        {
            "row": "w/ r=8",
            "paper_delta": 0.3,
            "our_delta": -30.0,
            "low": -33.0,
            "high": -27.0,
            "within_noise": False,
        }
    ]
    low, high = figures.deltas(rows).axes[0].get_xlim()
    assert low < -33 and high > 0.3
    figures.plt.close("all")


def test_wilson_intervals_hold_the_share_and_narrow_with_queries():
    low, high = intervals.wilson(50, 50)
    assert low == pytest.approx(36.6, abs=0.1) and high == pytest.approx(63.4, abs=0.1)
    assert intervals.wilson(100, 20)[0] < intervals.wilson(100, 200)[0] < 100
    assert verdicts.passkey_row({"paper_row": None}) is None
