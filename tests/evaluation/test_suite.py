"""The embedded suite: as large as it should be, and independent of the recorded corpus."""

import gzip
import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from synthembed.corpus import evaluation_texts
from synthembed.corpus.texts import LEAST_WORDS, NearDuplicates, normalised, words
from synthembed.evaluation.suites import benchmarks, embedded_tasks
from synthembed.generation import two_steps
from synthembed.generation.parsing import content_of
from synthembed.generation.reply_store import reply_line
from synthembed.profile.taxonomy import SYMMETRIC_INSTRUCTIONS

DATA = embedded_tasks.DATA


def suite_instructions() -> list[str]:
    """The instruction of every task of the embedded suite."""
    prompts = [task[3] for task in embedded_tasks.TASKS]
    return [p["query"] if isinstance(p, dict) else p for p in prompts]


def recorded(file: Path) -> tuple[list[str], list[str]]:
    """(task instructions, other texts) in the replies of a recording, gzipped or not."""
    instructions, texts = [], []
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            reply = json.loads(content_of(json.loads(line)))
            instructions += reply.pop("tasks", [])
            texts += evaluation_texts._strings(reply)
    return instructions, texts


def shared(
    ours: Iterable[str], theirs: Iterable[str], threshold: float = 0.7, least: int = LEAST_WORDS
) -> list[tuple[str, str]]:
    """(text of ours, text of theirs) wherever they are equal once normalised, or near-duplicates.

    Near: MinHash Jaccard over ``threshold``. Texts of fewer words than ``least`` say little (App. B)
    and are passed over.
    """
    exact: dict[str, str] = {}
    near = NearDuplicates(threshold)
    known = {str(number): text for number, text in enumerate(dict.fromkeys(theirs))}
    for key, text in known.items():
        if len(words(text)) >= least:
            exact[normalised(text)] = text
            near.seen(key, text)
    found = []
    for text in dict.fromkeys(ours):
        if len(words(text)) < least:
            continue
        if equal := exact.get(normalised(text)):
            found.append((text, equal))
        elif key := near.find(text):
            found.append((text, known[key]))
    return found


@pytest.fixture(scope="module")
def corpus() -> tuple[list[str], list[str]]:
    """(instructions, texts) of everything recorded, and the instructions of the symmetric families."""
    instructions, texts = list(SYMMETRIC_INSTRUCTIONS.values()), []
    for file in two_steps.RECORDINGS.glob("*.jsonl*"):
        found = recorded(file)
        instructions += found[0]
        texts += found[1]
    assert len(instructions) > 350 and len(texts) > 2000 * 2
    return instructions, texts


def of_type(kind: str) -> dict[str, str]:
    return {name: folder for name, type_, folder, *_ in embedded_tasks.TASKS if type_ == kind}


def retrieval(folder: str):
    return (embedded_tasks.rows(DATA / folder / f"{name}.jsonl") for name in ("corpus", "queries", "qrels"))


def test_three_retrieval_tasks_of_300_documents_and_100_queries_one_graded_one_on_code():
    found = of_type("Retrieval")
    found.pop("EmbeddedMultilingual")
    grades = {}
    for name, folder in found.items():
        documents, queries, judgements = retrieval(folder)
        assert len({d["id"] for d in documents}) >= 300 and len({q["id"] for q in queries}) >= 100
        assert {j["query"] for j in judgements} == {q["id"] for q in queries}
        grades[name] = {j["score"] for j in judgements}
    assert len(found) >= 3 and "EmbeddedCode" in found and {1, 2} in grades.values()


@pytest.mark.parametrize("folder", of_type("Retrieval").values())
def test_a_quarter_of_the_retrieval_documents_and_more_are_distractors(folder):
    """The best answer to no query; their subjects are those of the answers."""
    folders = [folder] if (DATA / folder / "corpus.jsonl").exists() else [
        f"{folder}/{code}" for code in embedded_tasks.RETRIEVAL_LANGUAGES
    ]  # fmt: skip
    for one in folders:
        documents, _, judgements = retrieval(one)
        best = {j["doc"] for j in judgements if j["score"] == max(x["score"] for x in judgements)}
        assert len(documents) - len(best) >= len(documents) / 4, one


def test_multilingual_retrieval_has_150_documents_and_60_queries_in_each_language_of_table_6():
    folder = of_type("Retrieval")["EmbeddedMultilingual"]
    assert sorted(embedded_tasks.RETRIEVAL_LANGUAGES) == sorted(benchmarks.MIRACL_LANGUAGES)
    for code in embedded_tasks.RETRIEVAL_LANGUAGES:
        documents, queries, _ = retrieval(f"{folder}/{code}")
        assert len({d["text"] for d in documents}) >= 150 and len({q["text"] for q in queries}) >= 60


def test_reranking_has_60_queries_of_8_candidates():
    (folder,) = of_type("Reranking").values()
    found = embedded_tasks.rows(DATA / folder / "data.jsonl")
    assert len({r["query"] for r in found}) >= 60
    assert all(r["positive"] and len(r["positive"] + r["negative"]) >= 8 for r in found)


def test_sts_has_two_tasks_of_200_pairs_over_the_whole_range():
    assert len(of_type("STS")) == 2
    for folder in of_type("STS").values():
        scores = [r["score"] for r in embedded_tasks.rows(DATA / folder / "data.jsonl")]
        assert len(scores) >= 200 and min(scores) == 0 and max(scores) == 5
        assert min(Counter(min(int(s), 4) for s in scores).values()) >= 15  # each point of the scale


def test_pair_classification_has_200_pairs_of_both_labels():
    (folder,) = of_type("PairClassification").values()
    labels = Counter(r["label"] for r in embedded_tasks.rows(DATA / folder / "data.jsonl"))
    assert labels.total() >= 200 and min(labels[0], labels[1]) >= 80


def test_classification_has_three_tasks_of_25_texts_a_class():
    classes = {}
    for name, folder in of_type("Classification").items():
        parts = [embedded_tasks.rows(DATA / folder / f"{split}.jsonl") for split in ("train", "test")]
        texts = [{r["text"] for r in part} for part in parts]
        assert not texts[0] & texts[1]
        found = Counter(r["label"] for part in parts for r in part)
        assert min(found.values()) >= 25, (name, found)
        classes[name] = len(found)
    assert classes.keys() == {"EmbeddedTopic", "EmbeddedIntent", "EmbeddedEmotion"}
    assert classes["EmbeddedIntent"] >= 12


def test_clustering_has_two_tasks_of_250_texts_in_8_clusters():
    assert len(of_type("Clustering")) == 2
    for folder in of_type("Clustering").values():
        found = embedded_tasks.rows(DATA / folder / "data.jsonl")
        assert len({r["text"] for r in found}) >= 250 and len({r["label"] for r in found}) >= 8


def test_summarisation_has_30_texts_of_4_rated_summaries():
    (folder,) = of_type("Summarization").values()
    found = embedded_tasks.rows(DATA / folder / "data.jsonl")
    assert len({r["text"] for r in found}) >= 30
    for row in found:
        assert len(row["machine_summaries"]) == len(row["relevance"]) >= 4 and row["human_summaries"]
        assert len(set(row["relevance"])) > 1 and all(1 <= s <= 5 for s in row["relevance"])


def test_bitext_has_50_pairs_in_each_of_26_languages():
    assert len(embedded_tasks.BITEXT_LANGUAGES) == 26
    for code in embedded_tasks.BITEXT_LANGUAGES:
        found = embedded_tasks.rows(DATA / f"bitext/{code}-en.jsonl")
        assert all(len({r[side] for r in found}) >= 50 for side in ("sentence1", "sentence2")), code


def test_chance_is_below_4_in_multilingual_retrieval():
    """nDCG@10 of a random order, with one answer a query: the mean discount of the first ten, by documents."""
    for code in embedded_tasks.RETRIEVAL_LANGUAGES:
        documents, _, judgements = retrieval(f"retrieval/multilingual/{code}")
        assert len({j["query"] for j in judgements}) == len(judgements)
        assert 100 * sum(1 / math.log2(rank + 1) for rank in range(1, 11)) / len(list(documents)) < 4, code


def test_readings_are_one_message_for_each_subject_and_act():
    """No subject and no act can be told from the other, and every label has the same number of answers."""
    corpus, queries = (embedded_tasks.rows(DATA / f"readings/{name}.jsonl") for name in ("corpus", "queries"))
    subjects, acts = ({d[label] for d in corpus} for label in ("subject", "act"))
    assert (len(subjects), len(acts)) == (16, 12)
    assert Counter((d["subject"], d["act"]) for d in corpus) == Counter(
        (s, a) for s in subjects for a in acts
    )
    assert set(Counter(q["subject"] for q in queries).values()) == {6}
    assert set(Counter(q["act"] for q in queries).values()) == {8}
    assert len({r["text"] for r in corpus + queries}) == len(corpus) + len(queries) == 288


def test_no_text_of_the_suite_is_in_the_corpus_or_nearly(corpus):
    texts = list(evaluation_texts.suite_texts())
    assert len(texts) > 12_000
    assert shared(texts, corpus[1]) == []
    assert shared(corpus[1], texts) == []


def test_no_task_of_the_suite_is_in_the_corpus_or_nearly(corpus):
    ours = suite_instructions()
    assert len(ours) == len(embedded_tasks.TASKS)
    assert shared(ours, corpus[0], least=1) == []
    assert shared(corpus[0], ours, least=1) == []


def test_a_text_that_slipped_into_the_corpus_is_found_in_both_directions(tmp_path):
    """The check can fail: one text copied, one changed by a word, one instruction of the paper's."""
    texts = [t for t in evaluation_texts.suite_texts() if 12 <= len(t.split()) <= 40 and t.isascii()][:200]
    copied, changed = texts[0].upper() + "!", texts[1] + " indeed"
    content = json.dumps({"S1": copied, "S2": changed, "S3": "Nothing of the sort stands anywhere else"})
    tasks = json.dumps({"tasks": ["Retrieve translations of the given sentence"]})
    file = tmp_path / "recording.jsonl"
    bodies = [{"choices": [{"message": {"content": c}}]} for c in (content, tasks)]
    file.write_text("\n".join(json.dumps(reply_line(str(n), body)) for n, body in enumerate(bodies)))
    instructions, found = recorded(file)
    assert shared(found, texts) == [(copied, texts[0]), (changed, texts[1])]
    assert shared(texts, found) == [(texts[0], copied), (texts[1], changed)]
    assert shared(suite_instructions(), instructions, least=1)


def test_bm25_stands_where_its_retrieval_puts_it():
    from benchmarks.suite_validity import agreement, mean_standard

    means = {
        "weak": {"STS": 10.0, "Retr.": 20.0},
        "strong": {"STS": 50.0, "Retr.": 40.0},
        "bm25": {"Retr.": 30.0},
    }
    found = mean_standard(means, ["STS", "Retr."])
    assert found["weak"] < found["bm25"] < found["strong"]
    assert agreement(found, {"weak": 1, "bm25": 2, "strong": 3}) == (pytest.approx(1), 3)
