"""Explorers: what a control shows is what the library computes, and an argument shows the same as a hand."""

import ast
import json

import numpy as np
import pytest
import torch
from synthembed.generation import parsing
from synthembed.generation.items import Item, render, schema_of
from synthembed.ground.files import ROOT
from synthembed.model import encoder
from synthembed.profile.parameters import ProfileError
from synthembed.training import contrastive
from synthembed.widgets import batch, batch_matrix, explorer, prompts, reading_places, tokens

ATTACK = "<script>alert(1)</script>"


def test_an_explorer_hands_over_html_beside_its_widget():
    made = explorer.Explorer([], lambda: "<p>seen</p>")
    bundle = made._repr_mimebundle_()
    assert bundle["text/html"] == "<p>seen</p>" and "application/vnd.jupyter.widget-view+json" in bundle


def test_what_a_drawing_raises_is_shown_escaped_in_its_place():
    def draw():
        raise ValueError(ATTACK)

    assert explorer.Explorer([], draw).shown.value == (
        "<p><b>ValueError</b>: &lt;script&gt;alert(1)&lt;/script&gt;</p>"
    )


@pytest.mark.parametrize("pooling", ["last", "mean", "weighted-mean"])
def test_shares_of_tokens_are_those_of_the_pooling(pooling):
    hidden = torch.eye(5)[None]  # the state of token n is the n-th unit vector: what is pooled are the shares
    pooled = encoder.pool(hidden, torch.ones(1, 5, dtype=torch.long), pooling)[0]
    from synthembed.widgets.reading_places import shares

    assert shares(5, pooling) == pytest.approx(pooled.tolist())


def test_tokens_are_read_as_they_are_and_eos_can_be_lost():
    made = tokens(lambda text: ["<s>", *text.split(), "</s>"], f"two {ATTACK}")
    assert "4 tokens for 2 words" in made.shown.value and "<script" not in made.shown.value
    text, pooling, with_eos = made.controls
    with_eos.value = False
    assert "3 tokens" in made.shown.value and "&lt;/s&gt;" not in made.shown.value
    pooling.value, text.value = "mean", "one"
    assert made.shown.value == tokens(lambda t: ["<s>", *t.split(), "</s>"], "one", "mean", False).shown.value
    assert "last" in reading_places({"last": (["a"], "last")})


def test_a_batch_is_measured_as_the_loss_measures_it():
    unit = torch.nn.functional.normalize(
        torch.randn(16, 6, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    first, second = torch.arange(8), torch.arange(8, 16)
    for temperature in (0.02, 0.5):
        loss, metrics = contrastive.info_nce(unit, first, second, first, temperature)
        found = batch_matrix.measured((unit[:8] @ unit[8:].T).double().numpy(), temperature)
        assert found["loss"] == pytest.approx(loss.item(), abs=1e-4)
        assert found["accuracy"] == metrics["accuracy"] and found["chance"] == 1 / 8
    even = batch_matrix.measured(np.zeros((8, 8)), 1.0)
    assert even["loss"] == pytest.approx(even["log n"]) and even["negatives pushed"] == pytest.approx(7)


def test_a_batch_by_hand_and_by_arguments_is_the_same():
    cosines = np.linspace(-1, 1, 64).reshape(8, 8)
    texts = [f"text {n}" for n in range(7)] + [ATTACK]
    by_hand = batch(cosines, texts, texts, 0.1, 8, 0)
    warmer, size, query = by_hand.controls
    size.value, query.value = 4, 2
    assert by_hand.shown.value == batch(cosines, texts, texts, 0.1, 4, 2).shown.value
    warmer.value = 1.0
    assert by_hand.shown.value == batch(cosines, texts, texts, 1.0, 4, 2).shown.value
    assert "<script" not in batch(cosines, texts, texts, 1.0, 8, 7).shown.value


GOOD = json.dumps({"user_query": "q", "positive_document": ATTACK, "hard_negative_document": "n"})


def item(number: int, language: str = "en", difficulty: str = "college", family: str = "short-long") -> Item:
    asked = {"short-long": [("query_type", "common"), ("query_length", "less than 5 words"), ("clarity", "clear"),
                            ("difficulty", difficulty), ("num_words", 50)], "short-short": []}  # fmt: skip
    return Item("example", number, family, f"task {number}", language, "", tuple(asked[family]))


def shown(**first):
    items = [item(3, "de"), item(1), item(2, difficulty="PhD"), item(4, family="short-short")]
    faults = lambda text, one: parsing.faults(text, schema_of(one))  # noqa: E731
    return prompts(items, render, lambda one: GOOD if one.number != 2 else "", faults, **first)


def control(made, name):
    return next(c for c in made.controls if c.description == name)


def test_a_request_is_found_by_its_properties_and_shown_with_its_reply():
    made = shown()
    assert (
        "item 1," in made.shown.value
        and "task 1" in made.shown.value
        and "2 such requests" in made.shown.value
    )
    assert "what its schema asks for" in made.shown.value and "<script" not in made.shown.value
    control(made, "difficulty").value = "PhD"
    assert "item 2," in made.shown.value and "no reply" in made.shown.value
    control(made, "language").value = "de"
    assert "No request of this run" in made.shown.value
    by_arguments = shown(placeholders={"difficulty": "PhD"})
    assert "item 2," in by_arguments.shown.value


def test_placeholders_follow_the_family():
    made = shown()
    control(made, "family").value = "short-short"
    assert control(made, "difficulty").layout.display == "none" and "item 4," in made.shown.value
    assert "Not used" in made.shown.value  # the reply has another family's keys
    control(made, "family").value = "short-long"
    assert control(made, "difficulty").layout.display is None and "item 1," in made.shown.value


def test_what_is_wrong_with_a_reply_is_said_as_it_is_written():
    made = shown()
    reply = control(made, "reply")
    reply.value = GOOD.replace("positive_document", "document")
    assert "not the schema" in made.shown.value and "positive_document: Field required" in made.shown.value
    reply.value = GOOD[:-1]
    assert "not JSON" in made.shown.value and "line 1 column" in made.shown.value
    reply.value = GOOD
    assert "what its schema asks for" in made.shown.value


MADE = {"prompts", "browse", "tokens", "batch", "playground", "neighbours", "passkeys"}


def explorers_in(path) -> dict[str, dict]:
    """name → the cell of a notebook that shows an explorer last."""
    found = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and "explore" in cell["metadata"].get("tags", ()):
            last = ast.parse("".join(cell["source"])).body[-1]
            if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
                called = ast.unparse(last.value.func).rpartition(".")[2]
                found |= {called: cell} if called in MADE else {}
    return found


def test_the_parameter_explore_tells_first_values_by_name():
    begin = {"family": "bitext", "rows": 3, "placeholders": {}}
    assert explorer.first({}, "browse", **begin) == ("bitext", 3, {})
    told = "browse.family=sts browse.placeholders={num_words: 5} batch.temperature=0.1"
    assert explorer.first(told, "browse", **begin) == ("sts", 3, {"num_words": 5})
    assert explorer.first({"batch.temperature": 1}, "batch", temperature=0.02) == (1,)
    assert explorer.first("tokens.text=a = b, and so on", "tokens", text="") == ("a = b, and so on",)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("family=sts", "explorers are prompts, browse"),
        ("brows.family=sts", "write explorer.control=value"),
        ("browse.famly=sts", "browse has family, rows"),
        ("browse.rows=many", "rows is like 3"),
        ("browse.rows=true", "rows is like 3"),
        ("browse.family=7", "family is like 'bitext'"),
    ],
)
def test_a_first_value_that_no_explorer_has_is_refused(told, said):
    with pytest.raises(ProfileError, match=said):
        explorer.first(told, "browse", family="bitext", rows=3)


def test_every_explorer_of_a_notebook_takes_its_first_values_from_names_in_its_cell():
    """What a hand moves, a cell without a hand can be told."""
    seen = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for name, cell in explorers_in(path).items():
            body = ast.parse("".join(cell["source"])).body
            given = {n.id for a in body if isinstance(a, ast.Assign) for t in a.targets for n in ast.walk(t) if isinstance(n, ast.Name)}  # fmt: skip
            used = [a.id for a in body[-1].value.args if isinstance(a, ast.Name) and a.id in given]
            seen[name] = len(used)
    controls = {
        "prompts": 4,
        "browse": 5,
        "tokens": 3,
        "batch": 3,
        "playground": 3,
        "neighbours": 1,
        "passkeys": 3,
    }
    assert set(seen) == MADE and all(seen[name] >= count for name, count in controls.items()), seen


def test_an_executed_copy_shows_what_each_explorer_showed_without_a_kernel():
    seen = set()
    for path in sorted((ROOT / "results" / "laptop").glob("*/*.ipynb")):
        for name, cell in explorers_in(path).items():
            data = [output["data"] for output in cell["outputs"] if "data" in output]
            page = "".join("".join(one.get("text/html", "")) for one in data)
            assert len(page) > 100 and "Error</b>" not in page, name
            assert not any("widget-view" in kind for one in data for kind in one), "nothing draws it there"
            seen.add(name)
    assert seen == MADE
