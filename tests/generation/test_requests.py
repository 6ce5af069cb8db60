"""Requests: deterministic per item, the first n of a large run are those of a small one."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed import profile
from synthembed.generation import items, request_bodies
from synthembed.profile import taxonomy
from synthembed.profile.taxonomy import FAMILIES, LANGUAGES

LAPTOP = profile.load("laptop")
TASKS = {
    (i.family, i.number): [f"task {i.family} {i.number} {n}" for n in range(20)]
    for i, _ in request_bodies.brainstorms(profile.load("laptop", ["generate.examples=4000"]))
}

DIGEST = """
import hashlib, json
from synthembed import profile
from synthembed.generation import request_bodies
p = profile.load("laptop", ["generate.examples=300"])
tasks = {(i.family, i.number): ["a", "b", "c"] for i, _ in request_bodies.brainstorms(p)}
lines = [l for _, l in request_bodies.brainstorms(p)] + [l for _, l in request_bodies.examples(p, tasks)]
print(hashlib.sha256(json.dumps(lines).encode()).hexdigest())
"""


def test_the_same_in_every_interpreter():
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST], env={"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "77")
    }  # fmt: skip
    assert len(digests) == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3999))
def test_an_item_depends_on_its_number_alone(number):
    small = profile.load("laptop", ["generate.examples=10"])
    large = profile.load("laptop", ["generate.examples=4000"])
    assert request_bodies.sampler(small).example(number, TASKS) == request_bodies.sampler(large).example(
        number, TASKS
    )


def test_custom_ids_are_hashes_of_bodies_and_differ():
    lines = [line for _, line in request_bodies.brainstorms(LAPTOP)]
    lines += [line for _, line in request_bodies.examples(LAPTOP, TASKS)]
    ids = [line["custom_id"] for line in lines]
    assert len(set(ids)) == len(ids)
    for line in lines[:50]:
        assert line["custom_id"] == request_bodies.custom_id(json.loads(json.dumps(line["body"])))
        assert set(line) == {"custom_id", "method", "url", "body"}


def test_shares_follow_figure_2():
    many = profile.load("laptop", ["generate.examples=4000", "generate.languages=null"])
    items = [i for i, _ in request_bodies.examples(many, TASKS)]
    families = Counter(i.family for i in items)
    for family in FAMILIES:
        expected = taxonomy.PAPER_COUNTS[family] / sum(taxonomy.PAPER_COUNTS.values())
        assert families[family] / len(items) == pytest.approx(expected, abs=0.03)
    english = sum(i.language == "en" for i in items) / len(items)
    assert english == pytest.approx(0.431, abs=0.03)
    assert all(i.language != i.target_language for i in items)


def test_language_shares_sum_to_the_papers():
    shares = items.language_shares()
    assert len(LANGUAGES) == 93 and sum(shares.values()) == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_carry_every_placeholder(family):
    drawn = [i for i, _ in request_bodies.examples(LAPTOP, TASKS) if i.family == family][:20]
    for item in drawn:
        text = items.render(item)
        for _, value in item.placeholders:
            assert str(value) in text
        assert LANGUAGES[item.language] in text
        keys = items.schema_of(item).model_fields
        assert all(f'"{key}"' in text for key in keys)


def test_a_missing_list_of_tasks_is_reported_not_invented():
    pairs = list(request_bodies.examples(LAPTOP, {}))
    assert len(pairs) == LAPTOP.generate.examples
    assert all(item is None or item.family in ("sts", "bitext") for item, _ in pairs)


def test_speed_weights_shift_the_draw():
    weighted = profile.load("laptop", ["generate.placeholder_weights=speed"])
    items = [i for i, _ in request_bodies.examples(weighted, TASKS) if i.family == "short-long"]
    clear = sum(dict(i.placeholders)["clarity"] == "clear" for i in items) / len(items)
    assert clear == pytest.approx(0.6, abs=0.07)
