"""Files that others wrote: read as they are, or refused by file, place and remedy; never half-read."""

import csv
import gzip
import json
import math

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthembed.ground.data_files import opener
from synthembed.ground.data_files.cell_values import identifier, text_of
from synthembed.ground.data_files.opener import ReadError, lines
from synthembed.ground.data_files.table_rows import rows

SLOW_FILES = settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
ANY = st.text(st.characters(exclude_categories=["Cs"]))
HALVES = st.text(st.characters())  # surrogates too


def values(path, name="text"):
    return [text_of(row, name, place) for place, row in rows(path, (name,))]


def equal_or_refused(path, texts):
    try:
        found = values(path)
    except ReadError as error:
        assert str(error).startswith(path.name)
    else:
        assert found == texts


# --- what writers write --------------------------------------------------------------------------


@SLOW_FILES
@given(
    st.lists(HALVES, max_size=5),
    st.sampled_from(["jsonl", "json", "ndjson"]),
    st.booleans(),
    st.sampled_from([5, 1 << 20]),
)
def test_json_comes_back_equal(tmp_path, texts, kind, escaped, block):
    path = tmp_path / f"a.{kind}"
    found = [{"text": text, "n": 1} for text in texts]
    dumped = [json.dumps(row, ensure_ascii=escaped) for row in found]
    written = "[" + ",\n".join(dumped) + "]" if kind == "json" else "".join(d + "\n" for d in dumped)
    path.write_bytes(written.encode("utf-8", "surrogatepass"))
    before, opener.BLOCK = opener.BLOCK, block
    try:
        equal_or_refused(path, texts)
        if texts and all(text.isascii() for text in texts):
            assert values(path) == texts
    finally:
        opener.BLOCK = before


@SLOW_FILES
@given(
    st.lists(ANY, max_size=5),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.booleans(),
)
def test_csv_comes_back_equal(tmp_path, texts, separator, end, quoting, last):
    path = tmp_path / "a.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
        writer.writerows([("n", "text") if last else ("text", "n")])
        writer.writerows((n, text) if last else (text, n) for n, text in enumerate(texts))
    equal_or_refused(path, texts)
    if all(text.isprintable() for text in texts):
        assert values(path) == texts


@SLOW_FILES
@given(
    st.lists(ANY, min_size=1, max_size=5),
    st.sampled_from(["a.csv", "a.tsv", "a.parquet", "a.jsonl", "a.jsonl.gz"]),
)
def test_what_pandas_writes_comes_back_equal(tmp_path, texts, name):
    path, frame = tmp_path / name, pd.DataFrame({"text": texts, "id": range(len(texts))})
    if name == "a.parquet":
        frame.to_parquet(path)
    elif "json" in name:
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        frame.to_csv(path, sep="," if name == "a.csv" else "\t")
    equal_or_refused(path, texts)


@SLOW_FILES
@given(st.lists(ANY.filter(lambda t: "\n" not in t), min_size=1, max_size=5))
def test_line_n_is_text_n(tmp_path, texts):
    path = tmp_path / "a.txt"
    path.write_bytes("".join(text + "\n" for text in texts).encode())
    try:
        found = [text for _, text in lines(path)]
    except ReadError:
        assert "\0" in "".join(texts) or "\ufeff" in "".join(texts) or "\x1b$" in "".join(texts)
    else:
        assert found == [text.removesuffix("\r") for text in texts] or texts[0].startswith("\ufeff")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz"])
@pytest.mark.parametrize("texts", [["one"], ["one", "two\n}\n{"]])
def test_objects_over_several_lines_are_rows(tmp_path, name, texts):
    written = "\n".join(json.dumps({"text": text, "tags": []}, indent=2) for text in texts).encode()
    (tmp_path / name).write_bytes(gzip.compress(written) if name.endswith(".gz") else written)
    assert values(tmp_path / name) == texts


# --- what is not whole -----------------------------------------------------------------------------

ROWS = [{"id": str(n), "text": f"text {n} of the bees, in which é stands"} for n in range(40)]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
CSV = ("id,text\n" + "".join(f'{row["id"]},"{row["text"]}"\n' for row in ROWS)).encode()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"text,n\na,1\n\xef\xbb\xbfb,2\n", r"a\.csv, line 3: a second byte order mark"),
        ("a.jsonl.gz", gzip.compress(gzip.compress(JSONL)), r"a\.jsonl\.gz is gzipped twice"),
        ("a.jsonl.gz", b"\x04\x22\x4d\x18....", r"a\.jsonl\.gz is compressed with lz4"),
        ("a.csv", b"7z\xbc\xaf\x27\x1c....", r"a\.csv is a 7z archive"),
        ("a.jsonl", b"\xff\xff\xff\xff....", r"a\.jsonl is a stream of Arrow"),
        ("a.jsonl", JSONL[:-20], r"a\.jsonl, line 40: not JSON, or cut off"),
        ("a.csv", CSV[:-20], r"a\.csv, line 41: .*quote"),
        ("a.csv", CSV[: CSV.rindex(b",\"")], r"a\.csv, line 41: 1 cells, 2 names"),
        ("a.csv", b'text,n\n"open,1\nb,2\n', r"a\.csv, line 2: .*quote"),
        ("a.csv", b'text,n\na "b" c,1\n"a "b" c",2\n', r"a\.csv, line 3: .*quote"),
        ("a.csv", b"text,n\none, two,1\n", r"a\.csv, line 2: 3 cells, 2 names .*not quoted"),
        ("a.csv", b"text,text\na,b\n", r"a\.csv, line 1: the name 'text' is there twice"),
        ("a.csv", b"7,bees\n8,sun\n", r"a\.csv, line 1: no field 'text', there is '7', 'bees'"),
        ("a.jsonl", b'{"text": "a", "text": "b"}\n', r"a\.jsonl, line 1: the name 'text' is there twice"),
        ("a.jsonl.gz", gzip.compress(JSONL)[:-9], r"a\.jsonl\.gz is cut off or damaged"),
        ("a.jsonl", gzip.compress(JSONL)[:-4] + b"1234", r"a\.jsonl is cut off or damaged"),
        ("a.jsonl", gzip.compress(JSONL) + b"rest", r"a\.jsonl is cut off or damaged"),
        ("a.json", b'[{"text": "a"}, {"text": "b"}', r"a\.json, item 2: not JSON, or cut off"),
        ("a.json", b'{\n"text": "a"\n', r"a\.json, line 1: not JSON, or cut off"),
        ("a.json", b'{\n"text": "a"\n}\n{\n"text"', r"a\.json, item 2: not JSON, or cut off"),
        ("a.jsonl", b'{"text": "a"},\n{"text": "b"},\n', r"a\.jsonl, line 1: not JSON, or cut off"),
        ("a.json", b'[{"text": "a"} {"text": "b"}]', r"a\.json, item 2: .* where ',' should be"),
        ("a.json", b'[{"text": "a"},, {"text": "b"}]', r"a\.json, item 2: not JSON"),
        ("a.json", b'[{"text": "a"}]\n[{"text": "b"}]', r"a\.json: .*behind the end of the list"),
        ("a.jsonl", b'{"text": "a"}\n\0\0\0\0\n', r"a\.jsonl, line 2, byte 14: .* is in no text"),
        ("a.jsonl", b'{"text": "sun \\ud83d"}\n', r"a\.jsonl, line 1: '\\ud83d' is half a character"),
        ("a.jsonl", b'{"text": "a", "n": ' + b"9" * 5000 + b"}\n", r"a\.jsonl, line 1: .*digits"),
        ("a.json", b'[{"text": "a", "n": ' + b"9" * 5000 + b"}]", r"a\.json, item 1: .*digits"),
        ("a.csv", b"text\na\n\nb\n", r"a\.csv, line 3: a blank line in a table of one column"),
        ("a.csv", b"text,n\na,1\ntext,n\nb,2\n", r"a\.csv, line 3: the line of names once more"),
        ("a.tsv", b'text\tn\n"bees" fly\t1\n', r"a\.tsv, line 2: .*quote"),
        ("a.csv", b'n,text\n\n1,a\n2, "bees"\n', r"a\.csv, line 4: a blank before a quote"),
        ("a.csv", b"n,text\n1,a\n2,\\N\n", r"a\.csv, line 3: field 'text' is missing"),
        ("a.csv", b"text,n\ra,1\rb,2\r", r"a\.csv, line 1: lines seem to end in \\r alone"),
        ("a.csv", b"{\\rtf1 text,n}", r"a\.csv is RTF"),
        ("a.tsv", b'text\tn\n"bees\t1\nsun"\t2\nmill\t3\n', r"a\.tsv, line 2: a quote opens .* 1 lines on"),
        ("a.jsonl", b"", r"a\.jsonl is empty"),
        ("a.csv", b"\xef\xbb\xbf", r"a\.csv is empty"),
        ("a.json", json.dumps(dict.fromkeys(map(str, range(99)), "a")).encode(), r"there is '0', .* '29', \.\.\.; is it"),
        ("a.jsonl", b'{"text": null}\n', r"a\.jsonl, line 1: field 'text' is missing"),
        ("a.jsonl", b'{"text": NaN}\n', r"a\.jsonl, line 1: field 'text' is missing"),
        ("a.jsonl", b'{"text": ["a"]}\n', r"a\.jsonl, line 1: field 'text' is list, not text"),
        ("a.jsonl", b'"text"\n', r"a\.jsonl, line 1: no field 'text', there is str"),
        ("a.parquet", b"PAR1 and no more", r"a\.parquet, row 1: cut off or damaged"),
        ("a.parquet", JSONL, r"a\.parquet is not Parquet"),
        ("a.csv", b"PK\x03\x04....", r"a\.csv is a zip archive"),
        ("a.xlsx", JSONL, r"a\.xlsx: .xlsx is no table"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", r"git lfs pull"),
        ("a.jsonl", b"version https://hawser.github.com/spec/v1\noid sha256:00\nsize 1\n", r"git lfs pull"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_whole_is_refused(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ReadError, match=said):
        values(tmp_path / name)


def test_a_parquet_file_is_refused_wherever_it_is_cut(tmp_path):
    pd.DataFrame(ROWS).to_parquet(tmp_path / "whole.parquet")
    data = (tmp_path / "whole.parquet").read_bytes()
    for cut in (4, 10, len(data) // 2, len(data) - 5, len(data) - 1):
        (tmp_path / "a.parquet").write_bytes(data[:cut])
        with pytest.raises(ReadError, match=r"a\.parquet, row 1: cut off or damaged"):
            values(tmp_path / "a.parquet")


CHINESE = '{"text": "春天的風"}\n'


@pytest.mark.parametrize(
    "encoding",
    ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "big5", "shift_jis", "euc_kr", "iso2022_jp"],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.tsv"])
def test_other_encodings_are_named_with_the_byte(tmp_path, encoding, name):
    text = {
        "a.jsonl": CHINESE,
        "a.json": f"[{CHINESE}]",
        "a.csv": "id,text\n7,風\n",
        "a.txt": "風\n",
        "a.tsv": "id\ttext\n7\t風\n",
    }
    if encoding == "euc_kr":
        text = {key: value.replace("春天的風", "바람").replace("風", "바람") for key, value in text.items()}
    (tmp_path / name).write_bytes(text[name].encode(encoding, "replace"))
    with pytest.raises(ReadError, match=rf"{name}.*byte [\d,]+.*iconv"):
        list(lines(tmp_path / name) if name == "a.txt" else rows(tmp_path / name))


def test_the_byte_that_is_named_is_the_first_that_is_wrong(tmp_path):
    for name, before in (("a.jsonl", JSONL), ("a.json", b"[" + JSONL.replace(b"\n", b",\n"))):
        (tmp_path / name).write_bytes(before + '{"text": "café"}'.encode("cp1252"))
        with pytest.raises(ReadError, match=rf"byte {len(before) + 13:,}: 0xe9"):
            values(tmp_path / name)


# --- what is whole ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", b"\xef\xbb\xbf" + JSONL), ("a.NDJSON", JSONL), ("a.JSONL.GZ", gzip.compress(JSONL)),
        ("a.jsonl", gzip.compress(JSONL)), ("a.jsonl.gz", JSONL), ("a.jsonl", JSONL.replace(b"\n", b"\r\n")),
        ("a.jsonl", JSONL.replace(b"\n", b"\n\n")[:-2]), ("a.jsonl", gzip.compress(JSONL[:300]) + gzip.compress(JSONL[300:])),
        ("a.json", b"\n [" + JSONL[:-1].replace(b"\n", b",\n") + b"]\n"), ("a.csv", b"\xef\xbb\xbf" + CSV),
        ("a.CSV", CSV.replace(b"\n", b"\r\n")), ("a.csv", CSV.replace(b",\"", b";\"").replace(b"id,", b"id;")),
        ("a.csv", b"sep=;\r\n" + CSV.replace(b",\"", b";\"").replace(b"id,", b"id;").replace(b"\n", b"\r\n")),
        ("a.tsv", CSV.replace(b",\"", b"\t\"").replace(b"id,", b"id\t")), ("a.csv", CSV[:-1]),
    ],
)  # fmt: skip
def test_what_is_whole_is_read(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    assert [row for _, row in rows(tmp_path / name)] == ROWS


def test_a_cell_of_several_lines_is_one_text_and_places_are_lines(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,"a\n\nb, \u2028c"\n2,d\n')
    assert [(place, row["id"]) for place, row in rows(tmp_path / "a.csv")] == [
        ("a.csv, line 2", "1"),
        ("a.csv, line 5", "2"),
    ]


def test_a_cell_of_tabs_and_lines_is_one_text_where_it_can_be_no_other(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b'id\ttext\n1\t"a\tb\nc"\n2\td\n')
    assert [row["text"] for _, row in rows(tmp_path / "a.tsv")] == ["a\tb\nc", "d"]
    (tmp_path / "b.csv").write_bytes(b"text\na\nb\n\n\n")
    assert [row["text"] for _, row in rows(tmp_path / "b.csv")] == ["a", "b"]


def test_a_blank_and_quotes_that_are_the_text_are_read(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'n,text\n1," ""a"" "\n2,"a, ""b"""\n3, a "b"\n')
    assert values(tmp_path / "a.csv") == [' "a" ', 'a, "b"', ' a "b"']


def test_missing_cells_of_pandas_are_none(tmp_path):
    pd.DataFrame(
        {"title": [math.nan, math.nan], "text": ["a", None], "p": [[{"t": math.nan}], None]}
    ).to_parquet(tmp_path / "a.parquet")
    found = [row for _, row in rows(tmp_path / "a.parquet")]
    assert found == [
        {"title": None, "text": "a", "p": [{"t": None}]},
        {"title": None, "text": None, "p": None},
    ]


def test_only_the_columns_that_are_wanted_are_read_of_parquet(tmp_path):
    pd.DataFrame(ROWS).to_parquet(tmp_path / "a.parquet")
    assert next(rows(tmp_path / "a.parquet", ("text",), ("title",))) == (
        "a.parquet, row 1",
        {"text": ROWS[0]["text"]},
    )
    with pytest.raises(ReadError, match="no field 'body', there is 'id', 'text'"):
        next(rows(tmp_path / "a.parquet", ("body",)))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (7, "7"),
        (7.0, "7"),
        ("7.0", "7"),
        ("007", "007"),
        (" 7 ", "7"),
        ("7.5", "7.5"),
        ("12#3", "12#3"),
        ("5e123456", "5e123456"),
        *(
            (given, "d1")
            for given in (
                "d1\u200b",
                "\ufeffd1",
                "\xa0d1\u2007",
                "d\u20601",
                "d\u00ad1",
                "d1\u200e",
                "d\x7f1",
            )
        ),
        ("d\u00a01", "d 1"),
        ("7.0\u200b", "7"),
        ("cafe\u0301", "café"),
        *((page, page) for page in ("NaN", "None", "Null", "Nan")),
    ],
)
def test_ids_are_the_same_whoever_wrote_them(value, found):
    assert identifier(value, "a") == found


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "\u200b\ufeff",
        "nan\u200b",
        "nan",
        "NULL",
        "<NA>",
        math.nan,
        True,
        [],
        1e16,
        "1.2E+19",
        "9007199254740992.0",
        "1234567890123456768.00",
        '="7"',
    ],
)
def test_what_is_no_id_is_refused(value):
    with pytest.raises(ReadError, match="a, line 1"):
        identifier(value, "a, line 1")


@pytest.mark.parametrize(("kind", "exact"), [("float16", 2**11), ("float32", 2**24), ("float64", 2**53)])
def test_ids_that_a_column_of_short_floats_has_rounded_are_refused(tmp_path, kind, exact):
    pd.DataFrame({"id": pd.Series([exact - 1, None, exact + 1], dtype=kind)}).to_parquet(
        tmp_path / "a.parquet"
    )
    (first, one), (_, none), (third, rounded) = rows(tmp_path / "a.parquet")
    assert identifier(one["id"], first) == str(exact - 1) and none["id"] is None
    with pytest.raises(ReadError, match=r"a\.parquet, row 3: the id .* has been rounded"):
        identifier(rounded["id"], third)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.csv", "a.tsv"])
def test_columns_go_by_the_names_that_are_wanted_in_any_spelling(tmp_path, name):
    def written(**columns):
        write_frame(pd.DataFrame(columns), tmp_path / name)
        return [row for _, row in rows(tmp_path / name, ("text",), ("title", "query-id", "_id", "id"))]

    as_wanted = {"text": "bees", "title": "Hive", "query-id": "q1"}
    assert written(**{"TEXT ": ["bees"], "Title": ["Hive"], "Query_ID\u200b": ["q1"]}) == [as_wanted]
    assert written(text=["bees"], Text=["sun"], id=["1"], ID=["2"])[0]["text"] == "bees"
    assert written(text=["bees"], ID=["2"], id=["1"])[0]["id"] == "1"
    with pytest.raises(
        ReadError, match=rf"{name}.*: 'Text' and 'TEXT' may both be 'text': name the right one"
    ):
        written(Text=["bees"], TEXT=["sun"])


def write_frame(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")


def test_a_separator_is_told_by_columns_in_any_spelling(tmp_path):
    (tmp_path / "a.csv").write_text("Text;n, of all, and, more\nbees;1\n")
    assert values(tmp_path / "a.csv") == ["bees"]


def test_a_second_mark_and_old_line_ends_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\n\xef\xbb\xbfb\n")
    with pytest.raises(ReadError, match=r"a\.txt, line 2: a second byte order mark"):
        list(lines(tmp_path / "a.txt"))
    (tmp_path / "a.txt").write_bytes(b"a\rb\rc")
    with pytest.raises(ReadError, match=r"a\.txt, line 1: .*\\r alone"):
        list(lines(tmp_path / "a.txt"))


def test_tables_of_a_folder_are_found_by_any_spelling(tmp_path):
    for name in ("b.JSONL.gz", "a.csv", "c.txt", ".hidden/d.csv", "e/f.Parquet", "e/dataset_infos.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [f.name for f in opener.tables_in(tmp_path)] == ["a.csv", "b.JSONL.gz", "f.Parquet"]
    assert opener.form_of(tmp_path / "b.JSONL.gz") == "json"


def test_joiners_tell_ids_apart_within_a_word_and_not_at_its_ends():
    """In Persian and Hindi they are how a word is written."""
    inside, without = (
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645",
    )
    assert identifier(inside, "a") == inside != identifier(without, "a")
    assert identifier(f"\u200d{without}\u200c ", "a") == without and identifier("d1\u200b", "a") == "d1"
