"""What a notebook or a command is given, of whatever kind papermill makes of it → text, and (key, value) pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from synthembed.ground import endpoint
from synthembed.profile import strict_yaml

BEGINS = re.compile(r"(?:(?<=\s)|^)[\w-]+(?:\.[\w-]+)*=")  # an override within a string of several
OPENS, CLOSES = "[{(", "]})"
LONGEST = 300  # signs of a value in an error
NULL = re.compile(r"\s*(~|null|Null|NULL|None)\s*(#.*)?")


class ProfileError(ValueError):
    """A profile, override or parameter that cannot be used; the message names file, key and remedy."""


def text(name: str, value: Any) -> str:
    """A parameter that is a text. Of ``-p run 007`` papermill makes a number, and the text is lost: refused,
    with the remedy. None is a parameter that was not given."""
    if value is None:
        return ""
    if isinstance(value, str | Path):
        return str(value)
    raise ProfileError(
        f"parameter {name} = {value!r} arrived as {type(value).__name__}, not as text: papermill's -p and -y "
        f"read numbers, True, False and dates. Hand it over as it is written with -r {name} VALUE, or quoted "
        f"in YAML as in -y \"{name}: 'VALUE'\""
    )


def assignments(given: str | list | tuple | dict | None) -> Iterator[tuple[str, Any, str]]:
    """(dotted key, value, as it was written) of overrides: ``"a.b=1 c=[x, y]"``, a list of such, or a mapping
    ``{"a.b": 1}``. The value of ``a.b=c`` is YAML. Raises ProfileError for what is none of these.
    """
    if isinstance(given, dict):
        for key, value in given.items():
            no_secret(value, str(key))
            yield str(key), value, f"{key}={value}"
    elif isinstance(given, list | tuple):
        for one in given:
            if isinstance(one, dict):
                yield from assignments(one)
            elif isinstance(one, str):
                yield _assignment(one)
            else:
                raise ProfileError(f"override {one!r}: write it as section.key=value")
    elif isinstance(given, str) and given.lstrip()[:1] in (
        "[",
        "{",
    ):  # a list or a mapping, as -p hands it over
        yield from assignments(_assignment(f"overrides={given}")[1])
    elif isinstance(given, str):
        yield from map(_assignment, _split(given))
    elif given is not None:
        raise ProfileError(
            f"overrides = {given!r} arrived as {type(given).__name__}: write them as section.key=value, as in "
            '-p overrides "train.max_steps=10 seed=1", or as a list or a mapping with papermill\'s -y'
        )


def _assignment(override: str) -> tuple[str, Any, str]:
    key, equals, value = override.partition("=")
    if not NULL.fullmatch(value):
        no_secret(value.strip(), key.strip())
    if not equals or not key.strip():
        raise ProfileError(f"override {brief(override)}: write it as section.key=value")
    try:
        read = strict_yaml.load(value)
    except yaml.YAMLError as error:
        told = getattr(error, "problem", None) or "the value cannot be read"
        raise ProfileError(f"override {brief(override)}: not valid YAML: {told}") from None
    if read is None and not NULL.fullmatch(value):
        raise ProfileError(no_value(override))
    no_secret(read, key.strip())
    return key.strip(), read, override


def no_secret(value: Any, key: str = "", place: Callable[[str], str] = lambda key: "override") -> None:
    """Raises ProfileError, which names the key and its ``place``, where a value is or holds a secret."""
    if found := endpoint.secret_in(value, key):
        raise ProfileError(
            f"{place(found)}: {found} (its value is not shown): {endpoint.FROM_THE_ENVIRONMENT}"
        )


def no_value(override: str) -> str:
    """What is said of ``train.max_steps=$STEPS`` with STEPS unset: it would take the limit away without a word."""
    return (
        f"override {brief(override)} has no value (a variable of the shell that is not set?): "
        f"for none write {override.partition('=')[0].strip()}=null"
    )


def brief(value: Any) -> str:
    """A value as errors show it: a long one by its beginning, and none that is a secret."""
    said = endpoint.hidden(repr(value))
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}..."


def _split(several: str) -> list[str]:
    """The overrides in a string: each from its ``key=`` to the next that stands outside brackets and quotes."""
    if not several.strip():
        return []
    starts = [m.start() for m in BEGINS.finditer(several) if _is_outside(several[: m.start()])]
    if not starts or several[: starts[0]].strip():
        starts = [0, *starts]  # what is no override is refused under its own text
    return [several[a:b].strip() for a, b in zip(starts, [*starts[1:], len(several)], strict=True)]


def _is_outside(before: str) -> bool:
    """Whether every bracket and quote in ``before`` is closed; an apostrophe within a word opens nothing."""
    depth, quote, last = 0, "", " "
    for sign in before:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and last in " =[{(,:\n\t":
            quote = sign
        else:
            depth += (sign in OPENS) - (sign in CLOSES)
        last = sign
    return depth <= 0 and not quote
