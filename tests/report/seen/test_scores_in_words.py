"""Paragraphs made from numbers: with other numbers they say something else, and never what the numbers deny."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthembed.evaluation.intervals import BENCHMARK, wilson
from synthembed.report.results import ABLATIONS, EVALUATION, Results, Scores
from synthembed.report.seen import scores as in_words


def results(tmp_path, stage: str, **scores) -> Results:
    made = Results(tmp_path)
    made.scores[stage] = Scores(**scores)
    return made


def row(system: str, score: float, task: str = "T", category: str = "STS", **more) -> dict:
    return {"system": system, "benchmark": "embedded", "task": task, "category": category, "language": "eng",
            "metric": "m", "score": score} | more  # fmt: skip


def interval(delta: float, low: float | None, high: float | None, seeds: int = 1) -> dict:
    here = {"delta": delta, "low": low, "high": high, "seeds": seeds}
    return here | {"against": "base", BENCHMARK: here}


@pytest.mark.parametrize(
    ("base", "said"),
    [(3.0, "about where chance is"), (20.0, "18.0 points above chance"), (-20.0, "22.0 points below")],
)
def test_the_base_is_set_beside_chance(tmp_path, base, said):
    made = results(tmp_path, EVALUATION, rows=[row("base", base), row("trained", 60.0)])
    assert said in in_words.averages(made, {"Avg": 2.0})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (interval(9, 5, 13), "would show it too; one training was run"),
        (interval(-9, -13, -5, 3), "would show it too."),
        (interval(1, -2, 4, 3), "would not reliably show it."),
        (interval(1, None, None), "nothing here says how far"),
    ],
)
def test_a_gain_is_as_sure_as_its_interval(tmp_path, found, said):
    made = results(
        tmp_path, EVALUATION, rows=[row("base", 1.0), row("trained", 10.0)], intervals={"base": found}
    )
    assert said in in_words.averages(made, {})


def test_an_interval_of_seeds_alone_says_nothing_of_other_texts(tmp_path):
    """As of public sets, whose texts' scores are not kept."""
    found = interval(9, 5, 13, 3)
    found[BENCHMARK] = found[BENCHMARK] | {"covers": ["training"]}
    made = results(tmp_path, EVALUATION, rows=[row("trained", 10.0)], intervals={"base": found})
    assert "would show it" not in in_words.averages(made, {})
    made = results(tmp_path, ABLATIONS, intervals={"after": found})
    assert "Nothing here says how far other texts would move any of these differences" in in_words.ablations(
        made
    )
    both = {"after": found, "other": interval(9, 5, 13, 3)}
    assert "Of 1 differences, 1 would be seen" in in_words.ablations(
        results(tmp_path, ABLATIONS, intervals=both)
    )


def test_who_is_ahead_is_named_and_who_lacks_a_category_is_not(tmp_path):
    rows = [row("trained", 60.0), row("trained", 60.0, "R", "Retr."), row("minilm", 70.0), row("minilm", 70.0, "R", "Retr."),
            row("bm25", 99.0, "R", "Retr.")]  # fmt: skip
    said = in_words.averages(results(tmp_path, EVALUATION, rows=rows), {})
    assert "Ahead of the trained model's 60.0: all-MiniLM-L6-v2 (70.0)" in said and "BM25" not in said
    rows[2]["score"] = rows[3]["score"] = 50.0
    assert "No other system here has more" in in_words.averages(results(tmp_path, EVALUATION, rows=rows), {})


def test_languages_of_several_seeds_are_told_by_their_mean():
    """As the table above the paragraph has them: not by the last seed that was read."""
    rows = [
        {"system": s, "benchmark": "embedded", "category": "Multil.", "task": "M", "language": x, "seed": n, "score": score}
        for s, x, n, score in [("trained", "eng", 1, 90.0), ("trained", "eng", 2, 70.0), ("trained", "swh", 1, 20.0),
                               ("trained", "swh", 2, 40.0), ("base", "eng", None, 75.0), ("base", "swh", None, 35.0)]
    ]  # fmt: skip
    # a control beside the base
    rows += [
        {**rows[0], "system": "static", "language": x, "seed": None, "score": 35.0} for x in ("eng", "swh")
    ]
    said = in_words.languages(rows, 152)
    assert "Ahead of the mean of the base's token embeddings in 1 of 2." in said
    assert "best in eng (80) and worst in swh (30)" in said and "Ahead of the base in 1 of 2." in said
    other = [r | {"benchmark": "MIRACL", "score": 0.0} for r in rows]  # another benchmark's are another's
    assert in_words.languages(rows + other, 152) == said
    assert "by chance" in said and "by chance" not in in_words.languages(other + rows, 152)


def test_one_kind_of_task_is_told_with_base_chance_and_who_is_ahead():
    rows = [row("trained", 60.0, seed=1), row("trained", 64.0, seed=2), row("base", 5.0), row("minilm", 70.0),
            row("bm25", 61.9), row("trained", 1.0, "B", "Bitext", seed=1)]  # fmt: skip
    said = in_words.standing(rows, "STS", {"STS": 0.0})
    assert (
        "has 62.0; the base 5.0, chance 0.0. Ahead of it: all-MiniLM-L6-v2 (70.0). Its 2 trainings lie between"
        in said
    )
    assert "60.0 and 64.0" in said and "BM25" not in said
    assert "No other system here has more. It was trained once" in in_words.standing(rows[::2][:1], "STS", {})
    assert "was not measured" in in_words.standing(rows, "Retr.", {})


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-1.0, 4.0, "holds 0, so this may be noise"),
        (1.0, 4.0, "does not hold 0"),
        (None, None, "nothing here says"),
    ],
)
def test_a_pre_training_moved_what_its_pairs_say_as_surely_as_its_interval(tmp_path, low, high, said):
    bars = {"M": {"w/ cont. pre-train": {"STS": 52.5}, "original": {"STS": 50.0}}}
    fills = {"after": {"table7": "M, w/ cont. pre-train"}}
    made = results(tmp_path, ABLATIONS, intervals={"after": interval(2.5, low, high, 3)}, fills=fills)
    text = in_words.pre_training(made, bars)
    assert "In the place of M a contrastive pre-training moved STS +2.5 points" in text and said in text
    assert "No row" in in_words.pre_training(made, {})


def test_a_run_without_results_says_so_everywhere(tmp_path):
    empty = Results(tmp_path)
    assert "no trained model" in in_words.averages(empty, {})
    assert "was not run" in in_words.languages([], 152)
    assert "no rows" in in_words.ablations(empty) and "no passkeys" in in_words.passkey([])


@given(before=st.integers(0, 300), after=st.integers(0, 300))
def test_training_is_said_to_have_moved_neighbours_only_where_intervals_part(before, after):
    seen = {
        name: {"agreement": n / 300, "neighbours": [[[0, 0.9]]]}
        for name, n in (("base", before), ("trained", after))
    }
    said = in_words.neighbours(seen, {"a sentence": "a"}, ["a", "b"] * 150)
    first, then = wilson(100 * before / 300, 300), wilson(100 * after / 300, 300)
    assert ("raised" in said) == (then[0] > first[1])
    assert ("lowered" in said) == (then[1] < first[0])
    assert ("overlap" in said) == (then[0] <= first[1] and then[1] >= first[0])


def test_an_ablation_is_named_if_its_interval_misses_0(tmp_path):
    found = {"sure": interval(5, 2, 8), "unsure": interval(5, -2, 12), "without": interval(5, None, None)}
    said = in_words.ablations(results(tmp_path, ABLATIONS, intervals=found))
    assert (
        "Of 2 differences, 1 would be seen" in said
        and "sure +5.0 against base" in said
        and "unsure" not in said
    )
    assert "Every row is one training" in said
    several = {name: i | {"seeds": 3} for name, i in found.items()}
    assert "one training" not in in_words.ablations(results(tmp_path, ABLATIONS, intervals=several))


def test_curves_are_told_apart_only_where_their_intervals_are():
    def point(variant: str, accuracy: float, low: float, high: float) -> dict:
        return {"variant": variant, "length": 64, "accuracy": accuracy, "low": low, "high": high, "queries": 20,
                "candidates": 20}  # fmt: skip

    apart = in_words.passkey([point("wide", 95, 76, 99), point("narrow", 5, 1, 24)])
    assert "at 64 tokens wide (95) and narrow (5)" in apart and "1 lie above chance" in apart
    assert "order may be noise" in in_words.passkey([point("wide", 60, 39, 78), point("narrow", 40, 22, 61)])


def test_languages_are_counted_where_both_were_measured():
    rows = [
        row("trained", s, category="Multil.", language=x)
        for x, s in (("eng", 90.0), ("swh", 20.0), ("fra", 50.0))
    ]
    rows += [row("bm25", s, category="Multil.", language=x) for x, s in (("eng", 80.0), ("swh", 60.0))]
    said = in_words.languages(rows, 152)
    assert "best in eng (90) and worst in swh (20)" in said and "Ahead of BM25 in 1 of 2." in said
    assert "nDCG@10 3 by chance" in said
