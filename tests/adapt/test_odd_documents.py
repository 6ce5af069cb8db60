"""Files of which a part, or all, used to be lost or misread without a word: what users of document readers report."""

import pytest
from made_documents import LONG
from synthembed.adapt.reading import documents


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
        "c.txt": "RTF, whatever its name says (save it as .docx)",
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
