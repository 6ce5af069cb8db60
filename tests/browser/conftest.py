"""The browser that pages are looked at with."""

import lab
import pytest


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=lab.CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
