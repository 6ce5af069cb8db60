"""What a reviewer should doubt of a run that follows from itself, the gravest first.

Nothing here says that a run is wrong: each line names what its numbers cannot show.
"""

from __future__ import annotations

from collections import Counter

from synthembed.ground.console import WARNED
from synthembed.ground.files import shipped
from synthembed.paper import recipe, registry
from synthembed.report.results import ABLATIONS, EVALUATION
from synthembed.report.verdicts import made
from synthembed.review.inspection.found import Finding, Findings, Run, doubt

# The gravest first; what is not named here comes last.
ORDER = (
    "stage-missing", "report-by-other-code", "commit-unknown", "uncommitted-changes", "notebook-missing", "at-chance",
    "comparable", "one-seed", "claims-open", "others-ahead", "not-the-papers-recipe", "texts-cut", "examples-unused",
    "code-is-other", "local-files", "log-unchecked", "notebook-unknown", "profiles-mixed", "versions-mixed",
    "versions-not-locked", "report-is-older", "made-out-of-order", "notebook-clock", "notebook-unhashed",
)  # fmt: skip


def rank(finding: Finding) -> int:
    return ORDER.index(finding.name) if finding.name in ORDER else len(ORDER)


def check(run: Run) -> Findings:
    yield from _comparable(run)
    yield from _seeds(run)
    yield from _recipe(run)
    yield from _claims(run)
    yield from _controls(run)
    yield from _losses(run)
    yield from _versions(run)


def _comparable(run: Run) -> Findings:
    entries = run.json("07_report/verdicts.json", [])
    measured = [e for e in entries if e["run"]]
    compared = sum(e["comparable"] for e in measured)
    if measured:
        benchmarks = Counter(e["run"]["benchmark"] for e in measured).most_common()
        named = ", ".join(name for name, _ in benchmarks)
        yield doubt(
            "comparable", "07_report",
            f"of {len(measured)} numbers that stand beside the paper's {compared} compare with them (measured on {named})",
        )  # fmt: skip


def _seeds(run: Run) -> Findings:
    once = []
    for stage, what in ((EVALUATION, "the main training"), (ABLATIONS, "each ablation")):
        seeds = {r["seed"] for r in run.results.scores[stage].rows if r.get("seed") is not None}
        once += [what] if len(seeds) == 1 else []
    if once:
        yield doubt(
            "one-seed", "", f"{' and '.join(once)} was run once: the noise of training is in no interval"
        )


def _recipe(run: Run) -> Findings:
    """In what the run departs from what the paper states of the row that its training fills."""
    setting = run.results.setting()
    row = registry.fills(setting).get("table1")
    if not row or "03_train" not in run.records:
        return
    apart = recipe.differences("table1", row, made(run.results, EVALUATION, "trained"))
    if apart:
        names = ", ".join(said.partition(" is ")[0] for said in apart)
        yield doubt(
            "not-the-papers-recipe", "", f"{len(apart)} settings and facts are not the paper's: {names}"
        )


def _claims(run: Run) -> Findings:
    counted = Counter(c["verdict"] for c in run.json("07_report/claims.json", []))
    claims = sum(counted.values())
    counted.pop("holds", None)
    if counted:
        told = ", ".join(f"{n} {verdict}" for verdict, n in counted.most_common())
        open_ = f"{sum(counted.values())} of the paper's {claims} claims"
        yield doubt("claims-open", "07_report", f"{open_} are not shown here ({told})")


def _controls(run: Run) -> Findings:
    """A control that must fail, and did not; systems that were never trained here and are ahead."""
    averages = run.records.get(EVALUATION, {}).get("averages", {})
    ours = averages.get("trained", {}).get("Avg")
    if ours is None:
        return
    ahead = {name: v["Avg"] for name, v in averages.items() if name != "trained" and v.get("Avg", -1) > ours}
    if ahead:
        told = ", ".join(f"{name} {value:.1f}" for name, value in sorted(ahead.items(), key=lambda x: -x[1]))
        yield doubt(
            "others-ahead",
            EVALUATION,
            f"systems that were not trained here have more than its {ours:.1f}: {told}",
        )
    if (chance := averages.get("random", {}).get("Avg")) is not None and ours < chance + 5:
        yield doubt("at-chance", EVALUATION, f"the trained model has {ours:.1f}, random vectors {chance:.1f}")


def _losses(run: Run) -> Findings:
    lost = run.records.get("03_train", {}).get("lost", {})
    for kind in ("queries", "documents"):
        about = lost.get(kind, {})
        if about.get("texts") and about["cut"] > WARNED * about["texts"]:
            share = about["cut"] / about["texts"]
            yield doubt(
                "texts-cut", "03_train", f"{share:.0%} of the {kind} were cut at {about['at']} tokens"
            )
    if out := sum(lost.get("left_out", {}).values()):
        yield doubt(
            "examples-unused",
            "03_train",
            f"{out:,} of {lost['examples']:,} examples are in no batch of the training",
        )


def _versions(run: Run) -> Findings:
    """Packages that moved between stages, or that are not those of the lock."""
    found: dict[str, set[str]] = {}
    for record in run.records.values():
        for name, version in record.get("versions", {}).items():
            found.setdefault(name, set()).add(version)
    if mixed := sorted(name for name, versions in found.items() if len(versions) > 1):
        yield doubt("versions-mixed", "", f"stages were made with different versions of {', '.join(mixed)}")
    lock = shipped("requirements.lock")
    if not lock.exists():
        return
    pins = dict(
        line.split()[0].lower().split("==")
        for line in lock.read_text(encoding="utf-8").splitlines()
        if "==" in line.split(" ")[0]
    )
    other = [
        f"{n} {v}"
        for n, (v, *_) in sorted((n, sorted(v)) for n, v in found.items())
        if n in pins and v.partition("+")[0] != pins[n].partition("+")[0]
    ]
    if other:
        yield doubt(
            "versions-not-locked", "", f"made with {', '.join(other)}, which requirements.lock does not name"
        )
