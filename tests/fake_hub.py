"""A hub that a test serves itself, processes that use it, and splits as ``datasets`` caches them."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from datasets import load_dataset

COMMIT = "0" * 40


class Hub(ThreadingHTTPServer):
    """The part of the hub's API that a download of data sets uses: {repository: {path: bytes}}."""

    daemon_threads = True

    def __init__(self, repositories: dict[str, dict[str, bytes]]):
        self.repositories = repositories
        super().__init__(("127.0.0.1", 0), HubHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        api, parts = parts[0] == "api", parts[parts[0] == "api" :]
        name, rest = "/".join(parts[1:3]), parts[3:]
        files = self.server.repositories.get(name)
        if files is None:
            return self.missing("RepoNotFound")
        if not api:  # datasets/<name>/resolve/<revision>/<path>
            data = files.get("/".join(rest[2:]))
            return self.missing("EntryNotFound") if data is None else self.send(data)
        if rest[:1] == ["tree"]:
            tree = [
                {"type": "file", "path": p, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                for p, d in files.items()
            ]
            return self.send(json.dumps(tree).encode())
        about = {"_id": "0", "id": name, "sha": COMMIT, "private": False, "disabled": False, "downloads": 0,
                 "likes": 0, "tags": [], "siblings": [{"rfilename": p} for p in files]}  # fmt: skip
        self.send(json.dumps(about).encode())

    def missing(self, what: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", what)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args):
        pass


def elsewhere(code: str, hub: Hub, folder, *arguments: str) -> str:
    """Run code in a process of its own, whose hub is ``hub`` and whose cache is ``folder``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder), "PYTHONPATH": os.pathsep.join(sys.path),
                    "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "no_proxy": "127.0.0.1"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def cached(folder, split: str, rows: list[dict]) -> None:
    """A split in the form in which ``datasets`` caches it."""
    folder.mkdir(parents=True, exist_ok=True)
    name = folder.parents[2].name.partition("___")[2]
    load_dataset("json", data_files=written(folder, rows), split="train", cache_dir=str(folder / "made"))
    next((folder / "made").rglob("*.arrow")).rename(folder / f"{name}-{split}.arrow")


def written(folder, rows) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
