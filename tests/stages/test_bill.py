"""The bill of a profile: what is counted, what it costs on GPUs, and how it is told."""

import json

import pytest
from synthembed import profile
from synthembed.commands.command_line import app
from synthembed.stages.planning import bill, forecast, workload
from synthembed.training import gpu_cost
from typer.testing import CliRunner

MISTRAL = gpu_cost.MISTRAL_7B


def training_of(overrides: list[str], workers: int = 1) -> workload.Work:
    return workload.training("03_train", profile.load("paper", overrides), MISTRAL, workers)


def test_operations_a_token_follow_from_what_stays_in_memory():
    assert training_of([]).made == 8
    assert training_of(["train.gradient_checkpointing=false"]).made == 6
    assert training_of(["train.graph_tokens=10000000"]).made == 6
    kept = ["train.graph_tokens=10000000", "train.gradient_checkpointing=false"]
    assert training_of(kept).made == 4 == training_of(kept).useful
    # 32 workers share a batch, so that a graph of a few chunks is all that each has to keep
    assert training_of(["train.graph_tokens=40000"]).made == 8
    assert training_of(["train.graph_tokens=40000"], 32).made == 6


def test_the_papers_benchmarks_are_counted_by_mtebs_statistics():
    texts, tokens = workload.benchmark_tokens("MTEB(eng, v1)", (), 512)
    told = gpu_cost.RUNS["MTEB(eng, v1)"]
    assert texts == pytest.approx(told.texts, rel=0.01)
    assert tokens == pytest.approx(told.texts * told.tokens, rel=0.01)
    texts, tokens = workload.benchmark_tokens("MIRACL", (), 512)
    told = gpu_cost.RUNS["MIRACL dev"]
    assert texts == pytest.approx(told.texts, rel=0.01)
    assert tokens == pytest.approx(told.texts * told.tokens, rel=0.01)


def test_a_part_of_a_benchmark_is_counted_alone_and_a_shorter_cut_is_less():
    whole = workload.benchmark_tokens("MTEB(eng, v1)", (), 512)[1]
    part = workload.benchmark_tokens("MTEB(eng, v1)", ("ArguAna", "STS12"), 512)[1]
    assert 0 < part < whole / 100
    assert workload.benchmark_tokens("MTEB(eng, v1)", ("ArguAna", "STS12"), 64)[1] < part


def test_a_bill_is_the_sum_of_its_parts_and_halves_in_time_with_twice_the_gpus():
    loaded = profile.load("paper")
    one, two = bill.machines("h100", 16), bill.machines("H100", 32)
    parts = bill.rows(loaded, MISTRAL, one)
    assert {row["stage"] for row in parts} == {"03_train", "04_evaluate", "05_ablations", "06_long_context"}
    assert any("pre-training" in row["part"] for row in parts)
    for row in bill.by_stage(parts):
        of_stage = [r for r in parts if r["stage"] == row["stage"]]
        assert row["usd"] == pytest.approx(sum(r["gpu_hours"] for r in of_stage) * one.usd)
    wall = [sum(row["hours"] for row in bill.rows(loaded, MISTRAL, on)) for on in (one, two)]
    assert wall[0] == pytest.approx(2 * wall[1])


def test_a_cluster_gives_a_row_one_gpu_and_waits_for_the_longest(monkeypatch):
    """Parts of one GPU-hour each, or of the hours that stand here, on eight GPUs."""
    loaded = profile.load("paper", ["seeds=[1, 2]"])
    on = bill.machines("h100", 8)
    hour = on.gpu.operations * on.training * 3600

    def hours_of(*parts, tasks=True):
        works = [
            workload.Work(stage, what, hours, hour, 1, 1, steps=steps) for stage, what, hours, steps in parts
        ]
        monkeypatch.setattr(workload, "works", lambda *_: iter(works))
        return bill.as_placed(loaded, MISTRAL, on, tasks)

    assert hours_of(("03_train", "training", 16, 9), ("04_evaluate", "base", 8, 0)) == pytest.approx(3)
    assert hours_of(
        ("08_beyond", "a/b, training", 16, 9), ("08_beyond", "a/b, trained", 8, 0)
    ) == pytest.approx(3)
    assert hours_of(("06_long_context", "passkeys", 3, 0)) == pytest.approx(3)
    few = [("05_ablations", "synthetic, training", 6, 9), ("05_ablations", "synthetic, trained on x", 4, 0)]
    few += [("05_ablations", "msmarco, training", 2, 9)]
    assert hours_of(*few) == pytest.approx(5)  # of a row's two seeds each has a GPU
    assert hours_of(*few, tasks=False) == pytest.approx(12 / 8)  # its evaluation has all as well
    many = [("05_ablations", f"{row.id}, training", 8, 9) for row in loaded.ablations.rows]
    assert hours_of(*many) == pytest.approx(len(many))  # more than GPUs, which share them
    assert hours_of(*few, ("04_evaluate", "hub:a/b", None, 0)) is None
    loaded = profile.load("beyond")
    question, row = next((q, r) for q in loaded.experiments.questions for r in q.rows if r.readings)
    again = [
        ("08_beyond", f"{question.id}/{row.id}, {what}", 8, steps)
        for what, steps in (("training", 9), ("trained", 0))
    ]
    assert hours_of(*again) == pytest.approx(1 + 8)  # what is read again in other ways has one GPU


def test_a_bill_says_what_the_gpus_cost_while_a_cluster_holds_them():
    loaded = profile.load("paper")
    assert "as a cluster places it" not in bill.text(loaded, MISTRAL, bill.machines("h100", 1))
    on = bill.machines("h100", 32, 2.0)
    hours = bill.as_placed(loaded, MISTRAL, on)
    assert hours > sum(row["hours"] for row in bill.rows(loaded, MISTRAL, on))
    told = bill.text(loaded, MISTRAL, on)
    assert f"32 GPUs held so long are {hours * 64:,.2f} USD" in told
    over_all = profile.load("paper", ["cluster.grid=[]"])
    fewer = json.loads(bill.as_json(over_all, MISTRAL, on))["cluster_hours"]
    assert fewer < hours / 2 and f"{fewer * 64:,.2f} USD" in told.partition("with cluster.grid=[]")[2]
    assert f"{fewer * 64:,.2f} USD" in (said := bill.text(over_all, MISTRAL, on)) and "grid" not in said
    assert json.loads(bill.as_json(loaded, MISTRAL, on))["cluster_hours"] == pytest.approx(hours)


def test_one_gpu_sends_nothing_to_others():
    loaded = profile.load("paper")
    alone, many = (bill.network(loaded, MISTRAL, bill.machines("a100", n)) for n in (1, 8))
    assert alone["gradients, each GPU"] == 0 < many["gradients, each GPU"]


def test_the_command_tells_it_in_words_and_in_json():
    said = CliRunner().invoke(app, ["estimate", "--profile", "paper", "--gpu", "h100", "--gpus", "32"])
    assert said.exit_code == 0, said.output
    for word in (
        "GPU-hours",
        "05_ablations",
        "8N",
        "memory: a training step",
        "disk:",
        "network:",
        "assumed",
    ):
        assert word in said.output
    told = CliRunner().invoke(
        app, ["estimate", "--gpu", "v100", "--gpus", "8", "--usd-per-hour", "2", "--json"]
    )
    found = json.loads(told.output)
    assert found["usd_per_hour"] == 2 and found["gpus"] == 8 and found["generation"]["batch_usd"] > 1000
    total = sum(row["gpu_hours"] for row in found["parts"])
    assert sum(row["usd"] for row in found["stages"]) == pytest.approx(2 * total)


def test_a_gpu_that_is_not_known_is_refused_with_the_known_ones():
    said = CliRunner().invoke(app, ["estimate", "--gpu", "b300"])
    assert said.exit_code == 1 and "h200, h100, a100, v100" in said.stderr


@pytest.mark.parametrize("price", ["-1", "nan", "inf"])
def test_a_price_that_is_none_is_refused(price):
    done = CliRunner().invoke(app, ["estimate", "-P", "smoke", "--gpu", "h100", f"--usd-per-hour={price}"])
    assert done.exit_code == 1 and "a price from 0 on" in done.output


def test_a_training_is_billed_for_the_examples_that_it_takes(monkeypatch):
    monkeypatch.setattr(workload, "SAMPLE", 20)

    def steps(name, *overrides):
        return workload.steps(profile.load(name, list(overrides)))

    assert steps("gpu") == 40_000 / 512  # of MS MARCO the 20,000 of its limit
    assert steps("gpu", "train.max_steps=500") == steps("gpu")  # the most, and one epoch ends before
    assert steps("gpu", "train.max_steps=5") == 5
    assert steps("gpu", "data.setting=synthetic", "data.select={share: 0.5}") == 10_000 / 512
    assert steps("gpu", "data.setting=synthetic", "data.select={examples: 5120}") == 10
    without = steps("paper", "data.sets.nli.ratio=0")
    assert 2048 * (steps("paper") - without) == pytest.approx(275_601)
    pairs = "pretrain={source: docstrings, set: {train.max_steps: 30000}}"  # of how many, nobody says
    first, _ = workload._trainings("03_train", profile.load("paper", [pairs]), MISTRAL, 1, "")
    assert first.steps == 30_000


def test_stages_that_a_profile_does_not_have_are_not_billed(monkeypatch):
    monkeypatch.setattr(workload, "SAMPLE", 20)
    alone = profile.load("smoke", ["experiments.alone=true"])
    assert {part.stage for part in workload.works(alone, MISTRAL)} == {"03_train", "08_beyond"}
    found = [need.stage for need in forecast.needs(alone, MISTRAL, 1e12, "float32")]
    assert found == ["01_generate", "02_analyze", "03_train", "08_beyond"]


def test_the_memory_of_a_training_is_that_of_its_method(monkeypatch):
    monkeypatch.setattr(workload, "SAMPLE", 20)

    def said(gpus, *overrides):
        loaded = profile.load("paper", list(overrides))
        return next(bill.memory(loaded, MISTRAL, bill.machines("h100", gpus)))

    def peak(line):
        return float(line.split("about ")[1].split()[0])

    lora, full = said(1), said(1, "train.method=full")
    assert "(fits)" in lora and peak(full) > 16 * MISTRAL.parameters / 1e9
    assert "does not fit, and" in full and "train.sharded=true" in full
    assert "(fits)" in said(8, "train.method=full", "train.sharded=true")
    assert peak(lora) - peak(said(1, "train.method=qlora")) == pytest.approx(
        1.5 * MISTRAL.matrices / 1e9, abs=1
    )
    on = bill.machines("h100", 8)
    sent = bill.network(profile.load("paper", ["train.method=full"]), MISTRAL, on)["gradients, each GPU"]
    assert sent > 100 * bill.network(profile.load("paper"), MISTRAL, on)["gradients, each GPU"]


def test_budgets_that_the_training_halves_by_itself_are_no_fault():
    gpu = profile.load("gpu")
    assert "the training halves train.chunk_tokens until it does" in next(
        bill.memory(gpu, MISTRAL, bill.machines("h100", 1))
    )


@pytest.mark.parametrize("option", ["--gpus=8", "--usd-per-hour=2", "--parts"])
def test_an_option_of_gpus_is_refused_where_the_estimate_is_of_this_machine(option):
    done = CliRunner().invoke(app, ["estimate", "-P", "smoke", option])
    assert done.exit_code == 2 and "without --gpu" in done.output


def test_a_task_that_nobody_has_is_not_free():
    done = CliRunner().invoke(app, ["estimate", "-P", "smoke", "--set", "evaluate.tasks=[EmbeddedTopik]"])
    assert done.exit_code == 1 and "EmbeddedTopik" in done.output
