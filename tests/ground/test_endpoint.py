"""Keys, URLs and proxies as people really have them in their environment."""

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthembed.ground import endpoint

KEY = "sk-test-123456789"


@pytest.mark.parametrize("form", [
    "{}\n", " {} ", "\r\n{}\r\n", '"{}"', "'{}'", "\u201c{}\u201d", "\u2018{}\u2019", "\ufeff{}", "{}\u200b",
    "\u00a0{}", "Bearer {}", "OPENAI_API_KEY={}", 'export OPENAI_API_KEY="{}"\n',
])  # fmt: skip
def test_what_comes_along_with_a_key_is_taken_off(form, monkeypatch):
    monkeypatch.setenv(endpoint.KEY, form.format(KEY))
    assert endpoint.key() == KEY


@pytest.mark.parametrize("bad", ["sk-\u0430bc", "sk-one sk-two", "sk-a\u2013b", "sk-\u2026"])
def test_a_key_that_cannot_be_sent_is_named_and_not_shown(bad, monkeypatch):
    monkeypatch.setenv(endpoint.KEY, bad)
    with pytest.raises(
        endpoint.EndpointError, match="the key in OPENAI_API_KEY cannot be sent: sign"
    ) as said:
        endpoint.key()
    assert bad not in str(said.value)


@given(
    st.text(max_size=40).filter(
        lambda text: "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
    )
)
def test_a_key_is_either_sendable_or_refused(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(endpoint.KEY, text)
        try:
            key = endpoint.key()
        except endpoint.EndpointError:
            return
    assert all("!" <= sign <= "~" for sign in key)


@pytest.mark.parametrize(("written", "read"), [
    (None, None), ("", None), (" \n", None),
    ("https://api.openai.com/v1", "https://api.openai.com/v1"),
    ("https://api.openai.com/v1/\n", "https://api.openai.com/v1"),
    ("https://api.openai.com", "https://api.openai.com/v1"),
    ("\u201chttps://api.openai.com/\u201d", "https://api.openai.com/v1"),
    ("https://host/v1/chat/completions", "https://host/v1"),
    ("https://host/api/v3/", "https://host/api/v3"),
    ("localhost:8000", "http://localhost:8000/v1"),
    ("127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
    ("api.example.org/v1", "https://api.example.org/v1"),
    ("https://mine.openai.azure.com/", "https://mine.openai.azure.com/openai/v1"),
    ("https://mine.openai.azure.com/openai/deployments/x?api-version=1",
     "https://mine.openai.azure.com/openai/deployments/x?api-version=1"),
    ("https://mine.cognitiveservices.azure.com/", "https://mine.cognitiveservices.azure.com/openai/v1"),
    ("https://mine.services.ai.azure.com/models", "https://mine.services.ai.azure.com/openai/v1"),
    ("https://mine.services.ai.azure.com/models/chat/completions?api-version=1",
     "https://mine.services.ai.azure.com/models?api-version=1"),
])  # fmt: skip
def test_urls_are_read_as_they_are_meant(written, read):
    assert endpoint.base_url(written) == read
    assert endpoint.base_url(read) == read


@pytest.mark.parametrize(
    "written", ["ftp://host/v1", "https://", "http://a b/v1", "http://host:port/v1", "https://h\u00f6st/v1"]
)
def test_what_is_no_url_is_named(written):
    with pytest.raises(endpoint.EndpointError, match=r"OPENAI_BASE_URL = .* is no URL"):
        endpoint.base_url(written, endpoint.URL)


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:9", "socks://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense"]
)
@pytest.mark.parametrize("made_by", [openai.OpenAI, openai.AsyncOpenAI])
def test_this_machine_is_never_asked_through_a_proxy(proxy, made_by, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    client = endpoint.client(made_by, base_url="http://127.0.0.1:1/v1", api_key="none")
    assert not client._client._mounts


def test_a_proxy_that_cannot_be_used_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks://me:secret@proxy.example:1080")
    monkeypatch.delenv("all_proxy", raising=False)
    with pytest.raises(
        endpoint.EndpointError, match=r"the proxy in ALL_PROXY=socks://…@proxy.example"
    ) as said:
        endpoint.client(openai.OpenAI, base_url="https://api.example.org/v1", api_key="none")
    assert "secret" not in str(said.value)
