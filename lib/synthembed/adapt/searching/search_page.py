"""A page that searches the documents, served to this machine alone."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import perf_counter
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader

from synthembed.adapt.searching.search_index import Index

PACKAGE_DATA = ("templates/*",)  # read here, and so part of the code's fingerprint
MOST_SIGNS = 2_000  # of a query
LOOPBACK = "127.0.0.1"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
}  # fmt: skip


class PortError(RuntimeError):
    """A port that the page cannot be served at; the message names it."""


@cache
def templates() -> Environment:
    loader = FileSystemLoader(Path(__file__).parents[1] / "templates")
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)


def results(index: Index, query: str, count: int = 10) -> list[dict]:
    """What is found for a query: score, document, title and text of each passage, best first."""
    return [
        {"score": round(score, 4), "document": p.document, "title": p.title, "text": p.body}
        for score, p in index.search(query, count)
    ]


def server(
    index: Index, name: str, about: dict, port: int = 0, tries: Sequence[str] = ()
) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 (``port`` 0: any that is free), not yet started: "/" is the page, "/search?q=" the
    same as JSON, "/document?id=" what was read of one document. ``about`` are scores that the page tells (label → text),
    ``tries`` queries that it offers. A request under another host's name is refused, as a page of another site could make
    one."""
    lock = threading.Lock()  # one encoding at a time: a CPU has nothing to give to a second

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            host = re.sub(r":\d+$", "", self.headers.get("Host", ""))  # port 80 is not said
            if host not in (LOOPBACK, "localhost"):
                return self._send(403, "text/plain", "this page is served to this machine alone")
            at = urlsplit(self.path)
            given = parse_qs(at.query)
            query = given.get("q", [""])[0][:MOST_SIGNS].strip()
            wanted = given.get("id", [""])[0]
            whole = [p for p in index.passages if at.path == "/document" and p.document == wanted]
            if at.path not in ("/", "/search") and not whole:
                return self._send(
                    404, "text/plain", "there is /, /search?q= and /document?id= of one that is indexed"
                )
            start = perf_counter()
            with lock:
                found = results(index, query) if query else []
            spent = 1000 * (perf_counter() - start)
            if at.path == "/search":
                told = {"query": query, "ms": round(spent, 1), "results": found}
                return self._send(200, "application/json", json.dumps(told, ensure_ascii=False))
            page = templates().get_template("search.html.jinja")
            self._send(200, "text/html", page.render(
                name=name, about=about, query=query, found=found, ms=spent, count=len(index.passages),
                documents=len({p.document for p in index.passages}), whole=whole, tries=[] if query or whole else tries,
            ))  # fmt: skip

        def _send(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            for header, value in HEADERS.items():
                self.send_header(header, value)
            with suppress(ConnectionError):  # of a browser that asks anew before it was answered
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args):
            pass  # what a reader searches for is nobody's business

    try:
        return ThreadingHTTPServer((LOOPBACK, port), Handler)
    except OSError as error:
        raise PortError(
            f"port {port} of {LOOPBACK} cannot be used ({error.strerror}): --port names another, 0 any that is free"
        ) from None
