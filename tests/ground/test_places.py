"""Paths, hub ids and names of ours are told apart, and never turn into one another."""

from pathlib import Path

import pytest
from synthembed.ground import places
from synthembed.ground.weights import embedded


@pytest.fixture
def shell(tmp_path, monkeypatch) -> Path:
    """The folder of a shell somewhere else than the project."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("written", ["texts.jsonl", "./texts.jsonl", "data/texts.jsonl", "owner/name"])
def test_a_relative_path_is_the_shells_and_kept_whole(shell, written):
    (shell / written).parent.mkdir(exist_ok=True)
    (shell / written).write_text("x")
    assert places.resolve(written) == str(shell / written) == places.resolve(str(shell / written))
    assert places.name_for(places.resolve(written)) == str(shell / written)


def test_what_the_shell_lacks_is_looked_for_beside_the_profile(shell, tmp_path):
    (tmp_path / "mine.jsonl").write_text("profile's")
    assert places.resolve("mine.jsonl", [tmp_path]) == str(tmp_path / "mine.jsonl")
    (shell / "mine.jsonl").write_text("shell's")
    assert places.resolve("mine.jsonl", [tmp_path]) == str(shell / "mine.jsonl")


@pytest.mark.parametrize("written", ["models/base", "base", "mistralai/Mistral-7B-v0", "a/b/c"])
def test_a_path_that_is_not_there_never_becomes_a_hub_id(shell, written):
    with pytest.raises(places.PlaceError, match="no file or folder") as said:
        places.resolve(written)
    assert str(shell) in str(said.value) and (written == "a/b/c" or f"write hub:{written}" in str(said.value))
    with pytest.raises(embedded.BackboneError, match="no file or folder"):
        embedded.folder_of(written)


def test_hub_ids_are_marked_or_the_papers_own(shell):
    assert places.resolve("hub:owner/name") == "hub:owner/name"
    assert embedded.folder_of("hub:owner/name") == "owner/name" == embedded.original("hub:owner/name")
    assert places.resolve("mistralai/Mistral-7B-v0.1") == "hub:mistralai/Mistral-7B-v0.1"
    (shell / "hub:owner").mkdir()
    assert places.hub_id("hub:owner/name") == "owner/name" and places.hub_id("./owner/name") is None
    with pytest.raises(places.PlaceError, match="no hub id"):
        places.resolve("hub:/etc/passwd")


def test_a_path_to_be_filled_stays_and_is_refused_when_it_is_read(shell):
    assert places.resolve("./later.jsonl") == "./later.jsonl"
    with pytest.raises(places.PlaceError, match=r"no file or folder ./later.jsonl .looked in"):
        places.name_for("./later.jsonl")


def test_a_folders_digest_is_that_of_its_files(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").mkdir()
    first = places.digest(tmp_path)
    (tmp_path / "b" / "c").write_text("2")
    second = places.digest(tmp_path)
    (tmp_path / "b" / "c").write_text("3 and more")
    assert len({first, second, places.digest(tmp_path)}) == 3
    assert places.digest(tmp_path / "nothing") == ""


def test_without_a_home_caches_go_to_the_project(monkeypatch):
    for variable in places.CACHES:
        monkeypatch.setenv(variable, "")  # only what was set before it went is taken back at the end
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", "/nowhere/at/all")
    monkeypatch.setenv("MPLCONFIGDIR", "/mine")
    places.keep_out_of_home()
    import os

    assert os.environ["XDG_CACHE_HOME"] == str(places.ROOT / ".cache/")
    assert os.environ["MPLCONFIGDIR"] == "/mine"
    assert embedded.cache_folder() == places.ROOT / ".cache" / "synthembed"


def test_a_home_that_can_be_written_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("IPYTHONDIR", raising=False)
    places.keep_out_of_home()
    import os

    assert "IPYTHONDIR" not in os.environ and not list(tmp_path.iterdir())
