"""Released weights against their card: a tiny model in the release's very layout, and a task of our own."""

import json
import random

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskSTS
from synthembed import paper
from synthembed.commands.command_line import app
from synthembed.evaluation import released_weights
from synthembed.evaluation.large import parts
from synthembed.evaluation.suites import benchmarks, embedded_tasks
from synthembed.ground.weights.embedded import BackboneError
from synthembed.model import backbone
from synthembed.model.tokens import CACHE, TokenContract
from synthembed.profile.reading import ProfileError
from synthembed.profile.settings import Backbone as Settings
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import AutoTokenizer, MistralConfig, MistralModel
from typer.testing import CliRunner

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'-▁\n"
MERGES = [("t", "h"), ("th", "e"), ("▁", "the"), ("i", "n"), ("▁", "a")]


def llama_tokenizer(folder) -> None:
    """The files of a LlamaTokenizer as the release has them: the configuration asks for eos, and the
    post-processor of tokenizer.json, which transformers 5 goes by, adds bos alone."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *LETTERS]
    pieces += ["".join(m) for m in MERGES]
    vocabulary = {p: i for i, p in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, MERGES, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": True, "legacy": True,
                "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>",
                "model_max_length": 10**30, "clean_up_tokenization_spaces": False}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture
def release(tmp_path):
    """A folder as the hub has it: Mistral with a sliding window, several safetensors with their index."""
    folder = tmp_path / "tiny" / "e5-mistral-7b-instruct"
    config = MistralConfig(
        vocab_size=345, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32_768, sliding_window=4096, rope_theta=10_000.0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    MistralModel(config).save_pretrained(folder, max_shard_size="20KB")
    llama_tokenizer(folder)
    (folder / "modules.json").write_text("[]")  # sentence-transformers' files are there, and not read
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    assert (folder / "model.safetensors.index.json").exists()
    return folder


@pytest.fixture
def published(monkeypatch):
    """One set of the card is a task made here; returns a function that sets its published score."""
    draw, words = (
        random.Random(0),
        ["the", "cat", "sat", "in", "a", "hat", "and", "then", "ran", "to", "the", "inn"],
    )
    texts = lambda: [" ".join(draw.choices(words, k=6)) for _ in range(60)]  # noqa: E731
    pairs = {"sentence1": texts(), "sentence2": texts(), "score": [draw.random() for _ in range(60)]}
    about = embedded_tasks.metadata("STS12", "none", "STS", "cosine_spearman", None, "made in a test")

    class Tiny(AbsTaskSTS):
        metadata = about

        def load_data(self, num_proc=None, **kwargs):
            self.dataset, self.data_loaded = DatasetDict(test=Dataset.from_dict(pairs)), True

    monkeypatch.setitem(
        benchmarks.BENCHMARKS, released_weights.BENCHMARK, benchmarks.Benchmark("", lambda: [Tiny()])
    )
    card = json.loads(json.dumps(paper.published()["released_model_mteb56"]))
    monkeypatch.setattr(released_weights, "card", lambda: card["rows"])

    def set_score(score: float) -> None:
        card["rows"]["STS12"]["score"] = score

    return set_score


def check(release, folder) -> dict:
    (found,) = released_weights.verify(str(release), ["STS12"], folder)
    return found


def test_the_eos_that_the_releases_tokenizer_drops_is_there(release):
    by_itself = AutoTokenizer.from_pretrained(release)("the cat").input_ids
    assert by_itself[0] == 1 and by_itself[-1] != 2
    ours = backbone.load(Settings(model=str(release))).contract.ids(["the cat"], 16)
    assert ours == [[*by_itself, 2]]


def test_the_verdict_follows_eos_and_weights(release, published, tmp_path, monkeypatch):
    published(0.0)
    score = check(release, tmp_path / "a")["ours"]
    published(score + 0.1)
    found = check(release, tmp_path / "a")
    assert found["verdict"] == "match" and found["ours"] == score and found["mteb"]

    without = lambda self, texts, n: [ids[:-1] for ids in whole(self, texts, n)]  # noqa: E731
    whole = TokenContract.ids
    with monkeypatch.context() as lost:
        lost.setattr(TokenContract, "ids", without)
        CACHE.kept.clear()  # of ids as they were
        with pytest.raises(BackboneError, match="must begin with bos 1 and end with eos 2"):
            check(release, tmp_path / "b")
        lost.setattr(TokenContract, "check", lambda self, ids: None)  # as in a pipeline without a contract
        assert check(release, tmp_path / "b")["verdict"] == "differs"
    CACHE.kept.clear()

    model = MistralModel.from_pretrained(release)
    with torch.no_grad():
        model.layers[1].mlp.down_proj.weight.normal_()
    model.save_pretrained(release, max_shard_size="20KB")
    changed = check(release, tmp_path / "a")  # in the folder where the old weights' result is kept
    assert changed["verdict"] == "differs" and changed["ours"] != score
    record = json.loads((tmp_path / "a" / "verdicts.json").read_text())
    assert record["entries"] == [changed] and record["dtype"] == "float32"


def test_our_vectors_of_the_release_are_transformers_own(release):
    """Padded, with eos put in by hand, against packed with the prefix cache."""
    from synthembed.model.encoder import Encoder

    loaded = backbone.load(Settings(model=str(release)))
    texts, tokenizer = ["the cat", "in a hat " * 30, "x"], AutoTokenizer.from_pretrained(release)
    before = "Instruct: find it\nQuery: "
    model = MistralModel.from_pretrained(release).eval()
    with torch.no_grad():
        expected = [
            model(torch.tensor([[*tokenizer(before + t).input_ids, 2]])).last_hidden_state[0, -1]
            for t in texts
        ]
    expected = torch.nn.functional.normalize(torch.stack(expected), dim=-1).numpy()
    assert np.allclose(Encoder(loaded).encode(texts, "find it"), expected, atol=1e-5)


def test_results_are_kept_and_a_set_that_cannot_be_had_is_not_run(release, published, tmp_path, monkeypatch):
    published(0.0)
    first = check(release, tmp_path)
    monkeypatch.setattr(parts.mteb, "evaluate", None)  # nothing runs again
    assert check(release, tmp_path) == first
    monkeypatch.setitem(benchmarks.BENCHMARKS, released_weights.BENCHMARK,
                        benchmarks.Benchmark("", lambda: benchmarks._named("STS13")))  # fmt: skip
    (missing,) = released_weights.verify(str(release), ["STS13"], tmp_path)
    assert missing["verdict"] == "not run" and missing["ours"] is None
    assert "STS13: data set 'mteb/sts13-sts' at revision" in missing["why"] and "HF_HOME" in missing["why"]


def test_verdicts_say_why():
    card = released_weights.card()
    assert len(card) == 56 and set(released_weights.TASKS) <= set(card)
    near = released_weights.entry("SciFact", card["SciFact"]["score"] + 0.2)
    assert near["verdict"] == "match" and near["why"] == ""
    assert released_weights.entry("SciFact", card["SciFact"]["score"] - 0.9)["verdict"] == "close"
    far = released_weights.entry("SciFact", 60.0)
    assert far["verdict"] == "differs" and "others found 76.42 with mteb 1.12.75, not as here" in far["why"]
    moved = released_weights.entry("Banking77Classification", 81.4)
    assert moved["verdict"] == "not comparable" and "mteb 1.12.75, as here" in moved["why"]
    assert released_weights.entry("SciFact", 60.0, "mteb-default")["verdict"] == "not comparable"
    shown = released_weights.table(
        [near, far, released_weights.entry("STS12", None, why="no data\nfetch it")]
    )
    assert "differs" in shown and "fetch it" in shown and shown.count("\n") >= 5


def test_the_command(release, published, tmp_path):
    out = ["--out", str(tmp_path / "out")]
    score = check(release, tmp_path)["ours"]
    for card, code, verdict in ((score, 0, "match"), (score - 5, 1, "differs")):
        published(card)
        done = CliRunner().invoke(app, ["verify", "--model", str(release), "--tasks", "STS12", *out])
        assert done.exit_code == code and f"{score:6.2f}  {verdict}" in done.output
    unknown = CliRunner().invoke(app, ["verify", "--model", str(release), "--tasks", "STS12,STS99", *out])
    assert (
        unknown.exit_code == 1 and "['STS99'] are not on the card, which has AmazonCounter" in unknown.output
    )
    nowhere = CliRunner().invoke(app, ["verify", "--model", "hub:nobody/nothing", "--tasks", "STS12", *out])
    assert (
        nowhere.exit_code == 1 and "backbone.model 'hub:nobody/nothing' could not be read" in nowhere.output
    )
    with pytest.raises(ProfileError):
        released_weights.verify(str(release), ["STS99"], tmp_path)
