"""What papermill's -p, -r and -y hand over arrives as it was meant, or is refused with the remedy."""

import datetime

import pytest
from synthembed import profile
from synthembed.profile import parameters


def values(given) -> dict:
    return {key: value for key, value, _ in parameters.assignments(given)}


@pytest.mark.parametrize(("given", "meant"), [
    ("", {}), (None, {}), ([], {}), ({}, {}),
    ("seed=1", {"seed": 1}),
    ("train.max_steps=5 seed=1", {"train.max_steps": 5, "seed": 1}),
    ("  seed=1\n  train.max_steps=5\t", {"seed": 1, "train.max_steps": 5}),
    ("generate.languages=[en, de] seed=1", {"generate.languages": ["en", "de"], "seed": 1}),
    ("generate.models={a: 1, b: 2} seed=1", {"generate.models": {"a": 1, "b": 2}, "seed": 1}),
    ("description=it's my run seed=1", {"description": "it's my run", "seed": 1}),
    ("description='a b=c' seed=1", {"description": "a b=c", "seed": 1}),
    (["description=a b=c", "seed=1"], {"description": "a b=c", "seed": 1}),
    ({"train.max_steps": 5, "seed": 1}, {"train.max_steps": 5, "seed": 1}),
    ([{"seed": 1}, "train.max_steps=5"], {"seed": 1, "train.max_steps": 5}),
])  # fmt: skip
def test_overrides_of_every_kind(given, meant):
    assert values(given) == meant


@pytest.mark.parametrize(
    "given", [7, 1.5, True, datetime.date(2026, 1, 1), ["seed"], [3], "seed", "seed 1 train.max_steps=5"]
)
def test_what_is_no_override_is_refused_with_the_remedy(given):
    with pytest.raises(profile.ProfileError, match=r"section\.key=value"):
        values(given)


def test_a_mapping_of_a_section_changes_what_it_names_alone():
    found = profile.load("smoke", {"train": {"max_steps": 3}})
    assert found.train.max_steps == 3 and found.train.batch_size == profile.load("smoke").train.batch_size


@pytest.mark.parametrize("value", [7, 7.0, True, datetime.date(2026, 1, 1), ["a"]])
def test_a_text_that_became_something_else_is_refused_with_the_remedy(value):
    with pytest.raises(profile.ProfileError, match=r"parameter run = .* -r run VALUE"):
        parameters.text("run", value)
    assert parameters.text("run", "007") == "007" and parameters.text("run", None) == ""


@pytest.mark.parametrize(
    "key", ["train.max_steps", "generate.languages", "description", "backbone.model", "seeds"]
)
@pytest.mark.parametrize("nothing", ["", " ", "# none", "---"])
def test_an_empty_value_takes_no_limit_away(key, nothing):
    for given in ([f"{key}={nothing}"], f"seed=1 {key}={nothing}", f'["{key}={nothing}"]'):
        with pytest.raises(profile.ProfileError, match=f"{key}=.*has no value.* for none write {key}=null"):
            profile.load("smoke", given)


@pytest.mark.parametrize("none", ["null", "~", " NULL", "null  # no limit", "None"])
def test_none_is_written_as_null(none):
    assert values([f"train.max_steps={none}"]) == {"train.max_steps": None}
    assert values([f"a=[{none.partition('#')[0]}, NoneType, none]"]) == {"a": [None, "NoneType", "none"]}
    assert values(["description=''"]) == {"description": ""}
