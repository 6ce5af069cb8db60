"""The very code of the pages in docs/recipes, on a tiny model; their commands have the options that they name."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer
from synthembed.corpus import example_files
from synthembed.ground.files import ROOT
from synthembed.model import export
from synthembed.model.backbone import Backbone
from synthembed.model.tokens import TokenContract
from synthembed.training import train
from tiny_models import byte_tokenizer, tiny_model
from tiny_training import CORPUS

PAGES = ROOT / "docs" / "recipes"
# page → what its code prints
SAYS = {
    "own-corpus": r"\d+ to train on, \d+ held out; .*BM25: \d", "own-family": r"2 examples; \{\}",
    "another-base": r"llama eos at the end: True vectors: \(2, 32\)", "another-language": r"in Swahili",
    "own-task": r"^-?\d\.\d", "own-loss": r"^$", "own-filter": r"'query in capitals': 1", "ten-million-texts": r"^\[ *\d+.*\]",
    "serve": r"tensor.*least cosine: (0\.999|1\.0)", "labelled-pairs": r"steps in", "evaluate-any-model": r"EmbeddedSTSDialogue -?\d",
    "generator-alone": r"60 examples|5\d examples", "compare-runs": r"-?\d+\.\d \[.*over \d+ tasks\n(significant|within noise)",
}  # fmt: skip


def code_of(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def pages():
    return sorted(p for p in PAGES.glob("*.md") if p.name != "README.md")


@pytest.fixture
def names(tmp_path, tiny_folder, monkeypatch):
    """What the pages leave to the reader: names of a model, of files, of runs."""
    monkeypatch.chdir(tmp_path)
    backbone = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {"model": "tiny"})
    backbone.config.use_cache = False
    model = export.export(backbone, tmp_path / "trained", "last", "natural", "a card")
    rows = [
        {"query": f"what is {n}", "positive": f"it is number {n}", "negative": f"no {n}"} for n in range(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    example_files.write(tmp_path / "examples.jsonl", [CORPUS[0], *CORPUS[2:5]])
    text = (tmp_path / "examples.jsonl").read_text().replace("query 3", "SHOUTED QUERY")
    (tmp_path / "examples.jsonl").write_text(text)
    np.save(tmp_path / "corpus.npy", np.random.default_rng(0).normal(size=(50, 32)).astype(np.float16))
    other = tmp_path / "runs" / "other"
    for name in ("stage.json", "scores.json"):
        (other / "04_evaluate").mkdir(parents=True, exist_ok=True)
        (other / "04_evaluate" / name).write_bytes(
            (ROOT / "results" / "laptop" / "04_evaluate" / name).read_bytes()
        )
    return {
        "MODEL": str(model), "BASE": str(tiny_folder), "PAIRS": "pairs.jsonl", "EXAMPLES": "examples.jsonl",
        "ask": lambda body: json.dumps({"complaint": "It leaks.", "remedy": body["model"], "wrong_remedy": "Turn it on."}),
        "FIRST": "results/laptop", "SECOND": str(other), "__name__": "recipe",
    }  # fmt: skip


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.stem)
def test_the_code_of_a_page_runs(page, names, capsys, one_thread, monkeypatch):
    monkeypatch.setattr(train, "info_nce", train.info_nce)  # put back after the page on losses
    for number, code in enumerate(code_of(page)):
        exec(compile(code, f"{page.name}[{number}]", "exec"), names)
    if page.stem == "own-loss":  # its effect is on a training
        from tiny_training import tiny

        backbone = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {})
        assert train.info_nce is names["margin_loss"]
        train.train(tiny(), backbone, CORPUS, Path("own"))
        losses = [json.loads(line)["loss"] for line in Path("own/log.jsonl").read_text().splitlines()]
        assert 0 < losses[-1] < losses[0]
        capsys.readouterr()
        return
    assert re.search(SAYS[page.stem], capsys.readouterr().out, re.DOTALL)


def test_every_page_is_short_and_listed():
    listed = (PAGES / "README.md").read_text(encoding="utf-8")
    assert {p.stem for p in pages()} == SAYS.keys()
    for page in pages():
        assert f"({page.name})" in listed
        assert sum(len(code.splitlines()) for code in code_of(page)) <= 30, page.name


def test_commands_on_the_pages_have_their_options():
    from synthembed.commands.command_line import app

    commands = typer.main.get_command(app).commands
    seen = 0
    for page in [*pages(), PAGES / "README.md"]:
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"(?:^|`)(synthembed [^`\n]+)", text, re.MULTILINE):
            _, name, *words = shlex.split(line.partition("&&")[0].rstrip(".,"))
            options = {o for p in commands[name].params for o in (*p.opts, *p.secondary_opts)}
            for word in words:
                if word.startswith("--"):
                    assert word.partition("=")[0] in options, f"{page.name}: {line}"
            seen += 1
    assert seen >= 8


def test_other_servers_find_what_they_read(names):
    """vLLM and text-embeddings-inference are not here: what both read of the folder is as they want it."""
    from tokenizers import Tokenizer

    folder = Path(names["MODEL"])
    modules = json.loads((folder / "modules.json").read_text())
    assert [m["type"].rpartition(".")[2] for m in modules] == ["Transformer", "Pooling", "Normalize"]
    assert json.loads((folder / "1_Pooling" / "config.json").read_text())["pooling_mode_lasttoken"] is True
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("a text").ids
    eos = json.loads((folder / "tokenizer_config.json").read_text())["eos_token"]
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).id_to_token(ids[-1]) == eos
