"""The board is made from runs and nothing else; a run that contradicts itself does not stand on it."""

import shutil
from pathlib import Path

import pytest
import yaml
from synthembed.ground import run_folders
from synthembed.ground.files import ROOT, read_json
from synthembed.review import board
from synthembed.review.checking import Review
from synthembed.review.inspection.found import wrong

LAPTOP = ROOT / "results" / "laptop"


def test_the_board_is_what_its_runs_give():
    made = board.text(board.entries())
    assert (ROOT / "results" / "board.md").read_text(encoding="utf-8") == made, (
        "synthembed board writes it anew"
    )


def test_a_row_has_the_runs_numbers():
    text = board.text([board.Entry("laptop", LAPTOP, "somebody", "")])
    averages = read_json(LAPTOP / "04_evaluate/stage.json")["averages"]
    line = next(x for x in text.splitlines() if x.startswith("| laptop |"))
    assert f"| {averages['base']['Avg']:.1f} | {averages['trained']['Avg']:.1f} |" in line
    assert read_json(LAPTOP / "04_evaluate/stage.json")["commit"][:10] in line and "somebody" in line


def test_published_numbers_stand_apart_from_what_was_run():
    text = board.published()
    assert text.startswith("## As published, not run by us")
    assert "| 66.5 |" in text and "| 63.1 |" in text and "laptop" not in text


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Path:
    """An empty results/ and a run of one's own, both below a root of their own."""
    monkeypatch.setattr(board, "ROOT", tmp_path)
    monkeypatch.setattr(run_folders, "ROOT", tmp_path)
    monkeypatch.delenv(run_folders.ELSEWHERE, raising=False)
    shutil.copytree(LAPTOP, tmp_path / "runs" / "warm")
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(board, "review", lambda run: Review(run))
    return tmp_path


def test_a_run_of_ones_own_is_added_by_one_file(folders):
    path = board.add(folders / "runs" / "warm", "Ada", "at a higher temperature")
    assert yaml.safe_load(path.read_text()) == {
        "run": "results/warm",
        "by": "Ada",
        "note": "at a higher temperature",
    }
    assert (folders / "results/warm/04_evaluate/scores.json").exists()
    text = board.write().read_text()
    assert "| warm |" in text and "- warm: at a higher temperature" in text


def test_another_run_of_its_name_is_not_written_over(folders):
    (folders / "results" / "warm" / "04_evaluate").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="another run's"):
        board.add(folders / "runs" / "warm", "Ada")


def test_who_made_it_is_text_and_one_line(folders):
    board.add(folders / "runs" / "warm", "No", "yes: a [note] # of mine")
    assert [(e.by, e.note) for e in board.entries()] == [("No", "yes: a [note] # of mine")]
    path = folders / "results" / "board" / "warm.yaml"
    path.write_text("run: results/warm\nby: No\n")  # as one writes it by hand
    assert [e.by for e in board.entries()] == ["No"]
    for by, note in (("Ada\n## Another board", ""), ("Ada", "a note\n\n## Another board")):
        with pytest.raises(board.BoardError, match="one line of text"):
            board.add(folders / "runs" / "warm", by, note)


def test_a_run_that_contradicts_itself_is_refused(folders, monkeypatch):
    monkeypatch.setattr(
        board,
        "review",
        lambda run: Review(run, [wrong("file-changed", "04_evaluate/scores.json", "other bytes")]),
    )
    with pytest.raises(board.BoardError, match=r"(?s)cannot stand on the board.*file-changed"):
        board.add(folders / "runs" / "warm", "Ada")
    assert not list((folders / "results").iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run: results/warm\nby: Ada\nscore: 99\n", "an entry has run"),
        ("run: results/none\nby: Ada\n", "is no run below"),
        ("run: ../elsewhere\nby: Ada\n", "is no run below"),
        ("run: results/warm\n", "an entry has run"),
        ('run: results/warm\nby: "Ada\\n\\n## Another board"\n', "one line of text"),
        ("run: results/warm\nby: Ada: of Turin\n", "not valid YAML"),
        ("run: results/warm\nby: Ada\nby: Eve\n", "'by' stands twice"),
    ],
)
def test_an_entry_that_says_more_or_less_than_a_run_is_named(folders, text, said):
    (folders / "results" / "board").mkdir()
    (folders / "results" / "board" / "mine.yaml").write_text(text)
    with pytest.raises(board.BoardError, match=rf"mine\.yaml.*{said}"):
        board.entries()


def test_a_run_that_lies_elsewhere_or_has_no_row_leaves_nothing_behind(folders):
    elsewhere = Path(shutil.copytree(LAPTOP, folders / "elsewhere" / "warm"))
    with pytest.raises(board.BoardError, match="copy its folder to the first of them"):
        board.add(elsewhere, "Ada")
    shutil.rmtree(folders / "runs" / "warm" / "04_evaluate")
    with pytest.raises(board.BoardError, match="no trained model has been evaluated"):
        board.add(folders / "runs" / "warm", "Ada")
    assert not list((folders / "results").iterdir())
