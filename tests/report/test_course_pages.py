"""Pages of the site as they are written: outputs of executed notebooks, and the first page."""

import json
import re
import shutil

import pytest
from synthembed.ground.files import ROOT
from synthembed.report.web import book, course


def shown(page: str) -> str:
    output = {"data": {"text/html": page}}
    course._output(output)
    return output["data"]["text/html"]


def test_what_brings_colours_of_its_own_stays_on_a_light_card():
    for coloured in (
        '<p style="color:#767676">late</p>',
        '<span style="background:rgba(0,114,178,.25)">word</span>',
        '<svg><rect fill="#000"/></svg>',
        "<style>#T_1 td { background-color: #fff }</style><table><tr><td>1</td></tr></table>",
    ):
        assert "for-light" in shown(coloured).partition(">")[0], coloured
    assert shown("<p>a colour is named in words</p>") == "<p>a colour is named in words</p>"
    plain = shown("<table><tr><td>1</td></tr></table>")
    assert plain.startswith('<div class="report">') and "for-light" not in plain


def test_a_link_to_a_notebook_leads_to_its_page():
    assert shown('<a href="../x/03_train.ipynb#Loss">loss</a>') == '<a href="03_train.html">loss</a>'


def test_the_first_page_has_the_claims_of_the_other_committed_runs(tmp_path, monkeypatch):
    other = tmp_path / "results" / "longer"
    shutil.copytree(ROOT / "results" / "laptop", other)
    monkeypatch.setattr(book.run_folders, "committed", lambda: other.parent)
    (tmp_path / "static").mkdir()
    (said,) = book._other_runs(ROOT / "results" / "laptop", tmp_path / "static")
    ledger = json.loads((other / "07_report" / "claims.json").read_text())
    assert "`longer`" in said and "1 seed:" in said
    assert len(ledger) == 12 and all(claim["id"] in said for claim in ledger)
    href = re.search(r'href="_static/([^"]+)"', said)[1]
    report = (tmp_path / "static" / href).read_text()
    assert "longer" in href and ledger[0]["claim"] in report and ".ipynb" not in report
    assert not book._other_runs(other, tmp_path / "none")


def test_a_site_is_replaced_in_a_checkout_that_stays(tmp_path, monkeypatch):
    """A worktree of the branch that GitHub's pages are made of, which leave out _static without .nojekyll."""
    pytest.importorskip("sphinx", reason="Sphinx is not installed: make extras")

    def one_page(run, source):
        (source / "_static").mkdir(parents=True)
        (source / "index.md").write_text("# A page\n")

    monkeypatch.setattr(book, "write_source", one_page)
    out = tmp_path / "site"
    (out / ".git").mkdir(parents=True)
    (out / "CNAME").write_text("a.b")
    book.build(tmp_path, out)
    (out / "old.html").write_text("of the last run")
    book.build(tmp_path, out)
    assert (out / ".git").is_dir() and (out / "CNAME").read_text() == "a.b" and (out / ".nojekyll").exists()
    assert (out / "index.html").exists() and not (out / "old.html").exists()
