"""How fast requests are made, and how fast replies are asked for and stored.

The live server answers at once from a process of its own on this machine, so the client is what is
measured. The peer is the same SDK client asked by a bare loop that stores nothing.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import resource
import statistics
import tempfile
import time
from pathlib import Path

from synthembed import profile
from synthembed.generation import live, request_bodies, two_steps
from synthembed.generation.cost import Meter
from synthembed.generation.reply_store import ReplyStore
from synthembed.ground.files import read_lines

from benchmarks.measure import row

REQUESTS = 500_000
SIZES = (1_000, 100_000)
RUNS = 5
EXAMPLES = 100_000
GROWTH_MB = 40  # between the sizes: the ids of what is stored take 130 bytes a request


def run() -> list[dict]:
    return [*make_requests(), *ask_live(), *filter_examples()]


def make_requests() -> list[dict]:
    """Stream the paper's requests to disk, in a process of its own so that its memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, memory, lines = pool.apply(_stream)
    check = f"{lines:,} lines, peak memory {memory:.0f} MB"
    return [row("generate/requests", lines / seconds, None, "", "requests/s", check)]


def _stream() -> tuple[float, float, int]:
    plan = profile.load("paper", [f"generate.examples={REQUESTS}"])
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        first = list(request_bodies.brainstorms(plan))
        tasks = {(i.family, i.number): [f"Task {n} of {i.number}" for n in range(20)] for i, _ in first}
        two_steps._write(Path(folder), "w", first)
        two_steps._write(Path(folder), "a", request_bodies.examples(plan, tasks))
        seconds = time.monotonic() - start
        lines = sum(1 for _ in open(Path(folder) / "requests.jsonl", "rb"))
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, lines


def serve(port) -> None:
    """A minimal HTTP/1.1 server: one fixed chat completion for every request."""
    message = {"role": "assistant", "content": json.dumps({"S1": "a", "S2": "b", "S3": "c"})}
    body = json.dumps(
        {"id": "c", "object": "chat.completion", "created": 0, "model": "m",
         "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
         "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
    ).encode()  # fmt: skip
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"

    async def connection(reader, writer):
        while True:
            try:
                raw = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            length = next(
                int(x.split(b":")[1]) for x in raw.lower().split(b"\r\n") if x.startswith(b"content-length")
            )
            await reader.readexactly(length)
            writer.write(head.encode() + body)
        writer.close()

    async def main():
        server = await asyncio.start_server(connection, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def ask_live() -> list[dict]:
    ours_end, theirs_end = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=serve, args=(theirs_end,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours_end.recv()}/v1"
    plan = profile.load(
        "paper", ["generate.backend=live", f"generate.base_url={url}", "generate.families={sts: 1}", "generate.concurrency=32"]
    )  # fmt: skip
    rates: dict[int, list[float]] = {}
    peers, memory = [], {}
    for size in SIZES:
        for _ in range(RUNS if size == SIZES[0] else 1):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "requests.jsonl"
                small = plan.with_overrides({"generate.examples": size})
                two_steps._write(Path(folder), "w", request_bodies.examples(small, {}))
                rates.setdefault(size, []).append(_ours(path, small, size))
                if size == SIZES[0]:
                    peers.append(_bare(path, small, url))
        memory[size] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    server.terminate()
    small, large = memory.values()
    assert large - small < GROWTH_MB, f"memory grew from {small:.0f} to {large:.0f} MB"
    ours, peer = statistics.median(rates[SIZES[0]]), statistics.median(peers)
    check = f"every reply stored; {rates[SIZES[1]][0]:,.0f}/s over {SIZES[1]:,}; peak memory " + ", ".join(
        f"{m:.0f} MB at {n:,}" for n, m in memory.items()
    )
    return [row("generate/live", ours, peer, "bare AsyncOpenAI loop, nothing stored", "replies/s", check)]


def _ours(path: Path, plan, size: int) -> float:
    store = ReplyStore(path.parent / "replies.jsonl")
    start = time.monotonic()
    failures = live.ask(
        store.missing(path), size, plan.generate, store, Meter(None, plan.generate.models, False)
    )
    seconds = time.monotonic() - start
    store.close()
    assert not failures and len(store.ids) == size == sum(1 for _ in store.lines())
    return size / seconds


def _bare(path: Path, plan, url: str) -> float:
    import openai

    lines = list(read_lines(path))

    async def main():
        waiting = iter(lines)
        async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:

            async def worker():
                for line in waiting:
                    await client.chat.completions.create(**line["body"])

            await asyncio.gather(*(worker() for _ in range(plan.generate.concurrency)))

    start = time.monotonic()
    asyncio.run(main())
    return len(lines) / (time.monotonic() - start)


def filter_examples() -> list[dict]:
    """All filters of the laptop profile over many examples, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, memory, kept = pool.apply(_filter)
    check = f"{EXAMPLES:,} examples, {kept:,} kept, peak memory {memory:.0f} MB"
    return [row("generate/filters", EXAMPLES / seconds, None, "", "examples/s", check)]


def _filter() -> tuple[float, float, int]:
    """Recorded examples over and over, words in another order each time, so that none is a duplicate."""
    from dataclasses import replace

    from synthembed.corpus import evaluation_texts, example, example_files, filters

    plan = profile.load("laptop")
    with tempfile.TemporaryDirectory() as folder:
        two_steps.generate(plan, Path(folder))
        items = two_steps.read_items(Path(folder))
        found = list(example_files.from_replies(Path(folder) / "replies.jsonl", items, example.Drops()))

    def shuffled(text: str | None, rng: random.Random) -> str | None:
        words = text.split() if text else []
        rng.shuffle(words)
        return " ".join(words) or text

    def many():
        for number in range(EXAMPLES):
            e, rng = found[number % len(found)], random.Random(number)
            texts = {k: shuffled(getattr(e, k), rng) for k in ("query", "positive", "negative")}
            yield replace(e, id=f"{e.id}-{number}", **texts)

    start = time.monotonic()
    drops = example.Drops()
    kept = sum(
        1 for _ in filters.filtered(many(), plan.analyze, drops, items, evaluation_texts.suite_texts())
    )
    return time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, kept
