"""What to try where an endpoint refuses or its replies cannot be used: from what it says to an option of the command.

Each server says it in its own words: what Ollama, vLLM, llama.cpp's llama-server and LM Studio answer is in
tests/adapt/test_local_servers.py.
"""

from __future__ import annotations

import json
import re

import openai

from synthembed.generation.paid import endpoint
from synthembed.profile.settings import Profile

NO_THOUGHTS = (
    "a model that thinks first wants --set generate.max_tokens=4096, or no thoughts: --set generate.reasoning_effort=none "
    "(Ollama), --set 'generate.extra_body={chat_template_kwargs: {enable_thinking: false}}' (vLLM, llama-server)"
)
# What is said, in small letters, and what to try; the first that fits.
_SAID = (
    (r"context (size|length|window)|context_length|exceed_context|maximum context|max_tokens must be at least",
     "the server's context is too short for a passage and its reply: start it with a longer one (llama-server -c, which its "
     "slots divide; vllm serve --max-model-len; OLLAMA_CONTEXT_LENGTH; LM Studio: context length of the model), or ask for "
     "less: --words 60, --set generate.max_tokens=512"),
    (r"response_format|json_schema|grammar|guided|structured output",
     "the server takes no such format: --set generate.response_format=text, where the prompt alone asks for JSON, or json_object"),
    (r"reasoning_effort|think value|thinking", "the model has no such switch: --set generate.reasoning_effort=null"),
    (r"loading model|model is loading|unavailable_error", "the server is still loading its model: run again when it has"),
    (r"not found|does not exist|no models? loaded|model_not_found|failed to load model",
     "{models}"),
    (r"body is not json", "what answers there is no such endpoint: give its base URL to --endpoint, often with /v1"),
    (r"cut off at max_tokens|thoughts without an answer|empty reply", NO_THOUGHTS),
    (r"not json|not the schema|more than one answer",
     "another --llm, one that follows instructions (an instruct model), with --set generate.response_format=json_schema where the "
     "server takes one"),
    (r"another language than its passage|refusal|query (written for|copied from|has no words)",
     "another --llm, one that writes the language of the documents: a small model often answers in English, refuses, or "
     "repeats itself"),
    (r"timeout|timed out", "a slow server: --set generate.concurrency=1 --set generate.timeout_s=900"),
)  # fmt: skip

# Our own words behind an endpoint's, which name a format too: that is meant where a request was refused without a word.
_OURS = re.compile(r"(?<!HTTP 400: Error code: 400)\. Check the key, generate\.models")


def on(said: str, profile: Profile) -> str:
    """What to try after ``said``, the words of an endpoint or the reasons that replies were dropped for; "" if nothing
    of it is known."""
    said = _OURS.split(said)[0].lower()
    for pattern, remedy in _SAID:
        if re.search(pattern, said):
            return f"What to try: {remedy.format(models=_there(profile)) if remedy == '{models}' else remedy}"
    return ""


def models_of(profile: Profile) -> list[str]:
    """The models of the endpoint that can be asked, which embedding models and rerankers cannot: a server on a desk
    lists those that it has as well. Raises the SDK's error if it does not say."""
    settings = profile.generate.model_copy(update={"max_retries": 0, "timeout_s": 30.0})
    with endpoint.client(settings) as client:
        told = client.models.with_raw_response.list().http_response.content
    names = _names(told)
    return [name for name in names if not re.search(r"embed|rerank", name.lower())] or names


def _names(told: bytes) -> list[str]:
    """The models in what an endpoint lists: under "data", under "models", or a list without a key."""
    try:
        found = json.loads(told)
    except ValueError:
        raise openai.OpenAIError(f"its list is not JSON: {told[:60]!r}") from None
    if isinstance(found, dict):
        if found.get("error"):
            raise openai.OpenAIError(str(found["error"]))
        found = found.get("data") or found.get("models")
    rows = found if isinstance(found, list) else []
    names = [row.get("id") or row.get("name") if isinstance(row, dict) else row for row in rows]
    return [name for name in names if isinstance(name, str)]


def _there(profile: Profile) -> str:
    try:
        names = models_of(profile)
    except openai.OpenAIError:
        names = []
    if not names:
        return "load a model in the server, and name it: --llm NAME"
    return f"--llm with the name of a model that it has: {', '.join(names[:20])}"
