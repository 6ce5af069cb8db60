"""Leakage against mteb's sets on this machine, and corpora from a hub that a test serves itself."""

import json
from collections import Counter

import pytest
from datasets import Dataset
from fake_hub import Hub, cached, elsewhere
from made_examples import LONG, make
from synthembed import profile
from synthembed.corpus import analysis, evaluation_texts, example_files, filters, languages, texts
from synthembed.corpus.example import Drops
from synthembed.generation import two_steps
from synthembed.profile.settings import Analyze


def test_a_corpus_comes_from_the_hub(tmp_path):
    row = {"instruction": "Find", "query": "q", "positive": "p", "negative": ""}
    lines = "".join(json.dumps(row | {"query": f"q{n}"}) + "\n" for n in range(4)).encode()
    hub = Hub({"somebody/corpus": {"data/short_long.jsonl": lines, "README.md": b"# no data"}})
    code = (
        "import sys; from synthembed.corpus.corpus_files import read_corpus\n"
        "print([e.query for e in read_corpus('hub:somebody/corpus', 'open-synthetic', 3)])"
    )
    assert elsewhere(code, hub, tmp_path).strip() == "['q0', 'q1', 'q2']"


def test_mteb_sets_that_datasets_has_cached_are_found(tmp_path):
    """The cache is filled by load_dataset itself, as mteb does it."""
    files = {
        "test.jsonl": json.dumps({"text": LONG, "label": 3}) + "\n",
        "train.jsonl": json.dumps({"text": "a text of the training split of that set", "label": 1}) + "\n",
    }
    hub = Hub({"mteb/banking77": {name: text.encode() for name, text in files.items()}})
    elsewhere("import datasets; datasets.load_dataset('mteb/banking77')", hub, tmp_path)
    checked = Counter()
    assert list(evaluation_texts.mteb_texts(checked, tmp_path / "datasets")) == [LONG]
    assert checked == {"mteb/banking77": 1}


def test_test_texts_and_queries_are_read_and_corpora_are_not(tmp_path):
    clustering = tmp_path / "mteb___twentynewsgroups-clustering" / "default" / "0.0.0" / "abc"
    cached(clustering, "test", [{"sentences": ["first sentence here", "second one"], "labels": ["a", "b"]}])
    dup = tmp_path / "mteb___ask_ubuntu_dup_questions" / "default" / "0.0.0" / "abc"
    cached(dup, "test-00000-of-00002", [{"query": "in camel case", "positive": ["p"], "negative": []}])
    facts = tmp_path / "mteb___scifact"
    cached(facts / "queries" / "0.0.0" / "abc", "queries", [{"_id": "1", "text": "a claim to be checked"}])
    cached(facts / "corpus" / "0.0.0" / "abc", "corpus", [{"_id": "1", "text": "an abstract of the corpus"}])
    cached(facts / "default" / "0.0.0" / "abc", "test", [{"query-id": "q1", "corpus-id": "c9", "score": 1}])
    stranger = tmp_path / "somebody___scifact" / "default" / "0.0.0" / "abc"
    cached(stranger, "test", [{"text": "no set of the benchmark"}])
    checked = Counter()
    texts = set(evaluation_texts.mteb_texts(checked, tmp_path))
    assert {"first sentence here", "second one", "in camel case", "a claim to be checked"} <= texts
    assert not texts & {"an abstract of the corpus", "no set of the benchmark", "q1", "c9"}
    assert set(checked) == {
        "mteb/twentynewsgroups-clustering", "mteb/AskUbuntuDupQuestions", "mteb/scifact"
    }  # fmt: skip


def test_benchmark_texts_match_as_strings_only(tmp_path):
    found = [
        make(1, "q", LONG.upper() + " !"),
        make(2, "q", LONG + " and back"),
        make(3, LONG, "p"),
        make(4, "yes or no", "no"),
    ]
    drops = Drops()
    kept = list(
        filters.filtered(found, Analyze(leakage=True), drops, benchmark_texts=iter([LONG, "yes or no"]))
    )
    assert [e.id for e in kept] == ["e2", "e4"] and drops.counts == {"also in an evaluation set": 2}


def test_a_broken_cache_file_is_named(tmp_path):
    folder = tmp_path / "mteb___banking77" / "default" / "0.0.0" / "abc"
    folder.mkdir(parents=True)
    (folder / "banking77-test.arrow").write_bytes(b"no arrow" * 9)
    with pytest.raises(ValueError, match=r"banking77-test\.arrow in the cache of datasets cannot be read"):
        list(evaluation_texts.mteb_texts(Counter(), tmp_path))


def test_no_cache_is_no_set(tmp_path):
    checked = Counter()
    assert list(evaluation_texts.mteb_texts(checked, tmp_path / "nothing")) == [] and not checked


def test_the_funnel_counts_down_to_what_is_kept():
    settings = Analyze(refusals=True, near_duplicates=True)
    drops = Drops()
    drops.add("not JSON", "x")
    texts = [make(1, "a", "b"), make(2, "a", "b"), make(3, "I'm sorry, I can't", "b"), make(4, LONG, "c")]
    list(filters.filtered([*texts, make(5, LONG + " now", "d")], settings, drops))
    steps = analysis.funnel(drops, settings)
    assert steps == [
        ("replies", 6), ("valid", 5), ("without: refusal phrase", 4), ("without: exact duplicate", 3),
        ("without: near-duplicate", 2),
    ]  # fmt: skip
    table = analysis.dropped(drops)
    assert set(table["reason"]) == {"not JSON", "refusal phrase", "exact duplicate", "near-duplicate"}


GERMAN = "Die Fähre zu den nördlichen Inseln fährt morgens um sieben Uhr ab und braucht drei Stunden"


@pytest.mark.parametrize(
    ("text", "wanted", "fits"),
    [
        (GERMAN, "de", True),
        (GERMAN, "nl", False),
        (GERMAN * 8, "de", True),
        (GERMAN * 8, "en", False),
        ("zu kurz", "en", True),  # too short to tell
        (LONG, "br", True),  # a language that is not told
        ("Brod za sjeverne otoke polazi u sedam ujutro i po mirnom moru plovi oko tri sata", "bs", True),
        ("Brod za sjeverne otoke polazi u sedam ujutro i po mirnom moru plovi oko tri sata", "sl", False),
    ],
)
def test_texts_in_the_language_that_was_asked_for(text, wanted, fits):
    assert languages.in_language(text, wanted) == fits


def test_near_duplicates_tell_which_text_they_are_near():
    index = texts.NearDuplicates(0.7)
    assert not index.seen("ferry", LONG) and not index.seen("fähre", GERMAN)
    assert index.find(LONG + " today") == "ferry" and index.find(GERMAN.upper()) == "fähre"
    assert index.find("Something else entirely is asked here") is None
    assert index.seen("again", LONG + " today") and index.keys == ["ferry", "fähre"]


def test_an_arrow_file_streams(tmp_path):
    made = Dataset.from_dict({"text": [f"text {n}" for n in range(2500)]})
    made.save_to_disk(str(tmp_path / "saved"))
    file = next((tmp_path / "saved").glob("*.arrow"))
    rows = evaluation_texts._rows(file)
    assert next(rows) == {"text": "text 0"} and sum(1 for _ in rows) == 2499


# For some languages, the one that a detector most easily mistakes it for.
NEAREST = {
    "en": "nl", "nl": "de", "de": "nl", "es": "pt", "pt": "es", "it": "ca", "ca": "es", "da": "sv", "sv": "da",
    "cs": "sk", "sk": "cs", "ru": "uk", "uk": "bg", "bg": "ru", "hi": "mr", "mr": "hi", "fa": "ar", "ar": "ur",
    "ur": "fa", "fi": "et", "et": "fi",
}  # fmt: skip


def test_languages_of_the_recorded_corpus_are_told_from_their_nearest(tmp_path):
    """Of the recorded English to Urdu documents: right labels that are refused, wrong ones that pass."""
    p = profile.load("laptop")
    two_steps.generate(p, tmp_path)
    found = example_files.from_replies(tmp_path / "replies.jsonl", two_steps.read_items(tmp_path), Drops())
    pairs = [
        (e.positive, e.target_language or e.language)
        for e in found
        if e.family != "long-short" and (e.target_language or e.language) in NEAREST
    ]
    refused = sum(not languages.in_language(text, language) for text, language in pairs)
    passed = sum(
        languages.in_language(text, NEAREST[language])
        for text, language in pairs
        if texts.letters(text) >= languages.MIN_LANGUAGE_CHARACTERS
    )
    assert len(pairs) > 900 and refused <= 0.005 * len(pairs) and passed <= 0.005 * len(pairs)
