"""Package descriptions as pairs: control files read as Debian writes them, and rows that wait for them."""

import json
import shutil

import pytest
from synthembed import profile
from synthembed.beyond import descriptions
from synthembed.labelled import weak_pairs

BODY = "draws maps of rivers and lakes, with their names in any of nine scripts."
STATUS = f"""Package: rivers
Status: install ok installed
Description: maps of rivers
 This program {BODY}
 .
 It knows:
  - lakes
  - brooks
Homepage: https://example.org

Package: brook
Description: a line alone

Package: rivers-copy
Description: maps of rivers
 This program {BODY}
 .
 It knows:
  - lakes
  - brooks
"""
GERMAN = """Package: rivers
Description-md5: 00000000000000000000000000000000
Description-de: Karten von Flüssen
 Dieses Programm zeichnet Karten von Flüssen und Seen, mit ihren Namen in einer von neun Schriften.

"""


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "status").write_text(STATUS, encoding="utf-8")
    (tmp_path / "lists").mkdir()
    return tmp_path / "status", tmp_path / "lists"


def test_a_description_is_a_line_and_the_text_under_it_in_its_language(machine, tmp_path):
    installed, lists = machine
    (lists / "deb_dists_i18n_Translation-de").write_text(GERMAN, encoding="utf-8")
    counts, drops = descriptions.write(tmp_path / "new" / "pairs.jsonl", installed, lists)
    assert counts == {"en": 1, "de": 1}
    assert drops.counts == {"description of a line or two": 1, "seen before": 1}
    lines = (tmp_path / "new" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row.pop("language"): row for row in map(json.loads, lines)}
    assert rows["en"] == {
        "title": "maps of rivers",
        "body": f"This program {BODY} It knows: - lakes - brooks",
    }
    found = weak_pairs.pairs(
        profile.Profile(name="x", pretrain={"source": str(tmp_path / "new" / "pairs.jsonl")}).pretrain
    )
    assert {(e.query, e.positive) for e in found} == {(r["title"], r["body"]) for r in rows.values()}


def test_languages_without_blanks_and_others_written_in_two_scripts_are_read(machine, tmp_path):
    installed, lists = machine
    texts = {
        "ja": " このプログラムは川と湖の地図を描き、その\n 名前を九つの文字のいずれでも書きます。",
        "th": " โปรแกรมนี้วาดแผนที่แม่น้ำและทะเลสาบพร้อมชื่อในอักษรใดก็ได้จากเก้าแบบ",
        "sr@latin": f" Ovaj program crta karte reka\u2028i jezera sa imenima {BODY}",
    }
    for language, text in texts.items():
        (lists / f"deb_dists_i18n_Translation-{language}").write_text(
            f"Package: rivers\nDescription-md5: 00\nDescription-{language}: {language}\n{text}\n\n",
            encoding="utf-8",
        )
    counts, drops = descriptions.write(tmp_path / "pairs.jsonl", installed, lists)
    assert counts == {"en": 1} | dict.fromkeys(texts, 1)
    assert drops.counts == {"description of a line or two": 1, "seen before": 1}
    lines = (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    found = {row["title"]: row["body"] for row in map(json.loads, lines)}
    assert "その名前を九つ" in found["ja"] and found["sr@latin"].endswith("nine scripts.")


@pytest.mark.skipif(not shutil.which(descriptions.READER), reason="apt's own reader of its lists is not here")
def test_lists_that_apt_compressed_are_read_by_apt(machine, tmp_path):
    import gzip

    installed, lists = machine
    (lists / "deb_dists_i18n_Translation-de.gz").write_bytes(gzip.compress(GERMAN.encode()))
    assert descriptions.write(tmp_path / "pairs.jsonl", installed, lists)[0]["de"] == 1
    (lists / "deb_dists_i18n_Translation-fr.gz").write_bytes(b"\x1f\x8bnot so")
    with pytest.raises(descriptions.NoDescriptions, match=r"Translation-fr\.gz cannot be read"):
        descriptions.write(tmp_path / "pairs.jsonl", installed, lists)


def test_a_machine_without_any_is_told_who_has_them(tmp_path):
    with pytest.raises(descriptions.NoDescriptions, match="Debian and what is made from it have them"):
        descriptions.write(tmp_path / "pairs.jsonl", tmp_path / "none", tmp_path / "nowhere")
    assert not (tmp_path / "pairs.jsonl").exists()


def test_a_row_waits_for_its_pairs_and_goes_once_they_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def loaded() -> profile.Profile:
        rows = [
            {"id": "plain"},
            {
                "id": "first",
                "command": "synthembed descriptions",
                "set": {"pretrain": {"source": "./p.jsonl"}},
            },
        ]
        question = {"id": "q", "question": "q", "varied": "v", "held": "h", "rows": rows}
        return profile.Profile(name="x", experiments={"questions": [question]})

    there, waiting = descriptions.present(loaded())
    assert [row.id for row in there.experiments.questions[0].rows] == ["plain"]
    assert waiting == {"q/first": "no pairs in ./p.jsonl. Make them with\nsynthembed descriptions"}
    (tmp_path / "p.jsonl").write_text('{"title": "a", "body": "b"}\n')
    there, waiting = descriptions.present(loaded())
    assert len(there.experiments.questions[0].rows) == 2 and not waiting
