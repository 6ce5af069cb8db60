"""The embedded language model as a live endpoint: llama.cpp's OpenAI-compatible server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from synthembed.ground import endpoint
from synthembed.ground.cores import cores
from synthembed.ground.weights import embedded

MODEL = "embedded:smollm2-135m"


@contextlib.contextmanager
def server(context: int = 4096, parallel: int = 4, model: str = MODEL) -> Iterator[str]:
    """Serve an embedded model on this machine; yields the base URL. Needs ``xllamacpp``."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(embedded.fetch(model))
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = context, parallel, False, 0
    params.cpuparams.n_threads = cores()
    running = xllamacpp.Server(params)
    try:
        yield f"{running.listening_address}/v1"
    finally:
        del running


def answer(body: dict, max_tokens: int) -> str:
    """The embedded model's reply to one request, cut at ``max_tokens``; where it cannot be had, the reason in
    brackets: a demonstration must not fail a stage whose replies were paid for."""
    import openai

    changed = body | {"model": MODEL, "max_completion_tokens": max_tokens}
    try:
        with (
            server(parallel=1) as url,
            endpoint.client(openai.OpenAI, base_url=url, api_key="none") as client,
        ):
            return client.chat.completions.create(**changed).choices[0].message.content or ""
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"(the embedded model did not answer: {reason})"
