"""Documents of Word and LibreOffice, in several scripts, are read in reading order; damaged and locked ones are named."""

import io
import zipfile
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthembed.adapt.reading import documents

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
RELS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="{}"/></Relationships>'
)
STYLES = f"""<w:styles xmlns:w="{W}">
<w:style w:type="paragraph" w:styleId="Titel"><w:name w:val="Title"/></w:style>
<w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
<w:style w:type="paragraph" w:styleId="Verzeichnis1"><w:name w:val="toc 1"/></w:style></w:styles>"""
CORE = '<cp:coreProperties xmlns:cp="x" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{}</dc:title></cp:coreProperties>'


def p(text: str, style: str = "") -> str:
    kind = (
        f'<w:pPr><w:pStyle w:val="{style}"/><w:tabs><w:tab w:val="left"/></w:tabs></w:pPr>' if style else ""
    )
    return f'<w:p>{kind}<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'


def table(*rows) -> str:
    cells = lambda row: "".join(f"<w:tc>{cell}</w:tc>" for cell in row)  # noqa: E731
    return f"<w:tbl>{''.join(f'<w:tr>{cells(row)}</w:tr>' for row in rows)}</w:tbl>"


def docx(path, body: str, main: str = "word/document.xml", title: str = "", **parts: str):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("_rels/.rels", RELS.format(main))
        file.writestr("word/styles.xml", STYLES)
        file.writestr(main, f'<w:document xmlns:w="{W}" xmlns:mc="m"><w:body>{body}</w:body></w:document>')
        if title:
            file.writestr("docProps/core.xml", CORE.format(title))
        for name, content in parts.items():
            file.writestr(f"word/{name}.xml", content)
    return path


NS = "urn:oasis:names:tc:opendocument:xmlns:"
ODT = (
    '<office:document-content xmlns:office="{0}office:1.0" xmlns:text="{0}text:1.0" xmlns:table="{0}table:1.0" '
    'xmlns:style="{0}style:1.0" xmlns:draw="{0}drawing:1.0" xmlns:svg="{0}svg-compatible:1.0"><office:automatic-styles>'
    '<style:style style:name="P1" style:parent-style-name="Title"/></office:automatic-styles><office:body><office:text>{1}'
    "</office:text></office:body></office:document-content>"
)


def odt(path, body: str, **parts: str):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        file.writestr("content.xml", ODT.format(NS, body))
        for name, content in parts.items():
            file.writestr(name.replace("__", "/") + ".xml", content)
    return path


SAID = {  # a title, a paragraph, and three cells
    "german": ("Fähre über den See", "Die Fähre fährt alle vierzig Minuten; Räder sind frei.", "Montag", "9–12", "geschlossen"),
    "russian": ("Паром через озеро", "Паром ходит каждые сорок минут, велосипеды бесплатно.", "Понедельник", "9–12", "закрыто"),
    "arabic": ("عبّارة البحيرة", "تعبر العبّارة البحيرة كل أربعين دقيقة، والدراجات مجانية.", "الاثنين", "٩–١٢", "مغلق"),
    "japanese": ("湖の渡し船", "渡し船は四十分ごとに湖を渡ります。自転車は無料です。", "月曜日", "九時", "休み"),
    "hindi": ("झील की नाव", "नाव हर चालीस मिनट में झील पार करती है; साइकिल मुफ़्त है।", "सोमवार", "९–१२", "बंद"),
    "khmer": ("សាឡាងឆ្លងបឹង", "សាឡាងឆ្លងបឹងរៀងរាល់សែសិបនាទី។ កង់មិនគិតថ្លៃទេ។", "ថ្ងៃចន្ទ", "៩", "បិទ"),
    "hebrew": ("המעבורת באגם", "המעבורת חוצה את האגם כל ארבעים דקות; אופניים בחינם.", "יום שני", "9–12", "סגור"),
}  # fmt: skip


@pytest.mark.parametrize("language", SAID)
def test_word_and_open_documents_are_read_in_their_order(tmp_path, language):
    title, text, *cells = SAID[language]
    whole = f"{text}\n\n{' | '.join(cells)}\n\n{text} 2"
    docx(tmp_path / "a.docx", p(title, "Titel") + p(text) + table(map(p, cells), [p("")]) + p(f"{text} 2"))
    odt_cells = "".join(
        f"<table:table-cell><text:p>{cell}</text:p></table:table-cell><table:covered-table-cell/>"
        for cell in cells
    )
    row = f"<table:table><table:table-row>{odt_cells}</table:table-row></table:table>"
    odt(
        tmp_path / "b.odt",
        f'<text:p text:style-name="P1">{title}</text:p><text:p>{text}</text:p>{row}<text:p>{text}<text:s/>3</text:p>',
    )
    first, second = documents.read(tmp_path).documents
    assert (first.title, first.text) == (title, whole)
    assert (second.title, second.text) == (title, whole[:-1] + "3")


def test_lists_notes_boxes_and_changes_of_word(tmp_path):
    box = p("In a box")
    body = "".join([
        p("Contents 3", "Verzeichnis1"), p("Opening hours", "berschrift1"),
        '<w:p><w:r><w:t>The </w:t></w:r><w:ins><w:r><w:t>new</w:t></w:r></w:ins><w:del><w:r><w:delText>old</w:delText></w:r></w:del>'
        '<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom><w:hyperlink><w:r><w:t xml:space="preserve"> library</w:t></w:r></w:hyperlink>'
        "<w:r><w:tab/><w:t>opens</w:t><w:br/><w:t>at ten</w:t></w:r><w:r><w:instrText>PAGEREF x</w:instrText></w:r></w:p>",
        f"<w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent>{box}</w:txbxContent></mc:Choice><mc:Fallback>"
        f"<w:txbxContent>{box}</w:txbxContent></mc:Fallback></mc:AlternateContent></w:r><w:r><w:t>Beside it</w:t></w:r></w:p>",
        "<w:sdt><w:sdtContent>" + p("first of a list") + p("second of it") + "</w:sdtContent></w:sdt>",
        "<w:p><w:r><w:ruby><w:rt><w:r><w:t>かんじ</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>漢字</w:t></w:r></w:rubyBase></w:ruby></w:r></w:p>",
        table([p("left") + p("column"), table([p("inner"), p("table")])]),
    ])  # fmt: skip
    notes = f'<w:footnotes xmlns:w="{W}"><w:footnote w:type="separator"><w:p><w:r><w:separator/></w:r></w:p></w:footnote><w:footnote>{p("A note.")}</w:footnote></w:footnotes>'
    docx(tmp_path / "a.docx", body, "word/document2.xml", "Said elsewhere", footnotes2=notes)
    (document,) = documents.read(tmp_path).documents
    assert document.title == "Opening hours"
    assert document.text.split("\n\n") == [
        "The new library opens\nat ten", "Beside it", "In a box", "first of a list", "second of it", "漢字",
        "left", "column", "inner | table", "A note.",
    ]  # fmt: skip


def test_notes_comments_and_changes_of_open_documents(tmp_path):
    odt(
        tmp_path / "a.odt",
        "<text:tracked-changes><text:p>gone</text:p></text:tracked-changes><text:table-of-content><text:p>3</text:p></text:table-of-content>"
        '<text:h text:outline-level="2">Hours</text:h><text:p>The\n  library<text:note><text:note-citation>1</text:note-citation>'
        "<text:note-body><text:p>In the old mill.</text:p></text:note-body></text:note> <text:span>opens</text:span><text:tab/>at"
        "<office:annotation><text:p>really?</text:p></office:annotation><text:line-break/>ten<draw:frame><svg:desc>a clock</svg:desc>"
        "</draw:frame>.</text:p><text:list><text:list-item><text:p>one</text:p></text:list-item></text:list>",
        meta='<m xmlns:dc="d"><dc:title>The library</dc:title></m>',
    )
    (document,) = documents.read(tmp_path).documents
    assert document.title == "The library"
    assert document.text.split("\n\n") == [
        "Hours",
        "The library opens at\nten.",
        "In the old mill.",
        "one",
    ]


def test_what_cannot_be_read_of_them_is_named(tmp_path):
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
    (tmp_path / "locked.docx").write_bytes(ole + "EncryptedPackage".encode("utf-16-le") + bytes(600))
    (tmp_path / "older.docx").write_bytes(ole)
    (tmp_path / "old.doc").write_bytes(ole)
    (tmp_path / "none.docx").write_bytes(b"")
    (tmp_path / "text.docx").write_text("only a text that somebody named so")
    whole = docx(tmp_path / "whole.docx", p("The ferry leaves at nine from the northern pier.")).read_bytes()
    (tmp_path / "cut.docx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "spoilt.docx").write_bytes(whole.replace(b"word/document.xml", b"word/dokument.xml", 1))
    docx(tmp_path / "blank.docx", p("") + p(" "))
    docx(tmp_path / "broken.docx", "<w:p><w:r>")
    docx(tmp_path / "wordless.docx", p("12"))
    odt(
        tmp_path / "locked.odt",
        "",
        **{"META-INF__manifest": "<manifest:encryption-data manifest:checksum=''/>"},
    )
    with zipfile.ZipFile(tmp_path / "sheet.docx", "w") as file:
        file.writestr("xl/workbook.xml", "<x/>")
    with zipfile.ZipFile(tmp_path / "bomb.docx", "w") as file:
        file.writestr("_rels/.rels", RELS.format("word/document.xml"))
        file.writestr(
            "word/document.xml",
            '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><w:document xmlns:w="w"><w:p><w:t>&b;</w:t></w:p></w:document>',
        )
    found = documents.read(tmp_path)
    assert [d.id for d in found.documents] == ["whole.docx"]
    damaged = "damaged, or no document of Word or LibreOffice"
    assert dict(found.left_out) == {
        "locked.docx": "encrypted", "locked.odt": "encrypted", "older.docx": "an old Word document (save it as .docx)",
        "old.doc": "no format that is read (.doc; save it as .docx)", "none.docx": "empty", "blank.docx": "empty",
        "wordless.docx": "fewer than 20 letters",
        **dict.fromkeys(("text.docx", "cut.docx", "spoilt.docx", "broken.docx", "sheet.docx", "bomb.docx"), damaged),
    }  # fmt: skip


def test_a_part_that_unpacks_to_too_much_is_named(tmp_path, monkeypatch):
    from synthembed.adapt.reading import office_files

    monkeypatch.setattr(office_files, "MOST_BYTES", 10_000)
    docx(tmp_path / "bomb.docx", p("a" * 20_000))
    docx(tmp_path / "good.docx", p("The ferry leaves at nine from the northern pier."))
    found = documents.read(tmp_path)
    assert len(found.documents) == 1 and found.left_out[0][1].startswith("larger than")


@given(st.binary(max_size=40), st.integers(0, 2000))
def test_a_damaged_file_is_read_or_named_and_never_more(bytes_put, place):
    from pathlib import Path
    from tempfile import TemporaryDirectory

    buffer = io.BytesIO()
    docx(buffer, p("The ferry leaves at nine from the northern pier.") * 3)
    whole = bytearray(buffer.getvalue())
    whole[place % len(whole) : place % len(whole) + len(bytes_put)] = bytes_put
    with TemporaryDirectory() as folder:
        (Path(folder) / "a.docx").write_bytes(whole)
        (Path(folder) / "b.txt").write_text("A text that can be read whatever becomes of the other.")
        found = documents.read(Path(folder))
    assert len(found.documents) + len(found.left_out) == 2


def test_a_file_within_a_document_is_no_part_that_may_be_missed(tmp_path):
    docx(tmp_path / "a.docx", p("The ferry leaves at nine.") + '<w:altChunk w:id="r5"/>')
    (tmp_path / "b.txt").write_text("The ferry leaves at nine from the northern pier, every day of the week.")
    found = documents.read(tmp_path)
    assert [document.id for document in found.documents] == ["b.txt"]
    assert "inside it" in found.left_out[0][1]
