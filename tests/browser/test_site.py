"""The site of the committed run, walked page by page in a real browser, with the network cut off."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import lab
import pytest
from synthembed.ground.files import ROOT

pytest.importorskip("sphinx", reason="Sphinx is not installed: make extras")
pytestmark = pytest.mark.skipif(bool(lab.missing()), reason=lab.missing())

MAIN = ("index", "report", "examples", "numbers", "course/03_train", "reference/model", "docs/decisions")
LINKS = """[...document.querySelectorAll('a[href], img[src], script[src], link[rel=stylesheet]')]
  .map(e => e.getAttribute('href') ? e.href : e.src).filter(Boolean)"""
BARE = "[...document.querySelectorAll('main img:not([alt]), main img[alt=\"\"]')].map(e => e.src)"
WIDE = """document.documentElement.scrollWidth > innerWidth ? ['the page'] : [...document.querySelectorAll('article *')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, pre, .highlight, math, .pst-scrollable-table-container'))
  .map(e => e.outerHTML.slice(0, 120))"""
# One element for each pair of colours in which the page writes, at each size: what axe then looks at for contrast.
WRITTEN = """() => {
  const seen = new Set();
  document.querySelectorAll('[data-written]').forEach(e => e.removeAttribute('data-written'));
  for (const element of document.body.querySelectorAll('*')) {
    if (![...element.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !element.checkVisibility()) continue;
    const { color, fontSize, fontWeight, opacity } = getComputedStyle(element), grounds = [];
    for (let e = element; e; e = e.parentElement) {
      const { backgroundColor, backgroundImage, opacity } = getComputedStyle(e);
      if (backgroundColor !== 'rgba(0, 0, 0, 0)' || backgroundImage !== 'none' || opacity !== '1') {
        grounds.push(backgroundColor, backgroundImage, opacity);
      }
      if (/^rgb\\(/.test(backgroundColor) && backgroundImage === 'none') break;
    }
    const key = [color, fontSize, fontWeight, opacity, ...grounds].join();
    if (!seen.has(key)) element.setAttribute('data-written', '');
    seen.add(key);
  }
  return seen.size;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Built once by the command, offline; SITE=folder is one that was built before."""
    if built := os.environ.get("SITE"):
        return Path(built).resolve()
    out = tmp_path_factory.mktemp("book") / "site"
    command = [sys.executable, "-m", "synthembed", "site", "--run", "results/laptop", "--out", str(out)]
    environment = {
        **os.environ,
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_COLOR": "1",
    }
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr, done.stdout + done.stderr
    return out


class Watched:
    """A page of the browser that notes what it should not do; what it asks of another machine has no way there."""

    def __init__(self, browser, width: int = 1280, scheme: str = "light"):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            reduced_motion="reduce",
            offline=True,
        )
        self.page, self.wrong, self.window = self.context.new_page(), [], (width, scheme)
        self.page.on("request", self._asked)
        self.page.on(
            "console", lambda m: m.type in ("error", "warning") and self.wrong.append(f"console: {m.text}")
        )
        self.page.on("pageerror", lambda e: self.wrong.append(f"error: {e}"))
        self.page.on("requestfailed", lambda r: self.wrong.append(f"failed: {r.url}"))

    def _asked(self, request) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.wrong.append(f"asked for {request.url}")

    def open(self, path: Path) -> None:
        self.page.goto(path.as_uri(), wait_until="load")

    def change(self, width: int, scheme: str) -> None:
        """Another window and another light, without loading the page again."""
        if self.window == (width, scheme):
            return
        self.window = width, scheme
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme)
        self.page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")


def pages(site: Path) -> list[str]:
    return sorted(p.relative_to(site).as_posix() for p in site.rglob("*.html") if "_static" not in p.parts)


def test_reports_that_stand_alone_lead_to_files_of_the_site(site):
    reports = [*site.glob("_static/report/*.html"), *site.glob("_static/report-*.html")]
    assert len(reports) >= 2  # its own, and the other committed run's
    for report in reports:
        links = re.findall(r'href="([^"#:]+)[#"]', report.read_text(encoding="utf-8"))
        for link in links:
            assert (report.parent / link).resolve().is_relative_to(site), f"{report.name}: {link}"
            assert (report.parent / link).is_file(), f"{report.name}: {link}"


def test_every_page_is_whole_at_both_widths_and_in_both_lights(site, browser):
    """No console error, nothing asked of another machine, nothing wider than the screen, no figure without
    words, and every link of every page leads to a file, and to a place in it, that is there."""
    found, places, wrong, watched = {}, {}, [], Watched(browser)
    windows = [(1280, "light"), (390, "dark")]
    for name in pages(site):
        watched.open(site / name)
        found[name] = watched.page.evaluate(LINKS)
        places[name] = set(watched.page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)"))
        wrong += [f"{name}: no words for {image}" for image in watched.page.evaluate(BARE)]
        for window in windows:
            watched.change(*window)
            if wide := watched.page.evaluate(WIDE):
                wrong.append(f"{name} at {window}: wider than the screen: {wide[:3]}")
        windows.reverse()  # the next page is opened in the window that is there
        wrong += [f"{name}: {w}" for w in watched.wrong]
        watched.wrong.clear()
    watched.context.close()
    for name, links in found.items():
        for link in links:
            target, place = urldefrag(link)
            if not target.startswith("file:"):
                continue  # of the web: offered to the reader, asked for by nobody
            path = Path(unquote(target.removeprefix("file://").partition("?")[0]))
            if not path.is_file():
                wrong.append(f"{name}: no file {link}")
                continue
            page = path.relative_to(site).as_posix() if path.is_relative_to(site) else ""
            if place and page in places and unquote(place) not in places[page]:
                wrong.append(f"{name}: no place {link}")
    assert len(found) > 30 and not wrong, "\n".join(sorted(set(wrong)))


def test_the_main_pages_have_no_serious_finding_of_axe(site, browser):
    """At both widths and in both lights. Every rule runs at each width; contrast, by far the slowest and all that
    a light changes, in each light for every pair of colours of the page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    watched, wrong = Watched(browser), []

    def look(where: str, context: dict | None, options: dict) -> None:
        found = axe.run(watched.page, context, {"resultTypes": ["violations"], **options}).response
        for violation in found["violations"]:
            if violation["impact"] in ("serious", "critical"):
                nodes = [n["html"][:160] for n in violation["nodes"][:3]]
                wrong.append(f"{where}: {violation['id']} ({len(violation['nodes'])}): {nodes}")

    for name in MAIN:
        watched.open(site / f"{name}.html")
        for width, scheme in ((1280, "light"), (1280, "dark"), (390, "dark"), (390, "light")):
            watched.change(width, scheme)
            watched.page.wait_for_timeout(50)
            where = f"{name} at {width}, {scheme}"
            if scheme == "light":
                look(where, None, {"rules": {"color-contrast": {"enabled": False}}})
            assert watched.page.evaluate(WRITTEN) > 5, where
            look(where, {"include": [["[data-written]"]]}, {"runOnly": ["color-contrast"]})
            if folder := os.environ.get("SCREENSHOTS"):
                target = Path(folder) / f"{name.replace('/', '-')}-{width}-{scheme}.png"
                watched.page.screenshot(path=target)
    watched.context.close()
    assert not wrong, "\n".join(wrong)


def test_formulas_are_drawn_without_scripts_and_the_first_figure_is_heard(site, browser):
    watched = Watched(browser)
    watched.open(site / "course" / "03_train.html")
    assert watched.page.locator("math").count() > 3 and watched.page.locator("math mfrac").count() >= 1
    assert "$" not in watched.page.locator("main p").all_inner_texts()[0]
    watched.open(site / "report.html")
    heard = watched.page.locator("figure svg[role=img]").first.get_attribute("aria-label")
    assert "Scores in per cent" in heard
    watched.context.close()


def test_examples_are_found_by_words_and_filters_and_show_their_request(site, browser):
    watched = Watched(browser)
    page = watched.page
    watched.open(site / "examples.html")
    page.wait_for_selector("#examples select#examples-family option:nth-child(3)", state="attached")
    every = page.locator("#examples .count").inner_text()
    page.select_option("#examples-family", "bitext")
    fewer = page.locator("#examples .count").inner_text()
    of = int(fewer.rpartition(" ")[2].replace(",", ""))
    assert every != fewer and page.locator("#examples .record").count() == min(of, 20)
    assert all(t.startswith("bitext") for t in page.locator("#examples .record > .where").all_inner_texts())
    word = page.locator("#examples .record dd").nth(1).inner_text().split()[0]
    page.fill("#examples-search", word)
    assert all(word.lower() in t.lower() for t in page.locator("#examples .record dl").all_inner_texts())
    page.locator("#examples .record summary").first.click()
    page.wait_for_selector("#examples .record details[open] pre")
    assert len(page.locator("#examples .record details[open] pre").inner_text()) > 200
    page.fill("#examples-search", "no such word anywhere")
    assert page.locator("#examples .count").inner_text() == "Nothing found."
    assert not watched.wrong
    watched.context.close()


def test_a_number_leads_to_how_it_was_made(site, browser):
    watched = Watched(browser)
    page = watched.page
    watched.open(site / "numbers.html")
    card = page.locator("#numbers .record").first
    stage = card.locator(".where").inner_text().rpartition(" · ")[2]
    card.locator("a").click()
    page.wait_for_url("**/made.html#*")
    heading = page.evaluate("document.querySelector(location.hash).closest('section').innerText")
    assert stage in heading and "command" in heading and "cost" in heading
    assert not watched.wrong
    watched.context.close()


def test_the_search_finds_a_page(site, browser):
    watched = Watched(browser)
    watched.open(site / "search.html")
    watched.page.goto((site / "search.html").as_uri() + "?q=temperature")
    watched.page.wait_for_selector("#search-results li a")
    assert not watched.wrong
    watched.context.close()


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    from synthembed.report.web import book

    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(book.SiteError, match="something else than a site"):
        book.build(ROOT / "results" / "laptop", tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
