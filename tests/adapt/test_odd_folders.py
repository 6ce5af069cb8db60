"""The folder that an adaptation writes: where it lies, and what an earlier run, or one that was killed, left in it."""

import pytest
from made_documents import LONG
from synthembed import profile
from synthembed.adapt import adaptation, asking
from synthembed.adapt.reading.documents import DocumentsError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "documents").mkdir()
    for n in range(20):
        (tmp_path / "documents" / f"{n}.txt").write_text(f"{LONG} It is number {n} of the day.")
    return tmp_path / "documents"


SETTINGS = adaptation.Settings(generator="embedded")


def test_what_is_made_of_documents_does_not_come_among_them(folder):
    with pytest.raises(DocumentsError, match="another --out"):
        adaptation.planned(folder, folder, profile.load("adapt"), SETTINGS)
    told = adaptation.planned(folder, folder / "out", profile.load("adapt"), SETTINGS)
    assert told.startswith("20 documents\n20 passages")


def test_a_plan_reads_what_a_killed_run_left_and_writes_nothing(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    content = b'{"custom_id": "a", "response": {}}\n[]\n{"error": 1}\n\xff\n{"custom_id": "b", "resp'
    (out / "replies.jsonl").write_bytes(content)
    assert asking.stored(out / "replies.jsonl") == {"a"}
    told = adaptation.planned(folder, out, profile.load("adapt"), SETTINGS)
    assert "1 replies are stored" in told and (out / "replies.jsonl").read_bytes() == content


@pytest.mark.parametrize("written", ['{"folder": "/x', "", "[]", "7"])
def test_damaged_notes_are_named_with_the_remedy(folder, tmp_path, monkeypatch, written):
    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path / "runs"))
    own = tmp_path / "runs" / "adapt" / "documents"
    own.mkdir(parents=True)
    (own / "documents.json").write_text(written)
    for call in (lambda: adaptation.own_folder(folder), lambda: adaptation.opened(own)):
        with pytest.raises(DocumentsError, match=r"documents\.json is damaged .* delete it"):
            call()
