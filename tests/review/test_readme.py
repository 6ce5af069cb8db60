"""The README's parts follow from the committed run, and every number of its prose is the run's."""

import re
from pathlib import Path

import pytest
from made_runs import embedded, write_run
from synthembed.ground.files import ROOT, read_json, write_json
from synthembed.report.results import Results
from synthembed.review import readme

PAGE = ROOT / "README.md"


def test_the_readme_is_what_the_committed_runs_write(tmp_path):
    copy = tmp_path / "README.md"
    copy.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    runs = set(
        re.findall(r"written by `synthembed report --run (\w+) --readme`", PAGE.read_text(encoding="utf-8"))
    )
    assert "laptop" in runs
    for run in runs:
        readme.write(Results(ROOT / "results" / run), copy)
        assert copy.read_text() == PAGE.read_text(), f"synthembed report --run {run} --readme writes it anew"


def test_it_is_short_and_begins_with_a_picture_that_is_there():
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("\n") < 120
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", text)
    assert len(pictures) == 1 and text.index("![") < text.index("\n## ")
    (alt, path), *_ = pictures
    assert (ROOT / path).is_file() and "untouched" in alt
    assert len(re.findall(r"^\d\. ", text.partition("<!-- /finding")[0], re.M)) == 3


def test_every_link_of_the_first_pages_leads_somewhere():
    for page in (PAGE, ROOT / "docs" / "review.md", ROOT / "docs" / "commands.md", ROOT / "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_of_the_first_pages_is_one():
    from synthembed.commands.command_line import app

    known = {c.name or c.callback.__name__ for c in app.registered_commands} | {"site"}
    for page in (PAGE, ROOT / "docs" / "review.md", ROOT / "docs" / "commands.md"):
        text = page.read_text(encoding="utf-8")
        used = re.findall(r"(?:bin/|`)synthembed ([a-z]+)\b", text) + re.findall(r"^s (\w+)", text, re.M)
        assert used and set(used) <= known, page.name
    assert set(used) == known, "docs/commands.md has every command"


@pytest.fixture
def made(tmp_path) -> Path:
    rows = [*embedded("base", 40), *embedded("trained", 30, seed=42), *embedded("minilm", 75)]
    top = write_run(tmp_path / "made", {"rows": rows}, setting="synthetic")
    record = read_json(top / "03_train" / "stage.json")
    write_json(top / "03_train" / "stage.json", record | {"steps": 32})
    return top


def test_a_run_that_got_worse_says_so(made):
    first, second, third = readme.finding(Results(made))
    assert "from 40.5 to 30.5, by -10.0" in first
    assert "(75.5) is ahead of it" in second
    assert "paper's 0 claims" in third


def test_a_run_without_base_or_training_has_no_finding(made):
    write_json(made / "04_evaluate" / "scores.json", {"rows": embedded("minilm", 75)})
    assert readme.finding(Results(made)) == [
        "Base and trained model have not both been evaluated in this run."
    ]


MARK = "<!-- {name}: written by `synthembed report --run {run} --readme` -->\n"


def test_a_run_writes_its_own_parts_alone(made, tmp_path):
    (made / "07_report").mkdir(exist_ok=True)
    write_json(
        made / "07_report" / "claims.json",
        [
            {"id": "first", "verdict": "holds"},
            {"id": "second", "verdict": "cannot be judged here"},
            {"id": "third", "verdict": "holds"},
        ],
    )
    page = tmp_path / "page.md"
    other = MARK.format(name="claims", run="another") + "as it was\n<!-- /claims -->\n"
    page.write_text(other + MARK.format(name="claims", run="made") + "old\n<!-- /claims -->\nthe end\n")
    readme.write(Results(made), page)
    text = page.read_text()
    assert text.startswith(other) and text.endswith("<!-- /claims -->\nthe end\n")
    assert "- **shown here**: first, third\n- **not shown here**: second\n<!--" in text
    assert "results/made/07_report/tables/claims.md" in text and "old" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no marks\n", r"page\.md has no <!-- picture: written by `synthembed report --run made"),
        (MARK.format(name="minutes", run="another"), r"has no <!-- picture"),
        (MARK.format(name="minutes", run="made"), "no <!-- /minutes --> after"),
        (MARK.format(name="poem", run="made") + "<!-- /poem -->", "unknown part 'poem'"),
    ],
)
def test_a_page_without_a_mark_is_named(made, tmp_path, text, said):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(readme.MarkMissing, match=said):
        readme.write(Results(made), page)
    assert page.read_text() == text
