"""Executed notebooks as pages of the site: where their links lead."""

import json

import nbformat
from synthembed.report.web import course


def write(run, name: str, text: str) -> None:
    (run / name).mkdir(parents=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    nbformat.write(notebook, run / name / f"{name}.ipynb")


def test_links_of_a_copy_lead_to_the_sites_pages_and_of_what_it_has_not_the_words_stay(tmp_path):
    run = tmp_path / "mine"
    write(run, "01_generate", "nothing")
    write(
        run, "00_overview",
        "[next](../01_generate/01_generate.ipynb#Step-1) [mine](../../../notebooks/09_your_documents.ipynb) "
        "[word](../../../docs/glossary.md#query) [paper](https://a.b/c) [as before](01_generate.ipynb)",
    )  # fmt: skip
    assert course.write(run, tmp_path / "course") == ["00_overview", "01_generate"]
    page = json.loads((tmp_path / "course" / "00_overview.ipynb").read_text(encoding="utf-8"))
    assert "".join(page["cells"][0]["source"]) == (
        "[next](01_generate.ipynb#Step-1) mine [word](../docs/glossary.md#query) [paper](https://a.b/c) "
        "[as before](01_generate.ipynb)"
    )
