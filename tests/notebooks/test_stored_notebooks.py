"""Notebooks as they are stored: one a stage, clean, in house style."""

import ast
import json
import re

import pytest
from synthembed.ground.files import ROOT
from synthembed.stages.record import EXPLORED, PARAMETERS, STAGES
from synthembed.widgets import exercises

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Notebooks that are no stage of a run, with the parameters of their own.
BESIDE = {
    "09_your_documents": {
        "documents", "generator", "profile", "overrides", "start", "out", "queries", "general", "peers", "mask",
        "field",
    }
}  # fmt: skip


def test_there_is_one_notebook_a_stage():
    assert [p.stem for p in NOTEBOOKS if p.stem not in BESIDE] == list(STAGES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_stored_clean_and_in_house_style(path):
    notebook = json.loads(path.read_text())
    cells = notebook["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert not any(c["outputs"] or c["execution_count"] for c in code), "stored with outputs"
    tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    names = re.findall(r"^(\w+) = ", "".join(tagged[0]["source"]), re.M)
    explored = {"explore"} if path.stem in EXPLORED else set()
    assert set(names) == BESIDE.get(path.stem, PARAMETERS | explored)
    assert cells[0]["cell_type"] == "markdown" and "".join(cells[0]["source"]).startswith(
        f"# {path.stem[:2]} " if path.stem[:2] != "00" else "# "
    )
    assert "assert " in "".join(code[-1]["source"]), "the last cell checks something"
    assert max(len("".join(c["source"]).splitlines()) for c in code) <= 16


def prose(cells: list[dict]) -> str:
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def anchor_of(heading: str) -> str:
    """A heading as GitHub names it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def anchors(page) -> set[str]:
    """What a link can lead to on a page of ours."""
    return set(map(anchor_of, re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_says_what_one_learns_and_ends_with_a_summary(path):
    cells = json.loads(path.read_text())["cells"]
    first, text = "".join(cells[0]["source"]), prose(cells)
    for said in ("You will learn", "You need", "It takes"):
        assert f"**{said}**" in first, said
    links = re.findall(r"\]\((\w+)\.ipynb\)", first)
    assert set(links) >= set(STAGES) - {path.stem}, "the chapter map lacks a notebook"
    assert "## Summary" in text and "**Further reading.**" in text and "arxiv.org/abs/2401.00368" in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_has_three_to_five_exercises_whole_and_numbered(path):
    cells = json.loads(path.read_text())["cells"]
    numbers = re.findall(r"^### Exercise (\d)", prose(cells), re.M)
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)] and 3 <= len(numbers) <= 5
    asked = [c for c in cells if "exercise" in c["metadata"].get("tags", [])]
    assert len(asked) == len(numbers)
    assert all("".join(c["source"]).startswith("answer = None") for c in asked)
    solved = exercises.solved(cells)
    assert all("answer" in c["source"] for a, c in zip(cells, solved, strict=True) if a != c)
    for number, cell in zip(
        numbers, (c for c in cells if "exercises.check(" in "".join(c["source"])), strict=True
    ):
        assert re.search(rf"exercises\.check\(\s*{number},", "".join(cell["source"]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_cell_to_explore_or_answer_in_writes_over_no_name_that_is_used_after_it(path):
    """`answer` and imports aside: what a stage makes must not depend on what a reader does."""
    left: set[str] = set()
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            names = [n for n in ast.walk(ast.parse("".join(cell["source"]))) if isinstance(n, ast.Name)]
            bound = {n.id for n in names if isinstance(n.ctx, ast.Store)}
            if {"exercise", "explore"} & set(cell["metadata"].get("tags", [])):
                left |= bound - {"answer"}
            else:
                assert not left & {n.id for n in names if isinstance(n.ctx, ast.Load)} - bound
                left -= bound


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_a_notebook_links_to_in_this_repository_is_there(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(json.loads(path.read_text())["cells"])):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve()
        assert page.exists(), target
        assert not anchor or page.suffix != ".md" or anchor in anchors(page), target


# Words by which a term of the glossary goes in a sentence, where they are not its heading.
SHORT = {
    "Asymmetric and symmetric tasks": "asymmetric", "Cosine similarity": "cosine", "Spearman correlation": "Spearman",
    "Confidence interval": "95 % interval", "Decoder-only model": "decoder-only", "Learning rate schedule": "learning rate",
    "Embedding": "text embedding", "In-batch negatives": "in-batch negative", "Static embedding": "mean of token embeddings",
}  # fmt: skip
TERMS = re.findall(r"^### (.+)$", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.M)


def sentences() -> list[str]:
    """The markdown cells of all notebooks in reading order, without code, headings and the chapter maps; of links
    that lead elsewhere than into the glossary nothing, and of those only the words and the anchor."""
    found = []
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                text = re.sub(r"^```.*?^```|^#[^\n]*$", "", "".join(cell["source"]), flags=re.M | re.S)
                text = re.sub(r"^.*_generate\.ipynb\).*_beyond\.ipynb\).*$", "", text, flags=re.M)
                text = re.sub(r"\[([^\]]*)\]\(\.\./docs/glossary\.md#([^)]*)\)", r"[#\2# \1]", text)
                found.append(re.sub(r"\[[^\]]*\]\([^)]*\)", "", text))
    return found


@pytest.mark.parametrize("term", TERMS)
def test_a_term_of_the_glossary_is_linked_where_it_first_stands(term):
    text = "\n".join(sentences())
    link = text.find(f"[#{anchor_of(term)}#")
    assert link >= 0, "no notebook leads to it"
    word = rf"(?<![\w#-]){re.escape(SHORT.get(term, term))}s?(?![\w#-])"
    first = re.search(word, text, re.I)
    assert not first or first.start() > link, f"unlinked: {text[first.start() - 80 : first.end() + 40]!r}"


def test_the_minutes_of_the_overview_are_those_of_the_committed_run():
    """To within half of them, where "seconds" are less than half a minute: another machine of the same kind is no contradiction."""
    cells = json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))["cells"]
    said = re.findall(r"^\| \[.*\]\((\d\d_\w+)\.ipynb\) .*\| (?:(\d+) min|seconds) \|$", prose(cells), re.M)
    assert len(said) == 7
    for stage, minutes in said:
        record = json.loads((ROOT / "results" / "laptop" / stage / "stage.json").read_text(encoding="utf-8"))
        minutes = int(minutes or 0)
        assert abs(record["wall_s"] / 60 - minutes) <= 0.5 * minutes + 0.5 * (not minutes), stage


@pytest.mark.parametrize("name", ["08_beyond", "09_your_documents"])
def test_exercises_that_need_no_run_are_judged(name, capsys):
    """The other notebooks' are run with the smoke run (test_smoke_run.py); these two are no part of it."""
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    asked = [n for n, c in enumerate(cells) if "exercise" in c["metadata"].get("tags", [])]
    for answers, verdict in (
        (cells, exercises.NOT_SOLVED), (exercises.solved(cells), exercises.SOLVED), (None, exercises.WRONG),
    ):  # fmt: skip
        known: dict = {}
        for n in asked:
            exec("".join(answers[n]["source"]) if answers else "answer = 'nobody gives this'", known)
            exec("".join(cells[n + 1]["source"]), known)
        said = capsys.readouterr().out.splitlines()
        assert len(said) == 3 and all(f": {verdict}." in line for line in said), said


def opened(**given) -> dict:
    """Notebook 09's names after its first two code cells, with parameters as papermill hands them over."""
    cells = json.loads((ROOT / "notebooks" / "09_your_documents.ipynb").read_text(encoding="utf-8"))["cells"]
    known: dict = {}
    exec("".join(cells[1]["source"]), known)
    known |= given
    exec("\n".join("".join(cell["source"]) for cell in cells[2:4]), known)
    return known


def test_notebook_09_takes_its_parameters_as_text_too(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path / "runs"))
    (tmp_path / "letters.of.2024").mkdir()
    folder = str(tmp_path / "letters.of.2024")
    known = opened(
        documents=folder, peers="False", general="0", queries="2", mask=None, field="body"
    )  # papermill -r
    settings = known["settings"]
    assert (settings.peers, settings.general, settings.queries, settings.mask) == (False, 0, 2, "")
    assert settings.text_field == "body"
    assert known["out"] == tmp_path / "runs" / "adapt" / "letters.of.2024", (
        "the folder that the command takes"
    )
    with pytest.raises(ValueError, match=r"documents = 2024 arrived as int.*-r documents"):
        opened(documents=2024)  # papermill -p
    with pytest.raises(ValueError, match="peers"):
        opened(documents=folder, peers="perhaps")
