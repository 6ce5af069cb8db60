"""Are the files those that the stages wrote, do the stages belong together, and is the code the one named?

stage.json names the hashes of inputs and outputs, the settings, the commit and the hash of the code. All of
it can be computed again: hashes from the files, the fingerprint from the record alone, and the hash of the
code from the commit, whose files are taken out of the checkout's history.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from synthembed.ground.files import CHECKOUT, ROOT, sha256
from synthembed.ground.run_folders import NOT_COMMITTED, OTHERS
from synthembed.profile.places import KEYS
from synthembed.review.inspection.found import LEFT_OUT, Finding, Findings, Run, doubt, held, wrong
from synthembed.stages.definitions import stages_in
from synthembed.stages.fingerprints import code_hash
from synthembed.stages.record import NOTEBOOK, STAGES
from synthembed.stages.runner import MISLEADING

SELF = ("stage.json", "where.json")
HASHES = """
import json, sys
from synthembed.stages.fingerprints import code_hash
print(json.dumps({stage: code_hash(stage) for stage in sys.argv[1:]}))
"""


def files(run: Run) -> Findings:
    """Every file against the hash that stage.json has of it; none that no stage wrote."""
    count, left = 0, {}
    for stage, record in run.records.items():
        folder, listed = run.folder / stage, record.get("outputs", {})
        there = _files_in(folder, stage)
        for name, digest in listed.items():
            if name in there:
                count += 1
                if sha256(folder / name) != digest:
                    yield wrong("file-changed", f"{stage}/{name}", "its SHA-256 is not the one in stage.json")
            elif _by_design(stage, name, there):
                left.setdefault(stage, []).append(name.partition("/")[0])
            else:
                yield wrong("file-missing", f"{stage}/{name}", "stage.json lists it, and it is not there")
        for name in sorted(there - listed.keys()):
            yield wrong("file-unlisted", f"{stage}/{name}", "stage.json does not list it: no stage wrote it")
    for where, names in left.items():
        said = f"{len(names)} files ({', '.join(dict.fromkeys(names))}) are not kept in git; stage.json has their hashes"
        yield Finding(LEFT_OUT, "not-kept", where, said)
    yield held("files", f"{count} files have the hashes that stage.json names")


def _files_in(folder: Path, stage: str) -> set[str]:
    """Files that a stage's record must list: no notebook, no scratch, nothing hidden, no other settings' work."""
    scratch = (
        {p for pattern in STAGES[stage].scratch for p in folder.glob(pattern)} if stage in STAGES else set()
    )
    found = set()
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part == OTHERS for part in parts)
        if (
            path.is_file()
            and not hidden
            and path not in scratch
            and path.suffix not in (".partial", *NOTEBOOK)
        ):
            found.add("/".join(parts))
    return found - set(SELF)


def _by_design(stage: str, name: str, there: set[str]) -> bool:
    """Whether a missing file is of those that git does not keep, and all of its kind are missing."""
    top = name.partition("/")[0]
    return top in NOT_COMMITTED.get(stage, ()) and not any(n.partition("/")[0] == top for n in there)


def chain(run: Run) -> Findings:
    """Each input of a stage has the hash that the stage it comes from gave it."""
    count, again = 0, set()
    for stage in stages_in(run.folder):
        if stage not in run.records:
            yield doubt("stage-missing", stage, "it has not run, or was left out")
    for stage, record in run.records.items():
        if record.get("status") != "done":
            yield wrong("stage-unfinished", stage, f"its status is {record.get('status')!r}")
        inputs = record.get("inputs", {})
        for pattern in STAGES[stage].inputs if stage in STAGES else ():
            if not any(name.startswith(pattern.partition("*")[0]) for name in inputs):
                yield wrong("input-missing", stage, f"it must have read {pattern}, and its record names none")
        for name, digest in inputs.items():
            count += 1
            earlier, _, file = name.partition("/")
            made = run.records.get(earlier, {}).get("outputs", {}).get(file)
            if made != digest:
                said = (
                    "which that stage's record does not list"
                    if made is None
                    else "of other bytes than are there"
                )
                yield wrong("input-differs", stage, f"it was made from {name}, {said}")
        again |= {e for e in {n.partition("/")[0] for n in inputs} if made_after(run, e, stage)}
    if again:
        said = "made again after stages that read it, with the same outputs that they had read"
        yield doubt("made-out-of-order", ", ".join(sorted(again)), said)
    yield held("chain", f"{count} inputs are the outputs of earlier stages")


def made_after(run: Run, stage: str, other: str) -> bool:
    return run.records.get(stage, {}).get("started", "") > run.records.get(other, {}).get("started", "")


def settings(run: Run) -> Findings:
    """The settings give the profile's hash and each stage's fingerprint, and are the same in all stages."""
    whole, count = run.settings("00_overview"), 0
    first = run.records.get("00_overview", {})
    if _local(run.whole_settings):
        yield doubt(
            "local-files",
            "",
            "its settings name files of the machine that made it: their hashes are not checked",
        )
    elif whole and _hash(whole) != first.get("profile_hash"):
        yield wrong("settings-edited", "00_overview/stage.json", "its settings do not give its profile_hash")
    for stage, record in run.records.items():
        count += 1
        if _fingerprint(record) != record.get("fingerprint") and not _local(record.get("settings", {})):
            said = "settings, code, versions and inputs do not give its fingerprint"
            yield wrong("record-edited", f"{stage}/stage.json", said)
        for section, values in record.get("settings", {}).items():
            if whole and whole.get(section) != values:
                yield wrong(
                    "settings-differ",
                    stage,
                    f"its {section} is not that of 00_overview: {_keys(whole.get(section), values)}",
                )
        if first and record.get("profile_hash") != first.get("profile_hash"):
            yield doubt(
                "profiles-mixed",
                stage,
                f"made under profile {record.get('profile_hash')}, 00_overview under {first.get('profile_hash')}",
            )
        if (wanted := _seeds(stage, run)) and record.get("seeds") != wanted:
            yield wrong(
                "seeds", f"{stage}/stage.json", f"seeds {record.get('seeds')}, by its settings {wanted}"
            )
    yield held("settings", f"{count} records follow from their settings, and the settings are one profile's")


def _hash(data: dict) -> str:
    """As profile.settings.Profile.hash, of settings as they were recorded."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def _local(value, key: str = "") -> bool:
    """Whether settings name files of the machine that made the run, whose content is part of the hash."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return any(_local(below, f"{key}.{name}") for name, below in items)
    return isinstance(value, str) and os.path.isabs(value) and bool(re.search(rf"(^|\.)({KEYS})$", key))


def _fingerprint(record: dict) -> str:
    """As stages.record.fingerprint, from the record alone."""
    parts = [_hash(record["settings"]) if record.get("settings") else "", str(record.get("code"))]
    parts += [
        json.dumps(record.get("versions")),
        *(f"{k}={v}" for k, v in sorted(record.get("inputs", {}).items())),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _keys(first, other) -> str:
    if not (isinstance(first, dict) and isinstance(other, dict)):
        return f"{first!r} and {other!r}"
    return ", ".join(k for k in {**first, **other} if first.get(k) != other.get(k))


def _seeds(stage: str, run: Run) -> list[int]:
    found = run.whole_settings
    if "seed" not in found:
        return []
    seed, several = found["seed"], found.get("seeds") or []
    main = seed if seed in several or not several else several[0]
    listed = "seeds" in STAGES[stage].sections if stage in STAGES else False
    return [main, *(s for s in several if s != main)] if listed else [seed]


# --- the code --------------------------------------------------------------------------------------


def code(run: Run) -> Findings:
    """The hash of the code that stage.json names is that of the commit that it names, and of the code here."""
    known, other = 0, []
    for stage, record in run.records.items():
        where, made = f"{stage}/stage.json", record.get("commit")
        changed = record.get("uncommitted_changes")
        tree = tree_of(made) if made else None
        at_commit = tree and _hash_at(tree, stage)
        if changed:
            yield doubt(
                "uncommitted-changes", stage, f"made by code that is not in commit {str(made)[:10]} alone"
            )
        elif at_commit and at_commit != record.get("code"):
            yield wrong(
                "code-not-of-commit",
                where,
                f"its code is {record.get('code')}, that of commit {made[:10]} is {at_commit}",
            )
        elif at_commit:
            known += 1
        elif record.get("code") != _hash_here(stage):
            yield doubt(
                "commit-unknown",
                stage,
                f"commit {str(made)[:10]} is not in this checkout, and the code here is other",
            )
        if record.get("code") != _hash_here(stage):
            other.append(stage)
    if other:
        said = "they were made by other code than is here, which need not give these numbers now"
        yield doubt("code-is-other", ", ".join(other), said)
    yield held("code", f"of {len(run.records)} stages {known} have the hash of the code of their commit")


def tree_for(record: dict, stage: str) -> Path | None:
    """The folder of lib/ and notebooks/ that made a stage: this checkout's, or its commit's; None if neither
    has the hash of its code."""
    if record.get("code") == _hash_here(stage):
        return ROOT
    tree = tree_of(record["commit"]) if record.get("commit") else None
    return tree if tree and _hash_at(tree, stage) == record.get("code") else None


@cache
def tree_of(commit: str) -> Path | None:
    """What a commit has of code, in a folder that ends with this process; None if this is no checkout or does
    not have the commit (a shallow clone: git fetch --unshallow)."""
    if ROOT != CHECKOUT or not shutil.which("git") or not commit.isalnum():
        return None
    command = ["git", "-C", str(ROOT), "archive", commit, "lib", "notebooks", "profiles"]
    environment = {k: v for k, v in os.environ.items() if k not in MISLEADING}
    done = subprocess.run(command, env=environment, capture_output=True)
    if done.returncode:
        return None
    folder = tempfile.TemporaryDirectory(prefix="synthembed-", ignore_cleanup_errors=True)
    _KEPT.append(folder)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder.name, filter="data")
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory] = []  # until this process ends


_hash_here = cache(code_hash)  # of a stage, while this process runs


def _hash_at(tree: Path, stage: str) -> str | None:
    """By the commit's own rule of what is code, which may be another than today's; None if it cannot say."""
    return _hashes_at(tree).get(stage)


@cache
def _hashes_at(tree: Path) -> dict[str, str]:
    command = [
        sys.executable,
        "-P",
        "-c",
        HASHES,
        *(p.stem for p in sorted((tree / "notebooks").glob("*.ipynb"))),
    ]
    environment = os.environ | {"PYTHONPATH": str(tree / "lib")}
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, encoding="utf-8")
    return json.loads(done.stdout) if done.returncode == 0 else {}
