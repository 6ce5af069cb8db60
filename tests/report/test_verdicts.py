"""Which of our numbers compare with the paper's."""

from synthembed import profile
from synthembed.evaluation.mteb_runs import tasks_of
from synthembed.ground import files
from synthembed.report import results, verdicts


def test_a_whole_benchmark_compares_with_the_paper_and_a_part_does_not(tmp_path):
    """MTEB(eng, v1) in full is comparable in Table 1; a part of it, or the embedded suite, is not."""

    def verdict(settings: list[str]) -> str:
        benchmark, tasks = next(iter(tasks_of(profile.load("paper", settings).evaluate).items()))
        rows = [
            {"system": "trained", "benchmark": benchmark, "task": t.metadata.name, "category": "STS",
             "language": "eng", "metric": t.metadata.main_score, "score": 81.25}
            for t in tasks if t.metadata.type == "STS"
        ]  # fmt: skip
        whole = profile.load("paper", ["data.setting=synthetic"]).model_dump(mode="json")
        for stage in ("02_analyze", "03_train", "04_evaluate"):
            (tmp_path / stage).mkdir(exist_ok=True)
            record = {"settings": whole, "machine": {"gpu": "V100"}, "versions": {"mteb": "2.26.24"}}
            files.write_json(tmp_path / stage / "stage.json", record)
        files.write_json(tmp_path / "02_analyze" / "statistics.json", {"examples": 500_000})
        files.write_json(tmp_path / "04_evaluate" / "scores.json", {"rows": rows})
        entries = {e["id"]: e for e in verdicts.verdicts(results.Results(tmp_path))}
        return entries["table1/w/ synthetic data only/STS"]["verdict"]

    assert verdict([]) == "match"  # the paper has 81.2
    assert verdict(["evaluate.tasks=[STS12]"]) == "not comparable"
    assert verdict(["evaluate.benchmarks=[embedded]"]) == "not comparable"
