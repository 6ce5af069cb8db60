"""Figures that other processes draw are those that this one draws, and what goes wrong there is said here."""

import os

import pytest
from synthembed.report import figures
from synthembed.report.results import Results
from synthembed.report.web import svg_figures


@pytest.fixture
def alone(monkeypatch):
    """As a command is: this process has one thread, and a second core."""
    monkeypatch.setattr(svg_figures.threading, "active_count", lambda: 1)
    monkeypatch.setattr(svg_figures.os, "cpu_count", lambda: 2)


def files(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_forked_processes_draw_what_this_one_would(small, full, tmp_path, alone, monkeypatch):
    runs = [Results(small), Results(full)]
    with monkeypatch.context() as patch:
        patch.setattr(
            figures, "save", lambda *_: pytest.fail("drawn here")
        )  # a child's fails, and is done here
        with pytest.raises(pytest.fail.Exception, match="drawn here"):
            svg_figures.draw(runs, tmp_path / "failed")
    forked, saved = [], svg_figures._save
    begun = svg_figures.begin(runs, tmp_path / "forked")
    monkeypatch.setattr(svg_figures, "_save", lambda *about: forked.append(about) or saved(*about))
    drawn = begun()
    assert not forked, "a part was drawn by this process"
    monkeypatch.setattr(svg_figures.threading, "active_count", lambda: 2)
    here = svg_figures.draw(runs, tmp_path / "here")
    assert len(forked) == 2, "a process with threads was forked"
    there, mine = files(tmp_path / "forked"), files(tmp_path / "here")
    assert there.keys() == mine.keys() and len(mine) > 6
    assert not [name for name, data in mine.items() if there[name] != data], "drawn anew, other bytes"
    assert [(n, [r for r, _ in some]) for n, some in drawn.items()] == [
        (n, [r for r, _ in some]) for n, some in here.items()
    ]


def test_a_drawing_that_was_killed_is_drawn_here(small, tmp_path, alone, monkeypatch):
    real = svg_figures._save
    here = os.getpid()

    def save(wanted, folder):
        if os.getpid() != here:
            os.kill(os.getpid(), 9)
        real(wanted, folder)

    monkeypatch.setattr(svg_figures, "_save", save)
    drawn = svg_figures.draw([Results(small)], tmp_path)
    assert drawn and all((tmp_path / f"{name}.png").exists() for name in drawn)
