"""The batch backend: OpenAI's Batch API at half the price (Sec. 4.1 used Azure OpenAI).

State lies beside the replies in ``batches/``: the input file of each batch and ``state.json``. It is
written before every step that costs money, so that a run killed at any point neither loses a batch
nor submits one twice.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import openai

from .cost import Meter
from .live import _said, client_options
from .profile import Generate
from .progress import Progress
from .provenance import write_json
from .replies import GenerationStopped, ReplyStore, read_lines

MAX_REQUESTS = 50_000  # the API's limits for one input file
MAX_BYTES = 200_000_000
ROUNDS = 3  # how often what failed or expired is submitted again
ENDED = ("completed", "failed", "expired", "cancelled")


def ask(requests: Path, settings: Generate, store: ReplyStore, meter: Meter) -> Counter:
    """Submit what ``requests`` lacks replies for, wait, collect; returns failures by reason."""
    client = openai.OpenAI(**client_options(settings))
    state = _State(store.path.parent / "batches")
    failures: Counter = Counter()
    try:
        _adopt(client, state)
        _collect(client, settings, state, store, meter)  # what an earlier run submitted
        for _ in range(ROUNDS):
            submitted, left_out = _submit(client, state, store.missing(requests), meter)
            if submitted:
                failures = _collect(client, settings, state, store, meter)
            if left_out:
                raise GenerationStopped(
                    f"generate.budget_usd = {meter.budget} does not reach for {left_out:,} more requests "
                    f"({meter.spent:.2f} spent): raise it and run again to go on"
                )
            if not submitted:
                break
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise GenerationStopped(f"the endpoint refused the key: {_said(error)}") from None
    except openai.RateLimitError as error:
        if error.code == "insufficient_quota":
            raise GenerationStopped("the quota is used up; run again later to go on") from None
        raise GenerationStopped(f"the endpoint limits requests: {_said(error)}; run again later") from None
    except (openai.APIConnectionError, openai.InternalServerError) as error:
        raise GenerationStopped(f"the endpoint failed ({error}); run again to go on") from None
    return failures


class _State:
    """Batches by number: {"file": id or None, "batch": id or None, "collected": bool}."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / "state.json"
        folder.mkdir(exist_ok=True)
        self.batches: list[dict] = json.loads(self.path.read_text()) if self.path.exists() else []

    def save(self) -> None:
        write_json(self.path, self.batches)

    def input(self, number: int) -> Path:
        return self.folder / f"input-{number:04d}.jsonl"

    def open(self) -> list[int]:
        return [n for n, b in enumerate(self.batches) if b["batch"] and not b["collected"]]


def _adopt(client, state: _State) -> None:
    """A run killed between creating a batch and noting its id left only the uploaded file's id."""
    lost = {b["file"]: b for b in state.batches if b["file"] and not b["batch"] and not b["collected"]}
    if lost:
        for batch in client.batches.list(limit=100):
            if batch.input_file_id in lost:
                lost[batch.input_file_id]["batch"] = batch.id
    for batch in state.batches:  # never created: its requests are submitted anew
        batch["collected"] = batch["collected"] or not batch["batch"]
    state.save()


def _submit(client, state: _State, lines: Iterator[dict], meter: Meter) -> tuple[int, int]:
    """Upload input files, one model each, and create their batches.

    Returns how many batches, and how many requests the budget left out.
    """
    files: dict[str, list] = {}
    written: list[int] = []
    expected, left_out = meter.spent, 0

    def start(model: str):
        number = len(state.batches)
        state.batches.append({"file": None, "batch": None, "collected": False})
        written.append(number)
        files[model] = [open(state.input(number), "w", encoding="utf-8"), 0, 0]
        return files[model]

    for line in lines:
        expected += meter.expected(line)
        if meter.budget is not None and expected > meter.budget:
            left_out += 1
            continue
        text = json.dumps(line, ensure_ascii=False) + "\n"
        size, model = len(text.encode()), line["body"]["model"]
        current = files.get(model) or start(model)
        if current[1] + 1 > MAX_REQUESTS or current[2] + size > MAX_BYTES:
            current[0].close()
            current = start(model)
        current[0].write(text)
        current[1], current[2] = current[1] + 1, current[2] + size
    for file, _, _ in files.values():
        file.close()
    for number in written:
        record = state.batches[number]
        with open(state.input(number), "rb") as content:
            record["file"] = client.files.create(file=content, purpose="batch").id
        state.save()
        # No retries: a creation that timed out may have succeeded, and _adopt finds it in the next run.
        record["batch"] = (
            client.with_options(max_retries=0)
            .batches.create(
                input_file_id=record["file"], endpoint="/v1/chat/completions", completion_window="24h"
            )
            .id
        )
        state.save()
    return len(written), left_out


def _collect(client, settings: Generate, state: _State, store: ReplyStore, meter: Meter) -> Counter:
    """Wait for every open batch and store its output; returns failures by reason."""
    failures: Counter = Counter()
    progress = Progress("waiting for batches", "requests", every=60)
    while waiting := state.open():
        done = total = 0
        for number in waiting:
            try:
                batch = client.batches.retrieve(state.batches[number]["batch"])
            except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError):
                continue  # a wait of a day outlasts many short failures
            counts = batch.request_counts
            done += counts.completed + counts.failed if counts else 0
            total += counts.total if counts else 0
            if batch.status in ENDED:
                failures += _store(client, batch, state.input(number), store, meter)
                state.batches[number]["collected"] = True
                state.save()
                if batch.status == "failed":
                    told = (
                        batch.errors.data[0].message
                        if batch.errors and batch.errors.data
                        else "no reason given"
                    )
                    raise GenerationStopped(f"batch {batch.id} was refused as a whole: {told}")
        if state.open():
            progress(done, max(total, 1))
            time.sleep(settings.poll_s)
    return failures


def _store(client, batch, sent: Path, store: ReplyStore, meter: Meter) -> Counter:
    """Replies of an ended batch into the store; what has none is counted under its reason."""
    failures: Counter = Counter()
    unanswered = {line["custom_id"] for line in read_lines(sent)}
    known = set(unanswered)
    for file_id in (batch.output_file_id, batch.error_file_id):
        if not file_id:
            continue
        # Only "\n" ends a line: splitlines would also cut at separators inside JSON strings.
        for text in filter(None, client.files.content(file_id).text.split("\n")):
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                failures["output line is not JSON"] += 1
                continue
            if line["custom_id"] not in known:
                failures["unknown custom_id"] += 1
                continue
            unanswered.discard(line["custom_id"])
            response, error = line.get("response") or {}, line.get("error")
            if not error and response.get("status_code") == 200:
                if store.append(line):
                    meter.add(line)
            elif error:
                failures[f"batch: {error.get('code')}"] += 1
            else:
                failures[f"HTTP {response.get('status_code')}"] += 1
    if unanswered:
        failures[f"batch {batch.status} without an answer"] += len(unanswered)
    return failures
