"""What is published of a run, and its way to a hub that the test serves itself."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from made_runs import row, write_run
from synthembed.ground.files import read_json, write_json
from synthembed.review import checking, publication
from synthembed.review.inspection.found import doubt, wrong


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run with every part that is published; its review is the test's own."""
    rows = [row("trained", "embedded", "EmbeddedSTSGeneral", "STS", 61.0, seed=42)]
    statistics = {"examples": 9, "language_count": 1, "instructions": 3, "families": {}, "languages": {}}
    top = write_run(tmp_path / "mine", {"rows": rows}, statistics=statistics, setting="synthetic")
    record = read_json(top / "03_train/stage.json")
    settings = {
        k: record["settings"][k] for k in ("seed", "seeds", "data", "backbone", "lora", "pretrain", "train")
    }
    data = {"examples": 9, "sets": {"synthetic": {"examples": 9}}}
    write_json(top / "03_train/stage.json", record | {"settings": settings, "data": data, "steps": 2})
    files = {
        "02_analyze/dataset/README.md": "# data card\n", "02_analyze/dataset/data/train.parquet": "PAR1",
        "03_train/model/config.json": "{}", "03_train/model/model.safetensors": "weights", "07_report/report.html": "<h1>report</h1>",
    }  # fmt: skip
    results = top / "04_evaluate/mteb/results"
    for name in ("synthembed__trained/abc/EmbeddedSTSGeneral.json", "synthembed__trained/abc/model_meta.json",
                 "synthembed__trained/def/EmbeddedSTSGeneral.json", "synthembed__trained/abc/units/EmbeddedSTSGeneral.units.json", "minilm/abc/EmbeddedSTSGeneral.json"):  # fmt: skip
        score = {
            "main_score": 0.61 if "abc" in name else 0.5,
            "hf_subset": "default",
            "languages": ["eng-Latn"],
        }  # "def" was trained before
        files[(results / name).relative_to(top).as_posix()] = json.dumps({"scores": {"test": [score]}})
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    found = checking.Review(top, [doubt("one-seed", "", "once")])
    monkeypatch.setattr(checking, "review", lambda _: found)
    return top


@pytest.fixture
def book(monkeypatch) -> list:
    """In place of the site's pages, which tests/browser builds and walks: what was asked for."""
    from synthembed.report.web import book

    asked = []

    def build(run: Path, out: Path) -> Path:
        asked.append((run, out))
        out.mkdir(parents=True)
        (out / "index.html").write_text("<h1>site</h1>")
        return out / "index.html"

    monkeypatch.setattr(book, "build", build)
    return asked


def test_every_part_has_its_card_and_results_are_as_mteb_has_them(run, tmp_path, book):
    out = tmp_path / "out"
    publication.gather(run, out)
    card = (out / "model" / "README.md").read_text()
    assert card.startswith("---\n") and "61.0" in card
    assert (out / "data" / "README.md").read_text() == "# data card\n"
    listed = sorted(
        p.relative_to(out / "results").as_posix() for p in (out / "results").rglob("*") if p.is_file()
    )
    own = "results/synthembed__trained/abc"
    assert listed == [
        f"{own}/EmbeddedSTSGeneral.json",
        f"{own}/model_meta.json",
    ]  # no peer's, no texts' scores, none of another training
    assert book == [(run, out / "site")] and (out / "site" / "index.html").exists()
    assert (
        "one-seed" in (out / "review.txt").read_text()
        and "1 things to doubt" in (out / "README.md").read_text()
    )


def test_without_what_builds_the_site_the_report_stands_for_it(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sphinx.application", None)
    publication.site(run, tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_text() == "<h1>report</h1>"
    assert "make extras" in capsys.readouterr().out


def test_a_run_that_contradicts_itself_is_not_published(run, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "review", lambda _: checking.Review(run, [wrong("file-changed", "x", "y")]))
    with pytest.raises(publication.NotPublished, match=r"(?s)not published.*file-changed"):
        publication.gather(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_and_a_run_without_weights_are_refused(run, tmp_path):
    with pytest.raises(FileExistsError, match="not empty"):
        publication.gather(run, run)
    (run / "03_train/model").rename(run / "03_train/gone")
    with pytest.raises(FileNotFoundError, match="03_train/model is missing"):
        publication.gather(run, tmp_path / "out")


# --- a hub ------------------------------------------------------------------------------------------


class Uploads(BaseHTTPRequestHandler):
    """The part of the hub's API that an upload of small files uses; what came is kept by the server."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body, server = self.rfile.read(length), self.server
        if self.headers.get("Authorization") != "Bearer hf_right":
            return self.answer(401, {"error": "Invalid credentials"})
        if self.path == "/api/repos/create":
            about = json.loads(body)
            name = f"{about.get('organization') or 'somebody'}/{about['name']}"
            server.repositories[name] = {
                "visibility": about.get("visibility"),
                "type": about.get("type", "model"),
                "files": {},
            }
            return self.answer(200, {"url": f"{server.url}/{name}", "id": "1", "name": name})
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        kind, owner, name, action = self.path.split("?")[0].strip("/").split("/")[1:5]
        if action == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                server.repositories[f"{owner}/{name}"]["files"][line["value"]["path"]] = line["value"][
                    "content"
                ]
        address = f"{server.url}/{'' if kind == 'models' else kind + '/'}{owner}/{name}/commit/{'0' * 40}"
        self.answer(200, {"commitUrl": address, "commitOid": "0" * 40, "success": True})

    def do_GET(self):
        self.answer(
            200,
            {
                "_id": "0",
                "id": "o/n",
                "sha": "0" * 40,
                "private": True,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": [],
                "name": "somebody",
                "type": "user",
            },
        )

    def answer(self, status: int, data: dict) -> None:
        text = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Uploads)
    server.daemon_threads, server.repositories = True, {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def uploaded(hub, folder: Path, token: str) -> subprocess.CompletedProcess:
    code = "import sys; from pathlib import Path; from synthembed.review import publication as p; print(p.upload(Path(sys.argv[1]), 'somebody/mine'))"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "cache"), "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1",
                    "PYTHONPATH": os.pathsep.join(sys.path), "no_proxy": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def gathered(tmp_path) -> Path:
    for part, name in (("model", "config.json"), ("model", "README.md"), ("data", "README.md")):
        (tmp_path / "out" / part).mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / part / name).write_text("{}")
    return tmp_path / "out"


def test_model_and_data_go_to_repositories_of_their_own_and_nobody_sees_them(hub, gathered):
    done = uploaded(hub, gathered, "hf_right")
    assert done.returncode == 0, done.stderr[-2000:]
    model, data = hub.repositories["somebody/mine"], hub.repositories["somebody/mine-data"]
    assert set(model["files"]) == {"config.json", "README.md"} and set(data["files"]) == {"README.md"}
    assert model["visibility"] == data["visibility"] == "private" and data["type"] == "dataset"


def test_a_hub_that_refuses_is_quoted_with_the_remedy_and_without_the_token(hub, gathered):
    done = uploaded(hub, gathered, "hf_wrong")
    assert done.returncode and "NotPublished: somebody/mine was not uploaded" in done.stderr
    assert "HF_TOKEN" in done.stderr and "hf_wrong" not in done.stderr and not hub.repositories


def test_a_repository_without_an_owner_is_refused(gathered):
    with pytest.raises(publication.NotPublished, match="OWNER/NAME"):
        publication.upload(gathered, "mine")
