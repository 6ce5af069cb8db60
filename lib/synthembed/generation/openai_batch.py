"""The batch backend: OpenAI's Batch API at half the price (Sec. 4.1 used Azure OpenAI).

State lies beside the replies in ``batches/``: the input file of each batch and ``state.json``. It is
written before every step that costs money, so that a run killed at any point neither loses a batch
nor submits one twice.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import openai

from synthembed.generation.cost import Meter
from synthembed.generation.live import client_options, endpoint_said
from synthembed.generation.reply_store import GenerationStopped, ReplyStore
from synthembed.ground import endpoint
from synthembed.ground.console import Progress
from synthembed.ground.files import read_lines, write_json
from synthembed.profile.settings import Generate

MAX_REQUESTS = 50_000  # the API's limits for one input file
MAX_BYTES = 200_000_000
FRUITLESS = 2  # rounds in a row without a single reply, after which what failed is given up
LEAST_WAVE = 0.1  # of the missing requests; a budget that reaches for fewer ends the run
PATIENCE_S = 3600.0  # how long the endpoint may fail to answer while batches are waited for
ENDED = ("completed", "failed", "expired", "cancelled")
PASSING = (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError)


def ask(requests: Path, settings: Generate, store: ReplyStore, meter: Meter) -> Counter:
    """Submit what ``requests`` lacks replies for, wait, collect; returns failures by reason.

    What failed or expired is submitted again, while rounds bring replies. Under a budget, a round
    submits what can be paid even if every reply is as long as it may be; the next round has what
    the replies left of it.
    """
    client = endpoint.client(openai.OpenAI, **client_options(settings))
    state = _State(store.path.parent / "batches")
    failures: Counter = Counter()
    with _named_errors():
        _adopt(client, state)
        _collect(client, settings, state, store, meter)  # what an earlier run submitted
        fruitless = 0
        while fruitless < FRUITLESS:
            wave, left_out = _affordable(store.missing(requests), meter)
            if left_out and wave < LEAST_WAVE * (wave + left_out):
                raise GenerationStopped(meter.used_up(f"; {wave + left_out:,} requests are not submitted"))
            if not wave:
                break
            before = len(store.ids)
            _submit(client, settings, state, islice(store.missing(requests), wave))
            failures = _collect(client, settings, state, store, meter)
            fruitless = 0 if len(store.ids) > before else fruitless + 1
    return failures


@contextlib.contextmanager
def _named_errors():
    """The SDK's errors as GenerationStopped: what is submitted and stored stays so."""
    try:
        yield
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise GenerationStopped(f"the endpoint refused the key: {endpoint_said(error)}") from None
    except openai.RateLimitError as error:
        if error.code == "insufficient_quota":
            raise GenerationStopped("the quota is used up; run again later to go on") from None
        raise GenerationStopped(
            f"the endpoint limits requests: {endpoint_said(error)}; run again later"
        ) from None
    except openai.APIStatusError as error:
        told = f"HTTP {error.status_code}: {endpoint_said(error)}"
        raise GenerationStopped(f"the endpoint refused ({told}); run again to go on") from None
    except openai.APIConnectionError as error:
        raise GenerationStopped(f"the endpoint failed ({error}); run again to go on") from None


def _affordable(lines: Iterator[dict], meter: Meter) -> tuple[int, int]:
    """How many of the next requests the budget reaches for at their longest, and how many not."""
    if meter.budget is None:
        return sum(1 for _ in lines), 0
    within = beyond = 0
    total = meter.committed()
    for line in lines:
        total += meter.worst(line)
        within, beyond = within + (total <= meter.budget), beyond + (total > meter.budget)
    return within, beyond


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


def _submit(client, settings: Generate, state: _State, lines: Iterator[dict]) -> None:
    """Write input files, one model each, upload them and create their batches."""
    files: dict[str, list] = {}
    written: list[int] = []

    def start(model: str):
        number = len(state.batches)
        state.batches.append({"file": None, "batch": None, "collected": False})
        written.append(number)
        files[model] = [open(state.input(number), "w", encoding="utf-8"), 0, 0]
        return files[model]

    for line in lines:
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
            file = client.files.create(file=content, purpose="batch")
        record["file"] = file.id
        state.save()
        while file.status in ("pending", "running"):  # Azure takes no batch of a file it still reads
            time.sleep(settings.poll_s)
            file = client.files.retrieve(file.id)
        # No retries: a creation that timed out may have succeeded, and _adopt finds it in the next run.
        record["batch"] = (
            client.with_options(max_retries=0)
            .batches.create(
                input_file_id=record["file"], endpoint="/v1/chat/completions", completion_window="24h"
            )
            .id
        )
        state.save()


def _collect(client, settings: Generate, state: _State, store: ReplyStore, meter: Meter) -> Counter:
    """Wait for every open batch and store its output; returns failures by reason."""
    failures: Counter = Counter()
    progress = Progress("waiting for batches", "requests", every=60)
    heard = time.monotonic()
    while waiting := state.open():
        done = total = 0
        for number in waiting:
            try:
                batch = client.batches.retrieve(state.batches[number]["batch"])
                counts = batch.request_counts
                done += counts.completed + counts.failed if counts else 0
                total += counts.total if counts else 0
                if batch.status in ENDED:
                    failures += _end(client, batch, state, number, store, meter)
                heard = time.monotonic()
            except openai.NotFoundError:
                raise GenerationStopped(
                    f"the endpoint knows no batch {state.batches[number]['batch']}: set generate.base_url and "
                    "the key to those that submitted it, or delete batches/state.json to give it up"
                ) from None
            except PASSING as error:  # a wait of a day outlasts many short failures
                if (
                    time.monotonic() - heard > PATIENCE_S
                    or getattr(error, "code", "") == "insufficient_quota"
                ):
                    raise
        if state.open():
            progress(done, max(total, 1))
            time.sleep(settings.poll_s)
    return failures


def _end(client, batch, state: _State, number: int, store: ReplyStore, meter: Meter) -> Counter:
    """Store what an ended batch brought, once; a batch refused for what is in it stops the run."""
    failures = _store(client, batch, state.input(number), store, meter)
    state.batches[number]["collected"] = True
    state.save()
    state.input(number).unlink()
    if batch.status == "cancelled":  # by someone who wants no more of it
        raise GenerationStopped(f"batch {batch.id} was cancelled: run again to submit what it lacks anew")
    # Too many tokens in the queue is not the batch's fault: it is submitted again when others are done.
    if batch.status == "failed" and _reason(batch) != "token_limit_exceeded":
        errors = batch.errors.data if batch.errors else None
        told = errors[0].message if errors else "no reason given"
        raise GenerationStopped(f"batch {batch.id} was refused as a whole: {told}")
    return failures


def _reason(batch) -> str:
    errors = batch.errors.data if batch.errors else None
    return (errors[0].code or "") if errors else ""


def _store(client, batch, sent: Path, store: ReplyStore, meter: Meter) -> Counter:
    """Replies of an ended batch into the store; what has none is counted under its reason."""
    failures: Counter = Counter()
    unanswered = {line["custom_id"] for line in read_lines(sent)}
    known = set(unanswered)
    for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
        for line in _downloaded(client, file_id, sent.with_name("download.jsonl")):
            if not isinstance(line, dict):
                failures["output line is not JSON"] += 1
                continue
            if line.get("custom_id") not in known:
                failures["unknown custom_id"] += 1
                continue
            unanswered.discard(line["custom_id"])
            response, error = line.get("response") or {}, line.get("error")
            if not error and response.get("status_code") == 200:
                if store.append(line):
                    meter.charge(line)
            elif error:
                failures[f"batch: {error.get('code')}"] += 1
            else:
                failures[f"HTTP {response.get('status_code')}"] += 1
    if unanswered:
        failures[f"batch {_reason(batch) or batch.status} without an answer"] += len(unanswered)
    return failures


def _downloaded(client, file_id: str, to: Path) -> Iterator[dict | None]:
    """The lines of a file of the endpoint, by way of the disk; None for one that is not JSON."""
    with client.files.with_streaming_response.content(file_id) as response:
        try:
            response.stream_to_file(to)
        except OSError:  # of the disk
            raise
        except Exception as error:  # of the HTTP client, which the SDK does not wrap while it streams
            told = f"the download of {file_id} broke off ({error})"
            raise openai.APIConnectionError(message=told, request=response.http_request) from error
    with open(to, "rb") as file:  # in bytes, only "\n" ends a line
        for text in filter(bytes.strip, file):
            try:
                yield json.loads(text)
            except ValueError:
                yield None
    to.unlink()
