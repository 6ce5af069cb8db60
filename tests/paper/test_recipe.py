"""What the paper states of its rows: whatever a run changes is named, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthembed import paper
from synthembed.paper import recipe

OWN = [(a, s) for a in paper.TITLES for s, about in paper.systems(a).items() if "setting" in about]


def as_stated(artefact: str, system: str) -> dict:
    """A run that is made exactly as the paper says."""
    forms = {"any of": lambda v: v[0], "about": lambda v: v}
    return {
        key: next((of(value[f]) for f, of in forms.items() if isinstance(value, dict) and f in value), value)
        for key, value in recipe.stated(artefact, system).items()
    }


@pytest.mark.parametrize(("artefact", "system"), OWN)
def test_what_is_made_as_stated_does_not_differ_and_what_is_not_recorded_does(artefact, system):
    made = as_stated(artefact, system)
    assert made and paper.differences(artefact, system, made) == []
    for key in made:
        (said,) = paper.differences(artefact, system, {k: v for k, v in made.items() if k != key})
        assert said.startswith(f"{key} is not recorded here and "), said


@given(st.data())
def test_every_changed_setting_is_named_once(data):
    artefact, system = data.draw(st.sampled_from(OWN))
    made = as_stated(artefact, system)
    changed = data.draw(st.sets(st.sampled_from(sorted(made)), min_size=1))
    other = st.one_of(
        st.none(), st.booleans(), st.integers(0, 100), st.text(max_size=5), st.lists(st.text(), max_size=2)
    )
    toy = {key: data.draw(other.filter(lambda v, key=key: not recipe.holds(recipe.stated(artefact, system)[key], v)))
           for key in sorted(changed)}  # fmt: skip
    said = paper.differences(artefact, system, made | toy)
    assert {text.partition(" is ")[0] for text in said} == changed and len(said) == len(changed)


@pytest.mark.parametrize(("examples", "same"), [(449_999, False), (450_000, True), (550_000, True), (5_000_000, False)])  # fmt: skip
def test_a_corpus_is_as_large_as_the_papers_within_a_tenth(examples, same):
    assert recipe.holds({"about": 500_000}, examples) is same


def test_a_row_has_its_own_lines():
    rank = recipe.stated("table5", "w/ r=8")
    assert (
        rank["lora.rank"] == 8
        and rank["train.batch_size"] == 2048
        and rank["data.setting"] == "synthetic+msmarco"
    )
    encoder = recipe.stated("table7", "XLM-R_large + full data")
    assert "lora.rank" not in encoder and encoder["backbone.model"] == "hub:FacebookAI/xlm-roberta-large"
    assert "generate.models" not in recipe.stated("table17", "w/o synthetic data")
    assert not any(key.startswith(("train.", "evaluate.")) for key in recipe.stated("figure2", "languages"))
