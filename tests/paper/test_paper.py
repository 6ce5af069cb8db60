"""The registry of the paper's tables and figures: whole, consistent, and equal to what it cites."""

import json
from copy import deepcopy

import nbformat
import pytest
from synthembed import paper, profile
from synthembed.ground.files import ROOT, write_json
from synthembed.paper import registry
from synthembed.profile.reading import ProfileError
from synthembed.profile.settings import Ablations
from synthembed.report.results import Results, lookup
from synthembed.report.verdicts import dotted

COUNTS = {
    "table1": 12 * 8, "table2": 5 * 8, "table3": 5 * 2, "table4": 5 * 2, "table5": 9 * 8 + 8, "table6": 17 * 10,
    "table7": 4 * 8, "table17": 57 * 4, "figure2": 6 + 15, "figure3": 6 * 3, "figure5": 4 * 8,
}  # fmt: skip


def test_every_published_number_is_a_cell_with_an_id_of_its_own():
    cells = [c for a in paper.artefacts() for c in paper.cells(a)]
    assert len({c.id for c in cells}) == len(cells) == sum(COUNTS.values())
    assert {a: sum(c.artefact == a for c in cells) for a in COUNTS} == COUNTS
    found = {c.id: c.value for c in cells}
    assert found["table1/full data/Avg"] == 66.6 and found["table6/Avg/Recall@100 mE5_base"] == 93.1
    assert found["table17/Average/w/o synthetic data"] == 64.6 and found["table5/w/ r=8/delta_avg"] == 0.3
    assert found["figure5/window 32k, base 10^5/16384"] == 88 and found["figure2/task types/sts"] == 99


def test_tables_1_to_17_and_figures_1_to_5_are_all_there():
    wanted = {f"table{n}" for n in range(1, 18)} | {f"figure{n}" for n in range(1, 6)}
    assert set(paper.artefacts()) == wanted
    assert set(paper.artefacts("method")) == wanted - set(COUNTS) == wanted - set(paper.TITLES)


def test_every_cell_of_a_table_says_what_would_make_it():
    for artefact in paper.artefacts("table"):
        for cell in paper.cells(artefact):
            ways = paper.ways(cell)
            if cell.column in paper.artefacts()[artefact].get("differences", {}):
                assert not ways, cell.id
                continue
            assert ways and set(ways) <= set(paper.benchmarks()), cell.id
            whole = next(iter(ways.values()))
            assert "tasks" in whole or "subsets" in whole, cell.id


def unused(artefact):
    """(benchmark, key, value) of every line under ``measured_on`` that belongs to no cell."""
    cells = list(paper.cells(artefact))
    return [
        (benchmark, key, value)
        for benchmark, tables in paper.artefacts()[artefact].get("measured_on", {}).items()
        for key, table in tables.items() if key != "all"
        for value in table if not any(c.keys.get(key) == value for c in cells)
    ]  # fmt: skip


@pytest.mark.parametrize("artefact", paper.TITLES)
def test_every_line_of_conditions_belongs_to_a_cell_and_gives_each_condition_once(artefact):
    assert unused(artefact) == []
    for cell in paper.cells(artefact):
        for benchmark, conditions in paper.ways(cell).items():
            assert conditions.keys() <= {"task", "category", "language", "metric", "tasks", "subsets"}
            tables = paper.artefacts()[artefact]["measured_on"][benchmark]
            lines = [t if key == "all" else t[cell.keys[key]] for key, t in tables.items()]
            assert sum(map(len, lines)) == len(conditions), cell.id


@pytest.fixture
def other_registry(monkeypatch):
    """A copy of the registry that a test may spoil."""
    copy = deepcopy(registry._registry())
    monkeypatch.setattr(registry, "_registry", lambda: copy)
    return copy


def test_a_misspelt_line_of_conditions_is_found(other_registry):
    columns = other_registry["artefacts"]["table4"]["measured_on"]["BUCC+Tatoeba"]["column"]
    columns["Tatoeba (112 lang)"] = columns.pop("Tatoeba (112 langs)")
    assert unused("table4") == [("BUCC+Tatoeba", "column", "Tatoeba (112 lang)")]
    cells = {c.column: c for c in paper.cells("table4")}
    assert list(paper.ways(cells["Tatoeba (112 langs)"])) == ["embedded"]
    assert list(paper.ways(cells["BUCC 2018 (4 langs)"])) == ["BUCC+Tatoeba", "embedded"]


def test_a_table_by_a_key_that_no_cell_has_is_refused(other_registry):
    tables = other_registry["artefacts"]["table4"]["measured_on"]["embedded"]
    tables["colum"] = tables.pop("column")
    with pytest.raises(KeyError, match="colum"):
        paper.ways(next(paper.cells("table4")))


def test_peers_are_marked_and_own_rows_have_a_training_set():
    peers = [n for a in paper.artefacts() for n, s in paper.systems(a).items() if "setting" not in s]
    assert {"Glove", "mDPR", "BM25", "LaBSE", "UAE-Large-V1"} <= set(peers)
    assert not any("E5_mistral" in n or n.startswith("w/") for n in peers)
    own = {c.row for c in paper.cells("table1") if c.own}
    assert own == {"E5_mistral-7b + full data", "w/ synthetic data only", "w/ synthetic + msmarco"}


@pytest.mark.parametrize(
    ("setting", "some"),
    [
        ("synthetic", {"table1": "w/ synthetic data only", "table17": "w/ synthetic only"}),
        ("synthetic+msmarco", {"table1": "w/ synthetic + msmarco", "table5": "E5_mistral-7b (default)"}),
        ("labelled", {"table17": "w/o synthetic data"}),
        ("msmarco", {"table5": "w/ msmarco data only"}),
        (
            "full",
            {"table2": "E5_mistral-7b + full data", "table6": "E5_mistral-7b full", "table17": "full data"},
        ),
    ],
)
def test_a_setting_fills_its_rows(setting, some):
    found = paper.fills(setting)
    assert some.items() <= found.items()
    assert all(name in paper.systems(artefact) for artefact, name in found.items())


def test_an_unknown_setting_is_named_with_what_there_is():
    with pytest.raises(ValueError, match=r"data.setting = 'all': the paper has full, labelled, msmarco"):
        paper.fills("all")


def test_ways_name_tasks_languages_and_metrics_as_mteb_does():
    cells = {c.id: c for a in ("table2", "table3", "table4", "table6", "table17") for c in paper.cells(a)}
    assert paper.ways(cells["table6/sw/Recall@100 BM25"])["MIRACL"] == {
        "task": "MIRACLRetrieval", "language": ["swa", "swh"], "metric": "recall_at_100", "subsets": 1,
    }  # fmt: skip
    assert "BEIR" not in paper.ways(cells["table3/full data/MTEB"])
    assert paper.ways(cells["table4/LaBSE/Tatoeba (112 langs)"])["BUCC+Tatoeba"]["subsets"] == 112
    for name in paper.table("table17")["rows"]:
        ways = paper.ways(cells[f"table17/{name}/full data"])
        assert ways["MTEB(eng, v1)"] == {"task": name, "tasks": 1} and "embedded" not in ways
        assert ("BEIR" in ways) == (paper.table("table17")["rows"][name]["category"] == "Retr.")


def test_mtebs_own_benchmark_is_table_17():
    import mteb
    from synthembed.evaluation.scores import category

    found = [t.metadata for t in mteb.get_benchmark("MTEB(eng, v1)").tasks]
    tasks = {m.name: category(m.type, {x for langs in m.hf_subsets_to_langscripts.values() for x in langs}) for m in found}  # fmt: skip
    rows = paper.table("table17")["rows"]
    assert tasks == {name: values["category"] for name, values in rows.items()}


def test_the_installed_mtebs_tasks_and_main_metrics_make_every_cell(tmp_path):
    """One MindSmallReranking's main metric has another name than its siblings', and Rerank never compared."""
    from synthembed.evaluation.mteb_runs import rows_of
    from synthembed.evaluation.suites.benchmarks import load

    rows = []
    for benchmark in ("MTEB(eng, v1)", "MIRACL", "BUCC+Tatoeba"):
        for task in load([benchmark])[benchmark]:
            found = [
                {"hf_subset": s, "languages": task.metadata.hf_subsets_to_langscripts[s], "main_score": 0.5}
                for s in task.hf_subsets
            ]
            rows += rows_of({"scores": {"test": found}}, task, "trained", benchmark)
    (tmp_path / "04_evaluate").mkdir()
    write_json(tmp_path / "04_evaluate" / "scores.json", {"rows": rows})
    results = Results(tmp_path)
    for artefact in ("table1", "table2", "table3", "table4", "table6", "table17"):
        for cell in paper.cells(artefact):
            if not cell.own or paper.systems(artefact)[cell.system]["setting"] != "full":
                continue
            if cell.keys.get("metric") == "Recall@100":
                continue  # a secondary metric, which scores.json has under ``more``
            number = lookup(
                results.scores["04_evaluate"], "", "trained", *next(iter(paper.ways(cell).items()))
            )
            assert number and number.why is None, cell.id


def test_the_papers_profile_is_made_as_the_paper_says():
    """Every row that the profile fills, for the corpus and the machine that it wants."""
    loaded = profile.load("paper")
    facts = {"synthetic examples": 500_000, "examples": 1_800_000, "languages asked for": 93,
             "precision of training": "mixed", "sets cut otherwise": "none"}  # fmt: skip
    plan = {"main": (loaded, paper.fills(loaded.data.setting))} | {
        row.id: (loaded.with_overrides(loaded.ablations.set | row.set), row.fills)
        for row in loaded.ablations.rows
    }
    for name, (settings, fills) in plan.items():
        made = dict(dotted(settings.model_dump(mode="json"))) | facts
        for artefact, row in fills.items():
            assert paper.differences(artefact, row, made) == [], (name, artefact)
    made = dict(dotted(loaded.model_dump(mode="json"))) | facts
    for variant in loaded.long_context.variants:
        of = made | variant.model_dump()
        assert paper.differences("figure5", variant.fills["figure5"], of) == [], variant.id


def test_what_the_paper_states_are_settings_that_a_profile_has():
    known = dict(dotted(profile.load("paper").model_dump(mode="json")))
    facts = {
        "synthetic examples",
        "examples",
        "languages asked for",
        "precision of training",
        "sets cut otherwise",
    }
    parts = {key for part in registry.recipe().values() for key in part}
    rows = {k for a in paper.TITLES for s in paper.systems(a).values() for k in s.get("recipe", {})}
    assert parts | rows <= set(known) | facts | {"sliding_window", "rope_theta"}


def test_random_weights_fill_no_row_of_the_paper():
    row = {"id": "stand-in", "fills": {"table7": "XLM-R_large + full data"}, "set": {"backbone.initialisation": "random"}}  # fmt: skip
    spoilt = profile.load("laptop").model_copy(update={"ablations": Ablations(rows=[row])})
    with pytest.raises(ProfileError, match="'stand-in' starts from random weights and fills table7"):
        paper.check_fills(spoilt)


def test_averages_follow_from_the_parts():
    """Table 1's rows are means of Table 17's columns; peers' rows of their per-dataset scores."""
    one, rows = paper.table("table1")["rows"], paper.table("table17")["rows"]
    for row, column in (
        ("E5_mistral-7b + full data", "full data"),
        ("w/ synthetic data only", "w/ synthetic only"),
        ("w/ synthetic + msmarco", "w/ synthetic + msmarco"),
    ):
        assert one[row]["Avg"] == pytest.approx(sum(r[column] for r in rows.values()) / 56, abs=0.1)
    peers = paper.published()["peers_mteb56_per_dataset"]["from_model_cards"]["rows"]
    for peer in ("E5_large-v2", "GTE_large", "BGE_large-en-v1.5"):
        assert one[peer]["Avg"] == pytest.approx(sum(peers[peer].values()) / 56, abs=0.1)
    card = paper.published()["released_model_mteb56"]["rows"]
    assert all(rows[n]["full data"] == pytest.approx(r["score"], abs=0.1) for n, r in card.items())


def test_table_2_repeats_table_6_and_figure_3_table_7():
    two, six = paper.table("table2")["rows"], paper.table("table6")["rows"]
    for language in paper.table("table2")["columns"]:
        assert two["BM25"][language] == six[language]["nDCG@10"]["BM25"]
    seven = paper.table("table7")["rows"]
    for model, bars in paper.published()["figure3"]["series"].items():
        assert bars["original"]["MTEB All"] == seven[model]["Avg"]
        assert bars["w/ cont. pre-train"]["Retrieval"] == seven[f"{model}, w/ cont. pre-train"]["Retr."]


def test_the_sets_that_newer_mteb_moves_are_those_whose_rerun_left_the_card():
    rows = paper.published()["released_model_mteb56"]["rows"]
    moved = {
        name for name, row in rows.items()
        if row.get("rerun_results_repo") and abs(row["rerun_results_repo"]["score"] - row["score"]) > 1
    }  # fmt: skip
    assert moved == set(paper.moved_by_mteb())


def test_prompt_tables_are_the_taxonomy():
    """Tables 8-13: the library's families have the paper's placeholders, values and reply keys."""
    from synthembed.generation import items
    from synthembed.profile import taxonomy

    families = ["short-long", "long-short", "short-short", "long-long", "sts", "bitext"]
    for number, family in enumerate(families, 8):
        data = paper.published()[f"table{number}"]
        listed = {k: [str(x) for x in v] for k, v in data["placeholders"].items() if isinstance(v, list)}
        if family == "long-long":
            listed["num_words"] = ["300"]  # fixed in Table 11's words
        ours = {k: [str(x) for x in v] for k, v in taxonomy.PLACEHOLDERS[family].items()}
        assert ours == listed, family
        assert list(items.SCHEMAS[family].model_fields) == data["output_keys"], family


def test_published_json_holds_numbers_and_no_wordings():
    text = (registry.FOLDER / "published.json").read_text(encoding="utf-8")
    assert "Instruct:" not in text and not any("prompt" in k for k in json.loads(text))


@pytest.mark.parametrize("artefact", paper.artefacts())
def test_every_artefact_is_shown_in_a_notebook(artefact):
    shown = paper.artefacts()[artefact]["shown"]
    notebook = nbformat.read(ROOT / "notebooks" / f"{shown['notebook']}.ipynb", as_version=4)
    headings = [
        line.lstrip("# ").strip()
        for cell in notebook.cells if cell.cell_type == "markdown"
        for line in cell.source.splitlines() if line.startswith("#")
    ]  # fmt: skip
    assert shown["heading"] in headings, f"{artefact}: {shown}"


@pytest.mark.parametrize("artefact", paper.artefacts())
def test_a_link_leads_to_the_heading_as_jupyter_names_it(artefact):
    from urllib.parse import unquote

    shown = paper.artefacts()[artefact]["shown"]
    page, _, mark = paper.anchor(artefact).partition("#")
    assert page == f"{shown['notebook']}.ipynb" and " " not in mark
    assert unquote(mark) == shown["heading"].replace(" ", "-")
