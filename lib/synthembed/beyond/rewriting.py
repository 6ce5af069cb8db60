"""The requests of a corpus, answered anew by an embedded base: what generator quality is worth (notebook 08).

The very requests that the strong LLM answered, tasks and languages included, go to llama.cpp's server on this
machine, under the same schemas and through the same filters; so what differs between the two corpora is who wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path

import openai

from synthembed.corpus import evaluation_texts, example_files, filters
from synthembed.corpus.example import Drops
from synthembed.generation import local_server, two_steps
from synthembed.generation.reply_store import ReplyStore, reply_line
from synthembed.ground import endpoint
from synthembed.ground.console import Progress
from synthembed.ground.files import read_lines, shown, write_json
from synthembed.profile.settings import Analyze

AT_ONCE = 4  # requests that the server answers side by side
LONGEST = 256  # tokens of a reply: the laptop corpus' mean is 150, and what a small base runs on to goes round in circles


def rewrite(model: str, source: Path, run: Path, count: int, settings: Analyze) -> dict:
    """Ask ``model`` (an embedded base) for the first ``count`` examples of ``source``, a finished 01_generate, and
    write ``run``/01_generate/replies.jsonl and ``run``/02_analyze/examples.jsonl; returns counts of what was
    dropped. Goes on where it was interrupted. Raises FileNotFoundError if ``source`` has no requests."""
    if not (source / "requests.jsonl").exists():
        raise FileNotFoundError(
            f"{shown(source / 'requests.jsonl')} is not there: make it with synthembed run --only 01_generate, with the "
            "same profile"
        )
    items = two_steps.read_items(source)
    wanted = [line for line in islice(_examples(source, items), count)]
    drops, store = Drops(), ReplyStore(run / "01_generate" / "replies.jsonl")
    try:
        if missing := [line for line in wanted if line["custom_id"] not in store]:
            _ask(model, missing, store, drops)
    finally:
        store.close()
    asked = {line["custom_id"]: items[line["custom_id"]] for line in wanted}
    place = {line["custom_id"]: number for number, line in enumerate(wanted)}
    parsed = sorted(
        example_files.from_replies(store.path, asked, drops), key=lambda e: place[e.id]
    )  # not as they came
    kept = filters.filtered(parsed, settings, drops, asked, evaluation_texts.suite_texts())
    (run / "02_analyze").mkdir(parents=True, exist_ok=True)
    example_files.write(run / "02_analyze" / "examples.jsonl", kept)
    found = {"by": model, "asked": len(wanted), **drops.as_dict()}
    write_json(run / "02_analyze" / "drops.json", found)
    return found


def _examples(source: Path, items: dict) -> Iterator[dict]:
    for line in read_lines(source / "requests.jsonl"):
        if line["custom_id"] in items and items[line["custom_id"]].step == "example":
            yield line


def _ask(model: str, lines: list[dict], store: ReplyStore, drops: Drops) -> None:
    """Store the server's replies; a request that it refuses is counted and may be asked again."""
    progress = Progress("rewriting", "replies")
    with (
        local_server.server(parallel=AT_ONCE, model=model) as url,
        endpoint.client(openai.OpenAI, base_url=url, api_key="none") as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):

        def reply(line: dict) -> dict:
            body = line["body"] | {"model": model, "max_completion_tokens": LONGEST}
            return client.chat.completions.create(**body).model_dump(mode="json")

        asked = {pool.submit(reply, line): line["custom_id"] for line in lines}
        try:
            for number, future in enumerate(as_completed(asked), 1):
                try:
                    store.append(reply_line(asked[future], future.result()))
                except openai.APIError as error:
                    drops.add(f"no reply: {type(error).__name__}", str(error))
                progress(number, len(lines))
        except (
            BaseException
        ):  # an interrupt: what is stored stays, and the pool must not first ask for the rest
            pool.shutdown(wait=False, cancel_futures=True)
            raise
