"""Weakly supervised pairs: where they come from, what is left out, and training on them."""

import gzip
import json

import pytest
import torch
from synthembed.corpus.example import Drops
from synthembed.ground.data_files.opener import ReadError
from synthembed.labelled import installed_sets, weak_pairs
from synthembed.profile import reading
from synthembed.profile.settings import Pretrain
from synthembed.training import train
from tiny_training import CORPUS, tiny

ROWS = [{"title": f"title {n}", "body": f"the body of number {n}"} for n in range(5)]


def as_jsonl(folder):
    (folder / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    return folder / "pairs.jsonl"


def as_gzip(folder):
    with gzip.open(folder / "pairs.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(r) + "\n" for r in ROWS))
    return folder / "pairs.jsonl.gz"


def as_parquet(folder):
    import pandas as pd

    pd.DataFrame(ROWS).assign(other=1).to_parquet(folder / "pairs.parquet")
    return folder / "pairs.parquet"


def as_folder(folder):
    as_jsonl(folder)
    return folder


@pytest.mark.parametrize("made", [as_jsonl, as_gzip, as_parquet, as_folder])
def test_pairs_come_from_files_of_any_kind(tmp_path, made):
    found = weak_pairs.pairs(Pretrain(source=str(made(tmp_path))))
    assert [(e.query, e.positive, e.negative) for e in found] == [(r["title"], r["body"], None) for r in ROWS]
    assert len({e.id for e in found}) == 5 and all("/" in e.id for e in found)
    assert len(weak_pairs.pairs(Pretrain(source=str(made(tmp_path)), limit=3))) == 3


def test_empty_and_repeated_pairs_are_left_out_and_counted(tmp_path, capsys):
    extra = [{"title": "title 1", "body": "other"}, {"title": "new", "body": ROWS[0]["body"]}, {"title": " ", "body": "b"}]  # fmt: skip
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in ROWS + extra))
    assert len(weak_pairs.pairs(Pretrain(source=str(path)))) == 5
    assert "2 title or body seen before, 1 empty title or body" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"title": "a", "body": "b"}\n{"title": \n', r"p.jsonl, line 2: not JSON"),
        ('{"title": "a", "text": "b"}\n', r"p.jsonl, line 1: no field 'body', there is 'title', 'text'.*set pretrain.title and"),
        ('{"title": "a", "body": 3}\n', r"p.jsonl, line 1: field 'body' is int, not text"),
        ('{"title": "a", "body": "b"}\n', r"has 1 usable pairs: at least 2"),
        ("[1]\n", r"p.jsonl, item 1: no field 'title', there is int"),
    ],
)  # fmt: skip
def test_a_bad_file_names_line_and_remedy(tmp_path, text, message):
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with pytest.raises(ReadError, match=message):
        weak_pairs.pairs(Pretrain(source=str(path)))


def test_a_source_that_is_nowhere_is_an_error(tmp_path):
    with pytest.raises(weak_pairs.PairsError, match=r"no \.jsonl"):
        weak_pairs.pairs(Pretrain(source=str(tmp_path / "none.jsonl")))
    with pytest.raises(weak_pairs.PairsError, match="give a file, a folder, hub:owner/name"):
        weak_pairs.pairs(Pretrain(source="hub:nobody/nothing"))


def test_docstrings_are_read_without_importing(capsys):
    """Of packages that are pinned and installed; the order is drawn from the seed."""
    one, again, other = (
        list(installed_sets.docstrings(["pydantic", "papermill", "not-installed"], seed, Drops()))
        for seed in (1, 1, 2)
    )
    assert one == again and one != other and sorted(one) == sorted(other)
    assert len(one) > 100 and {name.split("/")[0] for name, _, _ in one} == {"pydantic", "papermill"}
    assert all(title and len(body.split()) >= 12 for _, title, body in one)
    assert "pydantic" in installed_sets.pinned() and len(installed_sets.pinned()) > 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Return the sum of all.\n\n    " + "word " * 12, ("Return the sum of all.", ("word " * 12).strip())),
        ("Return the sum of all.", None),
        ("Sum.\n\n" + "word " * 12, None),
        ("Return the sum of all.\n\nToo short.", None),
    ],
)
def test_a_docstring_is_a_summary_and_a_body(text, expected):
    found = installed_sets.split_docstring(text)
    assert (found and (found[0], found[1].strip())) == expected


def test_pretraining_is_where_fine_tuning_starts(llama, tmp_path):
    from synthembed.model.backbone import Backbone
    from tiny_models import tiny_model

    path = as_jsonl(tmp_path)
    # Fine-tuning that takes almost no step, so that what moved the weights is the pre-training.
    chosen = tiny(**{"pretrain": {"source": str(path), "set": {"train.learning_rate": 0.01, "train.batch_size": 4, "train.max_steps": 4}},
                     "train.learning_rate": 1e-12, "train.max_steps": 2})  # fmt: skip
    assert chosen.for_pretraining().train.instruction == "none"
    before = {n: p.clone() for n, p in llama.model.named_parameters()}
    trained = train.train(chosen, llama, CORPUS, tmp_path / "run")
    logs = [tmp_path / "run" / "log.jsonl", tmp_path / "run" / "pretraining" / "log.jsonl"]
    assert [len(log.read_text().splitlines()) for log in logs] == [2, 4]
    merged = dict(trained.model.merge_and_unload().named_parameters())
    moved = [n for n, p in merged.items() if not torch.allclose(p, before[n], atol=1e-5)]
    assert moved and all("proj" in n for n in moved)
    again = train.train(chosen, Backbone(tiny_model("llama"), llama.contract, {}), CORPUS, tmp_path / "run")
    for name, p in again.model.merge_and_unload().named_parameters():
        assert torch.equal(p, merged[name])


def test_pretraining_settings_are_checked_with_the_profile():
    with pytest.raises(reading.ProfileError, match=r"pretrain.set: .*unknown key train.batch_sizes"):
        tiny(**{"pretrain": {"set": {"train.batch_sizes": 4}}})
