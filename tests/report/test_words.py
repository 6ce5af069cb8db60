"""What is said of a run follows from its numbers, and says the contrary of other numbers."""

import json
import re

import numpy as np
import pytest
from made_runs import embedded, mteb, row, write_run
from synthembed import paper
from synthembed.evaluation import intervals
from synthembed.evaluation.intervals import BENCHMARK, TASKS
from synthembed.ground.files import write_json
from synthembed.report import claims, figures, page
from synthembed.report.results import ABLATIONS, Number, Results, Scores
from synthembed.report.words import alt_texts, effects, finding, hero, labels

PLAN = {
    "set": {"data.setting": "synthetic+msmarco"},
    "rows": [
        {"id": "default", "set": {}},
        {"id": "other", "set": {"backbone.model": "embedded:smollm2-135m", "backbone.layers": 10}},
        {"id": "untaught", "set": {"backbone.initialisation": "random"}},
        {"id": "shuffled", "set": {"data.setting": "synthetic", "data.shuffled": True}},
        {"id": "pooled", "set": {"backbone.pooling": "mean", "evaluate.tasks": ["A"]}},
        {"id": "odd", "set": {"train.temperature": 0.1}},
        {"id": "once", "set": {"seeds": [42]}},
    ],
}


def run(tmp_path, base=40, trained=60, interval=None, shuffled=None, **more) -> Results:
    """A laptop run whose base and trained model have these levels in every category."""
    scores = {
        "rows": [*embedded("base", base), *embedded("trained", trained), *embedded("random", 5)],
        **more,
    }
    if interval:
        scores["intervals"] = {"base": interval, "minilm": interval}
        scores["rows"] += embedded("minilm", trained - interval["delta"])
    ablations = {"rows": embedded("default", 50), "fills": {"default": {"table5": "E5_mistral-7b (default)"}}}
    if shuffled:
        ablations["intervals"] = {"shuffled": shuffled}
    top = write_run(tmp_path / "run", scores, ablations, setting="synthetic")
    for stage in ("03_train", "04_evaluate", ABLATIONS):
        record = json.loads((top / stage / "stage.json").read_text())
        record["settings"]["backbone"] |= {"model": "embedded:gemma3-270m", "layers": 12}
        record["settings"]["data"]["labelled"] = "installed"
        record["settings"]["ablations"] = PLAN if stage == ABLATIONS else {}
        write_json(top / stage / "stage.json", record)
    return Results(top)


def ends(delta, low, high, **more) -> dict:
    one = {"delta": delta, "low": low, "high": high, "within_noise": low <= 0 <= high, "tasks": 14, "seeds": 1,
           "against": "synthetic", "covers": ["texts"]} | more  # fmt: skip
    return one | {BENCHMARK: one}


@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("default", "Gemma-3-270M, 12 layers: synthetic + docstring pairs"),
        ("other", "SmolLM2-135M, 10 layers"),
        ("untaught", "random weights"),
        ("shuffled", "synthetic data only, every query with another one's documents"),
        ("pooled", "mean pooling"),
        ("odd", "train.temperature = 0.1"),
        ("once", "Gemma-3-270M, 12 layers: synthetic + docstring pairs"),
        ("of another run", "of another run"),
    ],
)
def test_an_ablation_is_called_by_what_it_changes(tmp_path, system, name):
    assert labels.label(system, run(tmp_path), ABLATIONS) == name


def test_what_ran_is_named_and_not_what_it_stands_for(tmp_path):
    results = run(tmp_path)
    assert labels.label("trained", results) == "Gemma-3-270M, 12 layers: trained on synthetic data only"
    scores = Scores([row("trained", "embedded", "Bitext", "Bitext", 50.0, x, "f1") for x in ("deu", "fra")])
    numbers = [Number({None: 50.0}, "embedded", "trained", "04_evaluate", rows=scores.rows)]
    name = labels.column("table4", "Tatoeba (112 langs)", numbers, "embedded")
    assert name == "suite: translations, 2 languages into English"
    assert labels.column("table4", "Tatoeba (112 langs)", numbers, "BUCC+Tatoeba") == "Tatoeba (112 langs)"


def test_the_finding_turns_with_the_numbers(tmp_path):
    up = finding.sentences(run(tmp_path / "up", 40, 60, ends(20, 18, 22), ends(-30, -33, -27)), [])
    assert len(up) == 5 and "rose from 40.5 to 60.5" in up[1] and "ahead of all-MiniLM-L6-v2 (+20.0)" in up[2]
    assert "which texts belong together" in up[3] and "no published one" in up[4]
    down = finding.sentences(run(tmp_path / "down", 60, 40, ends(-20, -22, -18), ends(1, -2, 4)), [])
    assert "did not rise: it went from 60.5 to 40.5, by -20.0" in down[1] and "behind all-MiniLM" in down[2]
    assert "does not show that the pairing" in down[3]
    level = finding.sentences(run(tmp_path / "level", 50, 51, ends(1, -1, 3)), [])
    assert "level with all-MiniLM" in level[2] and "was not run" in level[3]


def test_one_training_on_a_public_benchmark_has_a_finding_without_bounds(small):
    """No texts' scores are kept of public sets: with one seed the interval on this benchmark has no ends."""
    rows = [*mteb("base", shift=-20), *mteb("trained", seed=42)]
    here = intervals.interval(rows, "trained", "base", kind=BENCHMARK, units={})
    assert here["low"] is None
    results = Results(small)
    both = intervals.interval(rows, "trained", "base") | {BENCHMARK: here}
    found = {"base": both, "minilm": both}
    results.scores["04_evaluate"] = Scores(rows, intervals=found)
    said = finding.sentences(results, [])
    assert (
        "by +20.0 points." in said[1]
        and said[2] == "On these texts it is ahead of all-MiniLM-L6-v2 (+20.0, no interval)."
    )


def test_an_interval_of_seeds_alone_says_nothing_of_other_texts(tmp_path):
    results = run(tmp_path)
    found = ends(3, 1, 5, seeds=3, kind=TASKS)
    results.scores[ABLATIONS].intervals = {
        "full": found | {BENCHMARK: found[BENCHMARK] | {"covers": ["training"]}}
    }
    line = effects.frame(results).set_index("effect").loc["labelled sets beside synthetic data"]
    assert (line["beyond other texts"], line["beyond other tasks"]) == ("not known", "yes")


def test_every_claim_is_counted_in_the_last_sentence(small):
    ledger = claims.ledger(Results(small))
    said = finding.sentences(Results(small), ledger)[-1]
    assert (
        sum(map(int, re.findall(r"(\d+) (?:shown|not|contradicted)", said)))
        == len(ledger)
        == len(claims.load())
    )


def test_an_effect_says_its_direction_and_what_is_not_known_of_it(tmp_path):
    results = run(tmp_path)
    results.scores[ABLATIONS].intervals = {"full": ends(3, 1, 5), "shuffled": ends(0, 0, 0)}
    found = effects.frame(results).set_index("effect").loc["labelled sets beside synthetic data"]
    assert found["direction"] == "as in the paper" and found["beyond other texts"] == "yes"
    assert found["beyond other seeds"] == "not known: one seed" and found["here"] == "+3.0 [+1.0, +5.0]"
    for interval, said in ((ends(-3, -5, -1), "the other way"), (ends(1, -1, 3), "undecided")):
        results.scores[ABLATIONS].intervals = {"full": interval}
        found = effects.frame(results).set_index("effect").loc["labelled sets beside synthetic data"]
        assert found["direction"] == said
    frame = effects.frame(results)
    assert len(frame) == len(effects.effects()) and (frame["here"] == "not run").sum() >= 8


def test_the_papers_effects_are_differences_of_its_numbers():
    sizes = {e.what: e.paper for e in effects.effects()}
    assert sizes["labelled sets beside synthetic data"] == pytest.approx(3.5)
    assert sizes["no instructions"] == -4.2 and sizes[
        "contrastive pre-training of an encoder"
    ] == pytest.approx(5.7)


def test_the_interval_of_an_average_is_that_of_texts_drawn_again():
    rng = np.random.default_rng(0)
    errors = {"A": [2.0], "B": [1.0, 3.0], "C": [0.5]}  # task → standard error of each language
    drawn = np.mean(
        [np.mean([rng.normal(0, e, 40_000) for e in languages], axis=0) for languages in errors.values()],
        axis=0,
    )
    rows = [
        row("trained", "embedded", t, "STS", 50.0, f"l{n}")
        for t, of in errors.items()
        for n in range(len(of))
    ]
    kept = {"trained": {t: {f"l{n}": e for n, e in enumerate(of)} for t, of in errors.items()}}
    number = Number({None: 50.0}, "embedded", "trained", "04_evaluate", tasks=3, rows=rows)
    assert hero.half(Scores(rows, errors=kept), number) == pytest.approx(1.96 * drawn.std(), rel=0.03)
    assert hero.half(Scores(rows), number) is None  # nothing is known of its noise


def test_the_first_figure_has_every_category_chance_and_peers_and_its_words_have_its_numbers(tmp_path):
    results = run(tmp_path, 40, 60, ends(5, 3, 7))
    lines = hero.lines(results)
    assert [line.name for line in lines][:2] == ["Average", "Classification"] and len(lines) == 8
    assert lines[0].chance == 5.5 and lines[0].peers == {"minilm": 55.5}
    said = alt_texts.hero(lines, {"base": "the base", "trained": "the model", "minilm": "a peer"})
    assert "Average (14 tasks): 40.5 to 60.5, chance 5.5, a peer 55.5" in said
    figure = figures.hero(lines, {"minilm": "a peer"}, "title")
    left, right = figure.axes[0].get_xlim()
    assert left <= 0 and right >= 100, "the scale is whole"
    figures.plt.close(figure)
    assert hero.lines(Results(tmp_path / "nothing")) == []


def test_a_peer_on_fewer_tasks_has_no_place_in_the_average(small):
    average = hero.lines(Results(small))[0]
    assert "minilm" in average.peers and "bm25" not in average.peers and average.half_trained > 0


def test_equal_figures_are_equal_files(tmp_path):
    for folder in ("one", "two"):
        figure = figures.category_bars({"a": {"STS": 1.0, "Avg": -2.0}}, ["STS", "Avg"])
        figures.save(figure, tmp_path / folder, "figure")
        figures.plt.close(figure)
    for kind in ("svg", "png"):
        one, two = ((tmp_path / f / f"figure.{kind}").read_bytes() for f in ("one", "two"))
        assert one == two, kind


def test_the_page_begins_with_the_finding_and_ends_with_the_counts(small, tmp_path):
    page.build(small, tmp_path / "07_report")
    text = (tmp_path / "07_report" / "report.html").read_text()
    order = ['class="hero"', 'class="finding"', 'class="badges"', 'id="claims"', 'id="effects"', 'id="table1"', 'id="figure2"',
             'id="variance"', 'id="made"', 'id="cite"', 'id="verdicts"']  # fmt: skip
    places = [text.index(mark) for mark in order]
    assert places == sorted(places)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)), "an id stands twice"
    assert {a for a in re.findall(r'href="#([^"]+)"', text) if "-m" not in a} <= set(ids), (
        "a link leads nowhere"
    )
    assert len(re.findall(r'class="badge (?:shown|open|scale|contradicted)"', text)) == 2 * len(claims.load())
    assert text.count("<svg") == text.count('role="img" aria-label="')
    assert "http" not in re.sub(r"<pre.*?</pre>|xmlns[:\w]*=\"[^\"]*\"", "", text, flags=re.DOTALL), (
        "asks for nothing"
    )


def test_a_number_on_the_suite_stands_under_no_name_of_the_paper(small, tmp_path):
    page.build(small, tmp_path / "07_report")
    rows = {c.row for c in paper.cells("table1")} | {
        c.column for a in ("table3", "table4") for c in paper.cells(a)
    }
    for name in ("table1", "table3", "table4", "table17"):
        text = (tmp_path / "07_report" / "tables" / f"{name}.md").read_text()
        for block in text.split("\n\n"):
            if "embedded suite," in block.splitlines()[0]:
                cells = {c.strip() for line in block.splitlines() for c in line.split("|")}
                assert not cells & (rows - {"BM25"}), name
