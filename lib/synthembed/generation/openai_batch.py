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
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import openai

from synthembed.generation.cost import LEAST_WAVE, BudgetError, Meter
from synthembed.generation.paid import endpoint
from synthembed.generation.paid.endpoint import Clients, broken, lasting, said
from synthembed.generation.paid.ledger import noted
from synthembed.generation.parsing import is_completion, unanswered
from synthembed.generation.reply_store import GenerationStopped, ReplyStore, body_in
from synthembed.ground.console import Progress
from synthembed.ground.files import read_lines, write_json
from synthembed.profile.settings import Generate

MAX_REQUESTS = 50_000  # the API's limits for one input file
MAX_BYTES = 200_000_000
REFUSED_AT_MOST = 10  # requests of a batch, if it brings nothing else
FRUITLESS = 2  # rounds in a row without a single reply, after which what failed is given up
LOOKED_AT = 20  # replies of a batch
PATIENCE_S = 3600.0  # how long the endpoint may fail to answer while batches are waited for
ENDED = ("completed", "failed", "expired", "cancelled")
PASSING = (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError)


def ask(
    requests: Path, settings: Generate, store: ReplyStore, meter: Meter,
    look: Callable[[dict], None] = lambda reply: None,
) -> Counter:  # fmt: skip
    """Submit what ``requests`` lacks replies for, wait, collect; returns failures by reason.

    What failed or expired is submitted again, while rounds bring replies, but not what was refused for a
    lasting reason, which is no reason of the account's. Where a batch brings nothing but such refusals, it is
    the settings that are refused: GenerationStopped. Under a budget, a round submits what can be paid even if every reply is as long as it
    may be; the next round has what the replies left of it. Where the account's queue takes fewer tokens
    than a round has, the next rounds have what it took, or half. ``look`` is shown each new reply after
    its batch is stored, and may raise GenerationStopped.
    """
    clients = Clients(settings, endpoint.client)
    state = _State(store.path.parent / "batches")
    round_ = _Round(clients, settings, state, store, meter, look)
    failures: Counter = Counter()
    with _named_errors():
        _adopt(clients, state)
        round_.collect()  # what an earlier run submitted
        fruitless = unsent = 0
        while fruitless < FRUITLESS:
            wave, left_out = _affordable(round_.missing(requests), meter)
            if left_out and wave < LEAST_WAVE * (wave + left_out):
                raise GenerationStopped(meter.used_up(f"; {wave + left_out:,} requests are not submitted"))
            before, most = len(store.ids), round_.most
            unsent = max(0, wave - most)
            if not wave:
                break
            _submit(clients, settings, state, islice(round_.missing(requests), min(wave, most)), most)
            failures = round_.collect()
            smaller = round_.most < most  # a queue that takes less is no failure
            fruitless = 0 if len(store.ids) > before or smaller else fruitless + 1
    if unsent:
        failures["not submitted: the account's queue stayed full"] += unsent
    refused = round_.refused_by_reason(requests)
    round_.say(refused)
    return failures + refused + round_.strays


@contextlib.contextmanager
def _named_errors():
    """The SDK's errors as GenerationStopped: what is submitted and stored stays so."""
    try:
        yield
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise GenerationStopped(f"the endpoint refused the key: {said(error)}") from None
    except openai.RateLimitError as error:
        if endpoint.of_quota(error):
            raise GenerationStopped("the quota is used up; run again later to go on") from None
        raise GenerationStopped(f"the endpoint limits requests: {said(error)}; run again later") from None
    except openai.NotFoundError as error:
        raise GenerationStopped(
            f"the endpoint has no Batch API where it was looked for (HTTP 404: {said(error)}): use "
            "generate.backend=live, or check base_url and batch_endpoint"
        ) from None
    except openai.APIStatusError as error:
        told = f"HTTP {error.status_code}: {said(error)}"
        raise GenerationStopped(f"the endpoint refused ({told}); run again to go on") from None
    except openai.APIConnectionError as error:
        raise GenerationStopped(f"the endpoint failed ({broken(error)}); run again to go on") from None


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
        self.batches: list[dict] = noted(
            self.path,
            [],
            "without it batches may be bought twice: look at the endpoint's list of batches first",
        )

    def save(self) -> None:
        write_json(self.path, self.batches)

    @property
    def refusals(self) -> Path:
        """Requests that were refused for a lasting reason, which later runs do not send again; a request that
        is changed has another id, and whoever deletes the file asks for all of them once more."""
        return self.folder / "refused.json"

    def input(self, number: int) -> Path:
        return self.folder / f"input-{number:04d}.jsonl"

    def open(self) -> list[int]:
        return [n for n, b in enumerate(self.batches) if b["batch"] and not b["collected"]]


class _Round:
    """What is submitted together, waited for and collected; remembers what need not be sent again."""

    def __init__(self, clients, settings, state, store, meter, look):
        self.clients, self.settings, self.state = clients, settings, state
        self.store, self.meter, self.look = store, meter, look
        self.most = MAX_REQUESTS * 1000  # requests in the queue at one time
        self.refused: dict[str, str] = noted(state.refusals, {})  # custom_id -> the lasting reason
        self.said: dict[str, str] = {}  # reason -> what one request was told
        self.strays: Counter = Counter()  # lines of any output that belong to no request, by reason
        self.in_row: Counter = Counter()  # replies without an answer since the last one with it, by reason

    def missing(self, requests: Path) -> Iterator[dict]:
        return (x for x in self.store.missing(requests) if x["custom_id"] not in self.refused)

    def refused_by_reason(self, requests: Path) -> Counter:
        names = (x["custom_id"] for x in self.store.missing(requests))
        return Counter(self.refused[name] for name in names if name in self.refused)

    def say(self, refused: Counter) -> None:
        """What was refused, in the endpoint's words, and how it is asked for again."""
        for reason, told in self.said.items():
            print(f"{reason}: one request was told: {told}", flush=True)
        if refused:
            print(
                f"{refused.total():,} requests were refused for good and are not sent again; delete "
                f"batches/{self.state.refusals.name} to ask for them once more",
                flush=True,
            )

    def collect(self) -> Counter:
        """Wait for every open batch and store its output; returns failures by reason, without those that
        are refused for good."""
        failures: Counter = Counter()
        taken = too_much = 0
        progress = Progress("waiting for batches", "requests", every=60)
        heard = time.monotonic()
        while waiting := self.state.open():
            done = total = 0
            for number in waiting:
                record = self.state.batches[number]
                client = self.clients.of(record.get("model", ""))
                try:
                    batch = client.batches.retrieve(record["batch"])
                    counts = batch.request_counts
                    done += counts.completed + counts.failed if counts else 0
                    total += counts.total if counts else 0
                    if batch.status in ENDED:
                        full = batch.status == "failed" and _reason(batch) == "token_limit_exceeded"
                        too_much += record.get("requests", 0) * full
                        taken += record.get("requests", 0) * (not full)
                        failures += self._end(client, batch, number)
                    heard = time.monotonic()
                except openai.NotFoundError:
                    raise GenerationStopped(
                        f"the endpoint knows no batch {record['batch']}: set generate.base_url and "
                        "the key to those that submitted it, or delete batches/state.json to give it up"
                    ) from None
                except PASSING as error:  # a wait of a day outlasts many short failures
                    if time.monotonic() - heard > PATIENCE_S or endpoint.of_quota(error):
                        raise
            if self.state.open():
                progress(done, max(total, 1))
                time.sleep(self.settings.poll_s)
        if too_much > 1:
            self.most = taken or too_much // 2
        return failures

    def _end(self, client, batch, number: int) -> Counter:
        """Store what an ended batch brought, once; a batch refused for what is in it stops the run."""
        sent = self.state.input(number)
        before = len(self.refused)
        failures, replies, unpriced = self._store(client, batch, sent)
        refused = list(self.refused)[before:]
        nothing_else = len(refused) >= REFUSED_AT_MOST and not replies and not self.store.ids
        if nothing_else:  # of the settings, and not of these requests
            for name in refused:
                del self.refused[name]
        if self.refused:
            write_json(self.state.refusals, self.refused)
        self.state.batches[number]["collected"] = True
        self.state.save()
        sent.unlink(missing_ok=True)
        if unpriced:
            raise unpriced
        if nothing_else:
            told = "; ".join(f"{reason}: {text}" for reason, text in self.said.items())
            raise GenerationStopped(
                f"all requests of batch {batch.id} were refused ({told}). Change what is sent: generate.models, "
                "temperature, top_p, token_limit, response_format; for one model with generate.for_model"
            )
        if batch.status == "cancelled":  # by someone who wants no more of it
            raise GenerationStopped(f"batch {batch.id} was cancelled: run again to submit what it lacks anew")
        # Too many tokens in the queue is not the batch's fault: it is submitted again, in parts if need be.
        if batch.status == "failed" and _reason(batch) != "token_limit_exceeded":
            told = _error(batch)[1] or "no reason given"
            raise GenerationStopped(f"batch {batch.id} was refused as a whole: {endpoint.masked(told)}")
        for reply in replies:
            self.look(reply)
        if self.in_row.total() >= max(REFUSED_AT_MOST, 2 * self.settings.concurrency):  # as live requests
            told = ", ".join(f"{reason}: {n:,}" for reason, n in self.in_row.items())
            raise GenerationStopped(
                f"the last {self.in_row.total():,} replies all have no answer ({told}): look at replies.jsonl. "
                "Run again to go on with what is missing"
            )
        return failures

    def _store(self, client, batch, sent: Path) -> tuple[Counter, list[dict], BudgetError | None]:
        """Replies of an ended batch into the store; returns the failures by reason, the first replies,
        and the error if one of them cannot be priced."""
        failures: Counter = Counter()
        first: list[dict] = []
        unpriced = None
        known = {x["custom_id"]: self.meter.worst(x) for x in read_lines(sent)} if sent.exists() else {}
        left = set(known)
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            for line in _downloaded(client, file_id, sent.with_name("download.jsonl")):
                if line is None:
                    self.strays["output line is not JSON"] += 1
                    continue
                name = line.get("custom_id")
                if not isinstance(name, str) or name not in known:
                    self.strays["unknown custom_id"] += 1
                    continue
                left.discard(name)
                reason, status = _refusal(line)
                if reason is None:
                    if self.store.append(line):
                        first += [line] if len(first) < LOOKED_AT else []
                        silent = unanswered(line)
                        self.in_row = self.in_row + Counter([silent]) if silent else Counter()
                        try:
                            confirmed = self.meter.charge(line, known[name])
                        except BudgetError as error:
                            unpriced, confirmed = error, False
                        if not confirmed:
                            self.meter.owe(name, known[name])
                    continue
                self.said.setdefault(reason, _told(line))
                if status == 200:  # no reply that can be stored, and it may be billed
                    self.meter.unconfirmed += known[name]
                    self.meter.owe(name, known[name])
                if lasting(status) and not endpoint.of_the_account(status):
                    self.refused[name] = reason
                else:
                    failures[reason] += 1
        if left:
            failures[f"batch {_reason(batch) or batch.status} without an answer"] += len(left)
        return failures, first, unpriced


def _refusal(line: dict) -> tuple[str | None, int | None]:
    """(reason, HTTP status) of an output line that is no reply; (None, 200) of one that is."""
    response, error = line.get("response"), line.get("error")
    response = response if isinstance(response, dict) else {}
    status = response["status_code"] if isinstance(response.get("status_code"), int) else None
    if error:
        code = error.get("code") if isinstance(error, dict) else error
        return f"batch: {str(code)[:80]}", status
    if status != 200:
        return f"HTTP {status}", status
    if not is_completion(response.get("body")):
        return "body is not a chat completion", status
    return None, 200


def _told(line: dict) -> str:
    """What an endpoint said of a request that it did not answer."""
    response = line.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    return endpoint.masked(json.dumps(line.get("error") or body, ensure_ascii=False))[:300]


def _adopt(clients: Clients, state: _State) -> None:
    """A run killed between creating a batch and noting its id left only the uploaded file's id."""
    lost = {b["file"]: b for b in state.batches if b["file"] and not b["batch"] and not b["collected"]}
    for client in {id(c): c for c in (clients.of(b.get("model", "")) for b in lost.values())}.values():
        for batch in client.batches.list(limit=100):
            if batch.input_file_id in lost:
                lost[batch.input_file_id]["batch"] = batch.id
    for batch in state.batches:  # never created: its requests are submitted anew
        batch["collected"] = batch["collected"] or not batch["batch"]
    state.save()


def _submit(clients: Clients, settings: Generate, state: _State, lines: Iterator[dict], most: int) -> None:
    """Write input files, one model each, upload them and create their batches."""
    files: dict[str, list] = {}
    written: list[int] = []

    def start(model: str):
        number = len(state.batches)
        state.batches.append({"file": None, "batch": None, "collected": False, "model": model, "requests": 0})
        written.append(number)
        files[model] = [open(state.input(number), "w", encoding="utf-8"), number, 0]
        return files[model]

    for line in lines:
        text = json.dumps(line, ensure_ascii=False) + "\n"
        size, model = len(text.encode()), line["body"]["model"]
        current = files.get(model) or start(model)
        held = state.batches[current[1]]["requests"]
        if held + 1 > min(MAX_REQUESTS, most) or current[2] + size > MAX_BYTES:
            current[0].close()
            current = start(model)
        current[0].write(text)
        state.batches[current[1]]["requests"] += 1
        current[2] += size
    for file, _, _ in files.values():
        file.close()
    for number in written:
        _create(clients.of(state.batches[number]["model"]), settings, state, number)


def _create(client, settings: Generate, state: _State, number: int) -> None:
    record = state.batches[number]
    with open(state.input(number), "rb") as content:
        file = client.files.create(file=content, purpose="batch")
    record["file"] = file.id
    state.save()
    while file.status in ("pending", "running"):  # Azure takes no batch of a file it still reads
        time.sleep(settings.poll_s)
        file = client.files.retrieve(file.id)
    # No retries: a creation that timed out may have succeeded, and _adopt finds it in the next run.
    create = client.with_options(max_retries=0).batches.create
    batch = create(input_file_id=record["file"], endpoint=settings.batch_endpoint, completion_window="24h")
    record["batch"] = batch.id
    state.save()


def _reason(batch) -> str:
    return _error(batch)[0]


def _error(batch) -> tuple[str, str]:
    """(code, message) of a batch's first error; some gateways send a plain string in the place of the list."""
    found = getattr(batch.errors, "data", batch.errors)
    first = found[0] if found and isinstance(found, list) else found
    if isinstance(first, str):
        return "", first
    return (getattr(first, "code", None) or ""), (getattr(first, "message", None) or "")


def _downloaded(client, file_id: str, to: Path) -> Iterator[dict | None]:
    """The lines of a file of the endpoint, by way of the disk; None for one that cannot be stored."""
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
            yield body_in(text)
    to.unlink()
