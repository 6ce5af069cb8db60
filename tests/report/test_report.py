"""Verdicts, tables and the page, from made-up results: no model is touched."""

import json
import shutil
import subprocess
import sys

import pytest
from made_runs import METRIC, by_id, made_otherwise, mteb, row, write_run
from synthembed import paper
from synthembed.evaluation import intervals
from synthembed.ground.files import write_json
from synthembed.report import figures, page, rendering, tables, verdicts
from synthembed.report.results import Results

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
        assert "synthetic examples is 200 here and about 500,000 in the paper" in found[cell]["why"], cell
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
    """The suite's few documents a language leave little to Recall@100: Recall@3 is not called so."""
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
    assert (
        "Mistral-7B-v0.1: trained on synthetic data only" in ours.columns
    )  # what ran, not the paper's column
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
    assert "Within noise: 0 of the 1 differences that can be judged" in page.variance([Results(full)])


def test_rows_of_one_seed_are_counted_apart_from_those_that_can_be_judged(full):
    path = full / "05_ablations" / "scores.json"
    data = json.loads(path.read_text())
    once = {"delta": 9.0, "low": 8.0, "high": 10.0, "within_noise": True, "why": "one seed"}
    data["intervals"] = {"mean": once}
    write_json(path, data)
    said = page.variance([Results(full)])
    assert (
        "Within noise" not in said
        and "1 of our 1 differences rests on one seed: nothing tells it apart" in said
    )
    data["intervals"]["rank"] = once | {"why": None}
    write_json(path, data)
    said = page.variance([Results(full)])
    assert (
        "Within noise: 1 of the 1 differences that can be judged" in said and "1 of our 2 differences" in said
    )


def test_files_of_a_table_agree(small, tmp_path):
    import pandas as pd

    table = tables.build("table1", [Results(small)])
    rendering.write(table, tmp_path / "out", "table1")
    frame = pd.read_csv(tmp_path / "out" / "table1.csv")
    mine = frame[frame["row"] == "Mistral-7B-v0.1: trained on synthetic data only"].iloc[0]
    assert mine["Avg"] == pytest.approx(61.83, abs=0.01) and mine["Avg std"] == pytest.approx(1.53, abs=0.01)
    assert frame[frame["row"].str.startswith("Glove")].iloc[0]["Avg"] == 42.0
    tex = (tmp_path / "out" / "table1.tex").read_text()
    assert (
        tex.count(r"\begin{tabular}") == 2
        and r"SimCSE\_bert-sup $^\dagger$" in tex
        and r"61.8 $\pm$ 1.5" in tex
    )


def test_variance_is_spoken_of_with_our_spread_if_there_is_one(small, tmp_path):
    assert "1.5 points" in page.variance([Results(small)])
    said = page.variance([Results(tmp_path)])
    assert "no spread of its own" in said and "does not say how often it trained a row" in said


# --- the report ----------------------------------------------------------------------------------


def test_the_report_is_built_from_several_runs_without_models(full, small, tmp_path):
    """In a process of its own, which must not have loaded what only models need."""
    code = (
        "import sys; from pathlib import Path; from synthembed.report import page; from synthembed.commands import command_line; "
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
