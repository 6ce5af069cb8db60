"""How an endpoint is reached: URL, key, what is repeated and what is not, and what it says when it refuses."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from urllib.parse import parse_qsl

import openai

from synthembed.generation.reply_store import GenerationStopped
from synthembed.ground import endpoint
from synthembed.profile.generate_settings import Generate

DEFAULT = "https://api.openai.com/v1"  # the SDK's own, which it leaves for an OPENAI_BASE_URL that is empty
CONNECT_S = 30.0
SLOWEST = 6  # times generate.timeout_s, which is the longest silence: a gateway may drip blanks for ever
# Of the HTTP client's errors those after which nothing can have been billed, since nothing was sent. By
# name, as the SDK's versions bring different HTTP clients.
UNSENT = (
    "ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "LocalProtocolError",
)  # fmt: skip
TIME_OUTS = (408, 504, 524)  # a gateway that waited no longer: the reply may have been made, and billed
QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance")
NEVER = ("model_not_found", "unsupported_parameter", "unsupported_value", "DeploymentNotFound")


_sent: set[str] = set()  # the keys of this process, which no message may show


def key_of(settings: Generate) -> str:
    """The key, from the environment only; raises EndpointError if it cannot be sent."""
    key = endpoint.key(settings.key_variable)
    _sent.add(key)
    return key


def url_of(settings: Generate) -> str | None:
    """The base URL, or None for the SDK's own."""
    return endpoint.base_url(settings.base_url) or endpoint.base_url(
        os.environ.get(endpoint.URL), endpoint.URL
    )


def on_this_machine(settings: Generate) -> bool:
    """Whether all its servers are of this machine, which no one is paid for."""
    return all(endpoint.is_local(url_of(one)) for one in settings.servers())


def missing(settings: Generate) -> Iterator[str]:
    """What has to be filled in before these settings can be asked with, one sentence each."""
    if settings.backend == "recorded":
        return
    for model in (m for m, share in settings.models.items() if share):
        own = settings.of(model)
        if not key_of(own) and url_of(own) is None:
            yield f"{model}: {own.key_variable} is not set: export it, or point generate.base_url at a server"
        if url_of(own) is None and model.startswith("gpt-35"):
            yield (
                f"{model} is the name of an Azure deployment, OpenAI's own has a dot (gpt-3.5-turbo): give its "
                f"endpoint with generate.for_model={{{model}: {{base_url: ..., key_variable: ...}}}}, or rename it"
            )


def client_options(settings: Generate) -> dict:
    """Options of the SDK's clients for one model's settings.

    A base URL with a query, as Azure's deployments have it (``.../deployments/NAME?api-version=...``),
    sends the query with every request, and the key in the header ``api-key`` as well.
    """
    base, key = url_of(settings), key_of(settings)
    if not key and base is None:
        raise GenerationStopped(
            f"{settings.key_variable} is not set: export it, or point generate.base_url at a server"
        )
    key = key or "none"  # local servers want some key
    url, _, query = (base or "").partition("?")
    azure = {"default_query": dict(parse_qsl(query)), "default_headers": {"api-key": key}} if query else {}
    return {
        "api_key": key,
        "base_url": url or DEFAULT,
        "timeout": openai.Timeout(settings.timeout_s, connect=min(CONNECT_S, settings.timeout_s)),
        "max_retries": settings.max_retries,
        **azure,
    }


class Clients:
    """One client for each endpoint of a mix, made when a model of it is first asked."""

    def __init__(self, settings: Generate, make):
        self.settings, self.make = settings, make
        self.found: dict[tuple, object] = {}

    def of(self, model: str):
        """The one that the model is asked at; of several servers the first."""
        return self.all_of(model)[0]

    def all_of(self, model: str) -> list:
        """One for each server of the model."""
        return [self._at(own) for own in self.settings.of(model).servers()]

    def _at(self, own: Generate):
        place = (own.base_url, own.key_variable)
        if place not in self.found:
            self.found[place] = self.make(own)
        return self.found[place]


def async_client(settings: Generate) -> openai.AsyncOpenAI:
    """For single requests: repeats what was not sent or was refused for the moment, never what was sent
    and not answered. A proxy of the environment is passed by on the way to this machine."""
    return endpoint.client(openai.AsyncOpenAI, _SentOnce, **client_options(settings))


def client(settings: Generate) -> openai.OpenAI:
    """For batches: what it repeats (files, looks at a batch) costs nothing."""
    return endpoint.client(openai.OpenAI, **client_options(settings))


class _SentOnce(openai.DefaultAsyncHttpxClient):
    """An HTTP client whose failures after sending are the SDK's own errors, which the SDK does not retry.

    The SDK repeats a request after any time-out or broken connection (``max_retries``), though the
    endpoint may have made the reply, and billed it, each time.
    """

    async def send(self, request, **options):
        silence = (request.extensions.get("timeout") or {}).get("read")
        try:
            async with asyncio.timeout(silence and SLOWEST * silence):
                response = await super().send(request, **options)
        except openai.OpenAIError:
            raise
        except TimeoutError as error:
            raise openai.APITimeoutError(request=request) from error
        except Exception as error:
            kinds = {kind.__name__ for kind in type(error).__mro__}
            if kinds & set(UNSENT) or not kinds & {"RequestError", "SSLError", "EndOfStream"}:
                raise
            if "TimeoutException" in kinds:
                raise openai.APITimeoutError(request=request) from error
            raise openai.APIConnectionError(request=request) from error
        if response.status_code in TIME_OUTS:
            response.headers["x-should-retry"] = "false"
        return response


def unsent(error: openai.APIConnectionError) -> bool:
    """Whether no request was sent, so that nothing can have been billed."""
    return type(error.__cause__).__name__ in UNSENT


def broken(error: openai.APIConnectionError) -> str:
    """What a connection failed of, which the SDK keeps beside its message, and what to do about a certificate."""
    told, cause = str(error), str(error.__cause__ or "")
    told = told if cause in told else f"{told} ({cause})"
    if "CERTIFICATE_VERIFY_FAILED" in told:
        told += ": name the certificates of your network in SSL_CERT_FILE (PEM), as REQUESTS_CA_BUNDLE is not read"
    return masked(told)


def lasting(status: int | None) -> bool:
    """Whether a request refused so would be refused again."""
    return 400 <= (status or 0) < 500 and status not in (408, 409, 425, 429)


def of_the_account(status: int | None) -> bool:
    """Whether a refusal is of the key, the balance or the deployment, and says nothing of the request."""
    return status in (401, 402, 403, 404)


def masked(text: str) -> str:
    """A message without any key that it may repeat, and not longer than one wants to read."""
    named = (v for n, v in os.environ.items() if n.upper().endswith(("KEY", "TOKEN")))
    keys = {*named, *_sent}
    for key in sorted(keys | {key.strip(endpoint.AROUND) for key in keys}, key=len, reverse=True):
        if len(key) >= 8:
            text = text.replace(key, "***")
    return text[:1000]


def said(error: openai.APIError) -> str:
    """The SDK's message; where the body is no object with a message, the SDK leaves it out, and it is added."""
    told, body = error.message, _around(error) or error.body
    if body and not (isinstance(error.body, dict) and error.body.get("message")):
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        text = " ".join(text.split())
        told = told if text in told else f"{told} - {text}"
    return masked(told)


def _around(error: openai.APIError) -> dict:
    """What stands beside an error that is a plain string, which the SDK drops: {"error": "x", "code": ...}."""
    try:
        whole = error.response.json() if isinstance(error.body, str) else {}
    except Exception:  # no response, or one that is no JSON
        return {}
    return whole if isinstance(whole, dict) and len(whole) > 1 else {}


def of_quota(error: openai.APIError) -> bool:
    """Whether an empty quota is named, as code, as type or as all that is said."""
    around = _around(error)
    named = (error.code, error.type, error.body, around.get("code"), around.get("type"))
    return any(one in QUOTA for one in named)


def stop_for(error: openai.APIStatusError, model: str) -> GenerationStopped | None:
    """What ends the run at once, as every other request would have the same answer; None otherwise. HTTP 403 is
    not among it: gateways answer so to a single prompt that they do not like."""
    status, code = error.status_code, error.code or error.type or error.body
    if of_quota(error) or status == 402:
        return GenerationStopped(f"the quota is used up; run again later to go on ({said(error)})")
    if status == 401:
        return GenerationStopped(f"the endpoint refused the key: {said(error)}")
    if status == 404 or code in NEVER:
        return GenerationStopped(
            f"the endpoint cannot take requests for {model} (HTTP {status}: {said(error)}). Check the name in "
            "generate.models, base_url and what is sent; generate.for_model sets them for one model"
        )
    return None
