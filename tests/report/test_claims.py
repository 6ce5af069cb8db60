"""The ledger: every claim holds on the paper's numbers, fails on their opposite, and is open where it must be."""

import json

import pytest
from made_runs import embedded, made_otherwise, row, write_run
from synthembed import paper, profile
from synthembed.ground.files import write_json
from synthembed.report import claims, evidence
from synthembed.report.claims import FAILS, HOLDS, OPEN, SCALE
from synthembed.report.evidence import Evidence
from synthembed.report.results import Results
from synthembed.report.words import finding


def test_claims_name_artefacts_and_quantities_that_exist():
    ids = {c.id for a in paper.artefacts() for c in paper.cells(a)} | {
        f"{a}/method" for a in paper.artefacts("method")
    }
    overnight = {f"{row.id} from {row.against}" for row in profile.load("overnight").ablations.rows}
    assert len(claims.load()) == 12
    for claim in claims.load():
        assert set(claim["artefacts"]) <= ids, claim["id"]
        for quantity in quantities(claim):
            if quantity.startswith("cell "):
                assert quantity.partition(" ")[2] in ids, quantity
            if quantity.startswith("delta "):
                assert f"table5/{quantity.removeprefix('delta ')}/delta_avg" in ids, quantity
            if quantity.startswith("passkey "):
                assert quantity.removeprefix("passkey ") in paper.systems("figure5")
            if quantity.startswith("change "):
                assert quantity.removeprefix("change ") in overnight, quantity


def quantities(claim: dict) -> list[str]:
    tests = claim["tests"] + claim.get("also", [])
    sides = [s for t in tests for s in (t["left"], t.get("right", 0))] + list(claim.get("bases", {}).values())
    return [q for s in sides for q in (s if isinstance(s, list) else [s]) if isinstance(q, str)]


PUBLISHED = {
    "system best peer/table1/Avg": 64.2, "system best peer/table3/BEIR": 55.6,
    "data languages asked for": 93, "data language_count": 93, "lead table2": 4.6, "lag table2": 7.2,
    "passkey window 4k, base 10^4": 78.25, "passkey window 32k, base 10^5": 96.25, "longest passkey text": 32_768,
    "change full from synthetic": 66.6 - 63.1, "change labelled from full": 64.6 - 66.6,
    # What the paper did not measure or print is made up.
    "system base/table1/Avg": 40, "system static/table1/Avg": 42, "change shuffled from synthetic": -20, "change half-steps from synthetic": -1,
    "labelled stand-ins": None, "data texts in the language asked for, per cent": 98, "data one-step tasks": 30,
    "data different tasks, per cent of those asked for": 99,
}  # fmt: skip


def in_the_paper(quantity: str) -> Evidence | None:
    """A quantity as the paper has it."""
    cells = {c.id: c.value for a in paper.artefacts() for c in paper.cells(a)}
    kind, _, name = quantity.partition(" ")
    if quantity in PUBLISHED:
        value = PUBLISHED[quantity]
        return None if value is None else Evidence(value)
    if kind == "change":  # on another base: in no claim's tests
        return None
    return Evidence(cells[name if kind == "cell" else f"table5/{name}/delta_avg"])


@pytest.mark.parametrize("claim", claims.load(), ids=lambda c: c["id"])
def test_every_claim_holds_on_the_papers_numbers_and_fails_on_their_opposite(claim):
    judged = claims.judge(claim, in_the_paper)
    assert judged["verdict"] == HOLDS, judged["evidence"]
    assert claims.judge(claim, lambda q: None)["verdict"] == (SCALE if "needs" in claim else OPEN)
    for number, test in enumerate(claim["tests"]):
        side = test["left"][0] if isinstance(test["left"], list) else test["left"]
        worse = {"at least": -200, "at most": 2000, "within": 50}[test["is"]]

        def opposite(q, side=side, worse=worse):
            found = in_the_paper(q)
            return Evidence(found.value + worse) if q == side else found

        assert claims.judge(claim, opposite)["verdict"] == FAILS, f"test {number} cannot fail"


def test_noise_over_the_bound_leaves_a_claim_open():
    claim = {
        "id": "x",
        "claim": "",
        "where": "",
        "artefacts": [],
        "tests": [{"left": "a", "is": "at least", "right": "b", "by": 1}],
    }
    for value, noise, expected in (
        (3, 1.0, HOLDS),
        (3, 2.5, OPEN),
        (0.5, 0.2, FAILS),
        (0.5, 0.8, OPEN),
        (1, None, HOLDS),
    ):
        verdict = claims.judge(claim, {"a": Evidence(value, noise), "b": Evidence(0)}.get)["verdict"]
        assert verdict == expected, (value, noise)
    apart = {"a": Evidence(9, benchmark="embedded"), "b": Evidence(0, benchmark="BEIR")}
    assert claims.judge(claim, apart.get)["verdict"] == OPEN
    for low, high, expected in ((0.5, 5.5, OPEN), (1.5, 9, HOLDS), (-5, 0.9, FAILS), (-5, 1.1, OPEN)):
        found = {"a": Evidence(3, interval={"low": low, "high": high}), "b": Evidence(0)}
        assert claims.judge(claim, found.get)["verdict"] == expected, (low, high)
    once = {"a": Evidence(3, interval={"low": 2, "high": 4, "seeds": 1, "why": "one seed"}), "b": Evidence(0)}
    judged = claims.judge(claim, once.get)
    assert judged["verdict"] == OPEN and "one seed: no interval of training" in judged["evidence"]

    def scored(system: str, *scores: float, seeds=(0,)) -> Evidence:
        tasks = (("t", "STS"), ("u", "STS"), ("v", "Retr."))
        rows = [
            {"system": system, "task": t, "category": c, "score": x, "language": "en"}
            | ({} if seed is None else {"seed": seed})
            for (t, c), x in zip(tasks, scores, strict=True)
            for seed in seeds
        ]
        return Evidence(sum(scores) / 3, rows=rows)

    for left, right, expected in (
        (scored("a", 14, 1, 3), scored("b", 0, 5, 4), OPEN),  # three tasks that disagree
        (scored("a", 14, 15, 14), scored("b", 0, 1, 0), OPEN),  # two trainings, one seed
        (scored("a", 14, 15, 14), scored("b", 0, 1, 0, seeds=[None]), HOLDS),  # this training, and a peer
        (scored("a", 14, 15, 14, seeds=[0, 1]), scored("b", 0, 1, 0, seeds=[0, 1]), HOLDS),
    ):
        judged = claims.judge(claim, {"a": left, "b": right}.get)
        assert judged["verdict"] == expected, judged["evidence"]
        assert ("one seed" in judged["evidence"]) == (len(left.rows) == 3)
    budgets = {"a": Evidence(9, budget="{}"), "b": Evidence(0, budget="14 steps")}
    assert claims.judge(claim, budgets.get)["verdict"] == OPEN


def test_stand_ins_may_show_a_claim_and_refute_none():
    claim = next(c for c in claims.load() if c["id"] == "mixture")
    assert claim["stands"] == "labelled stand-ins"
    worse = {"change full from synthetic": Evidence(-2.4, 0.5), "change labelled from full": Evidence(-7, 1)}
    said = {"labelled stand-ins": Evidence(1, said="stand-ins refute nothing")}
    assert claims.judge(claim, worse.get)["verdict"] == FAILS
    judged = claims.judge(claim, (worse | said).get)
    assert judged["verdict"] == OPEN and "stand-ins refute nothing" in judged["evidence"]
    better = worse | said | {"change full from synthetic": Evidence(2.4, 0.5)}
    assert claims.judge(claim, better.get)["verdict"] == HOLDS


def test_a_model_at_chance_decides_nothing():
    """Two poolings of a model that has learnt nothing differ by nothing."""
    claim = {
        "id": "x",
        "claim": "",
        "where": "",
        "artefacts": [],
        "tests": [{"left": "a", "is": "within", "by": 2}],
    }
    for level, expected in ((12.0, OPEN), (14.9, OPEN), (15.0, HOLDS), (60.0, HOLDS)):
        judged = claims.judge(claim, {"a": Evidence(0.3, 0.1, level=level, chance=10.0)}.get)
        assert judged["verdict"] == expected
        assert ("at chance level" in judged["evidence"]) == (expected == OPEN)
    beside = {"id": "x", "claim": "", "where": "", "artefacts": [],
              "tests": [{"left": "a", "is": "at least", "right": "b", "by": 10}]}  # fmt: skip
    for left, right, expected in ((60, 11, HOLDS), (13, 3, OPEN)):  # one side at chance is no matter
        found = {n: Evidence(v, level=v, chance=10.0) for n, v in (("a", left), ("b", right))}
        assert claims.judge(beside, found.get)["verdict"] == expected


def test_chance_is_that_of_random_vectors_on_the_same_tasks(small):
    path = small / "04_evaluate" / "scores.json"
    data = json.loads(path.read_text())
    data["rows"] += embedded("random", 59)
    write_json(path, data)
    found = {c["id"]: c for c in claims.ledger(Results(small))}
    assert found["synthetic alone"]["verdict"] == OPEN
    assert "at chance level (61.8, chance 59.5)" in found["synthetic alone"]["evidence"]


def test_a_control_may_refute_a_claim_and_a_half_that_is_not_at_this_scale_decides_nothing():
    claim = {c["id"]: c for c in claims.load()}["synthetic alone"]

    def with_control(value, **more):
        control = Evidence(value, interval={"low": value - 1, "high": value + 1, "seeds": 3} | more)
        return lambda q: control if q == "change shuffled from synthetic" else in_the_paper(q)

    assert claims.judge(claim, with_control(-20.0))["verdict"] == HOLDS
    refuted = claims.judge(claim, with_control(0.0))
    assert refuted["verdict"] == FAILS and "the change from synthetic to shuffled is 0" in refuted["evidence"]
    once = claims.judge(claim, with_control(0.0, seeds=1, why="one seed"))
    assert once["verdict"] == HOLDS and claims.ONE_SEED in once["evidence"]
    claim = {c["id"]: c for c in claims.load()}["no pre-training"]
    half = claims.judge(claim, lambda q: None if "XLM-R" in q else in_the_paper(q))
    assert half["verdict"] == HOLDS and "not at this scale: that encoders depend on it" in half["evidence"]


def test_what_is_sure_on_this_benchmark_is_judged_and_what_other_tasks_may_show_is_said():
    claim = {
        "id": "x",
        "claim": "",
        "where": "",
        "artefacts": [],
        "tests": [{"left": "a", "is": "at most", "by": -2}],
    }
    here = {
        "low": -5.0,
        "high": -3.0,
        "why": None,
        "seeds": 3,
        "trainings": 2,
        "covers": ["texts", "training"],
    }
    both = {"low": -9.0, "high": 1.0, "why": None, "seeds": 3, "trainings": 2, "on this benchmark": here}
    judged = claims.judge(claim, {"a": Evidence(-4.0, interval=both)}.get)
    assert judged["verdict"] == HOLDS
    assert "on this benchmark from -5.0 to -3.0, on tasks like these from -9.0 to +1.0" in judged["evidence"]
    silent = both | {"on this benchmark": here | {"covers": ["training"]}}  # nothing of these tasks' texts
    assert claims.judge(claim, {"a": Evidence(-4.0, interval=silent)}.get)["verdict"] == OPEN
    once = both | {"on this benchmark": here | {"why": "one seed", "seeds": 1}}
    assert claims.judge(claim, {"a": Evidence(-4.0, interval=once)}.get)["verdict"] == OPEN


def test_an_effect_on_another_base_is_said_beside_the_verdict():
    claim = {c["id"]: c for c in claims.load()}["instructions"]
    other = Evidence(-0.3, interval={"low": -2.0, "high": 1.4, "why": None})
    find = {"change smollm2-no-instruction from smollm2": other}
    judged = claims.judge(claim, lambda q: find.get(q) or in_the_paper(q))
    assert judged["verdict"] == HOLDS and judged["bases"] == {"SmolLM2-135M": -0.3}
    assert "On SmolLM2-135M: -0.3 [-2.0, +1.4]." in judged["evidence"]


def test_a_lag_is_measured_against_the_multilingual_peer(tmp_path):
    """Behind by 1 in high-resource languages and by 26 in low-resource ones: the lag is 25."""
    codes = dict(
        zip(
            evidence.HIGH + evidence.LOW,
            ["eng", "fra", "spa", "rus", "tel", "hin", "ben", "swh"],
            strict=True,
        )
    )

    def measured(noise, error=None, high=1, low=26):
        rows = [
            row(system, "embedded", "EmbeddedMultilingual", "Multil.", 90 + spread - behind * (system == "trained"),
                code, "ndcg_at_10", **({"seed": 1} if system == "trained" else {}))
            for n, (short, code) in enumerate(codes.items())
            for behind, spread in [(high if short in evidence.HIGH else low, noise * (-1) ** n)]
            for system in ("trained", "me5-small-4bit")
        ]  # fmt: skip
        errors = {
            s: {"EmbeddedMultilingual": dict.fromkeys(codes.values(), error)}
            for s in ("trained", "me5-small-4bit")
        }
        data = {
            "rows": rows,
            "fills": {"trained": paper.fills("synthetic")},
            "errors": errors if error else {},
        }
        return evidence.evidence_of(Results(write_run(tmp_path, data, setting="synthetic")))

    assert measured(0)("lag table2").value == pytest.approx(25)
    assert measured(0)("lead table2").value == pytest.approx(-1)
    kept, lead = (measured(0, error=1.0)(f"{what} table2") for what in ("lag", "lead"))
    assert kept.interval["high"] - kept.value == pytest.approx(1.96, abs=0.01)  # sqrt(16) / 4 languages
    assert lead.interval["high"] - lead.value == pytest.approx(1.96 / 2**0.5, abs=0.01)  # of half as many
    claim = {c["id"]: c for c in claims.load()}["high-resource"]
    for high, low, error, expected in (
        (-5, 26, 1.0, HOLDS),  # ahead, and behind where there is little text
        (5, 30, 1.0, FAILS),  # behind everywhere, more where there is little
        (0, 0, 1.0, FAILS),  # level everywhere: nothing lags
        (30, 5, 1.0, FAILS),  # the other way round
        (1, 26, 1.0, OPEN),  # level within noise
        (-5, -1, 2.0, OPEN),  # ahead, and the lag within noise
    ):
        judged = claims.judge(claim, measured(0, error, high, low))
        assert judged["verdict"] == expected, judged["evidence"]
        assert claims.THIS_ONE in judged["evidence"]
    assert "high-resource languages (" in judged["evidence"] and ": 95.0 against 90.0)" in judged["evidence"]


def test_the_ledger_follows_the_run(small, full):
    found = {c["id"]: c for c in claims.ledger(Results(small))}
    assert found["synthetic alone"]["verdict"] == HOLDS and "61.8" in found["synthetic alone"]["evidence"]
    assert found["competitive"]["verdict"] == FAILS
    assert found["state of the art"]["verdict"] == found["longer context"]["verdict"] == SCALE
    whole = {c["id"]: c for c in claims.ledger(Results(full))}
    assert whole["languages"]["verdict"] == whole["diversity"]["verdict"] == HOLDS
    made_otherwise(full, "02_analyze", generate__languages=["en", "de"])
    asked = {c["id"]: c for c in claims.ledger(Results(full))}["languages"]
    assert (
        asked["verdict"] == SCALE and "languages asked for: 2, of 93; needed: a corpus" in asked["evidence"]
    )
    path = small / "04_evaluate" / "scores.json"
    data = json.loads(path.read_text())
    data["rows"] = [r | {"score": 35.0} if r["system"] == "trained" else r for r in data["rows"]]
    write_json(path, data)
    assert {c["id"]: c for c in claims.ledger(Results(small))}["synthetic alone"]["verdict"] == FAILS


def test_claims_are_grouped_in_the_badges_order_and_the_finding_counts_them_so(small):
    ledger = [{"id": n, "verdict": v} for n, v in (("a", FAILS), ("b", HOLDS), ("c", FAILS), ("d", OPEN))]
    found = claims.by_badge(ledger)
    assert list(found.items()) == [
        ("shown here", ["b"]), ("not shown here", ["d"]), ("contradicted here", ["a", "c"])
    ]  # fmt: skip
    said = finding.sentences(Results(small), ledger)[-1]
    assert "Of the paper's 4 claims 1 shown here, 1 not shown here, 2 contradicted here;" in said
