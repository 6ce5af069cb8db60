"""The live backend: any OpenAI-compatible endpoint, many requests at a time (Sec. 4.1).

The SDK alone retries, and only what was certainly not billed. Where several servers have the same model, a
request goes to the idlest, and one that cannot be reached is passed over for a while. Requests and tokens per
minute are bounded for each server if the profile says so. A wrong key, an unknown model, an empty quota, the
budget, or failure upon failure stops the run; every other failure is counted under its name.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
from aiolimiter import AsyncLimiter

from synthembed.generation.cost import CHARACTERS_PER_TOKEN, Meter, tokens_in
from synthembed.generation.paid import endpoint, streamed
from synthembed.generation.parsing import is_completion, unanswered
from synthembed.generation.reply_store import GenerationStopped, ReplyStore, body_in, reply_line
from synthembed.generation.request_bodies import most_tokens
from synthembed.ground.console import Progress
from synthembed.profile.settings import Generate

REFUSED_AT_MOST = 10
RESTS_S = 30.0


def ask(
    lines: Iterator[dict], total: int, settings: Generate, store: ReplyStore, meter: Meter,
    look: Callable[[dict], None] = lambda reply: None,
) -> Counter:  # fmt: skip
    """Ask for ``lines`` and store the replies; returns failures by reason.

    ``look`` is shown each reply once it is stored, and may raise GenerationStopped. Works from a notebook
    kernel, whose thread already runs an event loop.
    """
    run = _Run(lines, total, settings, store, meter, look)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(asyncio.run, run.all())
        try:
            return future.result()
        except BaseException:  # an interrupt: ask for nothing more, but store what is paid for
            run.stop()
            raise
        finally:
            for reason, said in run.said.items():
                print(f"{reason}: {run.failures[reason]:,} requests; one was told: {said[:300]}", flush=True)


class _Server:
    """One server: its client, how many requests it has, its limits, and whether it could be reached."""

    def __init__(self, settings: Generate):
        self.client = endpoint.async_client(settings)
        self.busy, self.owed = 0, 0.0  # owed: tokens that replies took beyond what was expected
        self.until = float("-inf")
        rate, tokens = settings.requests_per_minute, settings.tokens_per_minute
        self.requests = AsyncLimiter(max(rate / 60, 1), max(1, 60 / rate)) if rate else None
        self.tokens = AsyncLimiter(tokens / 10, 6) if tokens else None  # never a burst of a whole minute

    @property
    def resting(self) -> bool:
        return time.monotonic() < self.until

    def rest(self) -> None:
        """Let others be asked for a while."""
        self.until = time.monotonic() + RESTS_S


class _Run:
    def __init__(self, lines, total, settings, store, meter, look):
        self.lines, self.total, self.settings = lines, total, settings
        self.store, self.meter, self.look = store, meter, look
        self.failures: Counter = Counter()
        self.said: dict[str, str] = {}  # reason -> what the endpoint said first
        self.done = self.answered = self.refused = 0
        self.in_row: Counter = Counter()  # failures since the last reply, by reason
        self.stopped = self.budget_ends = False
        self.progress = Progress("generating", "replies")
        self.freed = asyncio.Event()  # money that a request in flight had reserved

    def stop(self) -> None:
        """Send nothing more; what is in flight ends and is stored."""
        self.lines, self.stopped = iter(()), True

    async def all(self) -> Counter:
        clients = endpoint.Clients(self.settings, _Server)
        # A key that is missing is said before anything is sent.
        self.servers = {m: clients.all_of(m) for m, share in self.settings.models.items() if share}
        # One iterator for all workers: at most ``concurrency`` requests are in flight, and no
        # more than that many lines are in memory.
        count = min(self.settings.concurrency, self.total)
        workers = [asyncio.create_task(self.worker()) for _ in range(count)]
        try:
            await asyncio.gather(*workers)
        except BaseException:
            self.stop()
            await asyncio.gather(*workers, return_exceptions=True)
            raise
        finally:
            for server in clients.found.values():
                await server.client.close()
        if self.budget_ends:
            raise GenerationStopped(self.meter.used_up())
        return self.failures

    async def worker(self) -> None:
        while not self.stopped and (line := next(self.lines, None)) is not None:
            if not await self.affordable(line):
                self.budget_ends = True
                return self.stop()
            server = self.idlest(line)
            try:
                await self.within_limits(server, line)
                if not self.stopped:
                    await self.answer(server, line)
            finally:
                server.busy -= 1
                self.meter.release(line)
                self.freed.set()

    def idlest(self, line: dict) -> _Server:
        """The server of the line's model with the fewest requests, which has one more now."""
        found = min(self.servers[line["body"]["model"]], key=lambda s: (s.resting, s.busy))
        found.busy += 1
        return found

    async def affordable(self, line: dict) -> bool:
        """Reserve the money for a request, if need be after requests in flight have set some free."""
        while not self.meter.reserve(line):
            if self.stopped or self.meter.reserved < 1e-9:  # nothing is in flight
                return False
            self.freed.clear()
            await self.freed.wait()
        return True

    async def within_limits(self, server: _Server, line: dict) -> None:
        """Wait until the server's requests and tokens per minute allow one more request."""
        if server.requests:
            await server.requests.acquire()
        if server.tokens:
            need, server.owed = _tokens(line) + server.owed, 0.0
            while need > 0 and not self.stopped:  # in parts, as the limiter takes no more at a time
                part = min(need, server.tokens.max_rate)
                await server.tokens.acquire(part)
                need -= part

    async def answer(self, server: _Server, line: dict) -> None:
        self.meter.sending(line)
        try:
            reply = reply_line(line["custom_id"], await self.reached(server, line))
        except _Failed as failure:
            self.meter.lose(line) if failure.billed else self.meter.settle(line)
            self.failed(failure)
        except GenerationStopped:
            self.meter.settle(line)
            raise
        else:
            self.store.append(reply)
            if self.meter.charge(reply, self.meter.worst(line)):
                self.meter.settle(line)
            self.answered += 1
            server.owed += max(0.0, sum(tokens_in(reply["response"]["body"].get("usage"))) - _tokens(line))
            self.heard(reply)
            self.look(reply)
        self.done += 1
        self.progress(self.done, self.total, self.meter.note())

    async def reached(self, server: _Server, line: dict) -> dict:
        """The reply of ``server``; where it cannot be reached, so that nothing was sent, of another one."""
        body = line["body"]
        others = [s for s in self.servers[body["model"]] if s is not server]
        while True:
            try:
                return await self.request(server.client, body)
            except _Failed as failure:
                if not failure.unsent:
                    raise
                server.rest()
                if self.stopped or not (awake := [s for s in others if not s.resting]):
                    raise
                server = min(awake, key=lambda s: s.busy)
                await self.within_limits(server, line)

    async def request(self, client, body: dict) -> dict:
        known = {key: body[key] for key in ("model", "messages")}
        rest = {key: value for key, value in body.items() if key not in known}
        if self.settings.stream:
            rest |= streamed.ASKED
        try:
            answer = await client.chat.completions.with_raw_response.create(**known, extra_body=rest)
            content = answer.http_response.content
        except openai.APITimeoutError as error:
            nothing = endpoint.unsent(error)
            raise _Failed("timeout", str(error), billed=not nothing, unsent=nothing) from None
        except openai.APIConnectionError as error:
            nothing = endpoint.unsent(error)
            raise _Failed("connection", endpoint.broken(error), billed=not nothing, unsent=nothing) from None
        except openai.APIStatusError as error:
            if stops := endpoint.stop_for(error, body["model"]):
                raise stops from None
            self._count_refusal(error)
            billed = error.status_code in endpoint.TIME_OUTS
            raise _Failed(f"HTTP {error.status_code}", endpoint.said(error), billed) from None
        except Exception as error:  # whatever a gateway sends, one reply never ends the run
            raise _Failed(type(error).__name__, endpoint.masked(str(error)), billed=True) from None
        found = body_in(streamed.joined(content))  # some gateways stream whatever they are asked
        if found is None:
            raise _Failed("body is not JSON", repr(content[:200]), billed=True)
        if not is_completion(found):
            raise _Failed("body is not a chat completion", json.dumps(found)[:300], billed=True)
        return found

    def failed(self, failure: _Failed) -> None:
        """Count it; where nothing but failures comes back, stop before all requests are spent on them."""
        self.failures[str(failure)] += 1
        self.said.setdefault(str(failure), failure.said)
        self._stop_if_all_fail(str(failure), failure.said)

    def heard(self, reply: dict) -> None:
        """A reply in which the endpoint gives no answer is stored like any other, and fails all the same."""
        if reason := unanswered(reply):
            told = json.dumps(reply["response"]["body"], ensure_ascii=False)
            self._stop_if_all_fail(reason, endpoint.masked(told)[:300])
        else:
            self.in_row.clear()

    def _stop_if_all_fail(self, reason: str, said: str) -> None:
        self.in_row[reason] += 1
        if self.in_row.total() >= max(REFUSED_AT_MOST, 2 * self.settings.concurrency):
            reason = self.in_row.most_common(1)[0][0]
            raise GenerationStopped(
                f"the last {self.in_row.total()} requests all failed ({reason}); the endpoint said: "
                f"{said}. Run again to go on with what is missing"
            )

    def _count_refusal(self, error: openai.APIStatusError) -> None:
        """A request that the endpoint cannot take fails every time: stop before all are sent.

        A few left over from earlier runs may all be of that kind, and are counted instead.
        """
        if not endpoint.lasting(error.status_code) or self.answered:
            return
        self.refused += 1
        if self.refused >= REFUSED_AT_MOST and (not self.store.ids or self.total > 10 * REFUSED_AT_MOST):
            raise GenerationStopped(
                f"the first {self.refused} requests were all refused with HTTP {error.status_code}: "
                f"{endpoint.said(error)}. Check the key, generate.models, base_url and response_format."
            )


class _Failed(Exception):
    """One request failed; the message is the reason that it is counted under."""

    def __init__(self, reason: str, said: str = "", billed: bool = False, unsent: bool = False):
        super().__init__(reason)
        self.said = said
        self.unsent = unsent  # certainly: the server was not reached
        self.billed = billed  # perhaps: the endpoint may have done the work


def _tokens(line: dict) -> float:
    """A rough count for the rate limit: the prompt's, and what the reply may use."""
    text, most = line["body"]["messages"][0]["content"], most_tokens(line["body"])
    return len(text) / CHARACTERS_PER_TOKEN + (most / 4 if most < float("inf") else 0.0)
