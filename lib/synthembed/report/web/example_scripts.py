"""The corpus of a run for the site: every example with the request that asked for it, as scripts that a page
loads from a folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from synthembed.corpus import example_files
from synthembed.corpus.example import Drops, Example
from synthembed.generation import two_steps
from synthembed.ground.files import read_json, read_lines
from synthembed.profile.settings import Profile

CHUNK = 250  # records of one file


def write(run: Path, folder: Path) -> dict | str:
    """examples-000.js and requests-000.js, and so on, in ``folder``; what the page needs to know of them, or
    a sentence on why there are none.

    Of a run that keeps its examples those; of one that does not (the committed ones) what its recorded replies
    give again, from the same requests, before its filters.
    """
    if (run / "02_analyze" / "examples.jsonl").exists():
        kept = example_files.read(run / "02_analyze" / "examples.jsonl")
        requests = run / "01_generate" / "requests.jsonl"
        return _write(kept, _prompts(requests) if requests.exists() else {}, folder)
    record = read_json(run / "01_generate" / "stage.json", {})
    settings = record.get("settings", {})
    if settings.get("generate", {}).get("backend") != "recorded":
        return "This run's folder keeps no examples, and its replies were not recorded ones: run the stage 02_analyze here."
    profile = Profile(name=record["profile"], **settings)
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(temporary)
        two_steps.generate(profile, again)
        items = two_steps.read_items(again)
        found = list(example_files.from_replies(again / "replies.jsonl", items, Drops()))
        return _write(found, _prompts(again / "requests.jsonl"), folder)


def _prompts(requests: Path) -> dict[str, str]:
    """Request id → the prompt, and what was asked of the model beside it."""
    return {line["custom_id"]: _prompt(line["body"]) for line in read_lines(requests)}


def _prompt(body: dict) -> str:
    beside = {k: v for k, v in body.items() if k not in ("messages", "response_format")}
    messages = "\n\n".join(m["content"] for m in body["messages"])
    return f"{messages}\n\n{json.dumps(beside, ensure_ascii=False)}"


def _write(examples: list[Example], prompts: dict[str, str], folder: Path) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(examples), CHUNK)
    for number, start in enumerate(starts):
        some = examples[start : start + CHUNK]
        script(folder, "examples", number, [_record(e) for e in some])
        script(folder, "requests", number, {e.id: prompts[e.id] for e in some if e.id in prompts})
    return {
        "name": "examples", "chunks": len(starts), "filters": ["family", "language"], "head": ["family", "language"],
        "fields": ["instruction", "query", "positive", "negative"], "more": "requests" if prompts else None,
        "more_title": "The request", "count": len(examples),
    }  # fmt: skip


def _record(example: Example) -> dict:
    language = example.language
    if example.target_language != language:
        language += f" → {example.target_language}"
    return {
        "id": example.id, "family": example.family, "language": language, "instruction": example.instruction,
        "query": example.query, "positive": example.positive, "negative": example.negative,
    }  # fmt: skip


def script(folder: Path, name: str, number: int, records: Iterable | dict) -> None:
    """Records as a script that hands them to the page (web/static/records.js)."""
    text = json.dumps(records, ensure_ascii=False, separators=(",", ":"))
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    path = folder / f"{name}-{number:03d}.js"
    path.write_text(f"synthembedRecords({json.dumps(name)},{number},{text});\n", encoding="utf-8")
