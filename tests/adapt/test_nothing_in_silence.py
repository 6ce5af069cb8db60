"""What a reader of documents would otherwise lose, buy twice or take for whole without a word."""

import http.client
import json
import shlex
import shutil
import socket
import struct
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from made_documents import LONG
from synthembed import profile
from synthembed.adapt import adaptation, asking, ladder, measuring, queries, starting
from synthembed.adapt.embedding import exporting, prompts
from synthembed.adapt.reading import documents, formats, passages
from synthembed.adapt.searching import search_index, search_page
from synthembed.commands.command_line import app
from synthembed.ground import files
from synthembed.model import backbone, export
from synthembed.model.backbone import Backbone
from synthembed.model.tokens import TokenContract
from synthembed.report import publishing
from tiny_models import byte_tokenizer, tiny_model
from typer.testing import CliRunner

ABOUT = {
    "name": "d", "train": 1, "generators": "x", "documents": 1, "passages": 1, "held_out": 1, "held_documents": 1,
    "rows": [], "difference": "1", "verdict": "better", "general": 0,
}  # fmt: skip


@pytest.fixture
def own_prompts(tmp_path):
    """A tiny model's folder with prompts of its own, none of which is its default."""
    plain = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {"model": "tiny"})
    folder = export.export(plain, tmp_path / "own", "mean", "natural", "a card", 300)
    path = folder / "config_sentence_transformers.json"
    said = json.loads(path.read_text()) | {"prompts": {"query": "ask: ", "document": "text: "}}
    path.write_text(json.dumps(said))
    return folder


# --- reading -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "more"),
    [
        ("cp1252", "Die Fähre fährt täglich außer sonntags über den See, sagte Müller.\n"),
        ("cp932", "図書館は午前九時から午後六時まで開いています。本は二週間借りられます。\n"),
        ("koi8_r", "Паром отходит в девять часов утра и возвращается вечером.\n"),
    ],
)
def test_an_encoding_is_told_by_what_is_no_ascii_however_late_it_comes(tmp_path, encoding, more):
    (tmp_path / "a.txt").write_bytes(f"{LONG}\n".encode() * 3_000 + more.encode(encoding) * 9)
    (document,) = documents.read(tmp_path / "a.txt").documents
    assert document.text.endswith(more) and "\ufffd" not in document.text


def test_a_page_keeps_the_warnings_of_its_article_and_not_those_beside_it():
    page = (
        f"<nav>Menu</nav><main><article><p>{LONG}</p><aside>Warning: never open the valve.</aside>"
        "<details><summary>More</summary>Children pay two.</details></article></main>"
        "<aside>Sidebar</aside><footer>Imprint</footer>"
    )
    _, text = formats._html(page)
    assert "Warning: never open the valve." in text and "MoreChildren" not in text
    assert not any(word in text for word in ("Menu", "Sidebar", "Imprint"))


def test_a_tables_title_is_found_as_it_is_spelt_and_its_ids_command_nothing(tmp_path):
    (tmp_path / "a.csv").write_text(f"Title,text\nFerry,{LONG}\n")
    (tmp_path / "b.csv").write_text(f"title\n{LONG}\n")
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": "a\x1b[31m\nb", "text": LONG}))
    assert documents.read(tmp_path / "a.csv").documents[0].title == "Ferry"
    assert documents.read(tmp_path / "b.csv", "title").documents[0].title == ""
    assert documents.read(tmp_path / "c.jsonl").documents[0].id == "c.jsonl#a[31m b"


def test_a_mask_of_the_folder_that_one_stands_in_is_found(tmp_path, monkeypatch):
    (tmp_path / "mask_of_this_folder.py").write_text("def hide(text):\n    return 'X'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])  # as an installed command has it
    assert passages.mask_of("mask_of_this_folder:hide")("Anna") == "X"


# --- asking and measuring ----------------------------------------------------------------------------------------


def test_replies_to_other_requests_are_counted_before_they_are_bought_again():
    found = [passages.Passage(str(n), "", f"passage {n} of the harbour") for n in range(9)]

    def of(*more):
        settings = ["generate.base_url=https://llm.example/v1", "generate.models={gpt-4: 1}",
                    "generate.budget_usd=1", "generate.backend=live", *more]  # fmt: skip
        asked = profile.load("adapt", settings)
        return asked, queries.requests(found, asked)

    stored = {one.custom_id for one, _ in of()[1]}
    longer, requests = of("generate.max_tokens=4096")
    assert "9 of them to other requests" in asking.announce(longer, [line for _, line in requests], stored)
    same, requests = of()
    assert "other requests" not in asking.announce(
        same, [line for _, line in requests], set(list(stored)[:4])
    )


def test_an_interval_of_few_documents_covers_what_it_says_and_one_document_decides_nothing():
    one = measuring.interval(np.array([1.0, 5, 1, 9]), ["a"] * 4)
    assert ladder.judge(one, 1) == ladder.UNCERTAIN and ladder.judge(one) == ladder.BETTER
    random, covered = np.random.default_rng(0), 0
    for _ in range(200):  # five documents with three queries each, whose true difference is 0
        values = np.repeat(random.normal(0, 1, 5), 3) + random.normal(0, 0.3, 15)
        found = measuring.interval(values, np.repeat(np.arange(5), 3))
        covered += found.low <= 0 <= found.high
    assert covered >= 175  # the plain percentiles cover 164


def test_the_page_of_what_was_written_says_in_which_file_the_rest_of_it_is():
    page = search_page.templates().get_template("generated.html.jinja")
    made = [(queries.Example(str(n), "short-long", "t", "", "", f"q {n}", "p", "n"), "") for n in range(3)]
    text = page.render(
        name="x", counts={}, parts=dict.fromkeys(("Trained on", "Held out", "Dropped"), made), most=2
    )
    assert all(f"1 more are in {name}.jsonl" in text for name in ("examples", "held_out", "dropped"))


# --- models, cards and exports ----------------------------------------------------------------------------------


def test_a_killed_export_leaves_the_old_one_whole_and_terms_outlive_an_export_in_place(
    own_prompts, tmp_path, monkeypatch
):
    (own_prompts / "TERMS.html").write_text("terms")
    settings = profile.load("adapt", [f"backbone.model={own_prompts}", "backbone.layers=null"])
    base = backbone.load(settings.backbone)
    encoder, place = prompts.encoder(base, "last"), tmp_path / "out" / "model"

    def files():
        return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}

    exporting.write(place, base, encoder, settings, **ABOUT)
    before = files()
    with monkeypatch.context() as patch:
        patch.setattr(exporting.prompts, "exported", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            exporting.write(place, base, encoder, settings, **ABOUT)
    assert files() == before
    itself = profile.load("adapt", [f"backbone.model={place}", "backbone.layers=null"])
    exporting.write(place, base, encoder, itself, **ABOUT)
    assert (place / "TERMS.html").exists() and [path.name for path in place.parent.iterdir()] == ["model"]


def test_a_search_names_what_it_leaves_out(own_prompts, tmp_path):
    out, folder, said = tmp_path / "out", tmp_path / "docs", []
    shutil.copytree(own_prompts, out / "model")
    folder.mkdir()
    (folder / "a.txt").write_text(LONG)
    (folder / "b.pptx").write_bytes(b"PK")
    about = {"folder": str(folder), "settings": asdict(adaptation.Settings())}
    (out / "documents.json").write_text(json.dumps(about))
    adaptation.opened(out, said.append)
    assert any("b.pptx" in line for line in said)


def test_a_start_model_may_lie_in_the_folder_that_one_stands_in(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    start = starting.start_of(profile.load("adapt"), "mine")
    assert start.backbone.model == str(tmp_path / "mine")


def test_the_folder_of_an_adaptation_is_no_model_and_its_model_is_named(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"has no config\.json, and so no model: name its model, .*model"
    ):
        starting.start_of(profile.load("adapt"), str(tmp_path))


def test_a_card_quotes_prompts_as_they_are(tmp_path):
    task = 'Given a customer\'s question, find "R&D" notes'
    card = search_page.templates().get_template("card.md.jinja")
    text = card.render(base="b", before={"query": task, "document": ""}, **ABOUT | {"name": "R&D"})
    assert text.startswith("---\n") and task in text and "# An embedding model for R&D" in text
    said = {
        "prompts": {"search_query": "q: ", "passage": "p: ", "all": "x: ", "STS": ""},
        "default_prompt_name": "all",
    }
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(said))
    text = publishing._card(tmp_path, "onnx", "about", "No vector was compared", ["a loss"], None)
    assert all(prompt in text for prompt in ("q: ", "p: ", "x: ")) and "texts in" not in text


def test_an_export_that_differs_is_not_kept(tmp_path, monkeypatch):
    def made(run, folder):
        folder.mkdir(parents=True)
        (folder / "modules.json").write_text("[]")

    def differs(*_):
        raise publishing.ExportError("not kept")

    made(None, tmp_path / "run" / "03_train" / "model")
    monkeypatch.setattr(publishing, "publish", made)
    monkeypatch.setattr(publishing, "_compared", differs)
    with pytest.raises(publishing.ExportError):
        publishing.export(tmp_path / "run", tmp_path / "out", "sentence-transformers")
    assert not (tmp_path / "out").exists()


# --- commands -----------------------------------------------------------------------------------------------


def test_a_port_in_use_is_named_and_a_browser_on_port_80_is_answered(tmp_path):
    index = search_index.Index([], np.empty((0, 2)), None, "")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(search_page.PortError, match=f"port {port} .*--port"):
            search_page.server(index, "n", {}, port)
    server = search_page.server(index, "n", {}, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for host, status in (("127.0.0.1", 200), (f"localhost:{server.server_port}", 200),
                             ("evil.example", 403), ("evil.example:80", 403)):  # fmt: skip
            asked = http.client.HTTPConnection("127.0.0.1", server.server_port)
            asked.putrequest("GET", "/", skip_host=True)
            asked.putheader("Host", host)
            asked.endheaders()
            assert asked.getresponse().status == status, host
    finally:
        server.shutdown()
    assert CliRunner().invoke(app, ["search", str(tmp_path), "--port", "70000"]).exit_code == 2


def test_what_is_said_to_type_is_found_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    out, elsewhere = tmp_path / "my docs", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(
        adaptation, "run", lambda *given, **how: SimpleNamespace(exported=out / "model", folder=out)
    )
    for place in (tmp_path, elsewhere):
        monkeypatch.chdir(place)
        lines = CliRunner().invoke(app, ["adapt", "example", "--out", str(out)]).output.splitlines()
        *_, command, folder = shlex.split(lines[-1])
        assert command == "search" and Path(folder).resolve() == out
        _, model, *_ = shlex.split(lines[-2].partition("export NEW ")[2])
        assert Path(model).resolve() == out / "model"
    refused = CliRunner().invoke(app, ["search", str(out)])
    assert Path(shlex.split(refused.output)[-1]).resolve() == out


def test_a_browser_that_does_not_wait_for_its_answer_is_no_error(monkeypatch):
    """As one that is told to search for something else."""
    gone, handled, errors = threading.Event(), [], []

    def search(query, count):
        handled.append(threading.current_thread())
        gone.wait(60)
        return []

    server = search_page.server(SimpleNamespace(passages=[], search=search), "mine", {})
    monkeypatch.setattr(server, "handle_error", lambda *about: errors.append(about))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with socket.create_connection(server.server_address) as asked:
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            asked.sendall(b"GET /?q=ferry HTTP/1.0\r\nHost: localhost\r\n\r\n")
            while not handled:
                time.sleep(0.01)
        gone.set()
        handled[0].join()
        assert not errors
    finally:
        server.shutdown()
        server.server_close()


def test_two_at_once_in_one_folder_are_refused_before_anything_is_written(tmp_path):
    folder, out = tmp_path / "docs", tmp_path / "out"
    folder.mkdir()
    for n in range(20):
        (folder / f"{n}.txt").write_text(f"{LONG}{n}")
    (out / ".work").mkdir(parents=True)
    with FileLock(out / ".work" / "adapt.lock"):
        found = CliRunner().invoke(app, ["adapt", str(folder), "--out", str(out), "--look"])
    assert found.exit_code == 1 and "is being made" in found.output
    assert not (out / "requests.jsonl").exists()


def test_a_models_own_prompts_are_taken_by_name_and_said(own_prompts, tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": LONG.strip()}) + "\n")
    loaded = backbone.load(profile.Backbone(model=str(own_prompts)))

    def encoded(*more):
        out = tmp_path / f"{'-'.join(more)}.npy"
        command = [
            "encode",
            str(tmp_path / "t.jsonl"),
            str(out),
            "--model",
            str(own_prompts),
            "--dtype",
            "float32",
        ]
        return CliRunner().invoke(app, [*command, *more]), out

    encoder = prompts.encoder(loaded, "last")
    plain, _ = encoded()
    assert plain.exit_code == 0 and "--prompt takes query, document" in plain.output
    for name, of in (("document", ""), ("query", "x")):
        found, out = encoded("--prompt", name)
        assert found.exit_code == 0, found.output
        assert np.allclose(np.load(out), encoder.encode([LONG.strip()], of, normalize=True), atol=1e-4)
    refused, _ = encoded("--prompt", "passage")
    assert refused.exit_code == 2 and "query, document" in " ".join(refused.output.split())
