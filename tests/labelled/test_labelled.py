"""Labelled sets from files of the forms that the public ones have, and the mixtures made of them."""

import csv
import gzip
import json
import random
import shutil
import tracemalloc

import pytest
from synthembed import profile
from synthembed.corpus.example import Drops, Example
from synthembed.corpus.texts import normalised
from synthembed.ground import files
from synthembed.ground.data_files import opener
from synthembed.ground.data_files.opener import ReadError
from synthembed.labelled import mixture, public_sets, readers
from synthembed.labelled.installed_sets import INSTALLED
from synthembed.labelled.public_sets import PUBLIC
from synthembed.model import export
from synthembed.profile import reading
from synthembed.profile.settings import SetName

BY_NAME = {s.name: s for s in PUBLIC}
SYNTHETIC = [
    Example(f"s{n}", "short-long", "Find", "en", "", f"query {n}", f"document {n}", None) for n in range(5)
]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mixture._read_set.cache_clear()


def query(part, n):
    return f"{part} question number {n} about the {WORDS[n % len(WORDS)]}".strip()


def answer(part, n):
    return f"{part} Passage {n}: the {WORDS[n % len(WORDS)]} is described here at some length".strip()


def wrong(part, n):
    return f"{part} Another passage, on the {WORDS[(n + 1) % len(WORDS)]}, beside question {n}".strip()


WORDS = ["lighthouse", "ferry", "tide", "harbour", "island", "bridge", "rope", "sail", "captain", "storm"]


def put(path, rows):
    """Rows as the file's name says: .jsonl, .json (a list), .csv, .tsv or .parquet, gzipped or not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        import pandas as pd

        pd.DataFrame(rows).to_parquet(path)
        return
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8", newline="") as file:
        if kind == "jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        elif kind == "json":
            json.dump(rows, file, indent=1)
        elif isinstance(rows[0], dict):
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines("\t".join(map(str, row)) + "\n" for row in rows)


def passages(n, part, numbers):
    return {"query_id": str(n), "query": query(part, n), "negative_passages": [{"title": "", "text": wrong(part, i)} for i in numbers],
            "positive_passages": [{"docid": f"d{n}", "title": "Title", "text": answer(part, n)}]}  # fmt: skip


def collection(folder, entry, part, count):
    """Corpus, queries and judgements in the very file names of the set."""
    names = {
        role: folder / pattern.format(part=part).replace("*", "0") for role, pattern in entry.files.items()
    }
    texts = {f"p{n}": answer(part, n) for n in range(count)} | {f"w{n}": wrong(part, n) for n in range(count)}
    if entry.name in ("hotpotqa", "fever"):
        put(names["corpus"], [{"_id": d, "title": "Title", "text": t} for d, t in texts.items()])
        put(names["queries"], [{"_id": str(n), "text": query(part, n)} for n in range(count)])
        put(names["qrels"], [("query-id", "corpus-id", "score"), *((n, f"p{n}", 1) for n in range(count))])
    elif entry.name == "miracl":
        put(names["corpus"], [{"docid": d, "title": "Title", "text": t} for d, t in texts.items()])
        put(names["queries"], [(n, query(part, n)) for n in range(count)])
        judged = [
            (n, "Q0", f"{kind}{n}", grade) for n in range(count) for kind, grade in (("p", 1), ("w", 0))
        ]
        put(names["qrels"], judged)
    elif entry.name == "msmarco-document":
        put(names["corpus"], [(d, f"https://{d}.example", "Title", t) for d, t in texts.items()])
        put(names["queries"], [(n, query(part, n)) for n in range(count)])
        with gzip.open(names["qrels"], "wt") as file:
            file.writelines(f"{n} 0 p{n} 1\n" for n in range(count))
    else:  # t2ranking: grades 0 to 3, of which 2 and 3 are relevant
        put(names["corpus"], [("pid", "text"), *texts.items()])
        put(names["queries"], [("qid", "text"), *((n, query(part, n)) for n in range(count))])
        judged = [(n, 0, f"{kind}{n}", grade) for n in range(count) for kind, grade in (("p", 2), ("w", 1))]
        put(names["qrels"], [("qid", "-", "pid", "rel"), *judged])


def write(folder, entry, count):
    """The files of one set, ``count`` queries a language, all with a positive."""
    for part in entry.parts:
        if entry.form == "collection":
            collection(folder, entry, part, count)
            continue
        path = folder / entry.files["train"].format(part=part).replace("*", "00000-of-00001")
        numbers = range(count)
        if entry.form == "passages":
            put(path, [passages(n, part, [n]) for n in numbers])
        elif entry.form == "triplets":
            put(
                path,
                [
                    dict(zip(entry.columns, (query("", n), answer("", n), wrong("", n)), strict=True))
                    for n in numbers
                ],
            )
        elif entry.form == "duplicates":
            texts = [(query("", n), answer("", n), 1) for n in numbers] + [
                (query("", n), wrong("", n), 0) for n in numbers
            ]
            put(path, [dict(zip(entry.columns, row, strict=True)) for row in texts])
        else:
            put(path, [dict(zip(entry.columns, (query("", n), answer("", n)), strict=True)) for n in numbers])
    return folder


def read(setting="labelled", sets=None, **more):
    """A mixture of the sets named, all others left out."""
    known = {name: {"ratio": 0} for name in BY_NAME} | (sets or {})
    changes = {"data.setting": setting, "data.sets": known, "data.negatives.encoder": "bm25"}
    return mixture.mixture(profile.Profile(name="test").with_overrides(changes | more), SYNTHETIC)


@pytest.mark.parametrize("entry", PUBLIC, ids=lambda s: s.name)
def test_every_public_set_is_read_in_its_form(tmp_path, entry):
    """One example a query: instruction, language, a positive of that query, a hard negative."""
    count = 6
    write(tmp_path, entry, count)
    mixed = read(sets={entry.name: {"source": str(tmp_path), "ratio": 1}})
    assert len(mixed.examples) == count * len(entry.parts) == len({e.id for e in mixed.examples})
    by_query = {
        query(part, n): (part, n)
        for part in (entry.parts if len(entry.parts) > 1 else [""])
        for n in range(count)
    }
    for e in mixed.examples:
        part, n = by_query[e.query]
        assert (
            e.id.startswith(f"{entry.name}/")
            and e.instruction in entry.instructions
            and e.family == entry.family
        )
        assert e.language == entry.parts[part] and answer(part, n) in e.positive
        titled = entry.form == "passages" or (entry.form == "collection" and entry.name != "t2ranking")
        assert e.positive.startswith("Title ") == titled
        assert e.negative and normalised(e.negative) != normalised(e.positive)
    facts = mixed.about["sets"][entry.name]
    judged = entry.form in ("passages", "triplets") or entry.name in ("miracl", "t2ranking")
    assert facts["mined"] == (0 if judged else len(mixed.examples)) and facts["with_negative"] == len(
        mixed.examples
    )
    assert facts["revision"] and not facts["dropped"]


def test_a_set_beside_its_own_backup_is_not_read_twice(tmp_path):
    write(tmp_path / "data", BY_NAME["nli"], 6)
    shutil.copytree(tmp_path / "data", tmp_path / "data.old")
    with pytest.raises(
        ReadError, match=r"nli.*lies in 2 folders of .*\(data, data\.old\).*keep the one that is meant"
    ):
        read(sets={"nli": {"source": str(tmp_path), "ratio": 1}})


def test_a_ratio_takes_its_share_whatever_the_order(tmp_path):
    rows = [passages(n, "", [n]) for n in range(2000)]
    put(tmp_path / "a.jsonl", rows)
    random.Random(1).shuffle(rows)
    put(tmp_path / "b.jsonl.gz", rows)
    whole = read(sets={"nq": {"source": str(tmp_path / "a.jsonl")}}).examples
    parts = {}
    for file in ("a.jsonl", "b.jsonl.gz"):
        mixed = read(sets={"nq": {"source": str(tmp_path / file), "ratio": 0.1}})
        parts[file] = mixed.examples
        dropped = mixed.about["sets"]["nq"]["dropped"]
        assert dropped == {"not sampled": 2000 - len(mixed.examples)}
    assert parts["a.jsonl"] == parts["b.jsonl.gz"] and 150 < len(parts["a.jsonl"]) < 250
    assert set(parts["a.jsonl"]) < set(whole) and len(whole) == 2000
    other = read(
        sets={"nq": {"source": str(tmp_path / "a.jsonl"), "ratio": 0.1}}, **{"data.seed": 7}
    ).examples
    assert {e.id for e in other} != {e.id for e in parts["a.jsonl"]}
    few = read(sets={"nq": {"source": str(tmp_path / "b.jsonl.gz"), "limit": 30}})
    assert set(few.examples) < set(parts["a.jsonl"]) and len(few.examples) == 30
    assert few.about["sets"]["nq"]["dropped"] == {"over the limit": 1970}


def test_the_paper_ratios_are_the_defaults(tmp_path):
    expected = {"eli5": 0.1, "msmarco-passage": 0.5, "msmarco-document": 0.2, "quora": 0.1, "t2ranking": 0.5}
    assert {s.name: s.ratio for s in PUBLIC} == dict.fromkeys(BY_NAME, 1.0) | expected
    write(tmp_path, BY_NAME["quora"], 400)
    mixed = read(sets={"quora": {"source": str(tmp_path)}}, **{"data.negatives.encoder": None})
    assert 20 < len(mixed.examples) < 64 and mixed.about["sets"]["quora"]["ratio"] == 0.1


def test_the_expected_total_is_the_papers(capsys):
    total = public_sets.SYNTHETIC + sum(s.expected for s in PUBLIC)
    assert abs(total / public_sets.PAPER_TOTAL - 1) < 0.05
    assert public_sets.table() in (files.ROOT / "docs/labelled-data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("setting", "sources"),
    [
        ("synthetic", ["synthetic"]),
        ("synthetic+msmarco", ["synthetic", "msmarco-passage"]),
        ("msmarco", ["msmarco-passage"]),
        ("labelled", ["msmarco-passage", "nq"]),
        ("full", ["synthetic", "msmarco-passage", "nq"]),
    ],
)
def test_a_setting_is_a_mixture_of_sources(tmp_path, setting, sources):
    for name in ("nq", "msmarco-passage"):
        write(tmp_path / name, BY_NAME[name], 4)
    sets = {name: {"source": str(tmp_path / name), "ratio": 1} for name in ("nq", "msmarco-passage")}
    mixed = read(setting, sets)
    assert list(mixed.about["sets"]) == sources and mixed.about["examples"] == len(mixed.examples)
    counted = {name: facts["examples"] for name, facts in mixed.about["sets"].items()}
    assert counted == {n: 5 if n == "synthetic" else 4 for n in sources}
    assert sum(counted.values()) == len(mixed.examples)
    mixed.write(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "data.json").read_text()) == mixed.about


def test_what_is_left_out_is_counted(tmp_path):
    rows = [passages(n, "", [n]) for n in range(4)]
    rows[1]["positive_passages"] = []
    rows[2]["query"] = " "
    rows.append(rows[0] | {"positive_passages": rows[3]["positive_passages"]})
    put(tmp_path / "train.jsonl", rows)
    mixed = read(sets={"nq": {"source": str(tmp_path / "train.jsonl")}})
    assert [e.id for e in sorted(mixed.examples, key=lambda e: e.id)] == ["nq/0", "nq/3"]
    assert mixed.about["sets"]["nq"]["dropped"] == {"without query or positive": 2, "query seen before": 1}


def test_a_positive_outside_the_corpus_is_left_out(tmp_path):
    write(tmp_path, BY_NAME["fever"], 3)
    put(tmp_path / "corpus.jsonl.gz", [{"_id": f"p{n}", "title": "", "text": answer("", n)} for n in (0, 2)])
    mixed = read(sets={"fever": {"source": str(tmp_path)}})
    assert {e.id for e in mixed.examples} == {"fever/0", "fever/2"}
    assert mixed.about["sets"]["fever"]["dropped"] == {"positive is not in the corpus": 1}


def test_languages_keep_their_queries_apart(tmp_path):
    entry = BY_NAME["miracl"]
    write(tmp_path, entry, 2)
    found = read(sets={"miracl": {"source": str(tmp_path)}}).examples
    assert {e.id for e in found} == {f"miracl/{code}-{n}" for code in entry.parts for n in range(2)}
    few = read(sets={"miracl": {"source": str(tmp_path), "limit": 5}}).examples
    assert len(few) == 5 and set(few) < set(found)


def test_a_duplicate_of_any_record_is_no_hard_negative(tmp_path):
    """b and c are duplicates of a, d of e: a's negative can only be d or e."""
    texts = {
        name: f"how do I repair the {thing} of my boat" for name, thing in zip("abcde", WORDS, strict=False)
    }
    pairs = [("a", "b", 1), ("c", "a", 1), ("d", "e", 1), ("b", "d", 0)]
    put(
        tmp_path / "q.csv",
        [{"sentence1": texts[x], "sentence2": texts[y], "label": label} for x, y, label in pairs],
    )
    found = read(sets={"quora": {"source": str(tmp_path / "q.csv"), "ratio": 1}}).examples
    negatives = {e.query: e.negative for e in found}
    assert negatives[texts["a"]] in (texts["d"], texts["e"]) and len(found) == 3
    assert negatives[texts["d"]] in (texts["a"], texts["b"], texts["c"])


# --- forms ---------------------------------------------------------------------------------------


def dpr(n):
    return {"question": query("", n), "positive_ctxs": [{"title": "Title", "text": answer("", n)}],
            "hard_negative_ctxs": [{"title": "Title", "text": wrong("", n)}], "negative_ctxs": []}  # fmt: skip


@pytest.mark.parametrize("name", ["nq.json", "nq.json.gz", "nq.jsonl", "nq.jsonl.gz", "nq.parquet"])
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_dpr_files_are_streamed(tmp_path, monkeypatch, name, block):
    """Lists of JSON too large to be held, and lines; a block of 7 characters cuts everything."""
    monkeypatch.setattr(opener, "BLOCK", block)
    put(tmp_path / name, [dpr(n) for n in range(5)])
    found = list(readers.records("passages", [tmp_path / name], (), "en"))
    assert [r.query for r in found] == [query("", n) for n in range(5)]
    assert found[3].positives == (f"Title {answer('', 3)}",) and found[3].negatives == (
        f"Title {wrong('', 3)}",
    )


def test_a_long_list_is_never_held(tmp_path, monkeypatch):
    """8 MB of DPR's JSON in blocks of 64 kB: what is in memory at a time is a few blocks."""
    monkeypatch.setattr(opener, "BLOCK", 1 << 16)
    put(tmp_path / "nq.json", [dpr(n) | {"answers": ["x" * 2000]} for n in range(4000)])
    assert (tmp_path / "nq.json").stat().st_size > 8e6
    tracemalloc.start()
    count = sum(1 for _ in readers.records("passages", [tmp_path / "nq.json"], (), "en"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4000 and peak < 1e6


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.jsonl", '{"query": "q"\n', r"t.jsonl, line 1: not JSON"),
        ("t.jsonl", json.dumps(passages(1, "", [1])) + "\n\n" + '{"query": "q"}\n', r"t.jsonl, line 3: no field 'positive_passages', there is 'query'"),
        ("t.json", f"[{json.dumps(dpr(1))}, {{", r"t.json, item 2: not JSON, or cut off"),
        ("t.jsonl", '{"query": 3, "positive_passages": [], "negative_passages": []}', r"line 1: field 'query' is int, not text"),
        ("t.jsonl", '{"query": "q", "positive_passages": ["p"], "negative_passages": []}', r"line 1: positive_passages is not a list of passages"),
        ("t.txt", "q p", r"t.txt: .txt is no table; it is to be .jsonl"),
    ],
)  # fmt: skip
def test_a_bad_file_names_file_line_and_field(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ReadError, match=message):
        read(sets={"nq": {"source": str(tmp_path / name)}})


def refuse_with_line(folder, role, line, message):
    """A collection with one more ``line`` in its file of that ``role`` is refused."""
    entry = BY_NAME["hotpotqa"]
    write(folder, entry, 3)
    path = folder / entry.files[role]
    with (gzip.open if path.suffix == ".gz" else open)(path, "at") as file:
        file.write(line)
    with pytest.raises(ReadError, match=message):
        read(sets={"hotpotqa": {"source": str(folder)}})


@pytest.mark.parametrize(
    ("role", "line", "message"),
    [
        ("qrels", "3\tp3\thigh\n", r"query 3, document p3: grade 'high' is no whole number"),
        ("qrels", "3 p3 0 1 7\n", r"train.tsv, line 5: 5 columns, 2 or 3 or 4 were expected"),
        ("corpus", '{"_id": "p9", "body": "text"}\n', r"corpus.jsonl.gz, line 7: no field 'text', there is '_id', 'body'"),
        ("queries", '{"text": "q"}\n', r"queries.jsonl.gz, line 4: none of the fields query_id, _id"),
    ],
)  # fmt: skip
def test_a_bad_line_of_a_collection_is_named(tmp_path, role, line, message):
    refuse_with_line(tmp_path, role, line, message)


def test_languages_in_folders_of_their_names_are_told_apart(tmp_path):
    entry = BY_NAME["mrtydi"]
    for number, (part, code) in enumerate(entry.parts.items()):
        put(
            tmp_path / (part.title(), code, f"x-{code}")[number % 3] / "TRAIN.jsonl", [passages(1, part, [1])]
        )
    found = read(sets={"mrtydi": {"source": str(tmp_path), "ratio": 1}}).examples
    assert {e.language: e.query for e in found} == {
        code: query(part, 1) for part, code in entry.parts.items()
    }


@pytest.mark.parametrize("place", ["train.jsonl.gz", "arabic/train.jsonl.gz", "arabic-en/train.jsonl"])
def test_several_languages_are_never_read_as_one(tmp_path, place):
    put(tmp_path / place, [passages(n, "arabic", [n]) for n in range(3)])
    with pytest.raises(
        ReadError, match=r"data\.sets\.mrtydi\.source: no path .* several languages are never read as one"
    ):
        read(sets={"mrtydi": {"source": str(tmp_path), "ratio": 1}})


def test_a_corpus_without_its_language_is_refused(tmp_path):
    """The ids of MIRACL's corpora are numbers that every language has."""
    entry = BY_NAME["miracl"]
    folder = write(tmp_path, entry, 3)
    for part in entry.parts:
        (file,) = folder.glob(f"miracl-corpus-v1.0-{part}/docs-*")
        file.rename(folder / f"docs-{part}.jsonl.gz")
    found = read(sets={"miracl": {"source": str(tmp_path), "ratio": 1}}).examples
    assert (
        all(answer(e.language, 0)[:2] in e.positive for e in found) and len({e.language for e in found}) == 16
    )
    (folder / "docs-ar.jsonl.gz").rename(folder / "docs-0.jsonl.gz")
    with pytest.raises(ReadError, match=r"names 'ar'"):
        read(sets={"miracl": {"source": str(tmp_path), "ratio": 1, "limit": 9}})


@pytest.mark.parametrize(
    ("role", "line", "message"),
    [
        ("qrels", "1\tp1\t0\n", r"train\.tsv, line 5, query 1, document p1: grade 0 here and 1 before"),
        ("qrels", "1\tp1\t0.5\n", r"train\.tsv, line 5.*grade '0.5' is no whole number"),
        ("qrels", "1\t\t1\n", r"train\.tsv, line 5: '' is no id"),
        ("corpus", '{"_id": "p1", "title": "", "text": "other"}\n', r"the id p1 has two texts in the corpus"),
        ("queries", '{"_id": "1", "text": "other"}\n', r"the id 1 has another query here than before"),
    ],
)  # fmt: skip
def test_rows_that_contradict_one_another_are_refused(tmp_path, role, line, message):
    refuse_with_line(tmp_path, role, line, message)


def test_ids_of_pandas_meet_those_of_others(tmp_path):
    put(
        tmp_path / "corpus.jsonl",
        [{"_id": 7.0, "title": float("nan"), "text": "bees"}, {"_id": "007", "text": "sun"}],
    )
    put(tmp_path / "queries.tsv", [("1.0", "what flies")])
    put(tmp_path / "qrels.tsv", [("1", "7", "1"), ("1", "007", "0.0")])
    found = readers.Collection(
        [tmp_path / "corpus.jsonl"], [tmp_path / "queries.tsv"], [tmp_path / "qrels.tsv"]
    )
    assert list(found.documents()) == [("7", "bees"), ("007", "sun")]
    assert list(found.queries()) == [("1", "what flies")] and found.judgements() == {"1": {"7": 1, "007": 0}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.tsv", "Query ID\tCorpus-ID \tScore\n1\u200b\t7\xa0\t1\n"),
        ("q.tsv", "Query_id\tcorpus_id\n1\t\ufeff7\n"),
        ("q.txt", "1\u200b 0 7\u200b 1\n"),
        ("q.csv", "Query_id;corpus id;SCORE\n1;7\u2060;1\n"),
        ("q.jsonl", '{"Query-ID": 1, "corpus_id ": "7\\u200b", "Score": 1}\n'),
    ],
)
def test_names_and_ids_meet_whatever_their_spelling_and_unseen_signs(tmp_path, name, text):
    put(tmp_path / "corpus.jsonl", [{"ID": "7", "Title": "B", "Text": "bees"}])
    put(tmp_path / "queries.csv", [{"Query-ID": "1\u200b", "Text ": "what flies"}])
    (tmp_path / name).write_text(text)
    found = readers.Collection([tmp_path / "corpus.jsonl"], [tmp_path / "queries.csv"], [tmp_path / name])
    assert list(found.documents()) == [("7", "B bees")] and list(found.queries()) == [("1", "what flies")]
    assert found.judgements() == {"1": {"7": 1}}


def test_a_blank_that_does_not_break_parts_no_columns(tmp_path):
    (tmp_path / "q.txt").write_text(
        "1 d\xa05\n2 d\xa06\n"
    )  # by whitespace of any kind, 5 and 6 would be grades
    assert readers.Collection([], [], [tmp_path / "q.txt"]).judgements() == {"1": {"d 5": 1}, "2": {"d 6": 1}}


def test_passages_under_names_of_another_spelling_are_read(tmp_path):
    names = {"query_id": "Query-ID", "query": "Query", "positive_passages": "Positive_Passages"}
    put(tmp_path / "nq.jsonl", [{names.get(k, k): v for k, v in passages(3, "", [3]).items()}])
    (found,) = readers.records("passages", [tmp_path / "nq.jsonl"], (), "en")
    assert (found.id, found.query, found.positives) == ("3", query("", 3), (f"Title {answer('', 3)}",))


@pytest.mark.parametrize(
    ("text", "said"),
    [('7\t"bees ""fly"" home"\n', "line 1: cells in quotes"), ('"7"\t"bees"\n', "line 1: cells in quotes"),
     ("text\tid\nbees\t7\n", "first column is to be the id"), ("7\tbees\n8\n", "line 2: 1 columns")],
)  # fmt: skip
def test_a_quoted_table_is_no_plain_one(tmp_path, text, said):
    (tmp_path / "corpus.tsv").write_text(text)
    with pytest.raises(ReadError, match=rf"corpus\.tsv, .*{said}"):
        list(readers.Collection([tmp_path / "corpus.tsv"], [], []).documents())
    (tmp_path / "corpus.tsv").write_text('doc_id\ttext\n7\t"bees" fly "home"\n8\t"\n')
    assert list(readers.Collection([tmp_path / "corpus.tsv"], [], []).documents()) == [
        ("7", '"bees" fly "home"'),
        ("8", '"'),
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("q.jsonl", '{"query-id": "1", "corpus-id": "7", "relevance": 0}\n', "line 1: no field 'score' among .*'relevance'"),
        ("q.csv", "query-id,corpus-id,label\n1,7,0\n", "line 2: no field 'score' among .*'label'"),
        ("q.tsv", "corpus-id\tquery-id\tscore\n7\t1\t1\n", "line 1: the first column is to be the query's id"),
        ("q.tsv", "query-id\tscore\tcorpus-id\n1\t1\t7\n", "line 1: the columns are to be query, document, grade"),
        ("q.tsv", "query-id\tcorpus-id\tscore\trank\n1\t7\t1\t3\n", "line 1: the columns are to be .* not query-id, corpus-id, score, rank"),
        ("q.tsv", "# judged by hand\n1\t7\t1\n", "line 1: begins with '#'"),
        ("q.txt", "1 0 7 1\n2 0 7\n", "line 2: 3 columns, the lines before have 4"),
        ("q.txt", "1 0 7\n1 0 8\n", "line 1: '0' is the document of every line: is it TREC's iteration"),
        ("q.txt", "1 Q0 7\n", "line 1: 'Q0' is the document of every line"),
        ("q.tsv", "query-id\tcorpus-id\tscore\n1\t7\n", "line 2: 2 columns, the lines before have 3"),
        ("q.tsv", "qid\tgrade\n1\t1\n", "line 1: the columns are to be query, document, grade"),
        ("q.tsv", "\nquery-id\tscore\tcorpus-id\n1\t1\t7\n", "line 2: the columns are to be query, document, grade"),
        ("q.tsv", "1\t7\t1_0\n", "line 1, query 1, document 7: grade '1_0' is no whole number: write one"),
        ("q.tsv", "1\t7\t1e30\n", "line 1, .*grade '1e30' is no whole number: write one"),
        ("q.tsv", f"1\t7\t{'9' * 5000}\n", "line 1, .*is no whole number: write one"),
        ("q.jsonl", '{"query-id": 1, "corpus-id": 7, "score": 0}\n{"query-id": 1, "corpus-id": 8}\n', "line 2: no field 'score', unlike"),
        ("q.jsonl", '{"query-id": 1, "corpus-id": 7}\n{"query-id": 1, "corpus-id": 8, "score": 0}\n', "line 2: a field 'score', unlike"),
        *[("q.tsv", f"1\t7\t{said}\n", f"line 1, query 1, document 7: grade '{said}' is no whole number: write one")
          for said in ("", "relevant", "nan", "inf", "1e400")],
    ],
)  # fmt: skip
def test_judgements_are_not_guessed(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(ReadError, match=said):
        readers.Collection([], [], [tmp_path / name]).judgements()


@pytest.mark.parametrize(
    ("text", "said"),
    [("1\tbees\n2\tthe\tsun\n", "line 2: 3 columns, the lines before have 2"),
     ("id\ttext\ttitle\n1\tbees\tB\n", "line 1: the last column is to be the text"),
     ("id\ttitle\ttext\turl\n1\tB\tbees\tx\n", "line 1: the last column is to be the text, not 'url'"),
     ("query\tid\nbees\t1\n", "line 1: the first column is to be the id, not 'query'"),
     ("id\ttext\n1\tbees\nid\ttext\n", "line 3: the line of names once more")],
)  # fmt: skip
def test_columns_of_a_corpus_are_not_guessed(tmp_path, text, said):
    (tmp_path / "corpus.tsv").write_text(text)
    with pytest.raises(ReadError, match=said):
        list(readers.Collection([tmp_path / "corpus.tsv"], [], []).documents())


def test_a_file_without_grades_has_positives_alone_and_blank_lines_are_passed_over(tmp_path):
    (tmp_path / "q.tsv").write_text("\nquery-id\tcorpus-id\n1\t7\n\n2\t0\n")
    assert readers.Collection([], [], [tmp_path / "q.tsv"]).judgements() == {"1": {"7": 1}, "2": {"0": 1}}
    (tmp_path / "q.txt").write_text("1 0 1\n2 0 1\n2 5 1\n")  # of a corpus whose ids begin with 0
    assert readers.Collection([], [], [tmp_path / "q.txt"]).judgements()["2"] == {"0": 1, "5": 1}


def test_a_label_that_is_neither_yes_nor_no_is_refused(tmp_path):
    put(tmp_path / "q.csv", [{"sentence1": "a", "sentence2": "b", "label": "maybe"}])
    with pytest.raises(ReadError, match=r"q\.csv, line 2: field 'label' is 'maybe', and neither 1 nor 0"):
        read(sets={"quora": {"source": str(tmp_path / "q.csv"), "ratio": 1}})


def test_sources_that_are_not_there_name_key_and_remedy(tmp_path):
    cases = {
        "nq": ({"source": "hub:nobody/nothing"}, r"data.sets.nq.source: the hub did not give 'nobody/nothing'.*leave the set out with data.sets.nq.ratio=0"),
        "fever": ({"source": str(tmp_path)}, r"data.sets.fever.source: no file corpus.jsonl.gz"),
        "msmarco-document": ({}, r"no plain files of MS-MARCO document; put msmarco-docs.tsv.gz.*https://microsoft"),
        "mrtydi": ({"source": __file__}, r"is one file; a folder with"),
    }  # fmt: skip
    for name, (source, message) in cases.items():
        with pytest.raises(ReadError, match=message):
            read(sets={name: source | {"ratio": 1}})


def test_the_doctor_asks_for_what_the_hub_does_not_have(tmp_path):
    paper = profile.load("paper")
    assert len(mixture.missing(paper.data)) == 1 and "msmarco-docs.tsv.gz" in mixture.missing(paper.data)[0]
    here = paper.with_overrides({"data.sets": {"msmarco-document": {"source": str(tmp_path)}}})
    left_out = paper.with_overrides({"data.sets": {"msmarco-document": {"ratio": 0}}})
    assert mixture.missing(here.data) == mixture.missing(left_out.data) == []
    assert mixture.missing(profile.load("laptop", ["data.setting=full"]).data) == []


def test_names_in_the_profile_are_those_of_the_tables():
    assert set(SetName.__args__) == {s.name for s in (*PUBLIC, *INSTALLED)}
    with pytest.raises(reading.ProfileError, match=r"data\.sets"):
        read(sets={"hotpot": {"ratio": 1}})


def test_a_set_comes_from_the_hub_with_its_revision(tmp_path):
    from fake_hub import COMMIT, Hub, elsewhere

    write(tmp_path / "files", BY_NAME["nli"], 4)
    data = (tmp_path / "files" / "nli_for_simcse.csv").read_bytes()
    hub = Hub({"princeton-nlp/datasets-for-simcse": {"nli_for_simcse.csv": data, "wiki1m.txt": b"no"}})
    code = (
        "import json; from synthembed import profile; from synthembed.labelled import mixture\n"
        "sets = {n: {'ratio': 0} for n in profile.settings.SetName.__args__ if n != 'nli'}\n"
        "p = profile.Profile(name='t').with_overrides({'data.setting': 'labelled', 'data.sets': sets})\n"
        "mixed = mixture.mixture(p, [])\n"
        "print(json.dumps([mixed.about['sets']['nli'], [e.query for e in mixed.examples]]))"
    )
    facts, queries = json.loads(elsewhere(code, hub, tmp_path / "home").splitlines()[-1])
    assert sorted(queries) == sorted(query("", n) for n in range(4))
    assert facts["revision"] == f"princeton-nlp/datasets-for-simcse@{COMMIT}"


# --- sets of the installation --------------------------------------------------------------------


def test_every_setting_exists_without_a_hub():
    """The stand-ins: real texts of this installation, the same in each call, each with a negative."""
    p = profile.load("laptop", ["data.setting=labelled"])
    mixed = mixture.mixture(p, [])
    counts = {name: facts["examples"] for name, facts in mixed.about["sets"].items()}
    assert list(counts) == [s.name for s in INSTALLED]
    assert (
        counts["docstrings"] > 500
        and all(count > 50 for count in counts.values())
        and len(mixed.examples) > 1200
    )
    assert sum(e.negative is not None for e in mixed.examples) > 0.98 * len(mixed.examples)
    assert all(
        e.query and e.positive and normalised(e.positive) != normalised(e.negative or "")
        for e in mixed.examples
    )
    for entry in INSTALLED[1:]:
        assert list(entry.read(1, Drops())) == list(entry.read(1, Drops()))
    search = mixture.mixture(profile.load("laptop", ["data.setting=synthetic+msmarco"]), SYNTHETIC)
    assert search.examples == SYNTHETIC + mixed.examples[: counts["docstrings"]]


def test_an_installed_set_takes_no_source():
    p = profile.load("laptop", ["data.setting=labelled", "data.sets={docstrings: {source: ./x}}"])
    with pytest.raises(ReadError, match=r"data.sets.docstrings: it is read from the installation"):
        mixture.mixture(p, [])


def test_what_was_trained_on_is_told_to_mteb_and_in_the_card():
    data = profile.Profile(name="t").with_overrides({"data.setting": "synthetic+msmarco"})
    assert mixture.mteb_tasks(data.data) == ["MSMARCO"]
    full = mixture.mteb_tasks(data.with_overrides({"data.setting": "full"}).data)
    assert {"NQ", "FEVER", "T2Retrieval"} < set(full) and full == sorted(set(full))
    for p in (profile.Profile(name="t"), profile.load("laptop", ["data.setting=full"])):
        assert mixture.mteb_tasks(p.data) == []
    about = {"examples": 30, "sets": {"synthetic": {"examples": 20}, "msmarco-passage": {"examples": 10}}}
    card = export.model_card(data, about, 5)
    assert "30 examples, data setting `synthetic+msmarco`: synthetic 20, msmarco-passage 10." in card
    assert "No labelled data set was used" not in card
    alone = export.model_card(data, {"examples": 20, "sets": {"synthetic": {"examples": 20}}}, 5)
    assert "No labelled data set was used" in alone


def test_shuffled_pairs_keep_every_text_and_part_what_belongs_together():
    families = ["sts", "bitext", "sts", "short-long", "sts", "bitext", "short-long"]
    examples = [
        Example(f"e{n}", family, "task", "en", "en", f"query {n}", f"positive {n}", f"negative {n}")
        for n, family in enumerate(families)
    ]
    found = mixture.shuffled(examples, 3)
    assert [(e.id, e.query, e.family) for e in found] == [(e.id, e.query, e.family) for e in examples]
    for family in set(families):
        texts = [{e.positive for e in some if e.family == family} for some in (examples, found)]
        assert texts[0] == texts[1]
    assert all(
        e.positive != f.positive and e.positive[9:] != f.negative[9:]
        for e, f in zip(examples, found, strict=True)
    )
    assert all(
        f.positive[9:] == f.negative[9:] for f in found
    )  # a document's own hard negative stays beside it
    assert found == mixture.shuffled(examples[:], 3) != mixture.shuffled(examples, 4)
