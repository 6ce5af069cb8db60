"""The road from documents to a searched model, on a tiny one; what makes it worse is refused."""

import json
import threading
import unicodedata
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from string import ascii_lowercase

import numpy as np
import pytest
import torch
from synthembed import profile
from synthembed.adapt import (
    adaptation,
    asking,
    ladder,
    measuring,
    queries,
    selection,
)
from synthembed.adapt.embedding import cut_texts, prompts
from synthembed.adapt.ladder import Worse
from synthembed.adapt.measuring import Interval
from synthembed.adapt.reading import documents, languages, passages
from synthembed.adapt.searching import search_index, search_page
from synthembed.generation.paid.plan import NotAllowed
from synthembed.generation.reply_store import GenerationStopped, reply_line
from synthembed.ground.weights.saved_models import Recipe
from synthembed.model import backbone, export
from synthembed.model.backbone import Backbone
from synthembed.model.tokens import TokenContract
from tiny_models import byte_tokenizer, saved_base, tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

QUIET = lambda text: None  # noqa: E731
WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heath",
    "inlet",
    "jetty",
    "knoll",
    "larch",
    "moor",
]


def tiny(base, **overrides):
    changes = {
        "backbone.model": str(base), "train.batch_size": 16, "train.max_length": 64, "train.chunk_tokens": 512, "train.epochs": 12,
        "train.learning_rate": 1e-2, "train.gradient_checkpointing": False, "train.try_longest_first": False, "lora.dropout": 0.0,
        "generate.models": {"any": 1.0}, "generate.backend": "recorded", "train.temperature": 0.05, "train.warmup_steps": 2,
    }  # fmt: skip
    return profile.Profile(name="tiny").with_overrides(changes | overrides)


def written_folder(path, count=40):
    path.mkdir()
    for n in range(count):
        a, b = WORDS[n % 13], WORDS[(n // 13 + 3 * n + 1) % 13]
        (path / f"{n:02}.txt").write_text(f"{a} {b} {n} stands by the {b} and the {a} of number {n}")
    return path


def answer(asked):
    """A reply as an LLM could write it: some words of the passage, and another passage."""
    a, b, n, *_ = asked.passage.body.split()
    content = {
        "user_query": f"{b} {n} {a}?",
        "hard_negative_document": f"{a} stands by something of {int(n) + 50}",
    }
    choice = {"message": {"role": "assistant", "content": json.dumps(content)}, "finish_reason": "stop"}
    return reply_line(asked.custom_id, {"model": "any", "choices": [choice]})


@pytest.fixture
def recorded(monkeypatch):
    """Replies as the recordings have them; what was asked for is noted."""
    return recording(monkeypatch)


def recording(patch: pytest.MonkeyPatch) -> list[str]:
    asked_for = []

    def ask(path, prof, store, meter, look=None):
        for line in list(store.missing(path)):
            asked_for.append(line["custom_id"])
            store.append(answer(recorded_requests[line["custom_id"]]))
        return asking.Counter()

    recorded_requests = {}
    write = queries.write

    def noted(path, pairs):
        found = write(path, pairs)
        recorded_requests.update(found)
        return found

    patch.setattr(asking.two_steps, "ask", ask)
    patch.setattr(asking.queries, "write", noted)
    return asked_for


SETTINGS = adaptation.Settings(peers=False, keep_rank=0, held_out=0.3, task="Find it", general=0)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """(folder of documents, what came of it, number of replies that were asked for); who changes the folder puts it
    back."""
    here, before = tmp_path_factory.mktemp("adapted"), torch.get_num_threads()
    torch.set_num_threads(1)
    base, folder = saved_base(here / "base"), written_folder(here / "documents")
    with pytest.MonkeyPatch.context() as patch:
        asked = recording(patch)
        done = adaptation.run(folder, here / "out", tiny(base), SETTINGS, anyway=True, say=QUIET)
    torch.set_num_threads(before)
    return folder, done, len(asked)


def test_from_documents_to_a_model_that_is_searched(adapted, tmp_path, capsys):
    folder, done, asked = adapted
    assert asked == 40
    before, after = (row["ndcg@10"] for row in done.rows)
    assert after > before + 10 and done.verdict == ladder.BETTER and done.difference.low > 0
    out = done.folder
    held = {json.loads(line)["id"] for line in (out / "held_out.jsonl").read_text().splitlines()}
    trained = {json.loads(line)["id"] for line in (out / "examples.jsonl").read_text().splitlines()}
    assert held and trained and not held & trained
    assert "hard negative" in (out / "generated.html").read_text().lower()
    assert f"{after:.1f}" in (out / "model" / "README.md").read_text()
    index = adaptation.opened(out, QUIET)
    assert index.new == 0
    assert np.allclose(np.linalg.norm(index.vectors, axis=1), 1, atol=1e-4)
    (folder / "new.txt").write_text("amber zephyr 99 stands by the zephyr and the amber of number 99")
    (folder / "00.txt").rename(tmp_path / "00.txt")
    index = adaptation.opened(out, QUIET)
    (tmp_path / "00.txt").rename(folder / "00.txt")
    (folder / "new.txt").unlink()
    assert index.new == 1 and len(index.passages) == 40  # one added, one gone; the rest was kept


@pytest.fixture
def with_prompts(tmp_path):
    """A model that embeds already and has prompts of its own, under names that are not all ours."""
    plain = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {"model": "tiny"})
    folder = export.export(plain, tmp_path / "own prompts", "mean", "natural", "a card", 300)
    path = folder / "config_sentence_transformers.json"
    said = {"query": "ask: ", "passage": "text: ", "STS": "alike: "}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prompts": said}))
    return folder


def cosines(one, other):
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def test_a_models_own_prompts_are_used_before_in_and_after_the_training_and_exported(
    tmp_path, with_prompts, recorded, one_thread, monkeypatch
):
    from sentence_transformers import SentenceTransformer

    trained_on = []
    train = adaptation.train.train
    monkeypatch.setattr(
        adaptation.train,
        "train",
        lambda p, b, data, *rest: (trained_on.append((p, data)), train(p, b, data, *rest))[1],
    )
    folder = written_folder(tmp_path / "documents", 24)
    texts, asked = ["amber birch 0 stands by the birch"], ["where is amber?"]
    before = prompts.encoder(backbone.load(tiny(with_prompts).backbone), "last")
    theirs = SentenceTransformer(str(with_prompts))
    assert cosines(before.encode(texts), theirs.encode(texts, prompt_name="passage")).min() > 0.9999
    assert cosines(before.encode(asked, "a task"), theirs.encode_query(asked)).min() > 0.9999
    settings = adaptation.Settings(peers=False, keep_rank=0, held_out=0.3, general=8)
    done = adaptation.run(
        folder, tmp_path / "out", tiny(with_prompts, **{"train.epochs": 3}), settings, anyway=True, say=QUIET
    )
    ((used, data),) = trained_on
    assert used.train.instruction == "none"
    assert all(
        e.query.startswith("ask: ") and e.positive.startswith("text: ") and e.negative.startswith("text: ")
        for e in data
    )
    assert "ask: " not in (tmp_path / "out" / "examples.jsonl").read_text()
    said = json.loads((done.exported / "config_sentence_transformers.json").read_text())
    assert said["prompts"] == {"query": "ask: ", "passage": "text: ", "STS": "alike: ", "document": "text: "}
    assert "takes `ask: ` before it, a passage `text: `" in (done.exported / "README.md").read_text()
    index, ours = adaptation.opened(tmp_path / "out", QUIET), SentenceTransformer(str(done.exported))
    assert index.new == 0
    assert cosines(index.vectors, ours.encode_document([p.text for p in index.passages])).min() > 0.999
    assert cosines(index.encoder.encode(asked, index.instruction), ours.encode_query(asked)).min() > 0.999
    assert (
        cosines(ours.encode_query(asked), theirs.encode_query(asked)).max() < 0.9999
    )  # it learned something


def test_whose_prompts_stand_before_a_text():
    plain = Backbone(None, None, {})
    instruct = "Instruct: {}\nQuery: "
    of = lambda task=queries.TASK, style="natural", **said: prompts.of(  # noqa: E731
        replace(plain, recipe=Recipe(**said)), task, style
    )
    assert of() == prompts.Prompts(instruct.format(queries.TASK)) and of("Find") == prompts.Prompts(
        instruct.format("Find")
    )
    assert (
        of(pooling="mean") == of(style="none") == prompts.Prompts()
    )  # one that embeds and names no prompt has none
    assert of(style="task-type") == prompts.Prompts("query: ")
    e5 = {"pooling": "mean", "prompts": {"query": "query: ", "document": "", "passage": "passage: "}}
    assert of(**e5) == prompts.Prompts("query: ", "passage: ")
    assert of("Find", **e5) == prompts.Prompts(instruct.format("Find"), "passage: ")
    default = {"pooling": "mean", "prompts": {"all": "x: "}, "prompt": "x: "}
    assert of(**default) == prompts.Prompts("x: ", "x: ")
    base = replace(plain, recipe=Recipe(**default))
    assert prompts.exported(base, of(**default), "natural")["default_prompt_name"] == "all"
    example = queries.Example("i", "short-long", "t", "", "", "q", "p", None, ("n",))
    natural = profile.load("adapt")
    assert prompts.to_train(natural, [example], of("t"), "t") == (natural, [example])
    bare, (told,) = prompts.to_train(natural, [example], prompts.Prompts("query: ", "d: "), "t")
    assert (bare.train.instruction, told.query, told.documents()) == ("none", "query: q", ["d: p", "d: n"])
    assert told.negative is None
    alike, (same,) = prompts.to_train(natural, [example], prompts.Prompts("query: "), "t")
    assert (alike.train.instruction, same.query) == ("none", "query: q")


def test_texts_that_are_cut_are_counted_and_told_with_what_to_do():
    plain = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {"model": "tiny"})
    read_as = prompts.Prompted(plain, "last", 400, prompts=prompts.Prompts("q: ", "d: "))
    train = profile.load("adapt", ["train.max_length=200"]).train
    found = [passages.Passage(str(n), "", "a" * (180 + 30 * n)) for n in range(10)]  # bytes are tokens
    examples = [
        queries.Example(str(n), "short-long", "t", "", "", "q" * (150 + 60 * n), "p", "n" * 100 * n)
        for n in range(5)
    ]
    trained, read = cut_texts.told(found, examples, read_as, train, 120)
    assert (
        "9 of 10 passages (above 200 tokens)" in trained
        and "4 of 5 queries" in trained
        and "3 of 4 hard" in trained
    )
    assert "train.max_length=400 " in trained and "--words 50" in trained
    assert "2 of 10 passages (above 400 tokens)" in read and "queries" not in read and "--words 100" in read
    longer = profile.load("adapt", ["train.max_length=200", "train.document_max_length=500"]).train
    trained, _ = cut_texts.told(found, examples, read_as, longer, 120)
    assert "of 10 passages" not in trained and "4 of 5 queries (above 200 tokens)" in trained
    whole = [passages.Passage("a", "", "short")]
    assert not cut_texts.told(whole, examples[:1], read_as, train, 120)


def test_passages_that_a_start_model_cannot_read_are_told():
    names = ["[UNK]", "[CLS]", "[SEP]", *ascii_lowercase, *(f"##{c}" for c in ascii_lowercase)]
    made = Tokenizer(models.WordPiece({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    contract = TokenContract.of(PreTrainedTokenizerFast(tokenizer_object=made, **special))
    found = [passages.Passage(t, "", t) for t in ("ቤተ መጻሕፍቱ", "the bees", "the ቤተ bees fly")]
    train = profile.load("adapt").train
    read_as = prompts.Prompted(Backbone(tiny_model("llama"), contract, {"model": "tiny"}), "mean", 400)
    (line,) = cut_texts.told(found, [], read_as, train, 120)
    assert "does not know" in line and "1 of 3 passages: choose another" in line
    assert not cut_texts.told(found[1:], [], read_as, train, 120)


def test_only_new_passages_are_asked_for(tmp_path, recorded):
    folder = written_folder(tmp_path / "documents", 24)
    adaptation.generated(folder, tmp_path / "out", tiny("embedded:smollm2-135m"), SETTINGS, QUIET)
    assert len(recorded) == 24
    (folder / "03.txt").write_text("larch fjord 70 stands by the fjord and the larch of number 70")
    (folder / "deep").mkdir()
    (folder / "04.txt").rename(folder / "deep" / "04.txt")  # moved, and the same text
    _, _, written = adaptation.generated(
        folder, tmp_path / "out", tiny("embedded:smollm2-135m"), SETTINGS, QUIET
    )
    assert len(recorded) == 25 and written.new == 1 and len(written.examples) == 24


def test_shuffled_pairs_are_refused(adapted, recorded, one_thread, tmp_path):
    """A good model that is trained on pairs that do not belong together gets worse, and is not exported."""
    folder, done, _ = adapted
    (tmp_path / "shuffled" / "model").mkdir(parents=True)
    (tmp_path / "shuffled" / "model" / "README.md").write_text("of an earlier run")
    worse = tiny(done.exported).with_overrides({"data.shuffled": True, "train.learning_rate": 3e-2})
    with pytest.raises(Worse, match="not exported") as told:
        adaptation.run(folder, tmp_path / "shuffled", worse, SETTINGS, say=QUIET)
    assert "1. " in str(told.value) and "→" in str(told.value)
    assert not (tmp_path / "shuffled" / "model").exists()
    assert (tmp_path / "shuffled" / "model_before" / "README.md").read_text() == "of an earlier run"
    scores = json.loads((tmp_path / "shuffled" / "scores.json").read_text())
    assert scores["verdict"] == "worse" and scores["difference"]["mean"] < 0


def test_the_page_searches_and_serves_this_machine_alone(adapted):
    _, done, _ = adapted
    server = search_page.server(adaptation.opened(done.folder, QUIET), "<b>mine</b>", {"after": "9 < 10"})
    assert server.server_address[0] == "127.0.0.1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        start = urllib.request.urlopen(url).read().decode()
        assert "&lt;b&gt;mine" in start and "9 &lt; 10" in start and "40 documents" in start
        page = urllib.request.urlopen(url + "/?q=%3Cscript%3Eamber").read().decode()
        assert "<script>" not in page and "&lt;script&gt;amber" in page
        found = json.load(urllib.request.urlopen(url + "/search?q=amber"))["results"]
        assert len(found) == 10 and found == sorted(found, key=lambda r: -r["score"])
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(url, headers={"Host": "evil.example"}))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url + "/etc/passwd")
    finally:
        server.shutdown()
        server.server_close()


def test_the_recorded_example_is_complete(tmp_path):
    """Its 200 replies answer the very requests of profiles/adapt.yaml."""
    _, found, written = adaptation.generated(
        adaptation.EXAMPLE_FOLDER, tmp_path, profile.load("adapt"), adaptation.Settings(), QUIET
    )
    assert len(found) == len(written.examples) == 200 and not written.failures and not written.drops.counts
    held = selection.held_out_documents([p.document for p in found], 0.25, 42)
    assert 30 < len(held) < 70
    picked = selection.select(written.examples, written.asked, found, 0.25, 42, None, 0)
    assert not picked.drops.counts
    ranks = measuring.measure(measuring.by_bm25(found), written.examples, found)
    assert 40 < measuring.metrics(ranks)["recall@10"] < 95  # neither copied from the passages nor beside them


def test_other_documents_need_a_generator_and_are_told_which(tmp_path):
    folder = written_folder(tmp_path / "documents", 20)
    with pytest.raises(GenerationStopped, match="--generator embedded"):
        adaptation.generated(folder, tmp_path / "out", profile.load("adapt"), SETTINGS, QUIET)


def test_replies_of_which_none_can_be_used_end_it_before_a_model_is_loaded(tmp_path, monkeypatch, recorded):
    prose = {"message": {"role": "assistant", "content": "Here you go!"}, "finish_reason": "stop"}
    monkeypatch.setitem(
        globals(), "answer", lambda asked: reply_line(asked.custom_id, {"model": "any", "choices": [prose]})
    )
    folder = written_folder(tmp_path / "documents", 16)
    with pytest.raises(GenerationStopped, match=r"none of the 16 replies can be used .*not JSON(.|\n)*--llm"):
        adaptation.generated(folder, tmp_path / "out", tiny("embedded:smollm2-135m"), SETTINGS, QUIET)


def test_nothing_is_sent_that_nobody_agreed_to(tmp_path, monkeypatch, recorded):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nothing-real")
    folder = written_folder(tmp_path / "documents", 20)
    remote = profile.load(
        "adapt",
        ["generate.base_url=https://llm.example/v1", "generate.models={gpt-4: 1}", "generate.budget_usd=1"],
    )
    settings, said, out = adaptation.Settings(generator="endpoint"), [], tmp_path / "out"
    order = lambda answer: lambda: said.append("agree?") or answer  # noqa: E731
    with pytest.raises(NotAllowed, match="nothing was sent"):
        adaptation.generated(folder, out, remote, settings, said.append, order(False))
    assert not recorded and said[-1] == "agree?" and asking.LEAVES in said[-2]
    adaptation.generated(folder, out, remote, settings, QUIET, order(True))
    assert len(recorded) == 20
    said.clear()
    adaptation.generated(folder, out, remote, settings, said.append, order(False))  # nothing is left to send
    local = remote.with_overrides({
        "generate.base_url": "http://127.0.0.1:9/v1", "generate.budget_usd": None, "generate.models": {"any": 1.0}
    })  # fmt: skip
    adaptation.generated(folder, tmp_path / "local", local, settings, said.append, order(False))
    assert "agree?" not in said and len(recorded) == 40
    gateway = local.with_overrides(
        {"generate.models": {"gpt-4": 1.0}}
    )  # it has a price, so that someone is paid
    assert "hand them on" in adaptation.planned(folder, out / "new", gateway, settings)


def test_the_command_says_what_is_wrong_with_its_options_and_asks_nobody_who_is_not_there(
    tmp_path, monkeypatch
):
    from synthembed.commands.command_line import app
    from typer.testing import CliRunner

    monkeypatch.setenv("OPENAI_API_KEY", "sk-nothing-real")
    folder = str(written_folder(tmp_path / "documents", 20))
    elsewhere = [
        folder,
        "--out",
        str(tmp_path / "out"),
        "--endpoint",
        "https://llm.example/v1",
        "--llm",
        "gpt-4o-mini",
    ]
    run = lambda *more: CliRunner().invoke(app, ["adapt", *elsewhere, *more])  # noqa: E731
    wrong = run("--generator", "recorded")
    assert wrong.exit_code == 2 and "--endpoint" in wrong.output
    planned = run("--plan")
    assert planned.exit_code == 0 and asking.LEAVES in planned.output and "llm.example" in planned.output
    assert not (tmp_path / "out").exists()
    unpaid = run("--look")
    assert unpaid.exit_code == 1 and "--budget USD" in unpaid.output
    alone = run("--look", "--budget", "1")
    assert alone.exit_code == 1 and "--yes" in alone.output and "nothing was sent" in alone.output
    assert not (tmp_path / "out" / "replies.jsonl").read_text()


def test_who_waits_for_another_adaptation_is_told_an_option_of_this_command(tmp_path):
    from filelock import FileLock
    from synthembed.commands.command_line import app
    from typer.testing import CliRunner

    (tmp_path / ".work").mkdir()
    with FileLock(tmp_path / ".work" / "adapt.lock"):
        refused = CliRunner().invoke(app, ["adapt", "example", "--out", str(tmp_path)])
    assert refused.exit_code == 1 and "or use another folder (--out FOLDER)" in refused.output
    assert "--run" not in refused.output


def test_two_folders_of_one_name_do_not_share_a_place(tmp_path, monkeypatch, recorded):
    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path / "runs"))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = (written_folder(tmp_path / name / "v1.2 docs", 20) for name in "ab")
    out = adaptation.own_folder(first)
    assert out == tmp_path / "runs" / "adapt" / "v1.2 docs"
    adaptation.generated(first, out, tiny("embedded:smollm2-135m"), SETTINGS, QUIET)
    assert adaptation.own_folder(first) == out
    with pytest.raises(documents.DocumentsError, match="--out"):
        adaptation.own_folder(second)


class Listing(BaseHTTPRequestHandler):
    """An endpoint that has the models of its server's ``names``, and lists nothing if there are none."""

    def do_GET(self):
        body = json.dumps(
            {"object": "list", "data": [{"id": n, "object": "model"} for n in self.server.names]}
        ).encode()
        status = self.server.status if hasattr(self.server, "status") else 200
        self.send_response(status if self.server.names else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_an_endpoint_is_named_by_its_url(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    plain, url = profile.load("adapt"), f"http://127.0.0.1:{server.server_port}"
    try:
        server.names = ["only-one"]
        found = asking.pointed_at(plain, url).generate
        assert (found.backend, found.models, found.budget_usd) == ("live", {"only-one": 1.0}, None)
        assert asking.pointed_at(plain, url, "mine", 2.5).generate.models == {"mine": 1.0}
        set_before = profile.load("adapt", ["generate.models={a: 1, b: 1}"])
        assert asking.pointed_at(set_before, url).generate.models == {"a": 1.0, "b": 1.0}
        for names, said in ((["a", "b"], "2 models.*--llm: a, b"), ([], "does not say.*--llm")):
            server.names = names
            with pytest.raises(GenerationStopped, match=said):
                asking.pointed_at(plain, url)
        with pytest.raises(GenerationStopped, match="--llm NAME"):
            asking.pointed_at(plain, "", "", 1.0)
        server.names, server.status = ["a"], 401
        with pytest.raises(GenerationStopped, match=r"refuses the key.*OPENAI_API_KEY"):
            asking.pointed_at(plain, url)
        with pytest.raises(GenerationStopped, match=r"no server answers.*--endpoint"):
            asking.pointed_at(plain, "http://127.0.0.1:9/v1")
    finally:
        server.shutdown()
        server.server_close()


def test_a_remote_endpoint_is_said_first_and_wants_a_budget(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nothing-real")
    folder = written_folder(tmp_path / "documents", 20)
    remote = profile.load("adapt", ["generate.base_url=https://llm.example/v1", "generate.models={gpt-4: 1}"])
    settings = adaptation.Settings(generator="endpoint")
    said = adaptation.planned(folder, tmp_path / "out", remote, settings)
    assert "LEAVES THIS MACHINE" in said and "llm.example" in said and "USD" in said
    local = remote.with_overrides(
        {"generate.base_url": "http://127.0.0.1:9/v1", "generate.models": {"any": 1.0}}
    )
    assert "nothing of the documents leaves" in adaptation.planned(folder, tmp_path / "out", local, settings)
    with pytest.raises(NotAllowed, match="budget"):
        adaptation.generated(folder, tmp_path / "out", remote, settings, QUIET)
    assert (
        not (tmp_path / "out" / "replies.jsonl").exists()
        or not (tmp_path / "out" / "replies.jsonl").read_text()
    )


def test_filters_count_what_they_drop():
    found = passages.split([
        documents.Document(str(n), "", f"{' '.join(WORDS[(n * k + k * k) % 13] for k in range(3, 9))} is number {n}")
        for n in range(40)
    ])  # fmt: skip
    asked = {a.custom_id: a for a, _ in queries.requests(found, profile.load("adapt"))}
    held = selection.held_out_documents([p.document for p in found], 0.2, 1)
    ids = [i for i, a in asked.items() if a.passage.document not in held]
    bad = {
        ids[0]: ("where is it", "I'm sorry, but I cannot do that"), ids[1]: ("?!", "other"),
        ids[2]: ("what is two", asked[ids[2]].passage.body), ids[3]: (asked[ids[3]].passage.body, "other"),
        ids[4]: ("which is last?", "other"), ids[5]: ("Which is LAST", "other"), ids[6]: ("same", "Same!"),
    }  # fmt: skip
    examples = [
        queries.Example(i, "short-long", "t", "", "", *(bad.get(i) or (f"what is {n}", "other"))[:1], a.passage.text,
                        (bad.get(i) or ("", "quite another thing"))[1])
        for n, (i, a) in enumerate(asked.items())
    ]  # fmt: skip
    low = ids[7]
    ranks = lambda some: np.array([99 if e.id == low else 1 for e in some])  # noqa: E731
    picked = selection.select(examples, asked, found, 0.2, 1, ranks, 10)
    assert dict(picked.drops.counts) == {
        "refusal phrase": 1, "query has no words": 1, "hard negative is part of the passage": 1,
        "query copied from the passage": 1, "query written twice": 1, "hard negative is the query": 1,
        "inconsistent: its passage ranks too low": 1,
    }  # fmt: skip
    assert len(picked.train) + len(picked.held_out) + 7 == 40 == picked.drops.kept + 7
    assert {e.id for e, _ in picked.dropped} == {*ids[:4], ids[5], ids[6], low}
    with pytest.raises(selection.SelectionError, match="are left"):
        selection.select(examples, asked, found, 0.2, 1, lambda some: np.full(len(some), 99), 10)


def test_near_copies_of_held_out_documents_are_not_trained_on():
    body = "the quick ferry crosses the wide lake at nine every morning except on the coldest days of winter when ice is thick"
    texts = [
        f"{body} {n // 2}" if n < 30 else f"{' '.join(WORDS[(n + k * k) % 13] for k in range(12))} {n}"
        for n in range(60)
    ]
    found = passages.split([documents.Document(str(n), f"title {n}", t) for n, t in enumerate(texts)])
    asked = {a.custom_id: a for a, _ in queries.requests(found, profile.load("adapt"))}
    examples = [
        queries.Example(i, "short-long", "t", "", "", f"query {n}?", a.passage.text, "none")
        for n, (i, a) in enumerate(asked.items())
    ]
    picked = selection.select(examples, asked, found, 0.3, 1, None, 0)
    assert picked.drops.counts["leaks into the held-out documents"] > 5
    held_bodies = [asked[e.id].passage.body for e in picked.held_out]
    assert any(body in b for b in held_bodies) and not any(
        body in asked[e.id].passage.body for e in picked.train
    )


BODIES = {
    "German": ("Die Stadtbücherei öffnet dienstags bis samstags um zehn Uhr. Bücher können für vier Wochen ausgeliehen und "
               "zweimal verlängert werden.", "Wie lange darf ich einen Roman behalten?", "Sommerkarte für Kinder"),
    "Japanese": ("図書館は午前九時から午後六時まで開いています。本は二週間借りられます。延長は一度だけできます。" * 3, "何日間借りられますか", "貸出期間"),
    "Arabic": ("تفتح مكتبة المدينة أبوابها من التاسعة صباحا حتى السادسة مساء، ويمكن استعارة الكتب لمدة أسبوعين وتمديدها مرة واحدة فقط إذا لم يطلبها قارئ آخر.",
               "كم يوما أحتفظ بالكتاب؟", "مدة الإعارة"),
    None: ("បណ្ណាល័យបើកនៅម៉ោងប្រាំបួនព្រឹក។ថ្ងៃអាទិត្យបិទ។ សៀវភៅអាចខ្ចីបានពីរសប្តាហ៍។" * 2, "ខ្ចីសៀវភៅបានប៉ុន្មានថ្ងៃ", "ម៉ោងបើក"),
    "Thai": ("ห้องสมุดเปิดเวลาเก้าโมงเช้าและปิดเวลาหกโมงเย็น ยืมหนังสือได้สองสัปดาห์ต่ออายุได้หนึ่งครั้งเท่านั้น" * 2, "ยืมได้กี่วัน", "เวลาปิด"),
}  # fmt: skip


@pytest.mark.parametrize("language", BODIES)
def test_a_query_in_another_language_is_told_and_a_right_one_is_not(language):
    body, *right = BODIES[language]
    assert languages.of(body) == language
    assert languages.strays("How long may I keep a book that I have borrowed?", body)
    for query in right:
        assert not languages.strays(query, body) and not selection.fault(
            queries.Example("i", "short-long", "t", "", "", query, body, "quite another thing")
        )
    english = "The town library opens at ten from Tuesday to Saturday. Books may be borrowed for four weeks, and twice again."
    assert not languages.strays("How long may I keep a book that I have borrowed?", english)
    one = passages.split([documents.Document("a", "", body)])
    assert measuring.neural_for(one) == measuring.MULTILINGUAL
    assert measuring.neural_for(passages.split([documents.Document("a", "", english)])) == measuring.ENGLISH


def test_short_keywords_without_blanks_are_no_copies():
    body = "ごみの収集日は毎週月曜日と木曜日です。粗大ごみは事前に電話で申し込んでください。"
    faults = {
        query: selection.fault(queries.Example("i", "short-long", "t", "", "", query, body, "別の文章です"))
        for query in ("収集日", "粗大ごみ", "税金", "?!", "毎週月曜日と木曜日です。粗大ごみは事前に電話で")
    }
    assert list(faults.values()) == ["", "", "", "query has no words", "query copied from the passage"]


def test_bm25_finds_texts_without_blanks_by_pairs_of_letters():
    assert measuring.terms("図書館は9時に。A の") == ["図書", "書館", "館は", "9", "時に", "a", "の"]
    assert measuring.terms("The Ferry, 2 boats") == ["the", "ferry", "2", "boats"]
    texts = [
        "ห้องสมุดเปิดเวลาเก้าโมงเช้า",
        "เรือข้ามฟากออกทุกสี่สิบนาที",
        "ตลาดนัดมีทุกวันพุธและวันเสาร์",
        "สระว่ายน้ำเปิดเฉพาะหน้าร้อน",
    ]
    found = passages.split([documents.Document(str(n), "", text) for n, text in enumerate(texts)])
    search = measuring.by_bm25(found)
    scores = search(["เรือออกกี่โมง", "ตลาดวันไหน", "ว่ายน้ำหน้าร้อน"], "")
    assert scores.argmax(1).tolist() == [1, 2, 3]


def test_of_few_documents_parts_are_held_out_and_too_few_are_told_before_anything_is_asked(
    tmp_path, recorded
):
    long = [
        documents.Document(
            f"book {n}", "", "\n\n".join(f"{WORDS[k % 13]} {k} of {n} " * 9 for k in range(30))
        )
        for n in (1, 2)
    ]
    found = passages.split(long, 40)
    out = selection.foresee(found, 0.25, 1, 1)
    of = selection.units(found)
    assert len(out) >= selection.LEAST_HELD_OUT and all(", part " in name for name in out)
    assert {name.partition(",")[0] for name in of.values()} == {"book 1", "book 2"}
    asked = {a.custom_id: a for a, _ in queries.requests(found, profile.load("adapt"))}
    examples = [
        queries.Example(i, "short-long", "t", "", "", f"query {n}?", a.passage.text, "none")
        for n, (i, a) in enumerate(asked.items())
    ]
    picked = selection.select(examples, asked, found, 0.25, 1, None, 0)
    assert {picked.document_of[e.id] for e in picked.held_out} == out
    assert not {picked.document_of[e.id] for e in picked.train} & out
    for count, said in ((1, "at least 8"), (3, "at least 8"), (10, "--queries 2")):
        folder = written_folder(tmp_path / f"{count}", count)
        with pytest.raises(selection.SelectionError, match=said):
            adaptation.generated(folder, tmp_path / "out", tiny("embedded:smollm2-135m"), SETTINGS, QUIET)
    assert not recorded and not (tmp_path / "out").exists()
    two = adaptation.Settings(peers=False, keep_rank=0, held_out=0.3, queries=2)
    _, _, written = adaptation.generated(
        tmp_path / "10", tmp_path / "out", tiny("embedded:smollm2-135m"), two, QUIET
    )
    assert len(written.examples) == 20


def test_of_one_document_that_has_most_of_the_passages_parts_are_held_out(tmp_path, recorded):
    texts = [
        "\n\n".join(f"{WORDS[k % 13]} {k} of a book " * 9 for k in range(60)),
        *(f"a note on {w} " * 9 for w in WORDS),
    ]
    found = passages.split([documents.Document(str(n), "", text) for n, text in enumerate(texts)], 40)
    of = selection.units(found)
    assert {of[p.key] for p in found if p.document != "0"} == {str(n) for n in range(1, 14)}
    for seed in range(8):  # whatever is drawn
        out = selection.foresee(found, 0.25, seed, 1)
        assert 5 < sum(of[p.key] in out for p in found) < 40
    even = [passages.Passage(str(n % 8), "", str(n)) for n in range(80)]
    assert set(selection.units(even).values()) == {str(n) for n in range(8)}


def test_an_index_outlives_other_rounding_and_no_other_model(tmp_path):
    class Model:
        pooling, max_length, dim, factor, asked = "last", 512, 8, 0.0, 0

        def encode(self, texts, instruction="", normalize=True):
            self.asked += len(texts)
            drawn = [np.random.default_rng(len(t)).normal(size=8) + self.factor * np.arange(8) for t in texts]
            return np.stack([v / np.linalg.norm(v) for v in drawn])

    found = passages.split([documents.Document(str(n), "", "letters and " * (n + 2)) for n in range(9)])
    model = Model()
    build = lambda: search_index.build(found, model, "", tmp_path / "index.npz").new  # noqa: E731
    assert (build(), build()) == (9, 0)
    model.factor = 1e-4
    assert build() == 0
    model.factor = 1.0
    assert build() == 9
    model.max_length = 128
    assert build() == 9


def test_a_query_is_read_as_the_documents_are():
    class Model:
        def encode(self, texts, instruction="", normalize=True):
            self.read = texts
            return np.ones((len(texts), 2))

    index = search_index.Index([], np.empty((0, 2)), Model(), "")
    index.search(unicodedata.normalize("NFD", "cafés à Liège") + "\u200e")
    assert index.encoder.read == ["cafés à Liège"]


def test_intervals_cover_and_ties_count_against():
    scores = np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
    assert measuring.ranks(scores, [0, 1]).tolist() == [2, 1]
    assert measuring.ndcg(np.array([1, 11])).tolist() == [100.0, 0.0]
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        effects = rng.normal(0, 1, 40)
        values = np.repeat(effects, 3) + rng.normal(0, 0.1, 120)
        found = measuring.interval(values, np.repeat(np.arange(40), 3))
        covered += found.low <= 0 <= found.high
    assert 85 <= covered <= 100


def test_many_queries_are_ranked_in_blocks(monkeypatch):
    found = [passages.Passage(str(n), "", f"{WORDS[n % 13]} {n}") for n in range(20)]
    asked = [queries.Example(p.document, "short-long", "t", "", "", p.body, p.text, "none") for p in found]
    sizes, search = [], measuring.by_bm25(found)
    monkeypatch.setattr(measuring, "BLOCK", 8)
    ranks = measuring.measure(
        lambda texts, task: (sizes.append(len(texts)), search(texts, task))[1], asked, found
    )
    assert sizes == [8, 8, 4] and ranks.tolist() == [1] * 20


def test_the_ladder_answers_symptoms():
    made = lambda **changes: ladder.Symptoms(**{  # noqa: E731
        "difference": Interval(-3, -5, -1), "before": 50, "bm25": 40, "train": 500, "held_out": 100, "asked": 700,
        "dropped": 10, "inconsistent": 5, "epochs": 4, "losses": [3, 2, 1], "accuracies": [0.2, 0.5, 0.8], **changes,
    })  # fmt: skip
    assert len(ladder.steps(made())) == 1
    for changes, said in (
        ({"losses": [1, 1, 1]}, "did not fall"), ({"held_out": 9}, "held-out queries"), ({"accuracies": [1, 1, 1]}, "by heart"),
        ({"inconsistent": 300, "dropped": 310}, "do not find"), ({"before": 95}, "leaves little"), ({"bm25": 70}, "BM25"),
        ({"train": 50}, "are few"), ({"strays": 90, "dropped": 95}, "another language"),
        ({"best": (88.0, "me5-small-4bit"), "after": 52.0}, "--start embedded:me5-small-4bit"),
        ({"best": (88.0, "me5-small-4bit"), "after": 52.0, "start": "embedded:me5-small-4bit"}, "keep it as it is"), ({"accuracies": [0.1, 0.1, 0.1]}, "nearly one"),
    ):  # fmt: skip
        assert said in ladder.steps(made(**changes))[0]
    assert (
        ladder.judge(Interval(2, -1, 5)) == ladder.UNCERTAIN
        and ladder.judge(Interval(2, 1, 3)) == ladder.BETTER
    )
