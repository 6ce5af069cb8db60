"""Experiments as data: what is trained once, what waits, what is read again, and what the figures say."""

import json

import pytest
from synthembed import profile
from synthembed.beyond import experiment_runs, outcomes, pictures, soups
from synthembed.profile.reading import ProfileError
from synthembed.stages import record
from tiny_training import CORPUS, example

DROPPED = [example(n, id=f"d{n}") for n in range(3)]


def experiments(folder, *questions: dict) -> profile.Profile:
    about = {"question": "What does it give?", "varied": "a setting", "held": "all else"}
    return profile.Profile(
        name="x", seeds=[0, 1], backbone={"model": str(folder)},
        train={"batch_size": 4, "max_length": 128, "max_steps": 2, "gradient_checkpointing": False},
        evaluate={"benchmarks": ["embedded"], "tasks": ["EmbeddedSTSDialogue"], "max_length": 64},
        experiments={"curve_tasks": ["EmbeddedSTSDialogue"], "questions": [about | q for q in questions]},
    )  # fmt: skip


@pytest.fixture
def planned(tiny_folder, tmp_path):
    half = {"id": "half", "x": 12, "set": {"data.select": {"share": 0.5}}}
    chosen = experiments(
        tiny_folder,
        {"id": "scaling", "kind": "curve", "rows": [half, {"id": "all", "x": 24, "scored_at": [1, 9]}]},
        {"id": "bytes", "kind": "bytes",
         "rows": [{"id": "same", "readings": [{"id": "dims-4", "dims": 4}, {"id": "bits", "precision": "binary"}]}]},
        {"id": "filters", "rows": [{"id": "all"}, {"id": "dropped", "corpus": "dropped"},
                                   {"id": "other", "corpus": "./nowhere.jsonl", "command": "synthembed make it"}]},
    )  # fmt: skip

    def plan():
        return experiment_runs.plan(chosen, {"synthetic": CORPUS, "dropped": DROPPED}, tmp_path, "code")

    return chosen, plan


def test_rows_of_one_setting_share_their_training_and_what_they_want_of_it(planned):
    _, plan = planned
    made = plan().trainings
    assert len(made) == 4  # two rows, two seeds each
    shared = made[2]
    assert shared.systems == ["scaling/all", "bytes/same", "filters/all"]
    assert set(shared.readings) == {"dims-4", "bits"} and shared.steps == {1}  # there is no step 9


def test_what_is_not_there_waits_with_its_reason(planned):
    waiting = planned[1]().waiting
    assert waiting["filters/dropped"] == "not run: 3 examples, and two batches are 8"
    assert (
        waiting["filters/other"].startswith("not recorded: ")
        and "synthembed make it" in waiting["filters/other"]
    )


def test_a_run_scores_rows_readings_and_steps_and_a_second_one_reads(planned, monkeypatch, capsys):
    chosen, plan = planned
    first = plan()
    rows = experiment_runs.run(first)
    systems = {r["system"] for r in rows}
    assert {"scaling/half", "scaling/all", "scaling/all@step-1", "bytes/same", "bytes/same@dims-4"} <= systems
    assert {r["seed"] for r in rows} == {0, 1}
    scored = json.loads(json.dumps(outcomes.scores(chosen, first, rows))) | {"dims": 32}
    lines = {q.id: outcomes.table(scored, q) for q in chosen.experiments.questions}
    half, whole = lines["scaling"]
    assert (half.examples, whole.examples) == (12, 24) and len(half.seeds) == 2
    assert (
        half.score[1] < half.score[0] < half.score[2] and whole.delta[1] <= whole.delta[0] <= whole.delta[2]
    )
    assert [line.why[:7] for line in lines["filters"]] == ["", "not run", "not rec"]
    captions = {}
    for question in chosen.experiments.questions:
        figure = pictures.draw(scored, question, 32)
        captions[question.id] = " ".join(t.get_text() for t in figure.texts).replace("\n", " ")
    for caption in captions.values():
        assert all(
            word in caption for word in ("Varied: a setting.", "Held: all else.", "STSDialogue", "95 %")
        )
    assert "fitted in log2" in captions["scaling"]
    monkeypatch.setattr(experiment_runs, "one", lambda training: pytest.fail("made again"))
    assert experiment_runs.run(plan()) == rows


def test_a_further_reading_scores_a_finished_training_anew_and_other_code_trains_it_anew(planned, tmp_path):
    chosen, plan = planned
    training = plan().trainings[0]
    experiment_runs.one(training)
    (training.folder / "mteb" / "plain" / "left.txt").write_text("of the same training")
    training.readings = {"bits": chosen.experiments.questions[1].rows[0].readings[1]}
    assert training.finished() is None
    assert {row["of"] for row in experiment_runs.one(training)} == {"", "bits"}
    assert (training.folder / "mteb" / "plain" / "left.txt").exists()
    training.key = "of other code"
    experiment_runs.one(training)
    assert not (training.folder / "mteb" / "plain" / "left.txt").exists()


def test_a_soup_is_the_mean_of_the_others_and_scored_once_for_each_seed(tiny_folder, tmp_path):
    rows = [{"id": "one"}, {"id": "soup", "soup": True, "set": {"seeds": [0, 1, 2]}}]
    chosen = experiments(tiny_folder, {"id": "recipes", "rows": rows})
    made = experiment_runs.plan(chosen, {"synthetic": CORPUS}, tmp_path)
    scored = experiment_runs.run(made)
    assert [r["seed"] for r in scored if r["system"] == "recipes/soup"] == [0, 1, 2]
    assert "recipes/soup" in outcomes.scores(chosen, made, scored)["intervals"]


def test_weights_are_averaged_one_by_one():
    import torch

    pots = [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 6.0])}]
    assert soups.average(pots)["w"].tolist() == [2, 4]
    with pytest.raises(ValueError, match="a soup of 1 trainings is no average"):
        soups.average(pots[:1])
    with pytest.raises(ValueError, match="different models"):
        soups.average([pots[0], {"v": torch.zeros(2)}])


def test_negatives_by_the_trained_model_wait_for_it(tiny_folder, tmp_path):
    row = {"id": "own", "set": {"data.select": {"negatives": {"encoder": "trained"}}}}
    chosen = experiments(tiny_folder, {"id": "negatives", "rows": [row]})
    waiting = experiment_runs.plan(chosen, {"synthetic": CORPUS}, tmp_path, trained=tmp_path / "none").waiting
    assert "there is no trained model. synthembed run --profile x --only 03_train" in waiting["negatives/own"]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (
            {"id": "a", "rows": [{"id": "r", "set": {"train.focus": 1}}]},
            "experiment 'a', row 'r': .*train.focus",
        ),
        ({"id": "a", "rows": [{"id": "r"}, {"id": "r"}]}, "ids of rows must differ"),
        ({"id": "a", "kind": "curve", "rows": [{"id": "r"}]}, "a curve wants every row's x"),
        ({"id": "a", "against": "b", "rows": [{"id": "r"}]}, "against = 'b': name one of"),
    ],
)
def test_an_experiment_that_cannot_be_run_is_refused(question, said):
    about = {"question": "q", "varied": "v", "held": "h"}
    with pytest.raises(ValueError, match=said):
        profile.Profile(name="x", experiments={"questions": [about | question]})
    with pytest.raises(ProfileError):
        profile.load("smoke", {"experiments.questions": [about | question]})


def test_stage_08_is_there_where_experiments_are():
    assert "08_beyond" not in record.stages_of(profile.load("laptop"))
    assert record.stages_of(profile.load("smoke")) == list(record.STAGES)
    assert record.stages_of(profile.load("beyond")) == ["01_generate", "02_analyze", "03_train", "08_beyond"]


def test_every_experiment_of_the_profile_has_its_smallest_form_in_smoke_and_its_section_in_the_notebook():
    from synthembed.ground.files import ROOT

    ids = {name: [q.id for q in profile.load(name).experiments.questions] for name in ("smoke", "beyond")}
    notebook = (ROOT / "notebooks" / "08_beyond.ipynb").read_text(encoding="utf-8")
    assert ids["smoke"] == ids["beyond"]
    assert all(f'show(\\"{one}\\")' in notebook for one in ids["beyond"])
    assert notebook.count("*Expected*") >= len(ids["beyond"])


def test_languages_are_put_into_the_columns_of_the_heat_map():
    assert [outcomes.group_of(x) for x in ("eng", "eng (en-ext)", "ces+eng (cs-en)", "eng+jpn", "fra", "swh")] == [
        "English", "English", "European", "other", "European", "other",
    ]  # fmt: skip
