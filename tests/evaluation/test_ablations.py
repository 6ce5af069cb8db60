"""Ablations: what they fill, their runs, and what is skipped."""

import json

import pytest
from synthembed import paper, profile
from synthembed.evaluation import ablations
from synthembed.profile.reading import ProfileError
from synthembed.report.results import Results
from synthembed.report.verdicts import of_cell
from tiny_training import CORPUS


def planned(*rows: dict) -> profile.Profile:
    return profile.Profile(name="x", ablations={"rows": list(rows)})


@pytest.mark.parametrize("name", ["smoke", "laptop", "overnight", "gpu", "paper"])
def test_shipped_ablations_fill_rows_that_the_paper_has(name):
    ablations.check(profile.load(name))


@pytest.mark.parametrize(
    ("fills", "said"),
    [
        ({"table55": "w/ mean pool"}, "'table55', which is none of table1, table2"),
        ({"table5": "w/ max pool"}, "row 'w/ max pool' of table5, which has: E5_mistral-7b"),
    ],
)
def test_what_the_paper_does_not_have_cannot_be_filled(fills, said):
    with pytest.raises(ProfileError, match=said):
        ablations.check(planned({"id": "a", "fills": fills}))


@pytest.mark.parametrize("name", ["overnight", "paper"])
def test_table_7s_rows_differ_in_pretraining_alone(name):
    """An encoder and a decoder in the paper's profile; overnight, for want of an encoder, two decoders."""
    plan = profile.load(name)
    rows = {r.id: r for r in plan.ablations.rows}
    settings = {i: plan.with_overrides(plan.ablations.set | r.set) for i, r in rows.items()}
    for artefact in ("table7", "figure3"):
        measured = {s for s in paper.systems(artefact) if not s.endswith("delta")}
        measured -= {s for s in measured if "XLM-R" in s and name == "overnight"}
        assert {r.fills[artefact] for r in rows.values() if artefact in r.fills} == measured
    pretrained = [i for i, p in settings.items() if p.pretrain]
    assert len(pretrained) == 2
    for i in pretrained:
        other = settings[rows[i].against]
        same = {"pretrain": None, "evaluate": other.evaluate}  # the other one may have further tasks
        assert other.pretrain is None and settings[i].model_copy(update=same) == other
    bases = {settings[rows[i].against].backbone.model for i in pretrained}
    assert len(bases) == 2 and all(
        s.backbone.initialisation == "pretrained" for s in settings.values() if s.pretrain
    )


@pytest.fixture
def two_rows(tiny_folder):
    """A plan of two rows, the second of which no code has heard of, for two seeds each."""
    return profile.Profile(
        name="x", seeds=[0, 1], backbone={"model": str(tiny_folder)},
        train={"batch_size": 4, "max_length": 128, "max_steps": 2, "gradient_checkpointing": False},
        evaluate={"benchmarks": ["embedded"], "tasks": ["EmbeddedSTSDialogue", "EmbeddedSTSGeneral"],
                  "max_length": 128},
        ablations={"rows": [{"id": "default"}, {"id": "warmer", "set": {"train.temperature": 0.5}}]},
    )  # fmt: skip


def test_a_row_is_a_complete_run_for_each_seed_and_a_finished_one_is_read(two_rows, tmp_path, monkeypatch):
    jobs = ablations.plan(two_rows, CORPUS, tmp_path)
    places = ["default", "default/seeds/1", "warmer", "warmer/seeds/1"]
    assert [j.folder.relative_to(tmp_path).as_posix() for j in jobs] == places
    measured = ablations.run(jobs)
    rows = measured["rows"]
    assert {(r["system"], r["seed"]) for r in rows} == {(s, n) for s in ("default", "warmer") for n in (0, 1)}
    for job in jobs:
        record = json.loads((job.folder / "stage.json").read_text())
        assert record["status"] == "done" and record["seed"] == job.profile.seed
        assert (job.folder / "log.jsonl").exists() and (job.folder / "data.json").exists()
    written = ablations.scores(two_rows, **measured, jobs=jobs)
    assert set(written["intervals"]) == {"warmer"} and written["intervals"]["warmer"]["seeds"] == 2
    here = written["intervals"]["warmer"]["on this benchmark"]
    assert here["covers"] == ["texts", "training"] and here["low"] <= here["delta"] <= here["high"]
    (jobs[3].folder / "log.jsonl").unlink()  # that run alone is made again
    made = []
    monkeypatch.setattr(ablations, "one", lambda job, real=ablations.one: made.append(job.key) or real(job))
    assert ablations.run(ablations.plan(two_rows, CORPUS, tmp_path)) == measured
    assert made == [jobs[3].key]


def test_a_row_of_other_settings_is_set_aside_and_comes_back(two_rows, tmp_path, monkeypatch):
    one = two_rows.model_copy(update={"seeds": [0]}).with_overrides({"ablations.rows": [{"id": "default"}]})
    measured = ablations.run(ablations.plan(one, CORPUS, tmp_path))
    ablations.run(ablations.plan(one.with_overrides({"train.temperature": 0.5}), CORPUS, tmp_path))
    monkeypatch.setattr(ablations, "one", lambda job: pytest.fail("made again"))
    assert ablations.run(ablations.plan(one, CORPUS, tmp_path)) == measured


def test_a_row_keeps_its_secondary_metrics(two_rows, tmp_path):
    """Table 6's recall comes from a row that is measured on more tasks than the others."""
    only = [{"id": "default", "fills": {"table6": "E5_mistral-7b full"},
             "set": {"evaluate.tasks": ["EmbeddedMultilingual"], "evaluate.max_length": 256}}]  # fmt: skip
    plan = two_rows.model_copy(update={"seeds": [0]}).with_overrides({"ablations.rows": only})
    measured = ablations.run(ablations.plan(plan, CORPUS, tmp_path / "05_ablations" / "rows"))
    (tmp_path / "05_ablations" / "scores.json").write_text(json.dumps(ablations.scores(plan, **measured)))
    results = Results(tmp_path)
    found = {c.id: of_cell(results, c) for c in paper.cells("table6") if c.system == "E5_mistral-7b full"}
    assert len(found) == 34 and all(n is not None and n.benchmark == "embedded" for n in found.values())


def test_a_delta_is_taken_from_the_row_that_is_named():
    plan = planned({"id": "a"}, {"id": "b"}, {"id": "c", "against": "b"})
    rows = [
        {
            "system": s,
            "task": t,
            "category": "STS",
            "score": x + n,
            "seed": 0,
            "language": "en",
            "metric": "m",
        }
        for s, x in (("a", 10), ("b", 20), ("c", 50))
        for n, t in enumerate(("t", "u"))
    ]
    found = ablations.scores(plan, rows)["intervals"]
    assert found["c"]["against"] == "b" and found["c"]["delta"] == 30 and found["b"]["delta"] == 10


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": "a", "against": "b"}, "'a' is against 'b': name another of"),
        ({"id": "a", "against": "a"}, "'a' is against 'a': name another of"),
        ({"id": "../a"}, "should match pattern"),
        ({"id": "w/o instruction"}, "should match pattern"),
    ],
)
def test_a_row_that_cannot_be_run_or_compared_is_refused(row, said):
    with pytest.raises(ValueError, match=said):
        planned(row)
