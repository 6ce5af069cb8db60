"""Every block of ours says what random vectors have on its own tasks."""

from statistics import fmean

import numpy as np
import pytest
from made_runs import embedded, row, write_run
from synthembed.report import page, rendering, tables
from synthembed.report.results import Results

CHANCE = "random vectors (chance)"
FILLS = {
    "default": {"table1": "w/ synthetic + msmarco", "table5": "E5_mistral-7b (default)"},
    "rank": {"table5": "w/ r=8"},
    "full": {a: "E5_mistral-7b + full data" for a in ("table2", "table3", "table7")}
    | {"figure3": "E5_mistral-7b + full data, original", "table17": "full data"},
    "pre": {a: "E5_mistral-7b + full data, w/ cont. pre-train" for a in ("table7", "figure3")},
}


def run_of(top, random: list[dict], ablated: list[dict]) -> Results:
    return Results(write_run(top, {"rows": random}, {"rows": ablated, "fills": FILLS}))


def chance_row(table: rendering.Table) -> dict[str, float]:
    """column → what random vectors have, in the block of the ablations."""
    (block,) = (b for b in table.blocks if "ablations" in b.heading)
    (values,) = (v for _, name, v in block.rows if name == CHANCE)
    return {c: v.mean for c, v in zip(block.columns, values, strict=True) if v is not None}


def test_rows_of_chance_are_what_vectors_drawn_at_random_have_in_the_suite(tmp_path):
    from synthembed.evaluation import mteb_runs, peers
    from synthembed.evaluation.suites import embedded_tasks

    wanted = ("EmbeddedEncyclopedia", "EmbeddedAdvice", "EmbeddedSTSGeneral")
    tasks = [t for t in embedded_tasks.embedded() if t.metadata.name in wanted]
    random = mteb_runs.run_tasks(peers.peer("random")[0], tasks, tmp_path / "random", "random")
    measured = [r for r in random if r["task"] != "EmbeddedAdvice"]  # the ablations have fewer tasks
    ablated = [r | {"system": s, "score": 50.0} for s in FILLS for r in measured]
    ours = run_of(tmp_path / "run", random, ablated)
    retrieval = next(r["score"] for r in measured if r["task"] == "EmbeddedEncyclopedia")
    for artefact in ("table1", "table5", "table7"):
        found = chance_row(tables.build(artefact, [ours]))
        assert found["Avg"] == pytest.approx(fmean(r["score"] for r in measured)), artefact
        assert found["Retr."] == pytest.approx(retrieval), artefact
    figure3 = page.figure3_table(ours).iloc[-1]
    assert figure3["model"] == CHANCE and figure3["Retrieval"] == pytest.approx(retrieval)
    drawn = ndcg_of_random_vectors(next(t for t in tasks if t.metadata.name == "EmbeddedEncyclopedia"), 20)
    assert abs(retrieval - np.mean(drawn)) < 5 * np.std(drawn)


def ndcg_of_random_vectors(task, draws: int) -> list[float]:
    """nDCG@10 in per cent of vectors from a seeded generator, one score for each draw."""
    task.load_data()
    test, rng, found = task.dataset["default"]["test"], np.random.default_rng(0), []
    places = {r["id"]: n for n, r in enumerate(test["corpus"])}
    discounts = 1 / np.log2(np.arange(2, 12))
    for _ in range(draws):
        documents, scores = rng.normal(size=(len(places), 16)), []
        for graded in test["relevant_docs"].values():
            best = np.argsort(-documents @ rng.normal(size=16))[:10]
            gains = np.zeros(len(places))
            gains[[places[d] for d in graded]] = list(graded.values())
            ideal = np.sort(gains)[::-1][:10] @ discounts
            scores.append(gains[best] @ discounts / ideal)
        found.append(100 * fmean(scores))
    task.unload_data()
    return found


def test_every_block_of_ablations_has_the_row_and_it_has_no_delta(tmp_path):
    ablated = [r for s in FILLS for r in embedded(s, 60, seed=1) + embedded(s, 62, seed=2)]
    ours = run_of(tmp_path, embedded("random", 10), ablated)
    for artefact in ("table1", "table3", "table5", "table7"):
        found = chance_row(tables.build(artefact, [ours]))
        assert set(found.values()) == {10.5} and "Delta" not in found, artefact
    (block,) = (b for b in tables.build("table17", [ours]).blocks if "ablations" in b.heading)
    assert block.columns[-1] == CHANCE and {v[-1].mean for _, _, v in block.rows} == {10.0, 10.5, 11.0}
    figure3 = page.figure3_table(ours)
    assert list(figure3["pre-training"]) == ["original", "w/ cont. pre-train", ""]
    assert dict(figure3.iloc[-1][["model", "MTEB All"]]) == {"model": CHANCE, "MTEB All": 10.5}


def test_the_main_evaluations_row_is_there_once(tmp_path):
    ours = run_of(tmp_path, embedded("trained", 60) + embedded("random", 10), [])
    (_, block) = tables.build("table1", [ours]).blocks
    assert [name for _, name, _ in block.rows].count(CHANCE) == 1


def test_a_task_that_random_vectors_were_not_scored_on_has_none(tmp_path):
    extra = [row(s, "embedded", "EmbeddedNew", "STS", 70.0) for s in FILLS]
    ours = run_of(tmp_path, embedded("random", 10), [r for s in FILLS for r in embedded(s, 60)] + extra)
    found = chance_row(tables.build("table5", [ours]))
    assert found["Retr."] == 10.5 and not {"STS", "Avg"} & set(found)
    alone = run_of(tmp_path / "alone", [], embedded("default", 60))
    assert CHANCE not in rendering.markdown(tables.build("table5", [alone]))
