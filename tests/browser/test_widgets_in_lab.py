"""Widgets in JupyterLab, clicked in a real browser: what is typed reaches the kernel, and its answer the page."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from synthembed.ground.files import ROOT

pytest.importorskip("playwright", reason="playwright is not installed (requirements-extras.lock)")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine")

MODEL = """
import numpy as np

def letters(texts, instruction):
    counts = np.array([[1.0 + (instruction + t).lower().count(c) for c in 'abcdefghij'] for t in texts])
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)
"""
CELLS = [
    "from synthembed.widgets.similarities import neighbours, playground\n"
    "playground({'letters': lambda: letters}, 'bad cab', ['a cab', 'jig'], '', {'letters': [0.5, 0.25]})",
    "neighbours(['one', 'two'], ['x', 'y'], {'base': [[[1, 0.9]], [[0, 0.8]]]})",
    "from types import SimpleNamespace\n"
    "from synthembed.widgets.passkey_viewer import passkeys\n"
    "data = SimpleNamespace(length=8, queries=['What is the pass key of Ada Abara?'], answers=[0],\n"
    "                       documents=[\"Before. Ada Abara's pass key is 7. Keep it in mind. \" + 'After all. ' * 9])\n"
    "passkeys([data], lambda text: len(text.split()), 2, 8)",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator:
    """A page of JupyterLab with a notebook of three widgets, run from top to bottom."""
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    notebook.cells = [nbformat.v4.new_code_cell(c) for c in (MODEL.strip(), *CELLS)]
    nbformat.write(notebook, folder / "widgets.ipynb")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = _server(folder, port)
    try:
        with sync_playwright() as browsers:
            browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 1600})
            page.errors = []
            page.on("pageerror", lambda error: page.errors.append(str(error)))
            page.set_default_timeout(120_000)
            page.goto(f"http://127.0.0.1:{port}/lab/tree/widgets.ipynb")
            page.wait_for_selector(".jp-Notebook .jp-Cell")
            page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
            page.click("text=Run >> nth=0")
            page.click("text=Run All Cells >> nth=0")
            page.wait_for_selector("text=tokens before the end")
            yield page
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


def _server(folder: Path, port: int) -> subprocess.Popen:
    words = ["--no-browser", f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--allow-root",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", f"--ServerApp.root_dir={folder}"]  # fmt: skip
    paths = os.pathsep.join([str(ROOT / "lib"), os.environ.get("PYTHONPATH", "")])
    places = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "RUNTIME")}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | places | {"PYTHONPATH": paths},
    )  # fmt: skip
    for _ in range(240):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
            return server
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
            assert server.poll() is None, "the server ended"
    raise TimeoutError("JupyterLab did not answer in two minutes")


def test_a_query_that_is_typed_changes_the_table(page):
    assert page.locator("td:has-text('0.500')").count() == 1
    query = page.locator(".jp-OutputArea input[type=text]").first
    query.fill("jig head")
    query.press("Enter")
    page.wait_for_selector("td:has-text('0.500')", state="detached")
    assert page.locator("th:has-text('letters')").count() == 1
    assert not page.errors


def test_a_slider_chooses_another_text_and_its_neighbours(page):
    page.wait_for_selector("td:has-text('y, 0.90')")
    page.locator(".widget-slider .noUi-handle").first.press("ArrowRight")
    page.wait_for_selector("td:has-text('x, 0.80')")
    assert not page.errors


def test_a_window_is_made_narrower(page):
    before = page.locator("text=tokens before the end").inner_text()
    page.locator(".widget-slider .noUi-handle").last.press("Home")
    page.wait_for_function("said => !document.body.innerText.includes(said)", arg=before)
    assert "This model has too few" in page.locator("text=tokens before the end").inner_text()
    assert not page.errors
