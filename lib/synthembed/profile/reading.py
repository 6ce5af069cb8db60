"""A YAML file and overrides → validated settings, or an error with file, line, key, value and remedy.

Knows pydantic models in general and none in particular; settings.py has ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from synthembed.ground import endpoint
from synthembed.ground.files import ROOT, shipped, shown
from synthembed.profile import strict_yaml
from synthembed.profile.parameters import ProfileError, assignments, brief, no_secret

PROFILES = shipped("profiles")
NOT_SHOWN = "not_shown"  # type of an error whose value may be a secret

Settings = TypeVar("Settings", bound=BaseModel)


def load(model: type[Settings], profile: str | Path, overrides: str | list | dict | None = ()) -> Settings:
    """Read a profile by name (``profiles/<name>.yaml``) or path, with ``a.b=c`` overrides on top.

    ``overrides`` are one string with blanks between them, a list, or a mapping (parameters.assignments).
    Raises ProfileError naming file, line, key, value and remedy.
    """
    path, data, lines = _read(profile)
    data.setdefault("name", path.stem)
    for key, value, written in assignments(overrides):
        if (
            isinstance(value, dict)
            and key in model.model_fields
            and _models(model.model_fields[key].annotation)
        ):
            value = _merged(data.get(key) or {}, value)
        assign(data, key, value)
        place = tuple(key.split("."))
        lines = {
            at: line for at, line in lines.items() if at[: len(place)] != place
        }  # what stood there is gone
        lines[place] = f"override {brief(written)}"
    return validate(model, data, shown(path), lines, near=path.resolve().parent)


def _read(profile: str | Path, above: tuple[Path, ...] = ()) -> tuple[Path, dict, dict]:
    """(file, settings, where each key stands) of a profile; a file that ``extends`` another one says only in
    what it departs from it. Sections are merged, lists and single values replaced."""
    path = _file_of(profile, *(file.parent for file in above[-1:]))
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
        raise ProfileError(f"no profile {str(profile)!r}: use one of {known}, or a path to a YAML file")
    if path.resolve() in above:
        raise ProfileError(f"{shown(path)}: extends itself, by way of {' and '.join(map(shown, above))}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ProfileError(
            f"{shown(path)}:{line}: not UTF-8 (byte {error.start + 1}): save it as UTF-8"
        ) from None
    try:
        data = strict_yaml.load(text)
        lines = dict(_lines(strict_yaml.compose(text)))
    except yaml.YAMLError as error:
        raise ProfileError(f"{shown(path)}: not valid YAML: {endpoint.hidden(str(error))}") from None
    if data is None:
        raise ProfileError(
            f"{shown(path)}: empty, or nothing but comments: write what the run departs in from another profile, "
            "as in extends: laptop, or {} for the paper's settings as they are"
        )
    if not isinstance(data, dict):
        raise ProfileError(f"{shown(path)}: expected keys and values, got {type(data).__name__}")
    dotted = {".".join(map(str, at)): f"{shown(path)}:{line}" for at, line in lines.items()}
    no_secret(data, place=lambda key: dotted.get(key, shown(path)))
    if "extends" in data:
        base = data.pop("extends")
        if not isinstance(base, str) or not base.strip():
            raise ProfileError(
                f"{shown(path)}:{lines['extends',]}: extends = {base!r}: name one profile, or leave the line out"
            )
        _, settings, _ = _read(base, (*above, path.resolve()))
        settings.pop("name", None)
        settings.pop("description", None)
        data = _merged(settings, data)
    return path, data, lines


def _file_of(profile: str | Path, *near: Path) -> Path:
    """A name is one of profiles/; a path is the shell's, or one from the project's folder on. What a file
    extends is looked for beside it (``near``) first."""
    path = Path(profile).expanduser()
    if not path.suffix and path.name == str(profile):
        return PROFILES / f"{profile}.yaml"
    return next((f / path for f in (*near, Path.cwd(), ROOT) if (f / path).is_file()), path)


def _merged(under: dict, over: dict) -> dict:
    both = {
        k: _merged(under[k], v) if isinstance(v, dict) and isinstance(under.get(k), dict) else v
        for k, v in over.items()
    }
    return under | both


def assign(data: dict, key: str, value: Any) -> None:
    """Set a dotted key in nested settings; a section that is absent or null begins empty."""
    *parents, last = key.split(".")
    node = data
    for part in parents:
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            raise ProfileError(f"override {key}: {part!r} is a single value, it has no keys below it")
    node[last] = value


def validate(
    model: type[Settings], data: dict, source: str, lines: dict, near: Path | None = None
) -> Settings:
    """``data`` as a ``model``; ``lines`` says where in ``source`` a key stands. Paths that are not the shell's
    are looked for from ``near`` on."""
    folders: Iterable[Path] = [near] if near else ()
    try:
        return model.model_validate(data, context={"near": folders})
    except ValidationError as error:
        found = error.errors()
        found = [
            e for e in found if e["type"] == NOT_SHOWN
        ] or found  # another could show the override of one
        raise ProfileError("\n".join(_explain(model, e, source, lines) for e in found)) from None


def _explain(top: type[BaseModel], error: dict, source: str, lines: dict) -> str:
    path = tuple(str(p) for p in error["loc"])
    where = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    place = where if isinstance(where, str) else f"{source}:{where}" if where else source
    key = ".".join(path)
    if error["type"] == NOT_SHOWN:
        return f"{'override' if isinstance(where, str) else place}: {key} (its value is not shown): {error['msg']}"
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(path[-1], _siblings(top, path), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(_siblings(top, path))}"
        return f"{place}: unknown key {key}; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_type" and isinstance(error["input"], bool):
        message += "; YAML 1.1, papermill's too, reads no, yes, on and off so: quote it"
    if error["type"] == "string_type" and type(error["input"]) in (int, float):
        message += f"; quoted it is a text, in a shell as in \"{key}='{error['input']}'\""
    if error["type"] == "list_type" and isinstance(error["input"], str | int):
        message += "; a list stands in brackets, and what has a comma in quotes: [a, 'b, c']"
    value = "" if isinstance(error["input"], dict) else f" = {brief(error['input'])}"
    return f"{place}: {key}{value}: {message[0].lower() + message[1:]}"


def _siblings(top: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    model: Any = top
    for part in path[:-1]:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        model = next((t for t in _models(field.annotation)), None) if field else model
    return list(model.model_fields) if model else []


def _models(annotation) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models(a)]


def _lines(node, path=()):
    """(key path, line number) for every key of a YAML document."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from _lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield (*path, str(number)), value.start_mark.line + 1
            yield from _lines(value, (*path, str(number)))
