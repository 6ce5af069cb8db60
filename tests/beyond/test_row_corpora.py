"""The corpora of rows: what one filter dropped, and faults that are put in and that their filter finds."""

import json

import pytest
from synthembed import profile
from synthembed.beyond import corpora
from synthembed.corpus import example_files, filters
from synthembed.corpus.example import Drops
from synthembed.labelled import selection
from tiny_training import example

SUBJECTS = ("kettle", "ladder", "violin", "harbour", "orchard", "blanket", "compass", "lantern", "saddle", "chimney",
            "anchor", "walnut")  # fmt: skip
SEARCH = [
    example(n, query=f"mend a {s} that broke", negative=f"the {s} museum opens at nine on weekdays",
            positive=f"take the {s} apart on a {s} bench first, then glue the {s} pieces one by one and wait")
    for n, s in enumerate(SUBJECTS)
]  # fmt: skip
GERMAN = ("den Kessel", "die Leiter", "die Geige", "den Hafen", "den Obstgarten", "die Decke", "den Kompass", "die Laterne",
          "den Sattel", "den Schornstein", "den Anker", "die Walnuss")  # fmt: skip
TRANSLATIONS = [
    example(n, id=f"t{n}", family="bitext", target_language="de",
            negative=f"Wir verkaufen {g} im nächsten Sommer wieder, wenn die Gäste aus der Stadt zurückkommen und die Händler "
                     "auf dem großen Platz ihre Stände aufbauen, denn im Winter kauft hier niemand etwas.",
            query=f"Yesterday evening the neighbours carefully painted the {s} green together, although nobody had asked them to, "
                  "and afterwards they drank coffee in the garden until it became too dark to see the cups.",
            positive=f"Gestern Abend haben die Nachbarn {g} gemeinsam und sorgfältig grün angestrichen, obwohl niemand sie "
                     "darum gebeten hatte, und danach tranken sie im Garten Kaffee, bis es dunkel wurde.")
    for n, (s, g) in enumerate(zip(SUBJECTS, GERMAN, strict=True))
]  # fmt: skip
KEPT = SEARCH + TRANSLATIONS


@pytest.mark.parametrize("fault", [name for name in corpora.FAULTS if name != "mispaired"])
def test_the_faulty_half_is_what_the_filter_of_its_name_drops(fault):
    kept = SEARCH if fault == "near_duplicates" else KEPT  # the translations are near one another
    made = corpora.with_fault(kept, fault, 5, seed=42)
    drops, alone = Drops(), profile.Analyze(exact_duplicates=False, **{fault: True})
    left = list(filters.filtered(made, alone, drops))
    assert left == selection.drawn(kept, 5, 42)
    assert drops.counts == {filters.REASONS[fault]: 5}
    assert len({e.id for e in made}) == 10


def test_the_loss_knows_none_of_the_faults_for_a_known_positive():
    """Equal texts are left out of the loss; so a fault that was equal sign by sign would cost nothing."""
    for fault in ("negative_equals_positive", "near_duplicates"):
        made = corpora.with_fault(KEPT, fault, 5, seed=0)
        assert all(e.negative != e.positive for e in made)
        assert len({e.query for e in made}) == len({e.positive for e in made}) == 10


def test_mispaired_examples_have_documents_of_others_and_nothing_is_lost():
    made = corpora.with_fault(KEPT, "mispaired", 12, seed=0)[12:]
    own = {e.query: e.positive for e in KEPT}
    assert sorted(e.positive for e in made) == sorted(own[e.query] for e in made)
    assert not any(e.positive == own[e.query] for e in made)


@pytest.mark.parametrize(
    ("fault", "count", "said"),
    [
        ("copied_query", 13, "24 examples make 13 sound ones and 8 with the fault; write a smaller number"),
        ("copied_query", 0, "write a smaller number, above 0"),
        ("copied", 1, "./faults/copied-1: there is no 'copied', but copied_query, negative_equals_positive"),
    ],
)  # fmt: skip
def test_a_corpus_that_cannot_be_made_is_named_with_the_remedy(fault, count, said):
    with pytest.raises(ValueError, match=said):
        corpora.with_fault(KEPT, fault, count, seed=42)


def test_each_filter_has_what_it_dropped_and_only_what_rows_name_is_made(tmp_path):
    generated, analysed = tmp_path / "01", tmp_path / "02"
    generated.mkdir(), analysed.mkdir()
    about = {"number": 0, "family": "short-short", "task": "Match it", "language": "en", "target_language": "",
             "placeholders": [], "step": "example"}  # fmt: skip
    (generated / "items.jsonl").write_text(
        "".join(json.dumps({"custom_id": n} | about) + "\n" for n in "abcd")
    )
    reply = json.dumps({"input": "the kettle is on", "positive_document": "water is being boiled"})
    body = {"choices": [{"message": {"content": reply}, "finish_reason": "stop"}]}
    lines = [{"custom_id": n, "response": {"status_code": 200, "body": body}} for n in "abcd"]
    (generated / "replies.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    example_files.write(analysed / "examples.jsonl", [example(0, id="a")])
    reasons = {"b": "refusal phrase", "c": "near-duplicate", "d": "refusal phrase"}
    (analysed / "drops.json").write_text(json.dumps({"dropped_examples": reasons}))

    def named(*names: str) -> dict:
        rows = [{"id": f"r{n}", "corpus": name} for n, name in enumerate(names)]
        question = {"id": "q", "question": "q", "varied": "v", "held": "h", "rows": rows}
        chosen = profile.Profile(name="x", experiments={"questions": [question]})
        return corpora.of_rows(chosen, generated, analysed)

    found = named("./dropped/refusals", "./dropped/copied_query", "./elsewhere.jsonl")
    ids = {name: [e.id for e in examples] for name, examples in found.items()}
    assert ids == {
        "synthetic": ["a"], "dropped": ["b", "c", "d"], "./dropped/refusals": ["b", "d"], "./dropped/copied_query": [],
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"\./dropped/politeness: there is no 'politeness', but refusals"):
        named("./dropped/politeness")
