"""Requests → replies: recorded, live or batch, in one format (Sec. 3.1, 4.1).

Replies are OpenAI Batch output lines, known by the hash of their request's body and appended one by
one as they arrive. What is stored is never asked for again; what failed is counted under a named
reason and asked for again by the next run.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from . import requests
from .examples import Rejected, tasks_of
from .profile import Generate, Profile
from .progress import Progress
from .taxonomy import Family, Item

RECORDINGS = Path(__file__).parent / "recordings"


class GenerationStopped(RuntimeError):
    """Generation cannot go on (wrong key, no quota, no recording); what is stored stays stored."""


class ReplyStore:
    """An append-only file of Batch output lines; a last line torn by a crash is cut off on opening."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._repair()
        self.ids = {line["custom_id"] for line in self.lines()}
        self._file = open(path, "a", encoding="utf-8")

    def _repair(self) -> None:
        with open(self.path, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            while size:
                start = max(0, size - 65_536)
                file.seek(start)
                end = file.read(size - start).rfind(b"\n")
                if end >= 0:
                    file.truncate(start + end + 1)
                    return
                size = start
            file.truncate(0)

    def __contains__(self, custom_id: str) -> bool:
        return custom_id in self.ids

    def append(self, line: dict) -> None:
        """Store one reply, flushed; a reply that is there already is left as it is."""
        if line["custom_id"] in self.ids:
            return
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        self.ids.add(line["custom_id"])

    def close(self) -> None:
        self._file.close()

    def lines(self) -> Iterator[dict]:
        with open(self.path, encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)


def reply_line(custom_id: str, body: dict) -> dict:
    """A Batch output line around the body of a chat completion."""
    return {
        "id": f"batch_req_{custom_id}",
        "custom_id": custom_id,
        "response": {"status_code": 200, "request_id": body.get("id", ""), "body": body},
        "error": None,
    }


# --- backends: (requests to make, settings, store) -> counts of failures by reason ---------------


def recorded(lines: list[dict], settings: Generate, store: ReplyStore) -> Counter:
    """Replay the replies that come with the library (or stand in RECORDINGS) by their request's hash."""
    wanted = {line["custom_id"] for line in lines}
    for path in sorted(RECORDINGS.glob("*.jsonl*")):
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            for text in file:
                reply = json.loads(text)
                if reply["custom_id"] in wanted:
                    store.append(reply)
    missing = sum(id not in store for id in wanted)
    if wanted and missing == len(wanted):
        raise GenerationStopped(
            "no reply is recorded for these requests: the profile's generate section (or its seed) "
            "differs from the recorded run's. Use generate.backend=live or batch."
        )
    return Counter({"not recorded": missing} if missing else {})


def live(lines: list[dict], settings: Generate, store: ReplyStore) -> Counter:
    """Ask any OpenAI-compatible endpoint, many at a time; the SDK alone retries."""
    return _run(_live(lines, settings, store))


def _run(coroutine) -> Counter:
    """asyncio.run, also from a notebook kernel, whose thread already runs a loop."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def _client_options(settings: Generate) -> dict:
    base = settings.base_url or os.environ.get("OPENAI_BASE_URL")
    key = os.environ.get("OPENAI_API_KEY")
    if not key and base is None:
        raise GenerationStopped(
            "OPENAI_API_KEY is not set: export it, or point generate.base_url at a server"
        )
    return {
        "api_key": key or "none",  # local servers want some key
        "base_url": base,
        "timeout": settings.timeout_s,
        "max_retries": settings.max_retries,
    }


async def _live(lines: list[dict], settings: Generate, store: ReplyStore) -> Counter:
    import openai

    failures: Counter = Counter()
    waiting = iter(lines)
    progress = Progress("generating", "replies")
    done = 0

    async with openai.AsyncOpenAI(**_client_options(settings)) as client:

        async def worker():
            nonlocal done
            for line in waiting:  # one iterator for all workers: bounded concurrency
                try:
                    answer = await client.chat.completions.with_raw_response.create(**line["body"])
                    store.append(reply_line(line["custom_id"], json.loads(answer.text)))
                except openai.AuthenticationError as error:
                    raise GenerationStopped(f"the endpoint refused the key: {error.message}") from None
                except openai.PermissionDeniedError as error:
                    raise GenerationStopped(f"the endpoint denies access: {error.message}") from None
                except openai.APITimeoutError:
                    failures["timeout"] += 1
                except openai.APIConnectionError:
                    failures["connection"] += 1
                except openai.APIStatusError as error:
                    if error.code == "insufficient_quota":
                        raise GenerationStopped("the quota is used up; run again to go on") from None
                    failures[f"HTTP {error.status_code}"] += 1
                except json.JSONDecodeError:
                    failures["body is not JSON"] += 1
                done += 1
                progress(done, len(lines))

        workers = [asyncio.create_task(worker()) for _ in range(min(settings.concurrency, len(lines)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()
    return failures


def batch(lines: list[dict], settings: Generate, store: ReplyStore) -> Counter:
    """OpenAI's Batch API: see batch.py."""
    from . import batch as batches

    return batches.run(lines, settings, store, _client_options(settings))


BACKENDS: dict[str, Callable[[list[dict], Generate, ReplyStore], Counter]] = {
    "recorded": recorded,
    "live": live,
    "batch": batch,
}


# --- the two steps -------------------------------------------------------------------------------


def generate(profile: Profile, folder: Path) -> dict:
    """Both steps into ``folder``: requests.jsonl, items.jsonl, replies.jsonl, usage.json.

    Resumes: only what replies.jsonl lacks is asked for. Returns the content of usage.json.
    """
    store = ReplyStore(folder / "replies.jsonl")
    failures: Counter = Counter()
    try:
        first = list(requests.brainstorms(profile))
        with open(folder / "requests.jsonl", "w", encoding="utf-8") as out, \
                open(folder / "items.jsonl", "w", encoding="utf-8") as about:  # fmt: skip
            _write(first, out, about)
            failures += _ask([line for _, line in first], profile, store)
            tasks = brainstormed(first, store)
            second = []
            for item, line in requests.examples(profile, tasks):
                if item is None:
                    failures["no brainstormed task"] += 1
                    continue
                second.append(line)
                _write([(item, line)], out, about)
        failures += _ask(second, profile, store)
    finally:
        store.close()
    usage = usage_of(folder) | {"failures": dict(failures)}
    (folder / "usage.json").write_text(json.dumps(usage, indent=1), encoding="utf-8")
    return usage


def _write(pairs: Iterable[tuple[Item, dict]], out, about) -> None:
    for item, line in pairs:
        out.write(json.dumps(line, ensure_ascii=False) + "\n")
        about.write(json.dumps({"custom_id": line["custom_id"], **asdict(item)}, ensure_ascii=False) + "\n")


def _ask(lines: list[dict], profile: Profile, store: ReplyStore) -> Counter:
    missing = [line for line in lines if line["custom_id"] not in store]
    if not missing:
        return Counter()
    return BACKENDS[profile.generate.backend](missing, profile.generate, store)


def brainstormed(pairs: list[tuple[Item, dict]], store: ReplyStore) -> dict[tuple[Family, int], list[str]]:
    """(family, list number) → tasks, from step 1's stored replies; unusable ones are left out."""
    items = {line["custom_id"]: item for item, line in pairs}
    tasks = {}
    for line in store.lines():
        if item := items.get(line["custom_id"]):
            try:
                tasks[item.family, item.number] = tasks_of(line, item)
            except Rejected:
                continue  # counted once, as "no brainstormed task" of the items that miss it
    return tasks


def read_items(folder: Path) -> dict[str, Item]:
    """custom_id → Item, of both steps, from items.jsonl."""
    found = {}
    with open(folder / "items.jsonl", encoding="utf-8") as file:
        for text in file:
            data = json.loads(text)
            custom_id = data.pop("custom_id")
            data["placeholders"] = tuple(map(tuple, data["placeholders"]))
            found[custom_id] = Item(**data)
    return found


def usage_of(folder: Path) -> dict:
    """Replies and tokens per model, as the endpoint reported them; recorded replies report none."""
    models: dict[str, Counter] = {}
    with open(folder / "replies.jsonl", encoding="utf-8") as file:
        for text in file:
            body = json.loads(text)["response"]["body"]
            counts = models.setdefault(body.get("model", "unknown"), Counter())
            used = body.get("usage")
            counts["replies"] += 1
            counts["replies without usage"] += used is None
            counts["prompt_tokens"] += (used or {}).get("prompt_tokens", 0)
            counts["completion_tokens"] += (used or {}).get("completion_tokens", 0)
    return {"models": {name: dict(counts) for name, counts in models.items()}}
