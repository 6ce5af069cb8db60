"""An OpenAI-compatible endpoint as people write it down: key, URL, and the proxies on the way to it."""

from __future__ import annotations

import ipaddress
import os
import re
import unicodedata
from typing import Any
from urllib.parse import urlsplit, urlunsplit

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
AROUND = " \t\r\n\f\v\"'`´\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u00a0\ufeff\u200b\u200c\u200d\u2060"
AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


# Keys under which people write a secret down, and how the keys of well-known services begin.
_NAMED = r"(?:api|access|private|secret)[-_]?key|password|passwd|secret|authorization|credentials?|bearer"
_TOKEN = r"(?:(?:api|access|auth|bearer|hf|hub)[-_]?)?token"
_SECRET = re.compile(rf"(?:\w*[-_])?(?:{_NAMED})|{_TOKEN}", re.IGNORECASE)
_KEY = r"(?:sk-|hf_|gsk_|AIza|xai-|r8_|gh[opsu]_|github_pat_|nvapi-|pplx-)[\w-]"
_LONG = r"(?=[\w-]*[A-Za-z\d]{16})"  # no name of a run or a model has so long a piece of letters and digits
_PASTED = re.compile(rf"\s*(?:Bearer\s+\S{{16,}}|{_LONG}{_KEY}{{12,}})\s*")
# A password before the host, or a key in the query; every record of a run would show it.
_IN_URL = re.compile(
    r"\s*https?://(?:[^/\s]*:[^/\s]+@|\S*[?&][\w-]*(?:key|token|secret|password|sig)=[^&\s])", re.IGNORECASE
)
_VARIABLE = re.compile(r"_*[A-Z][A-Z\d_]*")


def is_variable(name: Any) -> bool:
    """Whether a text is an environment variable's name, and no key of letters and digits: upper case, in words, of
    which a long one has few digits."""
    if not isinstance(name, str) or len(name) > 64 or not _VARIABLE.fullmatch(name):
        return False
    digits = {word: sum(map(str.isdigit, word)) for word in name.split("_")}
    return all(
        len(w) <= 6 or (len(w) <= 12 and n <= 3) or (len(w) <= 20 and not n) for w, n in digits.items()
    )


def secret_in(value: Any, key: str = "") -> str:
    """The dotted key of what is a secret by its key, or a key by its looks, in nested settings; "" if none is."""
    if isinstance(value, dict):
        inside = ((below, f"{key}.{name}" if key else str(name)) for name, below in value.items())
    elif isinstance(value, list | tuple):
        inside = ((below, f"{key}.{place}") for place, below in enumerate(value))
    else:
        inside = ()
    by_key = _SECRET.fullmatch(key.rpartition(".")[2]) and value not in (None, {}, [], "")
    if (by_key and not isinstance(value, bool | dict)) or (
        isinstance(value, str) and (_PASTED.fullmatch(value) or _IN_URL.match(value))
    ):
        return key
    return next(filter(None, (secret_in(below, name) for below, name in inside)), "")


def hidden(text: str) -> str:
    """A text that quotes what somebody wrote, without what follows a secret's key and what looks like a key."""
    told = rf"(?i)((?<![^\W_])(?:{_NAMED}|{_TOKEN}|key)['\"]?\s*[=:]).*"  # "key": here, where a wrong guess costs nothing
    text = re.sub(told, r"\1 ***", text, flags=re.DOTALL)
    return re.sub(rf"\b{_LONG}{_KEY}{{12,}}", "***", text)


FROM_THE_ENVIRONMENT = (
    f"keys are read from the environment alone: an endpoint's from the variable that generate.key_variable names "
    f"({KEY}), the Hugging Face Hub's from HF_TOKEN, a URL that holds one from {URL}. Leave it out here, and export it "
    "there"
)


class EndpointError(ValueError):
    """A key, URL or proxy that cannot be used; the message names it, and never a key's signs."""


def key(variable: str = KEY) -> str:
    """The key in an environment variable without what comes along when it is pasted: blanks, line ends, quotes, the
    variable's name, "Bearer"; "" if there is none. Raises EndpointError if it cannot be sent even so."""
    found = os.environ.get(variable, "").strip(AROUND)
    found = re.sub(
        rf"^(export\s+)?{re.escape(variable)}\s*=\s*|^Bearer\s+", "", found, flags=re.IGNORECASE
    ).strip(AROUND + ",;")
    for place, sign in enumerate(found, 1):
        if not "!" <= sign <= "~":
            name = unicodedata.name(sign, f"U+{ord(sign):04X}")
            raise EndpointError(
                f"the key in {variable} cannot be sent: sign {place} of {len(found)} is {name}, and keys have "
                "letters, digits, - and _ alone. Copy it again, as plain text"
            )
    return found


def base_url(written: str | None, where: str = "generate.base_url") -> str | None:
    """A base URL as clients want it: without blanks, quotes, a last slash or the path of one request, with a
    scheme, and with the path /v1 where none is given; a query stays. None if nothing is written.

    Raises EndpointError naming ``where`` it stands for what is no URL.
    """
    found = re.sub(
        r"^(https?):/*(?=[^/])", r"\1://", (written or "").strip(AROUND + ",;"), flags=re.IGNORECASE
    )
    if not found:
        return None
    if "://" not in found:
        found = ("http://" if _is_local(found.split("/")[0].rsplit(":", 1)[0]) else "https://") + found
    try:
        parts = urlsplit(found)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not re.fullmatch(r"[!-~]+", found):
        raise EndpointError(f"{where} = {written!r} is no URL: write it like https://host/v1")
    lists = "" if parts.query else "|models"  # Azure has a place of that name, and asks it with a query
    path = re.sub(rf"/(chat/completions|completions|batches{lists})$", "", parts.path.rstrip("/")).rstrip("/")
    if not path and not parts.query:
        path = "/openai/v1" if host.endswith(AZURE) else "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _is_local(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def is_local(url: str | None) -> bool:
    """Whether an address is this machine's own, which no proxy can reach."""
    return bool(url) and _is_local(urlsplit(url).hostname or "")


def proxies() -> list[str]:
    """Variables that send requests through a proxy, as NAME=address without a password in it."""
    found = {n: os.environ.get(n) or os.environ.get(n.lower()) for n in PROXIES}
    masked = {n: re.sub(r"^(\w+://)?.*@", r"\1…@", value) for n, value in found.items() if value}
    return [f"{n}={value}" for n, value in masked.items()]


def client(made_by: type, over: type | None = None, **options):
    """An ``openai.OpenAI`` or ``openai.AsyncOpenAI`` whose requests to this machine take no proxy; ``over`` is
    the class of its HTTP client, the SDK's own if None.

    Raises EndpointError if proxies are set that cannot be used.
    """
    import openai

    plain = {openai.OpenAI: openai.DefaultHttpxClient, openai.AsyncOpenAI: openai.DefaultAsyncHttpxClient}
    over, direct = over or plain[made_by], is_local(options.get("base_url"))
    try:
        return made_by(**options, http_client=over(trust_env=not direct))
    except Exception as error:
        if not (found := proxies()):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EndpointError(
            f"the proxy in {', '.join(found)} cannot be used by synthembed ({reason}): unset it, name the endpoint in "
            "NO_PROXY, write socks5:// in place of socks://, or for SOCKS install socksio"
        ) from None
