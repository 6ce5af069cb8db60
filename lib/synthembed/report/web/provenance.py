"""How the numbers of a run were made: command, commit, profile, seeds, data, time and cost, by stage; and how
to cite them."""

from __future__ import annotations

import hashlib
import json

from synthembed.ground import run_folders
from synthembed.ground.files import read_json
from synthembed.report.results import ABLATIONS, EVALUATION, Results

# Stages that a number of one stage rests on, the nearest first.
RESTS_ON = {
    EVALUATION: (EVALUATION, "03_train", "02_analyze", "01_generate"),
    ABLATIONS: (ABLATIONS, "02_analyze", "01_generate"),
    "06_long_context": ("06_long_context", "03_train"),
    "02_analyze": ("02_analyze", "01_generate"),
}

BIBTEX = {
    "paper": """@inproceedings{wang-etal-2024-improving,
  title     = {Improving Text Embeddings with Large Language Models},
  author    = {Wang, Liang and Yang, Nan and Huang, Xiaolong and Yang, Linjun and Majumder, Rangan and Wei, Furu},
  booktitle = {Proceedings of the 62nd Annual Meeting of the Association for Computational Linguistics
               (Volume 1: Long Papers)},
  year      = {2024},
  pages     = {11897--11916},
  publisher = {Association for Computational Linguistics},
  url       = {https://aclanthology.org/2024.acl-long.642}
}""",
    "companion": """@software{synthembed,
  title   = {synthembed: a reproducible companion to
             "Improving Text Embeddings with Large Language Models"},
  author  = {{The synthembed contributors}},
  year    = {2026},
  version = {0.1.0},
  license = {Apache-2.0}
}""",
}


def rows(results: Results) -> list[dict]:
    """One line for every stage that has a record, in the run's order."""
    return [_row(results, stage, record) for stage, record in results.records.items() if record]


def _row(results: Results, stage: str, record: dict) -> dict:
    machine = record.get("machine", {})
    changed = " with uncommitted changes" if record.get("uncommitted_changes") else ""
    profile = record.get("profile")
    return {
        "run": results.name,
        "stage": stage,
        "status": record.get("status"),
        "command": f"synthembed run --profile {profile} --only {stage}",
        "commit": (record.get("commit") or "–")[:10] + changed,
        "profile": f"{profile} ({record.get('profile_hash')})",
        "seeds": ", ".join(map(str, record.get("seeds", []))) or "–",
        "seconds": round(run_folders.seconds_of(record), 1) if "wall_s" in record else "–",
        "usd": cost(results, stage),
        "machine": f"{machine.get('gpu') or machine.get('processor')}, {machine.get('cores')} cores",
        "data": "; ".join(f"{k}: {digest(record[k])}" for k in ("inputs", "outputs") if record.get(k)) or "–",
    }


def cost(results: Results, stage: str) -> str:
    """US dollars as the stage counted them; only generation asks anyone who charges."""
    if stage != "01_generate":
        return "0.00"
    usage = read_json(results.folder / stage / "usage.json", {})
    known = usage.get("spent_usd", sum(m.get("usd") or 0 for m in usage.get("models", {}).values()))
    return f"{known:.2f}"


def digest(files: dict[str, str]) -> str:
    """ "3 files, 0123456789ab": one file's SHA-256, or of several that of the list of names and hashes."""
    if len(files) == 1:
        return f"{next(iter(files))} {next(iter(files.values()))[:12]}"
    listed = json.dumps(files, sort_keys=True)
    return f"{len(files)} files {hashlib.sha256(listed.encode()).hexdigest()[:12]}"


def made(results: Results, stage: str) -> list[dict]:
    """The stages that a number of ``stage`` rests on, as ``rows`` has them, the nearest first."""
    by_stage = {r["stage"]: r for r in rows(results)}
    return [by_stage[s] for s in RESTS_ON.get(stage, (stage,)) if s in by_stage]
