"""Replies to examples: what is dropped, under which reason, and that nothing goes uncounted."""

import json
import re

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from made_examples import LONG, make
from synthembed import profile
from synthembed.corpus import analysis, corpus_files, evaluation_texts, example, example_files, filters, texts
from synthembed.corpus.example import Drops, Example
from synthembed.generation.items import SCHEMAS, Item
from synthembed.generation.parsing import Rejected
from synthembed.generation.reply_store import reply_line
from synthembed.ground.data_files.opener import ReadError
from synthembed.profile.settings import Analyze
from synthembed.profile.taxonomy import FAMILIES

RETRIEVAL = Item("example", 1, "short-long", "Find it")
GOOD = {"user_query": "q", "positive_document": "p", "hard_negative_document": "n"}


def reply(content, finish="stop", **message) -> dict:
    body = {"choices": [{"message": {"content": content, **message}, "finish_reason": finish}]}
    return reply_line("id1", body)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_becomes_a_triple(family):
    keys = list(SCHEMAS[family].model_fields)
    line = reply(json.dumps({k: f"text of {k}" for k in keys}))
    found = example.example_of(line, Item("example", 1, family, "the task", "fr"))
    assert (found.query, found.positive) == (f"text of {keys[0]}", f"text of {keys[1]}")
    assert found.negative == (f"text of {keys[2]}" if len(keys) == 3 else None)
    assert (found.instruction, found.language, found.id) == ("the task", "fr", "id1")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (reply("{broken"), "not JSON"),
        (reply("__import__('os').system('true')"), "not JSON"),
        (reply(json.dumps(GOOD | {"extra": "x"})), "not the schema"),
        (reply(json.dumps({k: v for k, v in GOOD.items() if k != "user_query"})), "not the schema"),
        (reply(json.dumps(GOOD | {"user_query": "  "})), "not the schema"),
        (reply(json.dumps(GOOD | {"user_query": 3})), "not the schema"),
        (reply(json.dumps(GOOD)[:-5], finish="length"), "cut off at max_tokens"),
        (reply("", finish="content_filter"), "content filter"),
        (reply(None, refusal="I cannot"), "refusal"),
        (reply("  "), "empty reply"),
        (reply_line("id1", {"choices": []}), "empty reply"),
        ({"custom_id": "id1", "response": None, "error": {"code": "x"}}, "request failed"),
        ({"custom_id": "id1", "response": {"status_code": 500, "body": {}}, "error": None}, "request failed"),
    ],
)
def test_unusable_replies_have_a_reason(line, reason):
    with pytest.raises(Rejected, match=f"^{reason}$"):
        example.example_of(line, RETRIEVAL)


def test_a_fenced_reply_is_read():
    fenced = reply("```json\n" + json.dumps(GOOD) + "\n```")
    assert example.example_of(fenced, RETRIEVAL).query == "q"


def run(settings: dict, *found: Example) -> tuple[list[str], dict]:
    drops = Drops()
    kept = [e.id for e in filters.filtered(found, Analyze(**settings), drops)]
    assert drops.kept + sum(drops.counts.values()) == len(found)
    return kept, dict(drops.counts)


def test_exact_duplicates_are_exact_and_the_looser_rule_has_its_own_switch():
    twins = make(1, "What is it?", "That."), make(2, "what is IT", "that"), make(3, "What is it?", "This.")
    again = make(4, "What is it?", "That.")
    assert run({}, *twins, again) == (["e1", "e2", "e3"], {"exact duplicate": 1})
    assert run({"exact_duplicates": False}, *twins, again)[0] == ["e1", "e2", "e3", "e4"]
    kept, counts = run({"loose_duplicates": True}, *twins, again)
    assert kept == ["e1", "e3"]
    assert counts == {"exact duplicate": 1, "duplicate but for case and punctuation": 1}


@pytest.mark.parametrize(("one", "other"), [("C++", "C#"), ("👍", "👎"), ("-5", "5"), ("a b", "a  b")])
def test_signs_make_texts_different(one, other):
    assert run({}, make(1, one, "p"), make(2, other, "p"))[0] == ["e1", "e2"]
    assert run({}, make(1, "q", one), make(2, "q", other))[0] == ["e1", "e2"]


def test_near_duplicates():
    pair = (
        make(1, LONG, "a"),
        make(2, LONG + " today", "b"),
        make(3, "Something else entirely is asked here", "c"),
    )
    assert run({"near_duplicates": True}, *pair) == (["e1", "e3"], {"near-duplicate": 1})
    assert run({}, *pair)[0] == ["e1", "e2", "e3"]


def test_copied_query():
    copied = make(
        1, "how long does the ferry take", "Many ask how long does the ferry take, and it takes long."
    )
    fair = make(2, "how long does the ferry take", "The crossing needs three hours.")
    assert run({"copied_query": True}, copied, fair) == (["e2"], {"query copied into positive": 1})


def test_wrong_language():
    german = "Die Fähre zu den nördlichen Inseln fährt morgens um sieben Uhr ab und braucht drei Stunden"
    wrong = make(1, "ferry", german, LONG)
    right = make(2, german, german, language="de")
    bitext = make(3, german, LONG, family="bitext", language="de", target="en")
    unknown = make(4, LONG, LONG + "!", language="br")  # a language the detector does not know is not judged
    assert run({"language_mismatch": True}, wrong, right, bitext, unknown) == (
        ["e2", "e3", "e4"], {"language mismatch": 1}
    )  # fmt: skip


def test_negative_equal_to_positive():
    pair = make(1, "q", "The answer.", "the answer"), make(2, "q", "The answer.", "another")
    assert run({"negative_equals_positive": True}, *pair) == (["e2"], {"negative equals positive": 1})


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), max_size=20))
def test_nothing_is_lost_uncounted(texts):
    run({}, *(make(i, q, p) for i, (q, p) in enumerate(texts)))


@pytest.mark.parametrize(
    ("query", "document", "share"),
    [
        ("a b c d", "x a b c y", 0.75),
        ("a b", "b a", 0.5),
        ("", "a", 0.0),
        ("日本語", "これは日本語です", 1.0),
    ],
)
def test_longest_copied_run(query, document, share):
    assert texts.longest_copied_run(query, document) == share


def test_files_round_trip_and_a_torn_line_is_named(tmp_path):
    found = [make(1, 'q\n"x"', "p"), make(2, "ü", "p", "n")]
    path = tmp_path / "examples.jsonl"
    assert example_files.write(path, found) == 2 and example_files.read(path) == found
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"examples\.jsonl, line 2"):
        example_files.read(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don't stop!", ["don", "t", "stop"]),
        ("मिलीबग कसा", ["मिलीबग", "कसा"]),
        ("日本 go", ["日", "本", "go"]),
        ("a_b 12", ["a", "b", "12"]),
    ],
)
def test_words_of_several_scripts(text, found):
    assert texts.words(text) == found


def test_refusals():
    kept, counts = run({"refusals": True}, make(1, "I'm sorry, but I cannot help", "p"), make(2, "q", "As an AI model, I", "n"),
                       make(3, "is it sorry", "I can"))  # fmt: skip
    assert kept == ["e3"] and counts == {"refusal phrase": 2}


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I’m really sorry, but I can't do that.", True), ("Sorry, I am unable to continue.", True),
        ("I apologize, but I cannot answer", True), ("I'm not able to assist with this request", True),
        ("I cannot fulfill your request.", True), ("I can't help you with that.", True),
        ("I cannot generate content that", True), ("As an AI language model", True),
        ("I can't log in to my account", False), ("I cannot create an invoice, the button is grey", False),
        ("I am unable to connect to the printer", False), ("I can't stop smiling after that concert.", False),
        ("I'm sorry to hear about your loss", False), ("Sorry, I didn't mean to hang up on you", False),
        ("I apologize for the late reply", False),
    ],
)  # fmt: skip
def test_people_who_cannot_do_something_refuse_nothing(text, refuses):
    assert filters.is_refusal(text) is refuses


def test_near_duplicate_documents():
    pair = (
        make(1, "one question", LONG),
        make(2, "another one", LONG + " now"),
        make(3, "a third", "short text"),
    )
    assert run({"near_duplicates": True}, *pair) == (["e1", "e3"], {"near-duplicate": 1})


@pytest.mark.parametrize(
    ("family", "asked", "texts", "fits"),
    [
        ("short-long", {"query_length": "less than 5 words", "num_words": 50}, ("a b c", "w " * 50), True),
        (
            "short-long",
            {"query_length": "less than 5 words", "num_words": 50},
            ("a b c d e f", "w " * 50),
            False,
        ),
        ("short-long", {"query_length": "at least 10 words", "num_words": 50}, ("w " * 12, "w " * 30), False),
        ("long-short", {"num_words": "less than 10"}, ("w " * 9, "label"), True),
        ("long-short", {"num_words": "at least 50"}, ("w " * 30, "label"), False),
        ("long-long", {"num_words": 100}, ("w " * 100, "w " * 60), False),
        ("long-long", {"num_words": 10}, ("日" * 20, "本" * 16), True),
        ("sts", {"unit": "phrase"}, ("w " * 90, "w"), True),
    ],
)
def test_lengths_against_what_was_asked(family, asked, texts, fits):
    item = Item("example", 1, family, placeholders=tuple(asked.items()))
    assert filters.length_in_range(make(1, *texts, family=family), item) == fits


def test_leakage_by_string_and_nearly():
    settings = Analyze(leakage=True)
    found = [
        make(1, "q", LONG.upper() + "!"), make(2, "q", LONG + " again"), make(3, LONG.split(" leaves")[0], "p"),
        make(4, "yes or no", "no"),
    ]  # fmt: skip
    drops = Drops()
    kept = list(filters.filtered(found, settings, drops, evaluation_texts=[LONG, "no", "yes or no"]))
    assert [e.id for e in kept] == ["e3", "e4"] and drops.counts == {"also in an evaluation set": 2}


def test_the_suites_texts_are_found_whole():
    texts = list(evaluation_texts.suite_texts())
    assert len(texts) > 5000 and not any(t.startswith("enc-") for t in texts)


def test_a_published_corpus_loads_with_datasets(tmp_path):
    import datasets

    found = [make(1, "q", "p", "n"), make(2, "ü <b>", "p", language="de")]
    folder = corpus_files.publish(found, analysis.statistics(found), tmp_path / "dataset")
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert [Example(**row) for row in loaded] == found
    assert "- de\n- en\n" in (folder / "README.md").read_text()


ROWS = {
    "open-synthetic": (
        "short_long.jsonl",
        {"instruction": "Find", "query": "q", "positive": "p", "negative": ""},
    ),
    "synembed": (
        "train.jsonl",
        {"task_type": "sl", "task_desc": "Find", "model": "m", "query": "q", "pos": "p", "neg": ""},
    ),
}


@pytest.mark.parametrize("format", list(ROWS))
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_other_peoples_corpora_become_examples(tmp_path, format, suffix):
    name, row = ROWS[format]
    row = {key.title(): value for key, value in row.items()}  # a table's names go by any spelling
    path = (tmp_path / name).with_suffix(suffix)
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row | {"extra": n}) + "\n" for n in range(3)))
    else:
        pd.DataFrame([row] * 3).to_parquet(path)
    found = list(corpus_files.read_corpus(str(tmp_path), format))
    assert len(found) == 3 == len({e.id for e in found})
    assert all(
        (e.family, e.instruction, e.query, e.positive, e.negative) == ("short-long", "Find", "q", "p", None)
        for e in found
    )
    assert len(list(corpus_files.read_corpus(str(path), format, limit=2))) == 2


@pytest.mark.parametrize(
    ("format", "name", "row", "said"),
    [
        (
            "open-synthetic",
            "short_long.jsonl",
            {"query": "q"},
            "short_long.jsonl, line 1: no instruction, positive, negative",
        ),
        (
            "open-synthetic",
            "other.jsonl",
            {},
            "other.jsonl: the file's name must begin with one of short_long",
        ),
        (
            "synembed",
            "x.jsonl",
            ROWS["synembed"][1] | {"task_type": "zz"},
            "x.jsonl, line 1: task_type 'zz' is none of",
        ),
    ],
)
def test_a_corpus_of_another_form_is_refused_by_file_and_row(tmp_path, format, name, row, said):
    (tmp_path / name).write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=re.escape(said)):
        list(corpus_files.read_corpus(str(tmp_path), format))


def test_files_of_one_corpus_have_names_of_their_own(tmp_path):
    row = json.dumps(dict.fromkeys(("instruction", "query", "positive", "negative"), "a"))
    for name in ("short_long.part1.jsonl", "short_long.part2.jsonl"):
        (tmp_path / name).write_text(row)
    found = [e.id for e in corpus_files.read_corpus(str(tmp_path), "open-synthetic")]
    assert found == ["short_long.part1-1", "short_long.part2-1"]
    (tmp_path / "short_long.part2.jsonl.gz").write_text(row)
    with pytest.raises(ReadError, match="have one name: are they the same texts twice"):
        list(corpus_files.read_corpus(str(tmp_path), "open-synthetic"))


def test_a_corpus_that_is_nowhere_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="the hub did not give 'nobody/nothing'"):
        list(corpus_files.read_corpus("hub:nobody/nothing", "synembed"))
    with pytest.raises(FileNotFoundError, match="holds no"):
        list(corpus_files.read_corpus(str(tmp_path), "synembed"))


def test_a_dataset_card_keeps_norwegian_and_says_who_wrote_the_texts(tmp_path):
    one = Example("a", "bitext", "i", "no", "en", "q", "p", None)
    recorded = corpus_files.origin(profile.load("laptop"), {"models": {"claude": {}}})
    paid = corpus_files.origin(profile.load("gpu"), {"models": {"gpt-4o-mini-2024": {}}})
    for name, origin, licence, said in (
        ("a", recorded, "apache-2.0", "written by claude"), ("b", paid, "other", "written by gpt-4o-mini-2024"),
        ("c", None, None, "is not recorded"),
    ):  # fmt: skip
        folder = corpus_files.publish([one], analysis.statistics([one]), tmp_path / name, origin)
        card = (folder / "README.md").read_text(encoding="utf-8")
        head = yaml.safe_load(card.split("---")[1])
        assert head["language"] == ["en", "no"] and head.get("license") == licence and said in card
