"""A JupyterLab and a browser for tests that click in a notebook."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 120  # seconds for a server or a kernel to answer, on a busy machine
HOOK = "synthembed.widgets.stored_notebooks.without_outputs"


def missing() -> str:
    """Why no browser can be used here; empty if one can."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install -r requirements-extras.lock"
    return "" if CHROMIUM else "no chromium on this machine: install it to look at pages"


def write(path: Path, cells: list[str]) -> Path:
    """A notebook of code cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(
        metadata=kernel, cells=[nbformat.v4.new_code_cell(source) for source in cells]
    )
    nbformat.write(notebook, path)
    return path


@contextmanager
def lab(root: Path) -> Iterator[str]:
    """JupyterLab on ``root``; gives the address of its notebooks, to which a path is added. Kernels and settings
    of this user are not touched."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, home = secrets.token_hex(8), root / ".jupyter-of-this-test"
    places = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    options = {
        "ServerApp.root_dir": root, "ServerApp.port": port, "IdentityProvider.token": token,
        "ServerApp.open_browser": False, "ServerApp.allow_root": True, "LabApp.news_url": None,
        "LabApp.expose_app_in_browser": True,  # cells that are not in sight are asked for, not looked at
        "ContentsManager.pre_save_hook": HOOK,
    }  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", *(f"--{k}={v}" for k, v in options.items())],
        env=os.environ | places, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(f"http://127.0.0.1:{port}/api?token={token}", server)
        yield f"http://127.0.0.1:{port}/doc/tree/{{}}?token={token}&reset"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(address: str, server: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab ended with {server.returncode}")
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError("JupyterLab did not answer")


@contextmanager
def page(address: str, errors: list[str]) -> Iterator:
    """A browser's page; what its console reports as an error, and our code can be the cause of, goes to ``errors``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1200, "height": 1400})
        opened.set_default_timeout(PATIENCE * 1000)
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda line: errors.append(line.text) if _is_ours(line) else None)
        opened.goto(address)
        yield opened
        browser.close()


def _is_ours(line) -> bool:
    network = re.search(r"Failed to load resource|net::|api/(news|me)|announcement|lsp/status", line.text)
    return line.type == "error" and not network


# What a test asks the Lab itself: it draws only cells that are in sight.
COUNTS = """() => Array.from(jupyterapp.shell.currentWidget.content.model.cells)
    .filter(cell => cell.type === "code").map(cell => cell.executionCount)"""
RAISED = """() => Array.from(jupyterapp.shell.currentWidget.content.model.cells)
    .filter(cell => cell.type === "code").flatMap(cell => cell.sharedModel.outputs)
    .filter(shown => shown.output_type === "error").map(shown => `${shown.ename}: ${shown.evalue}`)"""
LENGTH = "() => jupyterapp.shell.currentWidget.content.model.cells.length"
SCROLL = "number => jupyterapp.shell.currentWidget.content.scrollToItem(number, 'start')"


def run_all(opened, patience: float = PATIENCE) -> list[str]:
    """Run every cell of the notebook that is open and wait until the last one is done or one has raised; what was
    raised. ``patience`` in seconds."""
    opened.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
    opened.get_by_text(
        re.compile(r"^Python 3.*\| Idle$")
    ).first.wait_for()  # without a kernel the Lab asks for one
    opened.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
    opened.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
    end = time.monotonic() + patience
    while None in (counts := opened.evaluate(COUNTS)) and not opened.evaluate(RAISED):
        if time.monotonic() > end:
            raise TimeoutError(
                f"{counts.count(None)} of {len(counts)} cells have not run in {patience:.0f} s"
            )
        time.sleep(0.3)
    return opened.evaluate(RAISED)


def output(opened, number: int):
    """What code cell ``number`` shows of widgets; scrolled to, as the Lab draws what is in sight."""
    found = opened.locator(".jp-CodeCell").nth(number)
    found.scroll_into_view_if_needed()
    shown = found.locator(".jp-OutputArea")
    shown.locator(".widget-box").first.wait_for()
    return shown
