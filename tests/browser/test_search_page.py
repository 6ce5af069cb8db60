"""The search page of adapted documents in a real browser: typed at, at two widths, in both schemes, by keyboard alone."""

import re
import threading
import zlib

import lab
import numpy as np
import pytest
from synthembed.adapt import adaptation, measuring
from synthembed.adapt.reading import documents, passages
from synthembed.adapt.reading.documents import Document
from synthembed.adapt.searching import search_page
from synthembed.adapt.searching.search_index import Index

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: make extras")
pytestmark = pytest.mark.skipif(bool(lab.missing()), reason=lab.missing())

FOREIGN = [
    Document("Ämter/Sperr & müll.txt", "Sperrmüll", "Sperrige Möbel holt der Bauhof zweimal im Jahr kostenlos ab."),
    Document("ar.txt", "المكتبة", "تفتح مكتبة المدينة أبوابها من التاسعة صباحا حتى السادسة مساء كل يوم."),
    Document("ja.txt", "図書館", "図書館は午前九時から午後六時まで開いています。日曜日は休みです。"),
    Document("long.txt", "x" * 120, "Averylongwordwithoutanyblank" * 20 + " <b>not bold</b>"),
]  # fmt: skip
TRIES = ["when can I swim before work", "متى تفتح المكتبة؟"]


class Counting:
    """In the place of a model: a vector counts the terms of its text."""

    def encode(self, texts, instruction="", normalize=True):
        found = np.zeros((len(texts), 4096), np.float32)
        for row, text in zip(found, texts, strict=True):
            for term in measuring.terms(text):
                row[zlib.crc32(term.encode()) % 4096] += 1
        return found / np.maximum(1e-9, np.linalg.norm(found, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def url():
    found = passages.split([*documents.read(adaptation.EXAMPLE_FOLDER).documents, *FOREIGN])
    encoder = Counting()
    index = Index(found, encoder.encode([p.text for p in found]), encoder, "")
    about = {"before": "nDCG@10 12.3 on 42 held-out queries", "after": "nDCG@10 86.8 on 42 held-out queries"}
    server = search_page.server(index, "my documents", about, tries=TRIES)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def faults(page) -> list:
    """What axe finds, and whether anything is wider than the window."""
    found = [f"{v['id']}: {v['nodes'][0]['html'][:90]}" for v in axe.Axe().run(page).response["violations"]]
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return found + ["wider than the window"] * wide


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (390, "dark"), (1280, "dark"), (390, "light")]
)
def test_a_reader_searches_by_keyboard_alone(url, browser, width, scheme, tmp_path):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    assert page.evaluate("document.activeElement.id") == "q" and not faults(page)
    assert page.get_by_role("link", name=TRIES[0]).is_visible() and "86.8" in page.content()
    page.screenshot(path=tmp_path / "start.png")
    page.keyboard.type("Möbel abholen lassen, kostenlos?")
    page.keyboard.press("Enter")
    page.wait_for_selector("ol li")
    assert page.locator("ol li").count() == 10 and "Sperrmüll" in page.locator("ol li").first.inner_text()
    cosines = [float(c) for c in re.findall(r"cosine (-?\d\.\d\d)", page.inner_text("ol"))]
    assert cosines == sorted(cosines, reverse=True)
    assert not faults(page)
    page.screenshot(path=tmp_path / "found.png")
    first = page.locator("ol a").first
    for _ in range(6):  # title, field, its own button, first result
        page.keyboard.press("Tab")
        if first.evaluate("e => e === document.activeElement"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/document"))
    assert "What was read of Ämter/Sperr & müll.txt" in page.inner_text("main") and not faults(page)
    page.screenshot(path=tmp_path / "document.png")
    page.goto(url + "?q=" + "x" * 120)
    assert (
        "<b>not bold</b>" in page.inner_text("main") and not page.locator("ol b").count() and not faults(page)
    )
    page.goto(url)
    page.get_by_role("link", name=TRIES[1]).click()
    assert page.input_value("#q") == TRIES[1] and "المكتبة" in page.locator("ol li").first.inner_text()
    assert all(one.startswith(url) for one in asked) and not said
    context.close()
