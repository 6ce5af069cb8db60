"""Appendix B: texts that training and evaluation share, by type."""

from collections import Counter

import pytest
from fake_hub import cached
from synthembed.corpus import contamination, evaluation_texts
from synthembed.corpus.contamination import report
from synthembed.corpus.evaluation_texts import Evaluated
from synthembed.corpus.example import Example

QUESTION = "At what hour does the ferry to the northern islands leave the harbour on Sundays?"
DOCUMENT = "The ferry to the northern islands leaves at seven in the morning and takes three hours at sea."
SENTENCE = "A fisherman mends his nets on the quay while his dog sleeps in the sun."


def example(id, query="q", positive="p", negative=None):
    return Example(id, "short-long", "Find", "en", "", query, positive, negative)


TRAINED = [
    example("nq/1", QUESTION, "an answer that stands nowhere else"),
    example("fever/2", "a claim of our own", DOCUMENT, "another document of ours"),
    example("c0ffee", "something else", "joy", SENTENCE),
]


@pytest.mark.parametrize(
    ("one", "kind", "source"),
    [
        (Evaluated("a", "query", QUESTION.upper() + " ?"), "question", "nq"),
        (Evaluated("a", "document", DOCUMENT.replace(" ", "  ")), "shared document", "fever"),
        (Evaluated("a", "text", SENTENCE), "other", "synthetic"),
        (Evaluated("a", "document", QUESTION), "other", "nq"),  # a question that is a document elsewhere
        (Evaluated("a", "query", DOCUMENT), "other", "fever"),
        (Evaluated("a", "text", "Joy!"), "low-entropy", "synthetic"),
        (Evaluated("a", "label", SENTENCE), "low-entropy", "synthetic"),
        (Evaluated("a", "query", "a question that nobody has asked before"), None, None),
        (Evaluated("a", "text", "..."), None, None),
    ],
)
def test_what_is_shared_has_a_type_and_a_source(one, kind, source):
    found = report(TRAINED, [one, one])
    expected = {name: {"exact": int(name == kind), "near": 0} for name in contamination.TYPES}
    assert {n: {k: v for k, v in t.items() if k != "meaning"} for n, t in found["types"].items()} == expected
    assert found["by training set"] == ({source: {kind: 1}} if kind else {})
    for sample in found["samples"].get(kind, []):
        assert sample["evaluation text"] == one.text and sample["training"] in [e.id for e in TRAINED]


def test_near_duplicates_are_found_if_asked_for():
    changed = [
        Evaluated("a", "query", QUESTION.replace("Sundays", "Mondays")),
        Evaluated("a", "document", "Yes. " + DOCUMENT),
        Evaluated("a", "text", "A fisherman sleeps in the sun while nobody mends the nets"),
    ]
    assert all(t["exact"] == t["near"] == 0 for t in report(TRAINED, changed)["types"].values())
    found = report(TRAINED, iter(changed), threshold=0.6)["types"]
    assert {name: t["near"] for name, t in found.items() if t["near"]} == {
        "question": 1,
        "shared document": 1,
    }
    assert all(t["exact"] == 0 for t in found.values())


def test_what_was_looked_at_is_counted():
    texts = [Evaluated("a", "text", f"sentence number {n} of this evaluation set") for n in range(3)]
    found = report(TRAINED, [*texts, Evaluated("b", "query", QUESTION)])
    assert found["training"] == {"examples": 3, "texts": 8}
    assert found["evaluation"] == {"texts": 4, "sets": {"a": 3, "b": 1}}


def test_the_suite_tells_queries_documents_and_labels():
    kinds = {(t.set.partition("/")[0], t.kind) for t in evaluation_texts.suite()}
    assert {("retrieval", "query"), ("retrieval", "document"), ("reranking", "query"), ("reranking", "document"),
            ("classification", "label"), ("classification", "text"), ("sts", "text")} <= kinds  # fmt: skip
    assert ("retrieval", "text") not in kinds and ("sts", "query") not in kinds
    labels = {t.text for t in evaluation_texts.suite() if t.kind == "label"}
    assert labels and sum(1 for t in evaluation_texts.suite() if t.kind != "label") == len(
        list(evaluation_texts.suite_texts())
    )


def test_queries_and_corpora_of_mteb_sets_on_disk(tmp_path):
    """DBPedia's corpus and queries, as datasets caches them: the paper's two kinds of overlap."""
    dbpedia = tmp_path / "mteb___dbpedia"
    cached(dbpedia / "queries" / "0.0.0" / "abc", "queries", [{"_id": "1", "text": QUESTION}])
    cached(
        dbpedia / "corpus" / "0.0.0" / "abc", "corpus", [{"_id": "d1", "title": "Ferry", "text": DOCUMENT}]
    )
    checked = Counter()
    found = report(TRAINED, evaluation_texts.mteb_sets(checked, tmp_path, corpora=True))
    assert found["types"]["question"]["exact"] == found["types"]["shared document"]["exact"] == 1
    assert checked == {"mteb/dbpedia": 3} and found["evaluation"]["sets"] == {"mteb/dbpedia": 3}
    without = report(TRAINED, evaluation_texts.mteb_sets(Counter(), tmp_path))
    assert without["types"]["shared document"]["exact"] == 0 and without["types"]["question"]["exact"] == 1
