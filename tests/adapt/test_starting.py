"""What an adaptation of a bare language model starts from, made once for all folders."""

import json

import pytest
from synthembed import profile
from synthembed.adapt import starting
from synthembed.corpus import example_files
from synthembed.corpus.example import Example
from synthembed.model import backbone, export
from synthembed.model.backbone import Backbone
from synthembed.model.tokens import TokenContract
from tiny_models import byte_tokenizer, tiny_model


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHEMBED_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs" / "adapt" / ".start"


def few(recorded, folder, count):
    found = [
        Example(str(n), "short-long", "Find it", "en", "", f"where is {n}", f"{n} is here", f"{n} was there")
        for n in range(count)
    ]
    example_files.write(folder / "examples.jsonl", found)
    return found


def test_a_bare_model_is_trained_once_and_one_that_embeds_never(own, tiny_folder, monkeypatch, one_thread):
    monkeypatch.setattr(starting, "examples", few)
    bare = profile.Profile(name="tiny").with_overrides({"backbone.model": str(tiny_folder)})
    said = []
    changed, count = starting.prepared(bare, 8, said.append)
    assert count == 8 and len(said) == 1 and changed.train == bare.train
    made = backbone.load(changed.backbone)
    assert made.recipe.pooling == bare.backbone.pooling  # it says how it is read
    weights = own.glob("*/model/model.safetensors")
    before = {path: path.stat().st_mtime_ns for path in weights}
    assert len(before) == 1
    assert starting.prepared(bare, 8, said.append) == (changed, 8) and len(said) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert starting.prepared(changed, 8, said.append) == (changed, 0)
    assert starting.prepared(bare, 0, said.append) == (bare, 0) and len(said) == 1
    other = bare.with_overrides({"seed": 7})
    assert starting.prepared(other, 8, said.append)[0].backbone != changed.backbone and len(said) == 2


def test_a_model_that_cannot_be_read_as_it_says_is_told(own, tmp_path):
    plain = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {"model": "tiny"})
    folder = export.export(plain, tmp_path / "cls", "mean", "natural", "a card")
    given = profile.Profile(name="tiny").with_overrides({"backbone.model": str(folder)})
    said = []
    assert starting.prepared(given, 0, said.append) == (given, 0) and not said
    path = folder / "1_Pooling" / "config.json"
    way = json.loads(path.read_text()) | {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    path.write_text(json.dumps(way))
    assert starting.prepared(given, 0, said.append) == (given, 0)
    assert "it pools by cls" in said[0] and "--start" in said[0]


def test_a_training_that_was_broken_off_leaves_no_start_model(own, tiny_folder, monkeypatch, one_thread):
    monkeypatch.setattr(starting, "examples", few)
    bare = profile.Profile(name="tiny").with_overrides({"backbone.model": str(tiny_folder)})

    def broken(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(starting.export, "export", broken)
        starting.prepared(bare, 8, print)
    said = []
    assert starting.prepared(bare, 8, said.append)[1] == 8 and len(said) == 1


def test_recorded_examples_are_questions_with_texts_that_answer_them(tmp_path):
    recorded = profile.load(starting.RECORDED)
    found = starting.examples(recorded, tmp_path, 300)
    assert len(found) == 300 and {e.family for e in found} == {starting.FAMILY}
    assert all(e.query and e.positive and e.negative for e in found)
    assert len({e.language for e in found}) > 20 and len({e.id for e in found}) == 300
    assert found == example_files.read(tmp_path / "examples.jsonl")


def test_the_same_examples_are_drawn_again(tmp_path):
    recorded = profile.load(starting.RECORDED, ["generate.examples=300", "analyze.leakage=false"])
    drawn, all_of_them = (starting.examples(recorded, tmp_path, count) for count in (20, 10_000))
    assert drawn == starting.examples(recorded, tmp_path, 20) and len(drawn) == 20 < len(all_of_them)
