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

import openai
from aiolimiter import AsyncLimiter

from .cost import CHARACTERS_PER_TOKEN, Meter
from .profile import Generate
from .progress import Progress
from .replies import GenerationStopped, ReplyStore, reply_line

REFUSED_AT_MOST = 10


def client_options(settings: Generate) -> dict:
    """Options of the SDK's clients; the key comes from the environment only."""
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
            run.lines = iter(())
            raise


class _Run:
    def __init__(self, lines, total, settings, store, meter):
        self.lines, self.total, self.settings = lines, total, settings
        self.store, self.meter = store, meter
        self.failures: Counter = Counter()
        self.done = 0
        self.stopped = False
        self.refused = 0  # 4xx answers before the first success
        self.progress = Progress("generating", "replies")
        self.limits: list[tuple[AsyncLimiter, bool]] = []

    async def all(self) -> Counter:
        s = self.settings
        if s.requests_per_minute:
            rate = s.requests_per_minute / 60
            self.limits.append((AsyncLimiter(rate, 1) if rate >= 1 else AsyncLimiter(1, 1 / rate), False))
        if s.tokens_per_minute:
            self.limits.append((AsyncLimiter(s.tokens_per_minute, 60), True))
        async with openai.AsyncOpenAI(**client_options(s)) as client:
            # One iterator for all workers: at most ``concurrency`` requests are in flight, and no
            # more than that many lines are in memory.
            workers = [
                asyncio.create_task(self.worker(client)) for _ in range(min(s.concurrency, self.total))
            ]
            try:
                await asyncio.gather(*workers)
            except BaseException:
                # In-flight requests are paid for: let them end and be stored.
                self.lines, self.stopped = iter(()), True
                await asyncio.gather(*workers, return_exceptions=True)
                raise
        if self.meter.exhausted() and next(self.lines, None) is not None:
            raise GenerationStopped(
                f"generate.budget_usd = {self.meter.budget} is used up ({self.meter.spent:.2f} spent): "
                "raise it and run again to go on"
            )
        return self.failures

    async def worker(self, client) -> None:
        while not self.meter.exhausted():
            line = next(self.lines, None)
            if line is None:
                return
            for limit, by_tokens in self.limits:
                await limit.acquire(min(_tokens(line), limit.max_rate) if by_tokens else 1)
            if self.stopped or self.meter.exhausted():
                return
            try:
                reply = reply_line(line["custom_id"], await self.request(client, line["body"]))
            except _Failed as failure:
                self.failures[str(failure)] += 1
            else:
                self.store.append(reply)
                self.meter.add(reply)
            self.done += 1
            self.progress(self.done, self.total, self.meter.note())

    async def request(self, client, body: dict) -> dict:
        try:
            answer = await client.chat.completions.with_raw_response.create(**body)
            found = json.loads(answer.http_response.content)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise GenerationStopped(f"the endpoint refused the key: {_said(error)}") from None
        except openai.APITimeoutError:
            raise _Failed("timeout") from None
        except openai.APIConnectionError:
            raise _Failed("connection") from None
        except openai.APIStatusError as error:
            if error.code == "insufficient_quota":
                raise GenerationStopped("the quota is used up; run again later to go on") from None
            self._count_refusal(error)
            raise _Failed(f"HTTP {error.status_code}") from None
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise _Failed("body is not JSON") from None
        if not isinstance(found, dict) or not isinstance(found.get("choices"), list):
            raise _Failed("body is not a chat completion")
        return found

    def _count_refusal(self, error: openai.APIStatusError) -> None:
        """A request that the endpoint cannot take fails every time: stop before all are sent."""
        if 400 <= error.status_code < 500 and error.status_code not in (408, 409, 429) and not self.store.ids:
            self.refused += 1
            if self.refused >= REFUSED_AT_MOST:
                raise GenerationStopped(
                    f"the first {self.refused} requests were all refused with HTTP {error.status_code}: "
                    f"{_said(error)}. Check generate.models, base_url and response_format."
                )


class _Failed(Exception):
    """One request failed; the message is the reason that it is counted under."""


def _said(error: openai.APIStatusError) -> str:
    """The endpoint's message without any key that it may repeat."""
    key = os.environ.get("OPENAI_API_KEY")
    return error.message.replace(key, "***") if key else error.message


def _tokens(line: dict) -> float:
    """A rough count for the rate limit: the prompt's, and what the reply may use."""
    text = line["body"]["messages"][0]["content"]
    return len(text) / CHARACTERS_PER_TOKEN + line["body"]["max_completion_tokens"] / 4
