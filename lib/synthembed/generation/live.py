"""The live backend: any OpenAI-compatible endpoint, many requests at a time (Sec. 4.1).

The SDK alone retries. Requests and tokens per minute are bounded if the profile says so. A wrong
key, an empty quota or the budget stops the run; every other failure is counted under its name.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

import openai
from aiolimiter import AsyncLimiter

from synthembed.generation.cost import CHARACTERS_PER_TOKEN, Meter
from synthembed.generation.reply_store import GenerationStopped, ReplyStore, reply_line
from synthembed.ground import endpoint
from synthembed.ground.console import Progress
from synthembed.profile.settings import Generate

REFUSED_AT_MOST = 10


def client_options(settings: Generate) -> dict:
    """Options of the SDK's clients; the key comes from the environment only.

    A base URL with a query, as Azure's deployments have it (``.../deployments/NAME?api-version=...``),
    sends the query with every request, and the key in the header ``api-key`` as well.
    """
    base = endpoint.base_url(settings.base_url) or endpoint.base_url(
        os.environ.get(endpoint.URL), endpoint.URL
    )
    key = endpoint.key()
    if not key and base is None:
        raise GenerationStopped(
            "OPENAI_API_KEY is not set: export it, or point generate.base_url at a server"
        )
    key = key or "none"  # local servers want some key
    url, _, query = (base or "").partition("?")
    azure = {"default_query": dict(parse_qsl(query)), "default_headers": {"api-key": key}} if query else {}
    return {
        "api_key": key,
        "base_url": url or None,
        "timeout": settings.timeout_s,
        "max_retries": settings.max_retries,
        **azure,
    }


def ask(lines: Iterator[dict], total: int, settings: Generate, store: ReplyStore, meter: Meter) -> Counter:
    """Ask for ``lines`` and store the replies; returns failures by reason.

    Works from a notebook kernel, whose thread already runs an event loop.
    """
    run = _Run(lines, total, settings, store, meter)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(asyncio.run, run.all())
        try:
            return future.result()
        except BaseException:  # an interrupt: ask for nothing more, but store what is paid for
            run.stop()
            raise


class _Run:
    def __init__(self, lines, total, settings, store, meter):
        self.lines, self.total, self.settings = lines, total, settings
        self.store, self.meter = store, meter
        self.failures: Counter = Counter()
        self.done = self.answered = self.refused = 0
        self.stopped = self.budget_ends = False
        self.progress = Progress("generating", "replies")
        self.freed = asyncio.Event()  # money that a request in flight had reserved
        self.owed = 0.0  # tokens that replies took beyond what was expected
        rate, tokens = settings.requests_per_minute, settings.tokens_per_minute
        self.requests = AsyncLimiter(max(rate / 60, 1), max(1, 60 / rate)) if rate else None
        self.tokens = AsyncLimiter(tokens / 10, 6) if tokens else None  # never a burst of a whole minute

    def stop(self) -> None:
        """Send nothing more; what is in flight ends and is stored."""
        self.lines, self.stopped = iter(()), True

    async def all(self) -> Counter:
        async with endpoint.client(openai.AsyncOpenAI, **client_options(self.settings)) as client:
            # One iterator for all workers: at most ``concurrency`` requests are in flight, and no
            # more than that many lines are in memory.
            count = min(self.settings.concurrency, self.total)
            workers = [asyncio.create_task(self.worker(client)) for _ in range(count)]
            try:
                await asyncio.gather(*workers)
            except BaseException:
                self.stop()
                await asyncio.gather(*workers, return_exceptions=True)
                raise
        if self.budget_ends:
            raise GenerationStopped(self.meter.used_up())
        return self.failures

    async def worker(self, client) -> None:
        while not self.stopped and (line := next(self.lines, None)) is not None:
            if not await self.affordable(line):
                self.budget_ends = True
                return self.stop()
            try:
                await self.within_limits(line)
                if not self.stopped:
                    await self.answer(client, line)
            finally:
                self.meter.release(line)
                self.freed.set()

    async def affordable(self, line: dict) -> bool:
        """Reserve the money for a request, if need be after requests in flight have set some free."""
        while not self.meter.reserve(line):
            if self.stopped or self.meter.reserved < 1e-9:  # nothing is in flight
                return False
            self.freed.clear()
            await self.freed.wait()
        return True

    async def within_limits(self, line: dict) -> None:
        """Wait until requests and tokens per minute allow one more request."""
        if self.requests:
            await self.requests.acquire()
        if self.tokens:
            need, self.owed = _tokens(line) + self.owed, 0.0
            while need > 0 and not self.stopped:  # in parts, as the limiter takes no more at a time
                part = min(need, self.tokens.max_rate)
                await self.tokens.acquire(part)
                need -= part

    async def answer(self, client, line: dict) -> None:
        try:
            reply = reply_line(line["custom_id"], await self.request(client, line["body"]))
        except _Failed as failure:
            self.failures[str(failure)] += 1
            if failure.billed:  # perhaps, and perhaps at every attempt
                self.meter.unconfirmed += self.meter.worst(line) * (1 + self.settings.max_retries)
        else:
            self.store.append(reply)
            self.answered += 1
            self.owed += max(0.0, _used(reply) - _tokens(line))
            self.meter.charge(reply)
        self.done += 1
        self.progress(self.done, self.total, self.meter.note())

    async def request(self, client, body: dict) -> dict:
        try:
            answer = await client.chat.completions.with_raw_response.create(**body)
            found = json.loads(answer.http_response.content)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise GenerationStopped(f"the endpoint refused the key: {endpoint_said(error)}") from None
        except openai.APITimeoutError as error:
            raise _Failed("timeout", billed=not _unsent(error)) from None
        except openai.APIConnectionError as error:
            raise _Failed("connection", billed=not _unsent(error)) from None
        except openai.APIStatusError as error:
            if error.code == "insufficient_quota":
                raise GenerationStopped("the quota is used up; run again later to go on") from None
            self._count_refusal(error)
            raise _Failed(f"HTTP {error.status_code}") from None
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise _Failed("body is not JSON", billed=True) from None
        if not isinstance(found, dict) or not isinstance(found.get("choices"), list):
            raise _Failed("body is not a chat completion", billed=True)
        return found

    def _count_refusal(self, error: openai.APIStatusError) -> None:
        """A request that the endpoint cannot take fails every time: stop before all are sent.

        A few left over from earlier runs may all be of that kind, and are counted instead.
        """
        if not 400 <= error.status_code < 500 or error.status_code in (408, 409, 429) or self.answered:
            return
        self.refused += 1
        if self.refused >= REFUSED_AT_MOST and (not self.store.ids or self.total > 10 * REFUSED_AT_MOST):
            raise GenerationStopped(
                f"the first {self.refused} requests were all refused with HTTP {error.status_code}: "
                f"{endpoint_said(error)}. Check generate.models, base_url and response_format."
            )


class _Failed(Exception):
    """One request failed; the message is the reason that it is counted under."""

    def __init__(self, reason: str, billed: bool = False):
        super().__init__(reason)
        self.billed = billed  # perhaps: the endpoint may have done the work


def _unsent(error: openai.APIConnectionError) -> bool:
    """Whether no connection came about, so that nothing can have been billed. By name, as the SDK's
    versions bring different HTTP clients."""
    return type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout")


def endpoint_said(error: openai.APIStatusError) -> str:
    """The endpoint's message without any key that it may repeat."""
    key = endpoint.key()
    return error.message.replace(key, "***") if key else error.message


def _tokens(line: dict) -> float:
    """A rough count for the rate limit: the prompt's, and what the reply may use."""
    text = line["body"]["messages"][0]["content"]
    return len(text) / CHARACTERS_PER_TOKEN + line["body"]["max_completion_tokens"] / 4


def _used(reply: dict) -> float:
    return (reply["response"]["body"].get("usage") or {}).get("total_tokens") or 0
