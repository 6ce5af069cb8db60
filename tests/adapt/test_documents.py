"""Documents of every kind are read, or named and counted; passages keep their length."""

import gzip
import itertools
import json
import os
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_documents import LONG, pdf
from synthembed.adapt import adaptation
from synthembed.adapt.reading import documents, passages
from synthembed.adapt.reading.documents import Document, DocumentsError
from synthembed.corpus.texts import word_count


def test_every_format_is_read(tmp_path):
    (tmp_path / "plain.txt").write_text(LONG, encoding="utf-8")
    (tmp_path / "notes.md").write_text(
        "---\ntitle: The harbour\n---\n# Head\n\nSee [the map](http://x/y). " + LONG
    )
    (tmp_path / "page.html").write_text(
        f"<html><head><title>A page</title><style>p {{}}</style></head><body><nav>Menu</nav><p>{LONG} A page.</p><script>x()</script></body>"
    )
    (tmp_path / "chapter.xhtml").write_text(
        f'<?xml version="1.0"?>\n<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml"><head><title>A chapter</title>'
        f'<script src="a.js"/></head><body><p>{LONG} A chapter.</p></body></html>'
    )
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "rows.jsonl").write_text(
        json.dumps({"id": "a", "title": "T", "text": LONG + "A row."}) + "\n"
    )
    pd.DataFrame({"text": [LONG + "Once.", LONG + "Again."]}).to_parquet(tmp_path / "rows.parquet")
    with gzip.open(tmp_path / "zipped.txt.gz", "wt", encoding="utf-8") as file:
        file.write(LONG + "Zipped.")
    found = documents.read(tmp_path)
    assert not found.left_out
    by_id = {d.id: d for d in found.documents}
    assert by_id["notes.md"].title == "The harbour" and "the map." in by_id["notes.md"].text
    assert "http" not in by_id["notes.md"].text
    assert by_id["page.html"].title == "A page" and by_id["chapter.xhtml"].title == "A chapter"
    assert "Menu" not in by_id["page.html"].text and "x()" not in by_id["page.html"].text
    assert by_id["deep/rows.jsonl#a"].title == "T"
    assert {"rows.parquet#1", "rows.parquet#2", "plain.txt", "zipped.txt.gz"} <= by_id.keys()


def test_what_cannot_be_read_is_named_and_counted(tmp_path, monkeypatch):
    (tmp_path / "good.txt").write_text(LONG)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text(" \n" * 9)
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
    assert len(why) == 10
    assert why["empty.txt"] == why["blank.txt"] == "empty"
    assert why["binary.md"] == "binary"
    assert "no format" in why["photo.jpg"] and "hidden" in why[".secret.txt"] and "longer" in why["huge.txt"]
    assert (
        "scanned" in why["scan.pdf"] and why["locked.pdf"] == "encrypted" and "damaged" in why["damaged.pdf"]
    )
    assert "field" in why["rows.jsonl"]
    assert "photo.jpg" in str(found) and sum(found.counts().values()) == 10


def test_the_lines_of_a_pdf_are_joined_to_sentences(tmp_path):
    line = ") Tj 0 -12 Td ("
    pdf(
        tmp_path / "a.pdf",
        [f"The ferry takes bi-{line}cycles for free,{line}but no cars.{line}Dogs pay.", "next page of it"],
    )
    (document,) = documents.read(tmp_path).documents
    assert document.text == "The ferry takes bicycles for free, but no cars.\nDogs pay.\n\nnext page of it"


GERMAN = "Straße nach Süden: die Bücherei öffnet um zehn, „außer montags“ – und im Mai."


@pytest.mark.parametrize(
    ("text", "encoding", "told"),
    [
        (GERMAN, "utf-8", ""), (GERMAN, "utf-8-sig", ""), (GERMAN, "utf-16", "utf-16"), (GERMAN, "utf-32", "utf-32"),
        (GERMAN, "cp1252", "cp1252"), (GERMAN.replace("„", '"').replace("“", '"').replace("–", "-"), "latin-1", "cp1252"),
        ("La bibliothèque est fermée le dimanche; prêt de dix livres à la fois.", "cp1252", "cp1252"),
        ("Библиотека открыта с девяти до шести часов, кроме воскресенья.", "cp1251", "cp1251"),
        ("Библиотека открыта с девяти до шести часов, кроме воскресенья.", "koi8-r", "koi8_r"),
        ("Książnica otwarta od dziewiątej do szóstej, z wyjątkiem niedzieli. Żółw", "cp1250", "cp1250"),
        ("図書館は午前九時から午後六時まで開いています。日曜日は休みです。", "shift_jis", "cp932"),
        ("图书馆上午九点到下午六点开放，周日休息。每人可借五本书。", "gb18030", "gb18030"),
        ("مكتبة المدينة تفتح أبوابها من التاسعة صباحا حتى السادسة مساء", "cp1256", "cp1256"),
        ("Kışlık odun pazartesi günü dağıtılır; başvurular muhtarlığa yapılır, geç kalanlar sırasını kaybeder.", "cp1254", "cp1254"),
        ("Η λαϊκή αγορά στήνεται κάθε Τετάρτη στην πλατεία και μαζεύεται στις δύο.", "cp1253", "cp1253"),
        ("השוק נפתח ביום רביעי תחת הקשתות של הכיכר, והדוכנים נסגרים באחת וחצי.", "cp1255", "cp1255"),
        ("Přívoz převáží přes řeku každých čtyřicet minut. Kola jedou zdarma, auta nebere.", "cp1250", "cp1250"),
        ("Keltas plaukia per ežerą kas keturiasdešimt minučių. Dviračiai vežami nemokamai, automobilių neima.", "cp1257", "cp1257"),
        ("Uimahallin vesi pidetään lämpimänä leipomon hukkalämmöllä. Lippuja myydään ovella.", "cp1252", "cp1252"),
        ("El museo del vidrio enseña hornos del siglo dieciocho; el último domingo del año la entrada es libre.", "cp1252", "cp1252"),
        ("Prom kursuje przez zalew co czterdzieści minut; rowery jadą za darmo, a przy silnym wietrze łódź zostaje.", "iso8859_2", "iso8859_2"),
        ("渡し船は四十分ごとに湖を渡ります。自転車は無料ですが、車は乗れません。", "euc_jp", "euc_jp"),
        ("渡し船は四十分ごとに湖を渡ります。自転車は無料ですが、車は乗れません。", "iso2022_jp", "iso2022_jp"),
        ("나룻배는 사십 분마다 호수를 건넌다. 자전거는 공짜로 싣지만 자동차는 싣지 않는다.", "euc_kr", "cp949"),
    ],
)  # fmt: skip
def test_every_encoding_is_read_and_a_guess_is_told(tmp_path, text, encoding, told):
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    (tmp_path / "page.htm").write_bytes(f"<p>{text} Noch etwas.</p>".encode(encoding))
    found = documents.read(tmp_path)
    assert found.documents[0].text == text and found.documents[0].read_as == told
    assert text in found.documents[1].text
    assert (f"read as {told}: 2" in str(found)) == bool(told)


def test_letters_whose_marks_stand_apart_are_composed(tmp_path):
    """As macOS writes names and cp1258 texts."""
    text = "Thư viện mở cửa lúc mười giờ, trừ thứ hai; sách được mượn bốn tuần và gia hạn một lần."
    apart = "".join(
        unicodedata.normalize("NFC", base + "".join(m for m in marks if m not in "\u0300\u0301\u0303\u0309\u0323"))
        + "".join(m for m in marks if m in "\u0300\u0301\u0303\u0309\u0323")
        for base, *marks in (unicodedata.normalize("NFD", letter) for letter in text)
    )  # fmt: skip
    (tmp_path / "A.txt").write_bytes(apart.encode("cp1258"))
    (tmp_path / f"{unicodedata.normalize('NFD', 'Sách mới')}.txt").write_text(
        unicodedata.normalize("NFD", text + " Hai.")
    )
    first, second = documents.read(tmp_path).documents
    assert (first.text, first.read_as) == (text, "cp1258")
    assert (second.text, second.title, second.id) == (text + " Hai.", "Sách mới", "Sách mới.txt")


OF_MACS = {
    "mac_roman": ("La biblioteca apre alle dieci, però il lunedì è chiusa. Si può prendere in prestito più di un libro.",
                  "La leña se reparte los lunes por la mañana. Quien llega tarde pierde su turno según la lista.",
                  "Le bac traverse le lac à toute heure. Les vélos sont acceptés, mais pas les voitures à moteur."),
    "mac_cyrillic": ("Библиотека открыта с девяти до шести часов. Книги выдают на четыре недели.",
                     "Пором ходить через озеро кожні сорок хвилин. Велосипеди перевозять безкоштовно.",
                     "Скела прелази језеро сваких четрдесет минута. Бицикли се возе бесплатно."),
    "mac_latin2": ("Knihovna je otevřena od devíti do šesti. Knihy se půjčují na čtyři týdny.",
                   "Prom kursuje przez zalew co czterdzieści minut. Rowery jadą za darmo, łódź zostaje.",
                   "A komp negyven percenként kel át a tavon. A kerékpárok ingyen utaznak, autót nem visz."),
    "mac_greek": ("Το πλοίο περνά τη λίμνη κάθε σαράντα λεπτά. Τα ποδήλατα ταξιδεύουν δωρεάν.",),
    "mac_turkish": ("Kütüphane dokuzda açılır, altıda kapanır. Kitaplar dört haftalığına ödünç verilir.",),
    "mac_iceland": ("Bókasafnið er opið frá níu til sex. Bækur eru lánaðar í fjórar vikur, það er ókeypis.",),
    "mac_romanian": ("Biblioteca este deschisă de la nouă la șase. Cărțile se împrumută pe patru săptămâni.",),
    "mac_croatian": ("Knjižnica je otvorena od devet do šest. Knjige se posuđuju na četiri tjedna.",),
}  # fmt: skip


@pytest.mark.parametrize("encoding", OF_MACS)
def test_files_of_old_macs_are_told_by_their_line_ends_and_language(tmp_path, encoding):
    for number, text in enumerate(OF_MACS[encoding]):
        (tmp_path / f"{number}.txt").write_bytes(text.replace(". ", ".\r").encode(encoding))
    found = documents.read(tmp_path).documents
    assert [d.text for d in found] == [text.replace(". ", ".\n") for text in OF_MACS[encoding]]
    assert {d.read_as for d in found} == {encoding}


@pytest.mark.parametrize(
    ("named", "told"),
    [("iso-8859-9", "cp1254"), ("windows-1254", "cp1254"), ("utf-16", "cp1254"), ("rot13", "cp1254")],
)
def test_a_page_says_what_it_is_written_in(tmp_path, named, told):
    text = "Yaşlılar için öğle yemeği salı günleri dağıtılır."
    page = (
        f"<html><head><meta http-equiv=Content-Type content='text/html; charset={named}'></head><p>{text}</p>"
    )
    (tmp_path / "a.html").write_bytes(page.encode("cp1254"))
    (document,) = documents.read(tmp_path).documents
    assert document.text.strip() == text and document.read_as == told


def test_a_table_of_a_spreadsheet_is_read_in_its_own_encoding(tmp_path):
    rows = [
        "Středeční trh se rozkládá pod podloubím náměstí.",
        "Za prvního psa vybírá obec šedesát korun ročně.",
    ]
    table = "title;text\r\n" + "".join(f"Trh {n};{row}\r\n" for n, row in enumerate(rows))
    (tmp_path / "old.csv").write_bytes(table.encode("cp1250"))
    (tmp_path / "wide.tsv").write_bytes(table.replace(";", "\t").replace(".", "!").encode("utf-16"))
    (tmp_path / "other.csv").write_text("název;obsah\na;b\n")
    found = documents.read(tmp_path)
    assert [(d.id, d.text, d.read_as) for d in found.documents] == [
        *((f"old.csv#{n}", row, "cp1250") for n, row in enumerate(rows, 1)),
        *((f"wide.tsv#{n}", row.replace(".", "!"), "utf-16") for n, row in enumerate(rows, 1)),
    ]  # fmt: skip
    assert dict(found.left_out)["other.csv"].endswith("'text' (it has název, obsah; say which with --field)")


SENTENCES = {  # and how each of them ends
    "Πόσο κοστίζει ο δεύτερος σκύλος; Ο δήμος εισπράττει εκατό ευρώ τον χρόνο. ": ("σκύλος;", "χρόνο."),
    "ቤተ መጻሕፍት በአራት ሰዓት ይከፈታል። መጻሕፍት ለአራት ሳምንት ይሰጣሉ። ": ("ይከፈታል።", "ይሰጣሉ።"),
    "पुस्तकालय दस बजे खुलता है। किताबें चार हफ़्ते के लिए मिलती हैं। ": ("है।", "हैं।"),
    "Szkoła przy ul. Długiej 5 otwiera bramę o 6. rano. Dzieci kupują np. bułki u p. Nowak. ": (
        "rano.",
        "Nowak.",
    ),
    "Η λίμνη· λέγεται π.χ. ότι πάγωσε. Τότε ήρθε ο κ. Ράλλης. ": ("πάγωσε.", "Ράλλης."),
    "나룻배는 호수를 건넌다. 자전거는 공짜로 싣는다. ": ("건넌다.", "싣는다."),
}


@pytest.mark.parametrize("text", SENTENCES)
def test_passages_end_where_sentences_do(text):
    for words in range(8, 24):
        found = passages._bodies(text * 12, words)
        assert len(found) > 3 and all(body.endswith(SENTENCES[text]) for body in found)


@pytest.mark.parametrize(
    "row",
    [
        "| Town {n} | {n}.50 crowns | by boat |",
        "- stop {n}, towards the lake",
        "停留所{n}番、湖の方へ、歩いて",
    ],
)
def test_a_table_and_a_list_are_cut_between_their_lines(row):
    rows = [row.format(n=n) for n in range(60)]
    found = passages._bodies("\n".join(rows), 60)
    assert len(found) > 3 and [line for body in found for line in body.split("\n")] == rows


def test_one_broken_byte_does_not_make_another_encoding_of_utf8(tmp_path):
    (tmp_path / "a.txt").write_bytes((GERMAN * 20).encode() + b" \xfc und weiter")
    (document,) = documents.read(tmp_path).documents
    assert document.text.startswith(GERMAN) and "1 signs lost" in document.read_as


def test_links_pipes_and_folders_are_named(tmp_path, monkeypatch):
    top = tmp_path / "my documents"
    (top / "a" / "b c").mkdir(parents=True)
    (top / ".git").mkdir()
    (top / ".git" / "HEAD").write_text("ref: refs/heads/main, and some more letters")
    (top / "locked").mkdir()
    (top / "out").mkdir()
    (top / "out" / "scores.txt").write_text(LONG * 2)
    (top / "a" / "b c" / "Süß & gut.txt").write_text(LONG)
    (top / "copy.txt").write_text(LONG + "\n")
    (top / "a" / "circle").symlink_to(top)
    (top / "gone.txt").symlink_to(top / "nowhere")
    (top / "linked.txt").symlink_to(top / "copy.txt")
    os.mkfifo(top / "pipe.txt")
    (top / os.fsdecode(b"b\xe4h.txt")).write_text("A name in no encoding, of a text that is read")
    scan = os.scandir

    def locked(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", locked)
    found = documents.read(top, apart=top / "out")
    assert {d.id for d in found.documents} == {"a/b c/Süß & gut.txt", "b\ufffdh.txt"}
    json.dumps([d.id for d in found.documents], ensure_ascii=False).encode()
    assert dict(found.left_out) == {
        ".git/": "hidden", "out/": "what adapt writes", "a/circle/": "a link to a folder, which is not followed",
        "gone.txt": "a link to nothing", "pipe.txt": "a pipe or a device",
        "locked/": "a folder that cannot be opened (Permission denied)",
        "copy.txt": "the same text as another document", "linked.txt": "the same text as another document",
    }  # fmt: skip


def test_a_table_loses_the_row_that_is_bad_and_no_other(tmp_path):
    rows = [{"text": LONG + str(n)} for n in range(4)]
    rows[1] = {"text": None}
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "names.csv").write_text("title,body\na,b\n")
    (tmp_path / "none.csv").write_text("title,text\n")
    found = documents.read(tmp_path)
    assert {d.id for d in found.documents} == {"rows.jsonl#1", "rows.jsonl#3", "rows.jsonl#4"}
    assert dict(found.left_out) == {
        "rows.jsonl#2": "a row whose 'text' is no text",
        "names.csv": "a table without the field 'text' (it has title, body; say which with --field)", "none.csv": "empty",
    }  # fmt: skip


def test_the_columns_of_a_table_are_known_in_any_spelling(tmp_path):
    (tmp_path / "a.csv").write_text(f"ID,TITLE,Text \n7\u200b,The ferry,{LONG}\n")
    (found,) = documents.read(tmp_path).documents
    assert (found.id, found.title, found.text) == ("a.csv#7", "The ferry", LONG)


def test_a_row_whose_id_cannot_be_used_goes_by_its_number(tmp_path):
    (tmp_path / "a.csv").write_text(f"ID,text\n1.2E+15,{LONG}\n8,{LONG} Again.\n")
    assert {d.id for d in documents.read(tmp_path).documents} == {"a.csv#1", "a.csv#8"}


def test_a_title_is_not_read_twice(tmp_path):
    (tmp_path / "a.html").write_text(f"<title>The\nferry</title><body><h1>The ferry</h1><p>{LONG}")
    (tmp_path / "b.html").write_text(f"<title>The ferry</title><body><h1>Another heading</h1><p>{LONG}")
    first, second = documents.read(tmp_path).documents
    assert first.title == second.title == "The ferry"
    assert first.text.strip() == LONG.strip() and second.text.startswith("Another heading")


def test_a_page_inside_a_form_is_read(tmp_path):
    (tmp_path / "a.aspx.html").write_text(f"<form><select><option>x1</select><p>{LONG}</p></form>")
    assert "northern pier" in documents.read(tmp_path).documents[0].text
    assert "x1" not in documents.read(tmp_path).documents[0].text


@pytest.mark.parametrize(
    "page",
    ["<ruby>漢<rt>kan</ruby>字<p>{}", "<ruby>漢<rp>(<rt>kan<rp>)</ruby>字<p>{}", "<nav><a>Home</a><main><p>{}</main>",
     "<p>One<aside>note<p>{}", "<button>more<p>{}", "<head><title>The ferry</head><p>{}", "</nav><p>{}"],
)  # fmt: skip
def test_an_element_that_nobody_ends_does_not_take_the_rest_of_a_page(tmp_path, page):
    """HTML allows the ends of readings to be left out; others are forgotten."""
    (tmp_path / "a.html").write_text(page.format(LONG), encoding="utf-8")
    (found,) = documents.read(tmp_path).documents
    assert LONG.strip() in found.text and "kan" not in found.text


def test_a_page_that_is_called_a_text_is_read_as_a_page(tmp_path):
    (tmp_path / "a.txt").write_text(f"<!DOCTYPE html>\n<title>Ferries</title><p>{LONG}")
    (found,) = documents.read(tmp_path).documents
    assert (found.title, found.text.strip()) == ("Ferries", LONG.strip())


@pytest.mark.parametrize(
    ("page", "title", "text"),
    [
        ("```sh\n# install it\n```\n\n# Ferries\n\nThey go.", "Ferries", "```sh\n# install it\n```\n\n# Ferries\n\nThey go."),
        ("# Code\n`a[i](x)`, [a page](https://x.org/a_(b)).\n\n```\na[i](x)\n", "Code", "`a[i](x)`, a page.\n\n```\na[i](x)"),
        ("---\n\nA text between rules\n\n---\n\nand more", "a", "---\n\nA text between rules\n\n---\n\nand more"),
        ("---\ntitle: >\n  folded\n---\n# A [link](x)\ntext", "A link", "text"),
        ("+++\ntitle = 'Ferries'\ndate = 2024-05-01\n+++\n# They go\ntext", "Ferries", "# They go\ntext"),
        ("+++\n\nA text between rules\n+++\nand more", "a", "+++\n\nA text between rules\n+++\nand more"),
        ("# Badges\n[![build ok](https://b.svg)](https://x)", "Badges", "build ok"),
    ],
)  # fmt: skip
def test_code_rules_and_links_of_markdown_lose_no_text(tmp_path, page, title, text):
    (tmp_path / "a.md").write_text(f"{page}\n\n{LONG}", encoding="utf-8")
    (found,) = documents.read(tmp_path).documents
    assert found.title == title and found.text.removesuffix(LONG).strip() == text


def test_signs_that_nobody_sees_are_no_part_of_a_text(tmp_path):
    words = "bees\u00ad fly\u200b ho\u2060me\ufeff by \u202bthe\u202c sun\u200f"
    (tmp_path / "a.txt").write_text(f"{LONG} {words}", encoding="utf-8")
    (tmp_path / "b.txt").write_text(f"{LONG} ភាសា\u200bខ្មែរ می\u200cخواهم 👩\u200d🔬", encoding="utf-8")
    first, second = documents.read(tmp_path).documents
    assert first.text.endswith(" bees fly home by the sun")
    assert second.text.endswith(" ភាសា\u200bខ្មែរ می\u200cخواهم 👩\u200d🔬")  # these are how a word is written


UNSPACED = {
    "japanese": "図書館は午前{n}時から開いています。「日曜日は休みです。」と書いてあります。返却は箱へ。",
    "khmer": "បណ្ណាល័យបើកនៅម៉ោងប្រាំបួនព្រឹក។ថ្ងៃអាទិត្យ{n}បិទ។ សៀវភៅអាចខ្ចីបានពីរសប្តាហ៍។",
    "thai": "ห้องสมุดเปิดเวลาเก้าโมงเช้า{n}และปิดเวลาหกโมงเย็นตั้งแต่วันจันทร์ถึงวันศุกร์",
}


@pytest.mark.parametrize("language", UNSPACED)
def test_texts_without_blanks_are_cut_between_letters_and_get_none(language):
    text = "".join(UNSPACED[language].format(n=n) for n in range(40))
    found = [p.body for p in passages.split([Document("a", "", text)], 60)]
    assert len(found) > 8 and max(map(word_count, found)) <= 90
    assert "".join(found).replace(" ", "") == text.replace(" ", "")
    assert sum(body.count(" ") for body in found) <= text.count(" ")
    for body, after in itertools.pairwise(found):
        assert (
            unicodedata.category(after[0])[0] != "M"
            and body[-1] not in "\u17d2\u0e40\u0e41\u0e42\u0e43\u0e44"
        )
    if language == "japanese":
        assert all(body[-1] in "。」" for body in found)


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
    assert why.pop("rows.jsonl#8") == "a row whose 'text' is no text"
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


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("電話：０９０－１２３４－５６７８です", "電話：[telephone]です"), ("電話090-1234-5678です", "電話[telephone]です"),
        ("تلفن: ۰۹۱۲۳۴۵۶۷۸۹", "تلفن: [telephone]"), ("फोन ०९८७६५४३२१० पर", "फोन [telephone] पर"),
        ("ring +49‑171‑234‑5678 or +49\u00a0171\u00a02345678", "ring [telephone] or [telephone]"),
        ("ご質問はanna＠example.jpまでお送りください。", "ご質問は[e-mail]までお送りください。"), ("질문은 anna@example.com으로", "질문은 [e-mail]으로"),
        ("пишите на анна.1@пример.рф, и", "пишите на [e-mail], и"), ("口座DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000へ", "口座[account]へ"),
        ("Tel.: 030 / 1234567", "Tel.: [telephone]"), ("Tel. (030) / 123 45 67", "Tel. [telephone]"),
        ("Tel.030 12345678", "Tel.[telephone]"), ("NO93 8601 1117 947", "[account]"), ("+49 30 - 12345678", "[telephone]"),
        ("030 1234567/030 7654321", "[telephone]/[telephone]"), ("offen 09.00-17.30 Uhr", "offen 09.00-17.30 Uhr"),
        ("01/02/2024 - 03/04/2024", "01/02/2024 - 03/04/2024"),
        ("on 01.02.2024 it was 0.12345678, order A0123456789", "on 01.02.2024 it was 0.12345678, order A0123456789"),
    ],
)  # fmt: skip
def test_personal_data_are_masked_in_any_script_and_nothing_beside_them(text, masked):
    assert passages.mask_contacts(text) == masked


def test_the_example_is_whole():
    found = documents.read(adaptation.EXAMPLE_FOLDER)
    assert len(found.documents) == 200 and not found.left_out
    assert len(passages.split(found.documents)) == 200
