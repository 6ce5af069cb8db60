"""Every switch of the protocol moves a score on a small task made here; results are kept and told apart."""

import json

import mteb
import mteb.mocks
import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval, AbsTaskSTS
from mteb.types import PromptType
from synthembed import profile
from synthembed.evaluation import mteb_runs, protocol, scores
from synthembed.evaluation.protocol import PROTOCOLS, MtebEncoder
from synthembed.evaluation.suites import benchmarks, embedded_tasks
from synthembed.model.encoder import Encoder, Static

INSTRUCTION = "find the match"


class Words(Encoder):
    """Counts of a text's words, its instruction among them: scores that can be worked out by hand."""

    def encode(self, texts, instruction="", normalize=True, progress=None):
        out = np.zeros((len(texts), 512), np.float32)
        for row, text in zip(out, texts, strict=True):
            for word in f"{instruction} {text}".split()[: self.max_length]:
                row[sum(word.encode()) % 512] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True) if normalize else out


@pytest.fixture
def words(llama):
    """A model for mteb under the protocol of that name."""
    return lambda name, length=50: MtebEncoder(
        Words(llama, max_length=length), "synthembed/words", "1", protocol=PROTOCOLS[name]
    )


def made(base, name: str, kind: str, score: str, data, splits=("test",), prompt=INSTRUCTION):
    """A task of mteb's class ``base`` whose data is filled by hand."""
    about = embedded_tasks.metadata(name, "none", kind, score, prompt, "made in a test")
    about = about.model_copy(update={"eval_splits": list(splits)})
    task = type(name.replace("-", ""), (base,), {"metadata": about})()
    task.dataset, task.data_loaded = data, True
    return task


def corpus_of(
    documents: dict[str, str], queries: dict[str, str], relevant: dict[str, str], titles=None, top=None
):
    titles = titles or {}
    return {
        "corpus": Dataset.from_list(
            [{"id": i, "title": titles.get(i, ""), "text": text} for i, text in documents.items()]
        ),
        "queries": Dataset.from_list([{"id": i, "text": text} for i, text in queries.items()]),
        "relevant_docs": {q: {d: 1} for q, d in relevant.items()},
        "top_ranked": top,
    }  # fmt: skip


def retrieval(name: str, **splits):
    prompt = {"query": INSTRUCTION}
    return made(AbsTaskRetrieval, name, "Retrieval", "ndcg_at_1", {"default": splits}, splits, prompt)


# A document that has the instruction's words wins where the instruction stands before queries alone.
LURED = corpus_of({"good": "bees", "lure": "find the match"}, {"q": "bees"}, {"q": "good"})


def score(task, model, folder) -> float:
    (row,) = mteb_runs.run_tasks(model, [task], folder, "x")
    return row["score"]


def test_the_instruction_stands_on_both_sides_outside_retrieval(words, tmp_path):
    data = {"default": {"test": LURED | {"top_ranked": {"q": ["good", "lure"]}}}}
    task = made(AbsTaskRetrieval, "Rerank", "Reranking", "ndcg_at_1", data)
    assert score(task, words("paper"), tmp_path / "paper") == 100
    assert score(task, words("mteb-default"), tmp_path / "default") == 0


def test_retrieval_has_the_instruction_before_queries_alone(words, tmp_path):
    for name in PROTOCOLS:
        assert score(retrieval("Plain", test=LURED), words(name), tmp_path / name) == 0


def test_documents_of_quora_are_read_as_queries(words, tmp_path):
    task = retrieval("QuoraRetrieval", test=LURED)
    assert score(task, words("paper"), tmp_path / "paper") == 100
    assert score(task, words("mteb-default"), tmp_path / "default") == 0


def test_classification_sees_lengths_unless_vectors_are_normalised(words, tmp_path):
    """Classes that differ in the number of equal words alone."""
    texts = [("a " * (1 + 20 * (n % 2))).strip() for n in range(40)]
    rows = Dataset.from_dict({"text": texts, "label": [n % 2 for n in range(40)]})
    task = made(
        AbsTaskClassification, "Lengths", "Classification", "accuracy", DatasetDict(train=rows, test=rows), prompt="a"
    )  # fmt: skip
    assert score(task, words("paper"), tmp_path / "paper") == 100
    assert score(task, words("mteb-default"), tmp_path / "default") < 60


def test_msmarco_is_scored_on_dev(words, tmp_path):
    right = corpus_of({"a": "bees", "b": "ice"}, {"q": "bees"}, {"q": "a"})
    wrong = corpus_of({"a": "bees", "b": "ice"}, {"q": "bees"}, {"q": "b"})
    assert score(retrieval("MSMARCO", dev=right, test=wrong), words("paper"), tmp_path) == 100
    rows = mteb_runs.run_tasks(words("paper"), [retrieval("Other", dev=right, test=wrong)], tmp_path, "x")
    assert [(r["task"], r["score"]) for r in rows] == [("Other (dev)", 100), ("Other (test)", 0)]


TWO = ({"q1": "bees", "q2": "ice"}, {"q1": "a", "q2": "b"})  # one is missed where documents look the same


def test_texts_end_at_max_length_or_where_the_model_ends(words, tmp_path):
    late = "x " * 20
    task = retrieval("Late", test=corpus_of({"a": late + "bees", "b": late + "ice"}, *TWO))
    assert score(task, words("paper", 10), tmp_path / "cut") == 50
    assert score(task, words("mteb-default", 10), tmp_path / "whole") == 100
    assert words("mteb-default", 10).encoder.max_length == 4096  # of the tiny model


def test_a_document_is_its_title_and_its_text(words, tmp_path):
    documents = {"a": "small", "b": "small"}
    titled = corpus_of(documents, *TWO, titles={"a": "bees", "b": "ice"})
    assert score(retrieval("Titled", test=titled), words("paper"), tmp_path) == 100
    assert score(retrieval("Untitled", test=corpus_of(documents, *TWO)), words("paper"), tmp_path) == 50


@pytest.fixture
def cqadupstack():
    """mteb's aggregate with data of our own: 9 of its 12 parts are solved, 3 missed."""
    task = mteb.get_task("CQADupstackRetrieval")
    documents = {"a": "bees", "b": "ice"} | {f"other{n}": "bees hive" for n in range(12)}
    for number, part in enumerate(task.tasks):
        data = corpus_of(documents, {"q": "bees"}, {"q": "a" if number < 9 else "b"})
        part.dataset, part.data_loaded = {"default": {"test": data}}, True
    yield task
    for part in task.tasks:  # mteb has one object of each part
        part.unload_data()


def test_cqadupstack_is_one_number_the_mean_of_its_twelve(words, tmp_path, cqadupstack):
    (row,) = mteb_runs.run_tasks(words("paper"), [cqadupstack], tmp_path, "x")
    assert row["task"] == "CQADupstackRetrieval" and row["category"] == "Retr." and row["score"] == 75
    assert len(list(tmp_path.glob("CQADupstack*Retrieval.json"))) == 13
    assert mteb_runs.run_tasks(None, [cqadupstack], tmp_path, "x") == [row]  # no part runs again
    other = {**row, "task": "other", "score": 25.0}
    assert scores.averages([row, other])["Retr."] == 50


def test_tasks_without_an_instruction_of_their_own_take_their_types(llama):
    subject = MtebEncoder(Encoder(llama), "x/y", "1")
    tasks = benchmarks.load(["MTEB(eng, v1)"])["MTEB(eng, v1)"]
    without = [t for t in tasks if t.metadata.prompt is None]
    assert len(without) == 12
    for task in without:
        if not task.is_aggregate:
            assert subject.before(task.metadata, None) == task.abstask_prompt
    hard = mteb.get_task("MIRACLRetrievalHardNegatives").metadata
    assert hard.prompt is None and "Wikipedia" in subject.before(hard, PromptType.query)
    assert subject.before(hard, PromptType.document) == ""


def test_mteb_default_is_what_mtebs_own_wrapper_does(llama, tmp_path):
    """Vectors of an exported model by mteb's wrapper, set up as its entry of the released model is."""
    from mteb.models.instruct_wrapper import InstructSentenceTransformerModel
    from synthembed.model.export import export
    from torch.utils.data import DataLoader

    folder = export(llama, tmp_path / "model", "last", "natural", "", 512)
    template = mteb.get_model_meta("intfloat/e5-mistral-7b-instruct").loader_kwargs["instruction_template"]
    theirs = InstructSentenceTransformerModel(
        str(folder), None, device="cpu", instruction_template=template, apply_instruction_to_passages=False
    )
    ours = MtebEncoder(Encoder(llama), "x/y", "1", protocol=PROTOCOLS["mteb-default"])
    batches = DataLoader(Dataset.from_dict({"text": ["the cat", "a longer text about the cat", "x"]}))
    for name in ("NQ", "QuoraRetrieval", "SciDocsRR", "Banking77Classification", "STS12"):
        sides = (None,) if name in ("Banking77Classification", "STS12") else tuple(PromptType)
        for side in sides:
            asked = {
                "task_metadata": mteb.get_task(name).metadata,
                "hf_split": "test",
                "hf_subset": "default",
            }
            found = [m.encode(batches, prompt_type=side, **asked) for m in (ours, theirs)]
            assert np.allclose(*found, atol=1e-5), (name, side)


# --- benchmarks ------------------------------------------------------------------------------------


def test_benchmarks_are_the_papers():
    sizes = {name: len(found) for name in benchmarks.BENCHMARKS for found in benchmarks.load([name]).values()}
    assert sizes == {
        "MTEB(eng, v1)": 56, "BEIR": 15, "MIRACL": 1, "MIRACL (hard negatives)": 1,
        "BUCC+Tatoeba": 2, "LongEmbed passkey": 1, "embedded": 17,
    }  # fmt: skip
    (miracl,), (bucc, tatoeba) = benchmarks.load(["MIRACL", "BUCC+Tatoeba"]).values()
    assert len(miracl.hf_subsets) == 16 and miracl.eval_splits == ["dev"]
    assert not {"de", "yo"} & set(miracl.hf_subsets)
    assert (len(bucc.hf_subsets), len(tatoeba.hf_subsets)) == (4, 112)
    beir = {t.metadata.name: t for t in benchmarks.load(["BEIR"])["BEIR"]}
    assert beir["MSMARCO"].eval_splits == ["dev"] and beir["CQADupstackRetrieval"].is_aggregate


def test_a_part_of_a_benchmark_says_so_and_unknown_names_are_refused():
    assert list(benchmarks.load(["MTEB(eng, v1)", "embedded"], ["STS12", "SciFact"])) == [
        "MTEB(eng, v1), part"
    ]
    assert list(benchmarks.load(["embedded"], ["EmbeddedTopic"])) == ["embedded"]
    with pytest.raises(
        ValueError, match=r"unknown benchmark 'MIRCL'; known are MTEB\(eng, v1\), BEIR, MIRACL"
    ):
        benchmarks.load(["MIRCL"])
    with pytest.raises(ValueError, match=r"\['STS99'\] are in none of \['embedded'\]"):
        benchmarks.load(["embedded"], ["STS99"])


def test_secondary_metrics_are_rows_of_their_own(words, tmp_path):
    found = mteb_runs.run_benchmarks(
        words("paper"), {"embedded": embedded_tasks.embedded(["EmbeddedMultilingual"])}, tmp_path, "x"
    )
    assert len(found["rows"]) == 16 and {r["metric"] for r in found["rows"]} == {"ndcg_at_10"}
    recall = [r for r in found["more"] if r["metric"] == "recall_at_100"]
    assert [r["language"] for r in recall] == [r["language"] for r in found["rows"]]
    assert all(60 < r["score"] <= 100 for r in recall)  # 100 of about 150 documents
    assert set(found["more"][0]) == set(found["rows"][0])


# --- kept results ----------------------------------------------------------------------------------


def sts(values: list[float], name="Pairs"):
    pairs = {"sentence1": ["a b", "a c", "a d", "b"], "sentence2": ["a b", "a e", "f g", "b c"]}
    return made(AbsTaskSTS, name, "STS", "cosine_spearman", DatasetDict(test=Dataset.from_dict(pairs | {"score": values})))  # fmt: skip


def test_data_filled_by_hand_is_used_kept_and_told_apart(words, tmp_path):
    first, second = sts([4.0, 2.0, 1.0, 3.0]), sts([1.0, 2.0, 4.0, 3.0])
    one = mteb_runs.run_tasks(words("paper"), [first], tmp_path, "x")
    assert first.data_loaded and mteb_runs.run_tasks(None, [first], tmp_path, "x") == one
    with pytest.raises(NotImplementedError):  # the same name and revision, other data: it would have to run
        mteb_runs.run_tasks(None, [second], tmp_path, "x")
    assert mteb_runs.run_tasks(words("paper"), [second], tmp_path, "x") != one
    fetched = sts([4.0, 2.0, 1.0, 3.0])
    fetched.dataset, fetched.data_loaded = None, False
    with pytest.raises(mteb_runs.DataUnavailable, match="Pairs: data set 'synthembed/none' at revision"):
        mteb_runs.run_tasks(words("paper"), [fetched], tmp_path, "x")


def test_a_result_of_fewer_languages_is_not_taken_for_all(words, tmp_path):
    task = embedded_tasks.embedded(["EmbeddedBitext"])[0]
    task.hf_subsets = ["de-en", "fr-en"]
    assert len(mteb_runs.run_tasks(words("paper"), [task], tmp_path, "x")) == 2
    task.hf_subsets = ["de-en", "fr-en", "es-en"]
    assert len(mteb_runs.run_tasks(words("paper"), [task], tmp_path, "x")) == 3


def test_every_type_of_task_runs_with_data_filled_by_hand(words, tmp_path):
    """mteb's own mock tasks, one or more of every type, against mteb's own evaluation."""
    tasks = {t.metadata.type: t for t in mteb.mocks.MOCK_TASK_TEST_GRID
             if t.metadata.type in scores.CATEGORIES and t.metadata.modalities == ["text"]}  # fmt: skip
    assert set(tasks) == set(scores.CATEGORIES)
    for kind, task in tasks.items():
        task.load_data()
        found = mteb_runs.run_tasks(words("paper"), [task], tmp_path, "x")
        ours = np.mean([r["score"] for r in found])
        (result,) = mteb.evaluate(words("paper"), [task], cache=None, show_progress_bar=False).task_results
        assert ours == pytest.approx(100 * result.get_score(), abs=0.01, nan_ok=True), kind
        assert mteb_runs.run_tasks(None, [task], tmp_path, "x") == found or np.isnan(ours)


def test_static_embeddings_know_no_order(llama):
    vectors = Static(llama).encode(["ab cd", "cd ab", "xy"])
    assert vectors.shape == (3, 32) and not np.allclose(vectors[0], vectors[2], atol=1e-2)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    ids = Static(llama).rows(["ab"])[0]
    table = llama.model.get_input_embeddings().weight.detach().numpy()
    mean = table[ids[1:-1]].mean(0)
    assert np.allclose(Static(llama).encode(["ab"])[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_where_a_model_ends():
    from synthembed.model.backbone import Backbone
    from synthembed.model.tokens import TokenContract
    from tiny_models import byte_tokenizer, tiny_model

    model = Backbone(tiny_model("mistral", window=64), TokenContract.of(byte_tokenizer("mistral")), {})
    assert protocol.reads_up_to(model) == 64
    json.dumps(protocol.reads_up_to(model))


@pytest.mark.parametrize(
    ("wanted", "on", "found"),
    [("float16", "cpu", "float32"), ("float16", "cuda", "float16"), ("bfloat16", "cpu", "bfloat16"), ("auto", "cpu", "auto")],
)  # fmt: skip
def test_what_is_scored_is_computed_in_float16_and_on_a_cpu_in_float32(monkeypatch, wanted, on, found):
    monkeypatch.setattr(protocol.hardware, "device", lambda: torch.device(on))
    assert protocol.dtype(profile.Evaluate(dtype=wanted)) == found
    assert protocol.dtype(profile.load("paper").evaluate) == ("float32" if on == "cpu" else "float16")


def test_a_model_is_scored_in_the_evaluations_precision_whatever_it_was_trained_in(llama):
    llama.model.bfloat16()
    assert protocol.in_dtype(llama, profile.Evaluate(dtype="auto")).model.dtype == torch.bfloat16
    assert protocol.in_dtype(llama, profile.Evaluate()).model.dtype == torch.float32
    assert not protocol.bfloat16_linear.is_used_in(llama.model)


def test_cut_texts_are_counted_by_side_and_kept(llama, tmp_path, capsys):
    folder = tmp_path / "mteb" / "synthembed__x" / "0123"
    model = MtebEncoder(Encoder(llama, max_length=128), "synthembed/x", "1")
    data = corpus_of({"good": "bees " * 60, "short": "bees", "other": "sun"}, {"q": "bees"}, {"q": "good"})
    mteb_runs.run_tasks(model, [retrieval("Long", test=data)], folder, "x")
    counted = {"query": {"texts": 1, "cut": 0}, "document": {"texts": 3, "cut": 1}}
    assert mteb_runs.cut_texts(tmp_path) == {"synthembed/x": {"Long": counted}}
    assert "warning: Long: 1 of 3 texts (document) are cut at 128 tokens" in capsys.readouterr().out
    mteb_runs.run_tasks(model, [retrieval("Long", test=data)], folder, "x")  # read, not run again
    assert mteb_runs.cut_texts(tmp_path) == {"synthembed/x": {"Long": counted}}
