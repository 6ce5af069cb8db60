"""Documents of every kind are read, or named and counted; passages keep their length."""

import gzip
import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthembed.adapt import adaptation, documents, passages
from synthembed.adapt.documents import Document, DocumentsError
from synthembed.corpus.texts import word_count

LONG = "The ferry leaves at nine from the northern pier. "


def test_every_format_is_read(tmp_path):
    (tmp_path / "plain.txt").write_text(LONG, encoding="utf-8")
    (tmp_path / "notes.md").write_text(
        "---\ntitle: The harbour\n---\n# Head\n\nSee [the map](http://x/y). " + LONG
    )
    (tmp_path / "page.html").write_text(
        f"<html><head><title>A page</title><style>p {{}}</style></head><body><nav>Menu</nav><p>{LONG}</p><script>x()</script></body>"
    )
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "rows.jsonl").write_text(json.dumps({"id": "a", "title": "T", "text": LONG}) + "\n")
    pd.DataFrame({"text": [LONG, LONG + "Again."]}).to_parquet(tmp_path / "rows.parquet")
    with gzip.open(tmp_path / "zipped.txt.gz", "wt", encoding="utf-8") as file:
        file.write(LONG)
    found = documents.read(tmp_path)
    assert not found.left_out
    by_id = {d.id: d for d in found.documents}
    assert by_id["notes.md"].title == "The harbour" and "the map." in by_id["notes.md"].text
    assert "http" not in by_id["notes.md"].text
    assert by_id["page.html"].title == "A page"
    assert "Menu" not in by_id["page.html"].text and "x()" not in by_id["page.html"].text
    assert by_id["deep/rows.jsonl#a"].title == "T"
    assert {"rows.parquet#1", "rows.parquet#2", "plain.txt", "zipped.txt.gz"} <= by_id.keys()


def pdf(path, pages, password=None):
    pypdf = pytest.importorskip("pypdf")
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = pypdf.PdfWriter()
    for text in pages:
        page = writer.add_blank_page(300, 300)
        if text:
            font = DictionaryObject({NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
                                     NameObject("/BaseFont"): NameObject("/Helvetica")})  # fmt: skip
            fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
            page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
            stream = DecodedStreamObject()
            stream.set_data(f"BT /F1 9 Tf 10 200 Td ({text}) Tj ET".encode())
            page[NameObject("/Contents")] = writer._add_object(stream)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    writer.write(path)


def test_what_cannot_be_read_is_named_and_counted(tmp_path, monkeypatch):
    (tmp_path / "good.txt").write_text(LONG)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text(" \n" * 9)
    (tmp_path / "latin.txt").write_bytes("Straße nach Süden, und noch ein Wort mehr".encode("latin-1"))
    (tmp_path / "binary.md").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / ".secret.txt").write_text(LONG)
    (tmp_path / "huge.txt").write_text(LONG * 100)
    (tmp_path / "rows.jsonl").write_text('{"body": "no text here"}\n')
    (tmp_path / "damaged.pdf").write_bytes(b"%PDF-1.4 nothing")
    pdf(tmp_path / "good.pdf", ["The opening hours of the museum are long"])
    pdf(tmp_path / "scan.pdf", ["", ""])
    pdf(tmp_path / "locked.pdf", ["Nobody is to read this text at all"], "secret")
    monkeypatch.setattr(documents, "MOST_CHARACTERS", 1000)
    found = documents.read(tmp_path)
    assert {d.id for d in found.documents} == {"good.txt", "good.pdf"}
    why = dict(found.left_out)
    assert len(why) == 11
    assert why["empty.txt"] == why["blank.txt"] == "empty"
    assert why["latin.txt"] == why["binary.md"] == "not UTF-8, or binary"
    assert "no format" in why["photo.jpg"] and "hidden" in why[".secret.txt"] and "longer" in why["huge.txt"]
    assert (
        "scanned" in why["scan.pdf"] and why["locked.pdf"] == "encrypted" and "damaged" in why["damaged.pdf"]
    )
    assert "field" in why["rows.jsonl"]
    assert "photo.jpg" in str(found) and sum(found.counts().values()) == 11


def test_a_table_is_read_to_its_end_or_not_at_all(tmp_path):
    good = [json.dumps({"id": float(n), "text": f"{LONG} {n}"}) + "\n" for n in range(3)]
    missing = '{"id": 8.0, "text": null}\n'
    (tmp_path / "rows.jsonl").write_text(good[0] + missing + "".join(good[1:]))
    (tmp_path / "spoilt.jsonl").write_text(good[0] + '{"id": 1, "te\n' + good[2])
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress("".join(good * 50).encode())[:-8])
    (tmp_path / "plain.csv").write_text(f"text\n{LONG}\n")
    (tmp_path / "pointer.txt").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    found = documents.read(tmp_path)
    assert [d.id for d in found.documents] == [
        "plain.csv#1", "rows.jsonl#0", "rows.jsonl#1", "rows.jsonl#2",
    ]  # fmt: skip
    why = dict(found.left_out)
    assert why.pop("rows.jsonl#8") == "empty"
    assert why.pop("spoilt.jsonl").startswith("line 2: not JSON, or cut off")
    assert (
        "cut off or damaged" in why.pop("cut.jsonl.gz")
        and "git lfs pull" in why.pop("pointer.txt")
        and not why
    )


def test_nothing_readable_is_an_error(tmp_path):
    with pytest.raises(DocumentsError, match="no folder"):
        documents.read(tmp_path / "none")
    (tmp_path / "a.jpg").write_bytes(b"1")
    with pytest.raises(DocumentsError, match=r"a\.jpg"):
        documents.read(tmp_path)


@given(
    st.lists(st.text(alphabet="ab .。\nก漢", min_size=1, max_size=300), min_size=1, max_size=4),
    st.integers(20, 60),
)
def test_passages_lose_no_letter_and_keep_their_length(texts, words):
    found = passages.split([Document(str(n), "", t) for n, t in enumerate(texts)], words)
    letters = lambda text: {c for c in text if c.isalnum()}  # noqa: E731
    assert letters("".join(texts)) == letters("".join(p.body for p in found))
    assert all(word_count(p.body) <= 2.6 * words for p in found)


def test_a_passage_is_known_by_its_text():
    one, other = (passages.split([Document(name, "T", LONG)])[0] for name in ("a.txt", "b/c.txt"))
    assert one.key == other.key and one.text.startswith("T\n")
    assert len(passages.split([Document("a", "", LONG), Document("b", "", LONG)])) == 1


def test_personal_data_are_masked(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    text = "Write to anna.berg@example.org or ring +46 70 123 45 67 or 030 1234567; account DE89 3704 0044 0532 0130 00. In 1952 it cost 12,500 crowns."
    (tmp_path / "docs" / "a.txt").write_text(text)
    masked = documents.read(tmp_path / "docs", mask=passages.mask_of("contacts")).documents[0].text
    assert not any(part in masked for part in ("anna", "123 45", "1234567", "DE89"))
    assert "1952" in masked and "12,500" in masked
    (tmp_path / "my_hook.py").write_text(
        "def hide(text):\n    return text.replace('Anna', 'X')\ndef bad(text):\n    return 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert passages.mask_of("my_hook:hide")("Anna") == "X"
    for named, said in (
        ("my_hook:bad", "int"),
        ("my_hook:none", "AttributeError"),
        ("nowhere:x", "cannot be used"),
    ):
        with pytest.raises(DocumentsError, match=said):
            passages.mask_of(named)


def test_the_example_is_whole():
    found = documents.read(adaptation.EXAMPLE_FOLDER)
    assert len(found.documents) == 200 and not found.left_out
    assert len(passages.split(found.documents)) == 200
