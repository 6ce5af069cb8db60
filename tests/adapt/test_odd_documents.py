"""Files of which a part, or all, used to be lost or misread without a word: what users of document readers report."""

import gzip
import json

import pytest
from made_documents import LONG, pdf
from synthembed.adapt.reading import documents, text_files
from synthembed.adapt.reading.documents import DocumentsError

LINE = ") Tj 0 -12 Td ("


def text_of(path, content):
    path.write_text(content, encoding="utf-8")
    (document,) = documents.read(path).documents
    return document.text.strip()


@pytest.mark.parametrize("mark", ["<![G [x]]>", "<![ x y ]>", "<![-1]>", "<![FOR]>"])
def test_a_mark_that_the_parser_does_not_know_ends_no_run(tmp_path, mark):
    text = text_of(tmp_path / "a.html", f"<p>{LONG}</p>{mark}<p>And it comes back at ten.</p>")
    assert text.split("\n\n")[0] == LONG.strip() and text.endswith("And it comes back at ten.")


def test_readings_above_a_word_end_with_it(tmp_path):
    ruby = "<ruby>漢<rp>(<rt>かん<rp>)</ruby>と<ruby><rb>文<rt>ぶん<rb>字<rt>じ</ruby>"
    assert text_of(tmp_path / "a.html", f"<p>{ruby}の話。{LONG}</p>") == f"漢と文字の話。{LONG}".strip()


def test_what_a_file_is_tells_its_content(tmp_path):
    (tmp_path / "a.txt").write_text(f"<!DOCTYPE html>\n<html><head><title>Ferry</title></head><p>{LONG}</p>")
    (tmp_path / "b.md").write_text(f'<?xml version="1.0"?>\n<html xmlns="x"><p>{LONG} b</p></html>')
    (tmp_path / "c.txt").write_text(rf"{{\rtf1\ansi {LONG}\par}}")
    (tmp_path / "d.html").write_text(
        f"From: <Saved by a browser>\nSubject: x\nContent-Type: multipart/related;\n\tboundary=x\n\n<p>{LONG}=E9</p>"
    )
    (tmp_path / "e.txt").write_bytes(b"%PDF-1.4 and so on, of some length")
    (tmp_path / "f.txt").write_text(f"From: the harbour\nSubject: multipart/related\n\n{LONG}")
    (tmp_path / "g.md").write_text(f"Content-Type: multipart/related; boundary=x\n\n<p>{LONG}=E9</p>")
    (tmp_path / "h.txt").write_text("<!-- a --> " * 300 + LONG)
    (tmp_path / "i.txt").write_text("<!-- a --> " * 300 + f"<html><p>{LONG}i</p>")
    found = documents.read(tmp_path)
    titles = {"a.txt": "Ferry", "b.md": "b", "f.txt": "f", "h.txt": "h", "i.txt": "i"}
    assert {d.id: d.title for d in found.documents} == titles
    text = {d.id: d.text.strip() for d in found.documents}
    assert text["a.txt"] == LONG.strip() and text["i.txt"] == f"{LONG}i" and text["h.txt"].startswith("<!--")
    assert dict(found.left_out) == {
        "c.txt": "is RTF: save its text first",
        "d.html": "a web page in an archive, MHTML (save it as .html)",
        "e.txt": "is a PDF: save its text first",
        "g.md": "a web page in an archive, MHTML (save it as .html)",
    }


def test_pictures_written_as_text_are_none_of_it(tmp_path):
    data = "data:image/png;base64," + "iVBORw0KGgo" * 300_000
    text = f"# Ferry\n{LONG}\n\n![][image1] and ![a map]({data})\n\n[image1]: <{data}>\n"
    assert text_of(tmp_path / "a.md", text) == f"{LONG}\n\n![][image1] and a map"
    assert text_of(tmp_path / "a.txt", f'{LONG}<img src="{data}">') == f'{LONG}<img src="">'


def test_letters_are_what_they_stand_for():
    assert documents.clean("o\ufb03ce, \ufb01rst \ufb02oor") == "office, first floor"
    assert documents.clean("Bü\u00ad\n  cherei, Ver\u00adwaltung") == "Bücherei, Verwaltung"
    assert documents.clean("\ufefffer\u200bry \u2060now") == "ferry now"
    assert documents.clean("สวัสดี\u200bครับ") == "สวัสดี\u200bครับ"  # where it parts words
    assert documents.clean("a\u2029b\u2028c\u0085d\x93e") == "a\n\nb\nc\nd e"
    arabic = "\ufee3\ufeae\ufea3\ufe92\ufe8e \ufedb\ufe98\ufe8e\ufe8f\ufe70 \ufefb"  # as PDFs have it
    assert documents.clean(arabic) == "مرحبا كتاب\u064b لا"
    assert documents.clean("\u2f47\u672c\u306e\u2f08\u2f1d \u2fbc\u3055\u2e9f") == "日本の人口 高さ母"
    assert documents.clean("ﷺ ﴿١﴾ ｶﾅ Ａ ① m²") == "ﷺ ﴿١﴾ ｶﾅ Ａ ① m²"  # which people type


SENTENCES = [
    "受付時間は平日9時から17時までです。", "图书馆每周一闭馆。", "도서관은 월요일에 쉽니다.", "ห้องสมุดปิดวันจันทร์",
    "नाव हर चालीस मिनट में चलती है।", "চিড়িয়াখানা সোমবার বন্ধ থাকে।", "ቤተ መጻሕፍቱ ሰኞ ዝግ ነው ይባላል።", "The library is shut today.",
]  # fmt: skip


def test_a_sentence_is_a_document_in_any_script_and_a_word_is_none(tmp_path):
    rows = [{"text": text} for text in (*SENTENCES, "图书馆", "월요일", "नाव", "The library")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = documents.read(tmp_path)
    assert [d.text for d in found.documents] == SENTENCES
    assert {why for _, why in found.left_out} == {"fewer than 20 letters"} and len(found.left_out) == 4


def test_the_lines_of_code_in_a_page_stay_lines(tmp_path):
    code = "<pre>def ferry():\n    leave(9)\n\nferry()</pre>"
    text = text_of(tmp_path / "a.html", f"<h1>Run\nit</h1>{code}<p>{LONG}\nAgain.</p></pre><p>a\nb")
    parts = [part for part in text.split("\n\n") if part]
    assert parts == ["Run it", "def ferry():\nleave(9)", "ferry()", f"{LONG}Again.", "a b"]


def test_pages_without_a_text_are_told(tmp_path):
    pdf(tmp_path / "part.pdf", [LONG * 9, "", "", LONG])
    pdf(tmp_path / "whole.pdf", [LONG + str(n) for n in range(10)] + [""])  # an empty last page
    found = documents.read(tmp_path)
    assert [(d.id, bool(d.lacks)) for d in found.documents] == [("part.pdf", True), ("whole.pdf", False)]
    assert "read in part, pages without a text left out" in str(found) and "1 (part.pdf)" in str(found)


def test_a_hyphen_at_a_lines_end_goes_only_where_it_divides_a_word(tmp_path):
    lines = [
        "In 2023-",
        "2024 the E-",
        "Mail of Nord-",
        "Ost and bi- ",
        "cycles, Ver\\255",
        "waltung, Vor-",
        "und Nachmittag",
    ]
    pdf(tmp_path / "a.pdf", [LINE.join(lines)])
    (document,) = documents.read(tmp_path).documents
    assert (
        document.text == "In 2023-2024 the E-Mail of Nord-Ost and bicycles, Verwaltung, Vor- und Nachmittag"
    )


@pytest.mark.parametrize(
    ("said", "title"),
    [("Microsoft Word - Satzung_2019_final_v3.doc", "the file"), ("untitled", "the file"), ("satzung.indd", "the file"),
     ("(anonymous)", "the file"), ("", "the file"), ("The harbour", "The harbour"), ("2.0.1 notes", "2.0.1 notes"),
     ("Anonymous functions", "Anonymous functions"), ("Untitled-1", "the file")],
)  # fmt: skip
def test_a_title_that_nobody_gave_is_none(tmp_path, said, title):
    pypdf = pytest.importorskip("pypdf")
    pdf(tmp_path / "a.pdf", [LONG])
    writer = pypdf.PdfWriter(clone_from=tmp_path / "a.pdf")
    writer.add_metadata({"/Title": said})
    writer.write(tmp_path / "the-file.pdf")
    (document,) = documents.read(tmp_path / "the-file.pdf").documents
    assert document.title == title


def test_a_form_that_shows_only_that_it_cannot_be_shown_is_none(tmp_path):
    pypdf = pytest.importorskip("pypdf")
    from pypdf.generic import ArrayObject, DictionaryObject, NameObject

    said = "Please wait... If this message is not eventually replaced by the contents, your viewer cannot show it."
    for name, text in (("shell.pdf", said), ("filled.pdf", LONG)):
        pdf(tmp_path / "plain.pdf", [text])
        writer = pypdf.PdfWriter(clone_from=tmp_path / "plain.pdf")
        writer.root_object[NameObject("/AcroForm")] = DictionaryObject({NameObject("/XFA"): ArrayObject([])})
        writer.write(tmp_path / name)
    (tmp_path / "plain.pdf").unlink()
    found = documents.read(tmp_path)
    assert [d.id for d in found.documents] == ["filled.pdf"] and "XFA" in dict(found.left_out)["shell.pdf"]


def test_what_is_encrypted_for_nobody_names_the_package_that_opens_it(tmp_path, monkeypatch):
    pypdf = pytest.importorskip("pypdf")

    def closed(*given):
        raise pypdf.errors.DependencyError("cryptography>=3.1 is required for AES algorithm")

    monkeypatch.setattr(pypdf, "PdfReader", closed)
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "b.txt").write_text(LONG)
    assert documents.read(tmp_path).left_out == [
        ("a.pdf", "encrypted (if it opens without a password: pip install cryptography)")
    ]


def test_a_name_is_shown_on_one_line_and_commands_no_console(tmp_path):
    (tmp_path / "a\nb\x1b[31m\u202etxt.txt").write_text(LONG)
    (document,) = documents.read(tmp_path).documents
    assert document.id == "a\ufffdb\ufffd[31m\ufffdtxt.txt"


def test_a_text_that_unpacks_to_too_much_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MOST_BYTES", 1_000_000)
    with gzip.open(tmp_path / "a.txt.gz", "wb") as file:
        file.write(b"a" * 1_000_001)
    with gzip.open(tmp_path / "b.txt.gz", "wb") as file:
        file.write(LONG.encode() * 2)
    found = documents.read(tmp_path)
    assert [d.id for d in found.documents] == ["b.txt.gz"]
    assert found.left_out == [("a.txt.gz", "larger than 1 MB (divide it)")]


def test_what_another_adaptation_left_is_no_document(tmp_path):
    (tmp_path / "a.txt").write_text(LONG)
    for name in ("documents.json", "passages.jsonl", "generated.html", "model/README.md"):
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / name).write_text(json.dumps({"text": LONG + name}))
    found = documents.read(tmp_path)
    assert [d.id for d in found.documents] == ["a.txt"]
    assert found.left_out == [("old/", "what adapt writes")]


def test_a_mask_that_fails_names_the_document(tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.txt").write_text(LONG + str(n))
    for mask, told in (
        (lambda text: {}[text] if "1" in text else text, r"fails at 1\.txt \(KeyError"),
        (lambda text: None if "1" in text else text, r"returns NoneType for 1\.txt"),
    ):
        with pytest.raises(DocumentsError, match=told):
            documents.read(tmp_path, mask=mask)
