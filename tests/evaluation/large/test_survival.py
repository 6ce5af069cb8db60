"""A task of sixteen languages, killed ten times at any moment: each language's texts are encoded once, and the
scores are those of a run that nobody disturbed."""

import json
import random
import signal
import time

import numpy as np
import pytest
from datasets import Dataset
from forked_processes import processes
from mteb.abstasks import AbsTaskRetrieval
from synthembed.evaluation import mteb_runs
from synthembed.evaluation.large import parts
from synthembed.evaluation.protocol import MtebEncoder
from synthembed.evaluation.suites import embedded_tasks
from synthembed.model.backbone import Backbone
from synthembed.model.blocks import store as blocks
from synthembed.model.encoder import Encoder
from synthembed.model.tokens import TokenContract
from tiny_models import byte_tokenizer, tiny_model

LANGUAGES = ("ar", "bn", "en", "es", "fa", "fi", "fr", "hi", "id", "ja", "ko", "ru", "sw", "te", "th", "zh")
DOCUMENTS = 60


def subset(language: str) -> dict:
    rng = random.Random(language)
    words = [f"{language}{n}" for n in range(30)]
    documents = [" ".join(rng.choices(words, k=6)) for _ in range(DOCUMENTS)]
    return {
        "corpus": Dataset.from_dict(
            {"id": [f"d{n}" for n in range(DOCUMENTS)], "title": [""] * DOCUMENTS, "text": documents}
        ),
        "queries": Dataset.from_dict({"id": ["q0", "q1"], "text": [documents[3][:12], documents[9][-12:]]}),
        "relevant_docs": {"q0": {"d3": 1}, "q1": {"d9": 1, "d4": 1}},
        "top_ranked": None,
    }


def miracl(filled: bool = False):
    """A task of MIRACL's shape that loads the languages that it is asked for, or is filled with all of them."""
    about = embedded_tasks.metadata(
        "Sixteen", "none", "Retrieval", "ndcg_at_10", {"query": "find the passage"}, "made in a test",
        {language: ["eng-Latn"] for language in LANGUAGES},
    )  # fmt: skip

    class Sixteen(AbsTaskRetrieval):
        metadata = about
        loads = 0

        def load_data(self, num_proc=None, **kwargs):
            self.loads += len(self.hf_subsets)
            self.dataset = {language: {"test": subset(language)} for language in self.hf_subsets}
            self.data_loaded = True

    task = Sixteen()
    if filled:
        task.load_data()
    return task


class Logging(Encoder):
    """Writes down each distinct row that the model has run, when it has run it."""

    log = None

    def encode_rows(self, rows, begin=None, progress=None):
        found = super().encode_rows(rows, begin, progress)
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{len(rows)}\n")
        return found


def model(log=None) -> MtebEncoder:
    llama = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {})
    encoder = Logging(llama, max_length=64)
    encoder.log = log
    return MtebEncoder(encoder, "synthembed/tiny", "1")


def without_times(result: dict) -> dict:
    return {k: v for k, v in result.items() if k not in ("evaluation_time", "evaluation_phases", "date")}


def run_in_small_blocks(folder, log) -> None:
    blocks.BLOCK = 16
    mteb_runs.run_tasks(model(log), [miracl()], folder, "x")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    mteb_runs.run_tasks(model(), [miracl()], folder, "x")
    return json.loads((folder / "Sixteen.json").read_text())


def test_ten_kills_lose_a_block_each_at_most(undisturbed, tmp_path):
    log, folder, rng = tmp_path / "log", tmp_path / "kept", random.Random(7)

    def begun():
        return len(log.read_text().splitlines()) if log.exists() else 0

    for _ in range(10):
        process = processes().Process(target=run_in_small_blocks, args=(folder, log))
        process.start()
        aim = begun() + rng.randrange(1, 9)  # calls of the model, wherever these happen to be
        while process.is_alive() and begun() < aim:
            time.sleep(0.001)
        time.sleep(rng.random() / 100)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert not (folder / "Sixteen.json").exists()
    process = processes().Process(target=run_in_small_blocks, args=(folder, log))
    process.start()
    process.join()
    assert process.exitcode == 0
    result = json.loads((folder / "Sixteen.json").read_text())
    assert [s["hf_subset"] for s in result["scores"]["test"]] == list(LANGUAGES)
    assert without_times(result) == without_times(undisturbed)
    rows = [int(line) for line in log.read_text().splitlines()]
    documents = sum(n for n in rows if n > 2)  # a language's two queries are a call of their own
    assert documents <= 16 * DOCUMENTS + 10 * 16  # all of them once, and a block more for each kill at most
    assert not (folder / "parts").exists() or not any((folder / "parts").iterdir())


def test_a_language_that_is_kept_is_neither_loaded_nor_encoded_again(undisturbed, tmp_path):
    class Stopped(Exception):
        pass

    task, subject = miracl(), model(tmp_path / "log")
    of_task = task.load_data

    def until_the_fifth(num_proc=None, **kwargs):
        if task.hf_subsets == ["fa"]:
            raise Stopped
        of_task()

    task.load_data = until_the_fifth
    with pytest.raises(mteb_runs.DataUnavailable):
        mteb_runs.run_tasks(subject, [task], tmp_path, "x")
    assert len(list((tmp_path / "parts" / "Sixteen").glob("*.json"))) == 4
    again = miracl()
    mteb_runs.run_tasks(subject, [again], tmp_path, "x")
    assert again.loads == 12 and again.hf_subsets == list(LANGUAGES)
    calls = [int(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(calls) == 2 * 16  # queries and documents of each language, once
    result = json.loads((tmp_path / "Sixteen.json").read_text())
    assert without_times(result) == without_times(undisturbed)


def test_parts_of_other_data_or_another_mteb_do_not_count(tmp_path, monkeypatch):
    task = miracl(filled=True)
    key = parts.key(task, "test", ["en"], "hash of the data")
    assert key != parts.key(task, "test", ["en"], "of other data")
    monkeypatch.setattr(parts.importlib.metadata, "version", lambda name: "0")
    assert key != parts.key(task, "test", ["en"], "hash of the data")


def test_a_large_corpus_has_the_scores_of_mtebs_own_search(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 16)  # sixty documents are four blocks
    mteb_runs.run_tasks(model(), [miracl()], tmp_path, "x")
    result = json.loads((tmp_path / "Sixteen.json").read_text())
    for ours, theirs in zip(result["scores"]["test"], undisturbed["scores"]["test"], strict=True):
        assert ours["main_score"] == pytest.approx(theirs["main_score"], abs=1e-6)
    cut = json.loads((tmp_path / "cut" / "Sixteen.json").read_text())
    assert cut["document"]["texts"] == pytest.approx(16 * DOCUMENTS, abs=16)


@pytest.mark.parametrize("top", [None, {"q0": ["d3", "d5", "d20", "d59"], "q1": ["d4"]}])
def test_a_large_corpus_reranked_as_mteb_does(tmp_path, monkeypatch, top):
    def scored(folder):
        task = miracl(filled=True)
        for language in LANGUAGES:
            task.dataset[language]["test"]["top_ranked"] = top
        return [r["score"] for r in mteb_runs.run_tasks(model(), [task], folder, "x")]

    small = scored(tmp_path / "small")
    monkeypatch.setattr(blocks, "BLOCK", 16)
    assert np.allclose(scored(tmp_path / "large"), small, atol=1e-6)


def test_a_small_corpus_touches_no_disk_beside_its_results(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks.Store, "write", None)
    mteb_runs.run_tasks(model(), [miracl()], tmp_path, "x")
    assert (tmp_path / "Sixteen.json").exists()
