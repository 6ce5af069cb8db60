"""The embedded language model as a live endpoint: llama.cpp's OpenAI-compatible server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from synthembed.ground import embedded

MODEL = "embedded:smollm2-135m"


@contextlib.contextmanager
def server(context: int = 4096, parallel: int = 4) -> Iterator[str]:
    """Serve the embedded model on this machine; yields the base URL. Needs ``xllamacpp``."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(embedded.fetch(MODEL))
    params.n_ctx, params.n_parallel, params.warmup = context, parallel, False
    params.cpuparams.n_threads = os.cpu_count() or 1
    running = xllamacpp.Server(params)
    try:
        yield f"{running.listening_address}/v1"
    finally:
        del running


def answer(body: dict, max_tokens: int) -> str:
    """The embedded model's reply to one request, cut at ``max_tokens``."""
    import openai

    with server(parallel=1) as url, openai.OpenAI(base_url=url, api_key="none") as client:
        changed = body | {"model": MODEL, "max_completion_tokens": max_tokens}
        return client.chat.completions.create(**changed).choices[0].message.content or ""
