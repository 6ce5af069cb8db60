"""Profiles, overrides, keys and URLs as other programs and hands write them."""

import pytest
from synthembed import profile
from synthembed.ground import endpoint
from synthembed.profile import ProfileError


@pytest.mark.parametrize(("encoding", "line"), [("latin-1", 2), ("utf-16", 1)])
def test_a_profile_that_is_not_utf8_is_named_with_its_line(tmp_path, encoding, line):
    mine = tmp_path / "mine.yaml"
    mine.write_bytes("extends: smoke\ndescription: für alle\n".encode(encoding))
    with pytest.raises(ProfileError, match=rf"mine\.yaml:{line}: not UTF-8 .*save it as UTF-8"):
        profile.load(mine)


def test_an_alias_within_its_own_anchor_is_an_error(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: smoke\ngenerate: &g\n  extra_body: {a: *g}\n")
    with pytest.raises(ProfileError, match=r"mine\.yaml: .*generate\.extra_body\.a: nested without end"):
        profile.load(mine)
    with pytest.raises(ProfileError, match=r"override 'generate\.extra_body=.*a\.0: nested without end"):
        profile.load("smoke", ["generate.extra_body={a: &g [*g]}"])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("9" * 5_000, "a number of 5,000 digits"),
        ("-" + "9_" * 400 + "9", "a number of 401 digits"),
        ("[" * 2_000, "nested deeper than 50 levels"),
        ("[" * 2_000 + "]" * 2_000, "nested deeper than 50 levels"),
        ("{a: " * 2_000 + "1" + "}" * 2_000, "nested deeper than 50 levels"),
    ],
)
def test_what_python_cannot_hold_is_refused_under_its_key(tmp_path, value, said):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: smoke\ngenerate:\n  extra_body: {value}\n")
    with pytest.raises(ProfileError, match=rf"mine\.yaml: .*generate\.extra_body.*: {said}") as found:
        profile.load(mine)
    assert "line 3" in str(found.value) and len(str(found.value)) < 1_000
    with pytest.raises(ProfileError, match=f"override 'generate.extra_body=.*{said}") as found:
        profile.load("smoke", [f"generate.extra_body={value}"])
    assert len(str(found.value)) < 1_000


def test_a_long_value_is_shown_by_its_beginning(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: smoke\nseed: {'x' * 5_000}\n")
    for source, given in ((mine, []), ("smoke", [f"seed={'x' * 5_000}"])):
        with pytest.raises(ProfileError, match=r"seed = 'xxx.*\.\.\.: input should be") as found:
            profile.load(source, given)
        assert len(str(found.value)) < 1_000


def test_what_stands_beside_its_anchor_may_name_it(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: smoke\ngenerate:\n  extra_body: {a: &g [1], b: *g, c: &h {d: *g}, e: *h}\n")
    assert profile.load(mine).generate.extra_body == {"a": [1], "b": [1], "c": {"d": [1]}, "e": {"d": [1]}}


@pytest.mark.parametrize(
    "given",
    ['["train.max_steps=7", "seed=2"]', "{train.max_steps: 7, seed: 2}", ["train.max_steps=7", {"seed": 2}]],
)
def test_a_list_or_mapping_as_text_arrives_as_meant(given):
    loaded = profile.load("smoke", given)
    assert (loaded.train.max_steps, loaded.seed) == (7, 2)


def test_an_error_in_an_override_is_placed_there_with_a_hint_to_quote():
    with pytest.raises(ProfileError, match=r"^override .*languages.0 = False: .*quote it") as found:
        profile.load("smoke", {"generate.languages": [False, "en"]})
    assert "smoke.yaml" not in str(found.value)


@pytest.mark.parametrize(
    "key",
    [
        "sk-abc-123",
        "'987654321'",
        "987654321",
        "a b",
        "''",
        "[sk-abc-123]",
        "abcdef0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "SK_4EC39HQLYJWDARJTT1ZDP7DC",
        "my_key",
        "SK1234ABCDEF",
        "AB_" * 20 + "!",
    ],
)
def test_a_key_in_the_place_of_its_variable_is_not_shown(tmp_path, key):
    mine = tmp_path / "mine.yaml"
    mix = "generate.models={a: 1, b: 1}"
    mine.write_text(f"extends: smoke\ngenerate: {{key_variable: {key}}}\n")
    row = f"ablations.rows=[{{id: a, set: {{generate.key_variable: {key}}}}}]"
    for source, given in (
        (mine, []),
        ("smoke", [f"generate.key_variable={key}"]),
        ("smoke", [f"generate={{key_variable: {key}, examples: 0}}"]),
        ("smoke", [mix, f"generate.for_model={{b: {{key_variable: {key}}}}}"]),
        ("smoke", [row]),
    ):
        with pytest.raises(
            ProfileError, match=r"generate.*key_variable .*the name of the environment variable"
        ) as found:
            profile.load(source, given)
        secret = key.strip("'[]")
        assert not secret or secret not in str(found.value)
    assert profile.load("smoke", ["generate.key_variable=_MY_KEY2"]).generate.key_variable == "_MY_KEY2"


@pytest.mark.parametrize(
    "name",
    ["OPENAI_API_KEY", "GATEWAY", "AI21_API_KEY", "K8S_TOKEN2", "_E2B__KEY", "GPT4TURBO_KEY", "A1B2C3_KEY"],
)
def test_names_of_variables_are_taken(name):
    assert profile.load("smoke", [f"generate.key_variable={name}"]).generate.key_variable == name


@pytest.mark.parametrize(
    "key",
    [
        "generate.api_key",
        "generate.for_model.b.apiKey",
        "generate.extra_body.headers.Authorization",
        "token",
        "evaluate.hf_token",
        "backbone.password",
        "generate.extra_body.x.0.client_secret",
        "generate.API-KEY",
    ],
)
@pytest.mark.parametrize("secret", ["hush-hush", "'hush, hush", "[hushhush]"])
def test_a_secret_among_the_settings_is_refused_and_not_shown(tmp_path, key, secret):
    *above, last = [part for part in key.split(".") if part != "0"]
    nested = f"{last}: {secret}"
    for part in reversed(above):
        nested = f"{part}: {{{nested}}}"
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: smoke\n{nested}\n")
    row = f"ablations.rows=[{{id: a, set: {{{key}: {secret}}}}}]"
    given = [(mine, ()), ("smoke", [f"{key}={secret}"]), ("smoke", row)]
    given += [("smoke", {key: secret})] if secret[0] not in "'[" else []
    for source, overrides in given:
        with pytest.raises(ProfileError) as found:
            profile.load(source, overrides)
        assert "hush" not in str(found.value) and "98765" not in str(found.value)
        assert secret[0] == "'" or "generate.key_variable names (OPENAI_API_KEY)" in str(found.value)


def test_what_looks_like_a_key_is_refused_wherever_it_stands(tmp_path):
    secret = "sk-" + "proj-0123456789abcdef"
    for override in (
        f"generate.reasoning_effort={secret}",
        f"generate.extra_body={{x: ['Bearer {secret}']}}",
    ):
        with pytest.raises(ProfileError, match="keys are read from the environment alone") as found:
            profile.load("smoke", [override])
        assert secret not in str(found.value)
    for said in ("Bearer bonds", "https://user@host/v1", "https://host:8000/v1?api-version=2024-10-21"):
        assert profile.load("smoke", [f"generate.base_url={said}"]).generate.base_url == said
    profile.load("smoke", ["name=sk-wikipedia-adapt", "generate.extra_body={token: null}"])
    with pytest.raises(ProfileError, match="no file or folder 'hf_converted_checkpoint'"):
        profile.load("smoke", ["backbone.model=hf_converted_checkpoint"])
    with pytest.raises(ProfileError, match="unknown key") as found:
        profile.load("smoke", ["generate.openai_key=abcd1234plain"])
    assert "plain" not in str(found.value)
    taken = profile.load("smoke", ["generate.extra_body={tokens: 3, stop_token: a, key: b, max_tokens: 5}"])
    assert taken.generate.extra_body == {"tokens": 3, "stop_token": "a", "key": "b", "max_tokens": 5}


@pytest.mark.parametrize(
    "end", ["u:hush@host/v1", "host/v1?api_key=hush", "host/v1?v=1&Subscription-Key=hush"]
)
@pytest.mark.parametrize(
    "key", ["generate.base_url", "generate.for_model.claude.base_url", "generate.replicas"]
)
def test_a_url_that_holds_a_secret_is_refused_and_not_shown(key, end):
    given = {key: [f"https://{end}"] if key.endswith("s") else f"https://{end}"}
    with pytest.raises(ProfileError, match=f"{key}.* a URL that holds one from OPENAI_BASE_URL") as found:
        profile.load("smoke", given)
    assert "hush" not in str(found.value)


def test_keys_urls_and_proxies_as_they_are_pasted(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", '"sk-abc",')
    assert endpoint.key() == "sk-abc"
    for written in ("https:/host/v1", "https:host/v1", "https:///host/v1", "https://host/v1/,", "host"):
        assert endpoint.base_url(written) == "https://host/v1"
    for proxy in ("u:a-secret@h:1", "http://u:a-secret@h:1", "http://u:p/a-secret@x@h:1"):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        assert "secret" not in str(endpoint.proxies()) and "h:1" in str(endpoint.proxies())


def test_what_an_error_hides_is_found_in_no_time_in_any_text():
    """Of "a_" 3,000 times the first form looked at every end of every beginning."""
    assert endpoint.hidden("a_" * 3000) == "a_" * 3000
    assert (
        endpoint.hidden("my_api_key: hush") == "my_api_key: ***" and endpoint.hidden("monkey=x") == "monkey=x"
    )


def test_a_secret_under_a_dotted_key_is_told_with_its_line(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: smoke\nablations:\n  set:\n    generate.api_key: hush\n")
    with pytest.raises(ProfileError, match=r"mine\.yaml:4: ablations\.set\.generate\.api_key"):
        profile.load(mine)
