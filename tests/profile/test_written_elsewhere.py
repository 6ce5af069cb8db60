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
    with pytest.raises(ProfileError, match=r"mine\.yaml: nested without end"):
        profile.load(mine)


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


def test_keys_urls_and_proxies_as_they_are_pasted(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", '"sk-abc",')
    assert endpoint.key() == "sk-abc"
    for written in ("https:/host/v1", "https:host/v1", "https:///host/v1", "https://host/v1/,", "host"):
        assert endpoint.base_url(written) == "https://host/v1"
    for proxy in ("u:a-secret@h:1", "http://u:a-secret@h:1", "http://u:p/a-secret@x@h:1"):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        assert "secret" not in str(endpoint.proxies()) and "h:1" in str(endpoint.proxies())
