"""Notebook 01 against an endpoint: families without a brainstorm, and keys under names of their own."""

import json

import pytest
from endpoints import Endpoint, answer
from synthembed.stages import runner


def generated(url: str, folder, *more: str) -> dict:
    told = [
        "generate.backend=live", f"generate.base_url={url}", "generate.models={gpt-4o: 1}", "generate.no_budget=true",
        "generate.families={sts: 1, bitext: 1}", "generate.examples=8", "generate.key_variable=GATEWAY", *more,
    ]  # fmt: skip
    runner.run_stages("smoke", told, "", ["01_generate"], folder)
    return json.loads((folder / "smoke" / "01_generate" / "stage.json").read_text(encoding="utf-8"))


def test_a_run_of_families_without_a_brainstorm_is_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv("GATEWAY", "a-key-of-this-test")
    made = generated(Endpoint().url, tmp_path)
    assert made["status"] == "done" and made["requests"] == made["replies"] == 8


def test_a_key_that_found_its_way_into_a_reply_ends_the_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("GATEWAY", "a-key-of-this-test")
    server = Endpoint(lambda body, number: (200, answer(body) | {"system_fingerprint": "a-key-of-this-test"}))
    with pytest.raises(runner.StageFailed, match="a key was written"):
        generated(server.url, tmp_path)
