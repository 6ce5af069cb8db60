"""What the paper states of how a number was made, and in what a run differs from it.

The statements are data (``recipe`` in artefacts.yaml). A number compares with a published one only if every
statement about its row holds for the run that made it; what is not recorded does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthembed.paper.registry import recipe, systems

NOT_STATED, NOT_RECORDED = "not stated", "not recorded"


def stated(artefact: str, system: str) -> dict[str, Any]:
    """Setting or fact → what the paper has, for one of its own rows."""
    about, parts = systems(artefact)[system], recipe()
    setting = about["setting"]
    if artefact == "figure2":
        found = dict(parts["synthetic"])
    else:
        names = [
            *(["synthetic"] if setting in ("synthetic", "synthetic+msmarco", "full") else []),
            *(["labelled"] if setting != "synthetic" else []),
            *(["full"] if setting == "full" else []),
            "training",
            "passkey" if artefact == "figure5" else "evaluation",
        ]
        found = {"data.setting": setting} | {k: v for name in names for k, v in parts[name].items()}
    found |= about.get("recipe", {})
    return {key: value for key, value in found.items() if value != NOT_STATED}


def differences(artefact: str, system: str, made: Mapping[str, Any]) -> list[str]:
    """In what ``made`` (dotted settings and facts of a run) is not what the paper states of this row, each
    in words; empty if all of it holds."""
    return [
        f"{key} is {_said(made.get(key, NOT_RECORDED))} here and {_wanted(value)} in the paper"
        for key, value in stated(artefact, system).items()
        if not holds(value, made.get(key, NOT_RECORDED))
    ]


def holds(wanted: Any, found: Any) -> bool:
    """Whether what a run has is what the paper states (artefacts.yaml has the forms of a statement)."""
    if isinstance(wanted, dict) and "any of" in wanted:
        return found in wanted["any of"]
    if isinstance(wanted, dict) and "about" in wanted:
        return isinstance(found, (int, float)) and abs(found - wanted["about"]) <= 0.1 * wanted["about"]
    if isinstance(wanted, list):  # of names, in any order
        return isinstance(found, list) and sorted(found) == sorted(wanted)
    return found == wanted


def _wanted(value: Any) -> str:
    if isinstance(value, dict) and "any of" in value:
        return " or ".join(map(str, value["any of"]))
    if isinstance(value, dict) and "about" in value:
        return f"about {value['about']:,}"
    return _said(value)


def _said(value: Any) -> str:
    """A value as a profile has it."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {_said(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return "not set" if value is None else str(value)
