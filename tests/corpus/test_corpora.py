"""Leakage against mteb's sets on this machine, and corpora from a hub that a test serves itself."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from datasets import Dataset, load_dataset
from synthembed import profile
from synthembed.corpus import analysis, evaluation_texts, example_files, filters, languages, texts
from synthembed.corpus.example import Drops
from synthembed.generation import two_steps
from synthembed.profile.settings import Analyze
from test_examples import LONG, make

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


def test_a_corpus_comes_from_the_hub(tmp_path):
    row = {"instruction": "Find", "query": "q", "positive": "p", "negative": ""}
    lines = "".join(json.dumps(row | {"query": f"q{n}"}) + "\n" for n in range(4)).encode()
    hub = Hub({"somebody/corpus": {"data/short_long.jsonl": lines, "README.md": b"# no data"}})
    code = (
        "import sys; from synthembed.corpus.corpus_files import read_corpus\n"
        "print([e.query for e in read_corpus('somebody/corpus', 'open-synthetic', 3)])"
    )
    assert elsewhere(code, hub, tmp_path).strip() == "['q0', 'q1', 'q2']"


def test_mteb_sets_that_datasets_has_cached_are_found(tmp_path):
    """The cache is filled by load_dataset itself, as mteb does it."""
    files = {
        "test.jsonl": json.dumps({"text": LONG, "label": 3}) + "\n",
        "train.jsonl": json.dumps({"text": "a text of the training split of that set", "label": 1}) + "\n",
    }
    hub = Hub({"mteb/banking77": {name: text.encode() for name, text in files.items()}})
    elsewhere("import datasets; datasets.load_dataset('mteb/banking77')", hub, tmp_path)
    checked = Counter()
    assert list(evaluation_texts.mteb_texts(checked, tmp_path / "datasets")) == [LONG]
    assert checked == {"mteb/banking77": 1}


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


def test_test_texts_and_queries_are_read_and_corpora_are_not(tmp_path):
    clustering = tmp_path / "mteb___twentynewsgroups-clustering" / "default" / "0.0.0" / "abc"
    cached(clustering, "test", [{"sentences": ["first sentence here", "second one"], "labels": ["a", "b"]}])
    dup = tmp_path / "mteb___ask_ubuntu_dup_questions" / "default" / "0.0.0" / "abc"
    cached(dup, "test-00000-of-00002", [{"query": "in camel case", "positive": ["p"], "negative": []}])
    facts = tmp_path / "mteb___scifact"
    cached(facts / "queries" / "0.0.0" / "abc", "queries", [{"_id": "1", "text": "a claim to be checked"}])
    cached(facts / "corpus" / "0.0.0" / "abc", "corpus", [{"_id": "1", "text": "an abstract of the corpus"}])
    cached(facts / "default" / "0.0.0" / "abc", "test", [{"query-id": "q1", "corpus-id": "c9", "score": 1}])
    stranger = tmp_path / "somebody___scifact" / "default" / "0.0.0" / "abc"
    cached(stranger, "test", [{"text": "no set of the benchmark"}])
    checked = Counter()
    texts = set(evaluation_texts.mteb_texts(checked, tmp_path))
    assert {"first sentence here", "second one", "in camel case", "a claim to be checked"} <= texts
    assert not texts & {"an abstract of the corpus", "no set of the benchmark", "q1", "c9"}
    assert set(checked) == {
        "mteb/twentynewsgroups-clustering", "mteb/AskUbuntuDupQuestions", "mteb/scifact"
    }  # fmt: skip


def test_benchmark_texts_match_as_strings_only(tmp_path):
    found = [
        make(1, "q", LONG.upper() + " !"),
        make(2, "q", LONG + " and back"),
        make(3, LONG, "p"),
        make(4, "yes or no", "no"),
    ]
    drops = Drops()
    kept = list(
        filters.filtered(found, Analyze(leakage=True), drops, benchmark_texts=iter([LONG, "yes or no"]))
    )
    assert [e.id for e in kept] == ["e2", "e4"] and drops.counts == {"also in an evaluation set": 2}


def test_a_broken_cache_file_is_named(tmp_path):
    folder = tmp_path / "mteb___banking77" / "default" / "0.0.0" / "abc"
    folder.mkdir(parents=True)
    (folder / "banking77-test.arrow").write_bytes(b"no arrow" * 9)
    with pytest.raises(ValueError, match=r"banking77-test\.arrow in the cache of datasets cannot be read"):
        list(evaluation_texts.mteb_texts(Counter(), tmp_path))


def test_no_cache_is_no_set(tmp_path):
    checked = Counter()
    assert list(evaluation_texts.mteb_texts(checked, tmp_path / "nothing")) == [] and not checked


def test_the_funnel_counts_down_to_what_is_kept():
    settings = Analyze(refusals=True, near_duplicates=True)
    drops = Drops()
    drops.add("not JSON", "x")
    texts = [make(1, "a", "b"), make(2, "a", "b"), make(3, "I'm sorry, but no", "b"), make(4, LONG, "c")]
    list(filters.filtered([*texts, make(5, LONG + " now", "d")], settings, drops))
    steps = analysis.funnel(drops, settings)
    assert steps == [
        ("replies", 6), ("valid", 5), ("without: refusal phrase", 4), ("without: exact duplicate", 3),
        ("without: near-duplicate", 2),
    ]  # fmt: skip
    table = analysis.dropped(drops)
    assert set(table["reason"]) == {"not JSON", "refusal phrase", "exact duplicate", "near-duplicate"}


GERMAN = "Die Fähre zu den nördlichen Inseln fährt morgens um sieben Uhr ab und braucht drei Stunden"


@pytest.mark.parametrize(
    ("text", "wanted", "fits"),
    [
        (GERMAN, "de", True),
        (GERMAN, "nl", False),
        (GERMAN * 8, "de", True),
        (GERMAN * 8, "en", False),
        ("zu kurz", "en", True),  # too short to tell
        (LONG, "br", True),  # a language that is not told
        ("Brod za sjeverne otoke polazi u sedam ujutro i po mirnom moru plovi oko tri sata", "bs", True),
        ("Brod za sjeverne otoke polazi u sedam ujutro i po mirnom moru plovi oko tri sata", "sl", False),
    ],
)
def test_texts_in_the_language_that_was_asked_for(text, wanted, fits):
    assert languages.in_language(text, wanted) == fits


def test_near_duplicates_tell_which_text_they_are_near():
    index = texts.NearDuplicates(0.7)
    assert not index.seen("ferry", LONG) and not index.seen("fähre", GERMAN)
    assert index.find(LONG + " today") == "ferry" and index.find(GERMAN.upper()) == "fähre"
    assert index.find("Something else entirely is asked here") is None
    assert index.seen("again", LONG + " today") and index.keys == ["ferry", "fähre"]


def test_an_arrow_file_streams(tmp_path):
    made = Dataset.from_dict({"text": [f"text {n}" for n in range(2500)]})
    made.save_to_disk(str(tmp_path / "saved"))
    file = next((tmp_path / "saved").glob("*.arrow"))
    rows = evaluation_texts._rows(file)
    assert next(rows) == {"text": "text 0"} and sum(1 for _ in rows) == 2499


# For some languages, the one that a detector most easily mistakes it for.
NEAREST = {
    "en": "nl", "nl": "de", "de": "nl", "es": "pt", "pt": "es", "it": "ca", "ca": "es", "da": "sv", "sv": "da",
    "cs": "sk", "sk": "cs", "ru": "uk", "uk": "bg", "bg": "ru", "hi": "mr", "mr": "hi", "fa": "ar", "ar": "ur",
    "ur": "fa", "fi": "et", "et": "fi",
}  # fmt: skip


def test_languages_of_the_recorded_corpus_are_told_from_their_nearest(tmp_path):
    """Of the recorded English to Urdu documents: right labels that are refused, wrong ones that pass."""
    p = profile.load("laptop")
    two_steps.generate(p, tmp_path)
    found = example_files.from_replies(tmp_path / "replies.jsonl", two_steps.read_items(tmp_path), Drops())
    pairs = [
        (e.positive, e.target_language or e.language)
        for e in found
        if e.family != "long-short" and (e.target_language or e.language) in NEAREST
    ]
    refused = sum(not languages.in_language(text, language) for text, language in pairs)
    passed = sum(
        languages.in_language(text, NEAREST[language])
        for text, language in pairs
        if len(texts.normalised(text)) >= languages.MIN_LANGUAGE_CHARACTERS
    )
    assert len(pairs) > 900 and refused <= 0.005 * len(pairs) and passed <= 0.005 * len(pairs)
