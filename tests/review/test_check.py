"""`synthembed check`: a run that nobody touched passes; each kind of tampering is caught by its name."""

import json
import re
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from synthembed.ground.files import ROOT, write_json
from synthembed.review import checking
from synthembed.review.inspection import executed_notebooks, provenance, rendered, stage_facts, stored_scores
from synthembed.review.inspection.found import CONTRADICTION, DOUBT, Run

COMMITTED = ROOT / "results" / "laptop"
MODULES = {
    "provenance": (provenance.files, provenance.chain, provenance.settings, provenance.code),
    "notebooks": (executed_notebooks.check,), "facts": (stage_facts.corpus, stage_facts.check),
    "scores": (stored_scores.check,), "report": (rendered.check,),
}  # fmt: skip


@pytest.fixture
def run(tmp_path) -> Path:
    return Path(shutil.copytree(COMMITTED, tmp_path / "laptop"))


def names(run: Path, *parts: str, kind: str = CONTRADICTION) -> set[str]:
    checks = [check for part in parts or MODULES for check in MODULES[part]]
    return {f.name for check in checks for f in check(Run(run)) if f.kind == kind}


def edited(path: Path, change) -> None:
    """Change the data of a JSON file and nothing else."""
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    write_json(path, data)


def hidden(run: Path, name: str) -> None:
    """Make stage.json name the hash that the file has now, as a careful forger would, and later stages read it."""
    stage, _, file = name.partition("/")
    digest = sha256((run / name).read_bytes()).hexdigest()
    edited(run / stage / "stage.json", lambda r: r["outputs"].update({file: digest}))
    for path in run.glob("*/stage.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if name in record["inputs"]:
            record["inputs"][name] = digest
            record["fingerprint"] = provenance._fingerprint(record)
            write_json(path, record)


def lines(path: Path, change) -> None:
    log = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    changed = change(log)
    path.write_text("".join(json.dumps(line) + "\n" for line in changed or log), encoding="utf-8")


def test_the_committed_run_follows_from_itself():
    found = checking.review(COMMITTED)
    assert found.follows, found.text()
    doubted = [f.name for f in found.of(DOUBT)]
    assert doubted.index("comparable") < doubted.index("not-the-papers-recipe")
    assert "one-seed" in doubted and "follows from the rest" in found.text()


def a_score(run):
    edited(run / "04_evaluate/scores.json", lambda s: s["rows"][0].update(score=91.234))


def a_score_hidden(run):
    a_score(run)
    hidden(run, "04_evaluate/scores.json")


def an_interval(run):
    edited(run / "04_evaluate/scores.json", lambda s: s["intervals"]["minilm"].update(low=0.1, high=3.0))
    hidden(run, "04_evaluate/scores.json")


def a_seed(run):
    edited(run / "04_evaluate/stage.json", lambda r: r.update(seeds=[42, 43, 44]))


def a_setting(run):
    def change(record):
        record["settings"]["train"]["temperature"] = 0.02
        record["fingerprint"] = provenance._fingerprint(record)

    edited(run / "03_train/stage.json", change)


def a_version(run):
    edited(run / "04_evaluate/stage.json", lambda r: r["versions"].update(mteb="1.0.2"))


def a_commit(run):
    def change(record):
        record["code"] = "0" * 16
        record["fingerprint"] = provenance._fingerprint(record)

    edited(run / "03_train/stage.json", change)


def a_learning_rate(run):
    lines(run / "03_train/log.jsonl", lambda log: log[9].update(lr=2e-4))
    hidden(run, "03_train/log.jsonl")


def a_step(run):
    lines(run / "03_train/log.jsonl", lambda log: log[:-1])
    hidden(run, "03_train/log.jsonl")


def an_accuracy(run):
    lines(run / "03_train/log.jsonl", lambda log: log[20].update(accuracy=0.97))
    hidden(run, "03_train/log.jsonl")


def a_speed(run):
    lines(run / "03_train/log.jsonl", lambda log: log[20].update(tokens_per_s=5_000.0))
    hidden(run, "03_train/log.jsonl")


def a_dropped_example(run):
    edited(run / "02_analyze/drops.json", lambda d: d["reasons"].update({"language mismatch": 2}))
    hidden(run, "02_analyze/drops.json")


def a_verdict(run):
    def change(entries):
        entry = next(e for e in entries if e["ours"] is not None)
        entry.update(ours=entry["paper"], comparable=True, verdict="match", why=None)

    edited(run / "07_report/verdicts.json", change)
    hidden(run, "07_report/verdicts.json")


def a_claim(run):
    edited(
        run / "07_report/claims.json",
        lambda c: next(x for x in c if x["verdict"] != "holds").update(verdict="holds"),
    )
    hidden(run, "07_report/claims.json")


def a_table(run):
    path = run / "07_report/tables/table1.csv"
    path.write_text(path.read_text().replace("72.", "79.", 1))
    hidden(run, "07_report/tables/table1.csv")


def a_picture(run):
    from PIL import Image

    path = run / "07_report/figures/table1.png"
    picture = Image.open(path).convert("RGB")
    picture.paste(
        (0, 114, 178), (picture.width // 2, picture.height // 3, picture.width // 2 + 30, picture.height // 2)
    )
    picture.save(path)
    hidden(run, "07_report/figures/table1.png")


def a_file_too_many(run):
    (run / "07_report/tables/table8.md").write_text("| system | Avg |\n|---|---|\n| ours | 99.9 |\n")


def a_file_too_few(run):
    (run / "07_report/claims.json").unlink()


def a_cell(run):
    def change(notebook):
        cell = next(
            c for c in notebook["cells"] if "0.02" in "".join(c["source"]) and c["cell_type"] == "code"
        )
        cell["source"] = [line.replace("0.02", "0.5") for line in cell["source"]]

    edited(run / "03_train/03_train.ipynb", change)


def a_sentence(run):
    def change(notebook):
        text = "".join(notebook["cells"][0]["source"])
        notebook["cells"][0]["source"] = text.replace("takes", "took").splitlines(keepends=True)

    edited(run / "03_train/03_train.ipynb", change)


def an_output(run):
    def change(notebook):
        for cell in notebook["cells"]:
            for output in cell.get("outputs", ()):
                if output.get("name") == "stdout":
                    output["text"] = [x.replace("'trained': 7", "'trained': 8") for x in output["text"]]

    edited(run / "04_evaluate/04_evaluate.ipynb", change)


def a_cell_run_twice(run):
    edited(run / "04_evaluate/04_evaluate.ipynb", lambda n: n["cells"][-1].update(execution_count=99))


def a_passkey(run):
    edited(run / "06_long_context/scores.json", lambda s: s["passkey"][0].update(accuracy=99.0))
    hidden(run, "06_long_context/scores.json")


def a_fact(run):
    edited(run / "04_evaluate/stage.json", lambda r: r["averages"]["trained"].update(Avg=88.8))


def not_json(run):
    (run / "05_ablations/scores.json").write_text("{")


TAMPERINGS = [
    (a_score, "file-changed", "provenance"),
    (a_score_hidden, "average-not-of-scores", "scores"),
    (an_interval, "interval-not-of-scores", "scores"),
    (a_seed, "seeds", "provenance"),
    (a_setting, "settings-differ", "provenance"),
    (a_version, "record-edited", "provenance"),
    (a_commit, "code-not-of-commit", "provenance"),
    (a_learning_rate, "log-schedule", "facts"),
    (a_step, "log-totals", "facts"),
    (an_accuracy, "log-values", "facts"),
    (a_speed, "log-speed", "facts"),
    (a_dropped_example, "counts", "facts"),
    (a_file_too_many, "file-unlisted", "provenance"),
    (a_file_too_few, "file-missing", "provenance"),
    (a_cell, "notebook-source", "notebooks"),
    (a_sentence, "notebook-source", "notebooks"),
    (an_output, "notebook-output", "notebooks"),
    (a_cell_run_twice, "notebook-order", "notebooks"),
    (a_passkey, "passkey-not-of-counts", "scores"),
    (a_fact, "average-not-of-scores", "scores"),
]
OF_THE_REPORT = {  # which is made again for a look at it
    a_verdict: "verdict-not-of-scores", a_claim: "claim-not-of-scores", a_table: "table-not-of-scores",
    a_picture: "figure-not-of-scores",
}  # fmt: skip


@pytest.mark.parametrize(("tamper", "name", "part"), TAMPERINGS, ids=lambda x: getattr(x, "__name__", None))
def test_tampering_is_caught_by_its_name(run, tamper, name, part):
    commit = json.loads((run / "03_train/stage.json").read_text())["commit"]
    if tamper in (a_commit, a_sentence) and provenance.tree_of(commit) is None:
        pytest.skip("a shallow clone does not have the commit that made the run")
    tamper(run)
    assert name in names(run, part)


def test_tampering_with_the_report_is_caught_by_each_ones_name(run):
    for tamper in OF_THE_REPORT:
        tamper(run)
    assert set(OF_THE_REPORT.values()) <= names(run, "report")


def test_the_log_that_a_training_left_is_known_by_its_own_record(run):
    a_learning_rate(run)
    assert "log-edited" in names(run, "facts")  # run.json was not rewritten


def test_a_file_that_is_no_json_is_a_contradiction_and_no_traceback(run, monkeypatch):
    not_json(run)
    monkeypatch.setattr(checking, "CHECKS", (provenance.files, stored_scores.check))
    found = checking.review(run)
    assert {f.name for f in found.of(CONTRADICTION)} == {"file-changed", "unreadable"}
    assert "05_ablations/scores.json is not JSON" in found.text()


def test_weights_that_git_does_not_keep_are_said_and_not_failed(run):
    left = [f for check in MODULES["provenance"] for f in check(Run(run)) if f.kind == "left out by design"]
    assert any("model" in f.said for f in left) and not names(run, "provenance")
    (run / "03_train" / "model").mkdir()
    (run / "03_train" / "model" / "config.json").write_text("{}")  # a part of the weights is no design
    assert {"file-missing", "file-changed"} <= names(run, "provenance")


def test_code_that_is_not_the_commits_is_a_doubt_if_it_was_said(run):
    a_commit(run)
    edited(run / "03_train/stage.json", lambda r: r.update(uncommitted_changes=True))
    assert "code-not-of-commit" not in names(run, "provenance")
    assert "uncommitted-changes" in names(run, "provenance", kind=DOUBT)


def test_a_copy_reproduces_the_committed_run_and_another_score_does_not(run, tmp_path):
    assert checking.reproduction(run, COMMITTED).verdict == checking.REPRODUCED
    a_score(run)
    assert checking.reproduction(run, COMMITTED).verdict == checking.CONCLUSIONS
    a_claim(run)
    found = checking.reproduction(run, COMMITTED)
    assert found.verdict == checking.FAILED and "in the reference" in found.text()
    with pytest.raises(FileNotFoundError, match="the reference itself"):
        checking.reproduction(COMMITTED, COMMITTED)


# --- a run whose mteb results were kept --------------------------------------------------------------


@pytest.fixture
def with_results(tmp_path) -> Path:
    """Two systems on two tasks, with mteb's results and the texts' own scores, as stage 04 leaves them."""
    top, rows = tmp_path / "small", []
    for system, level in (("trained", 0.7), ("minilm", 0.6)):
        folder = (
            top
            / "04_evaluate/mteb/results"
            / (f"synthembed__{system}" if system == "trained" else system)
            / "abc"
        )
        (folder / "units").mkdir(parents=True)
        for task in ("One", "Two"):
            values = [level - 0.1, level + 0.1]
            score = {
                "main_score": level,
                "ndcg_at_10": level,
                "hf_subset": "default",
                "languages": ["eng-Latn"],
            }
            write_json(folder / f"{task}.json", {"task_name": task, "scores": {"test": [score]}})
            units = {"test": {"default": {"ids": ["a", "b"], "values": values}}}
            write_json(folder / "units" / f"{task}.units.json", {"kind": "mean", "about": "", "units": units})
            seed = {"seed": 42} if system == "trained" else {}
            rows.append({"system": system, "benchmark": "embedded", "task": task, "category": "Retr.", "language": "eng",
                         "metric": "ndcg_at_10", "score": 100 * level, **seed})  # fmt: skip
    write_json(top / "04_evaluate/scores.json", {"rows": rows, "more": [], "intervals": {}})
    write_json(
        top / "04_evaluate/stage.json",
        {"stage": "04_evaluate", "status": "done", "seeds": [42], "settings": {}},
    )
    return top


def test_scores_with_mtebs_results_beside_them_follow(with_results):
    assert names(with_results, "scores") == set()


def test_texts_scores_are_of_the_training_that_has_the_scores_and_not_of_one_before(with_results):
    """Stage 04 keeps what it has scored: a model that was trained anew lies beside the old one, by a hash."""
    folder = with_results / "04_evaluate/mteb/results/synthembed__trained"
    shutil.copytree(folder / "abc", folder / "def")
    edited(folder / "def/Two.json", lambda r: r["scores"]["test"][0].update(main_score=0.2, ndcg_at_10=0.2))
    run = Run(with_results)
    own = [r for r in run.json("04_evaluate/scores.json")["rows"] if r["system"] == "trained"]
    assert stored_scores.made_from(run, own) == [folder / "abc"]


def test_a_score_that_its_result_does_not_have_is_caught(with_results):
    edited(with_results / "04_evaluate/scores.json", lambda s: s["rows"][0].update(score=71.0))
    assert names(with_results, "scores") == {"score-not-of-result"}


def test_a_result_that_its_texts_do_not_have_is_caught(with_results):
    def change(result):
        result["scores"]["test"][0].update(main_score=0.9, ndcg_at_10=0.9)

    edited(with_results / "04_evaluate/mteb/results/synthembed__trained/abc/One.json", change)
    edited(with_results / "04_evaluate/scores.json", lambda s: s["rows"][0].update(score=90.0))
    assert names(with_results, "scores") == {"result-not-of-texts"}


def test_a_score_without_a_result_is_caught(with_results):
    (with_results / "04_evaluate/mteb/results/minilm/abc/Two.json").unlink()
    assert names(with_results, "scores") == {"score-without-result"}


def test_a_seed_that_was_begun_and_is_in_no_score_is_not_looked_at(tmp_path):
    for place in ("mteb", "seeds/43/mteb", "seeds/44/mteb"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "model_meta.json").write_text("{}")
    rows = [
        {"system": "default", "seed": 42},
        {"system": "default", "seed": 44},
        {"system": "other", "seed": 43},
    ]
    found = [
        p.relative_to(tmp_path).as_posix() for p in stored_scores._of_its_seeds(tmp_path, rows, "default")
    ]
    assert found == ["mteb", "seeds/44/mteb"]


def test_a_commit_is_looked_for_in_this_checkout_alone(tmp_path, monkeypatch):
    """A git hook names its repository in the environment."""
    commit = json.loads((COMMITTED / "00_overview" / "stage.json").read_text(encoding="utf-8"))["commit"]
    found = provenance.tree_of.__wrapped__(commit)
    if found is None:
        pytest.skip("no history here")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another" / ".git"))
    assert provenance.tree_of.__wrapped__(commit) is not None


def test_a_picture_that_is_none_is_told(run, tmp_path):
    picture = next((run / "07_report" / "figures").glob("*.png"))
    other = tmp_path / "pointer.png"
    for content in (b"version https://git-lfs.github.com/spec/v1\n", picture.read_bytes()[:200]):
        other.write_bytes(content)
        assert rendered._pixels(other, picture) == "it cannot be read as a picture"


def test_a_number_that_cannot_be_divided_by_is_no_traceback(run, monkeypatch):
    log = run / "03_train" / "log.jsonl"
    log.write_text(re.sub(r'"tokens_per_s": [\d.]+', '"tokens_per_s": 0', log.read_text()))
    monkeypatch.setattr(checking, "CHECKS", (executed_notebooks.check,))
    assert "ZeroDivisionError" in checking.review(run).text()


def test_a_run_with_a_damaged_file_is_not_compared_and_said_so(run):
    not_json(run)
    with pytest.raises(checking.NotCompared, match="cannot be set beside"):
        checking.reproduction(run, COMMITTED)
