"""Settings that name a place: how they are kept, and the local files and folders that a profile reads."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, PlainSerializer, ValidationInfo

from synthembed.ground import places

# Key → names of ours that it takes beside places; of an override that has such a key, of an ablation, say.
SYSTEMS = ("base", "trained", "static", "random", "bm25", "minilm", "me5-small-4bit")
NAMES: dict[str, tuple[str, ...]] = {
    r"backbone\.model": (), r"data\.sets\.[\w-]+\.source": (), r"analyze\.corpus\.source": (),
    r"data\.negatives\.encoder": ("bm25",), r"data\.select\.(?:negatives|consistency)\.encoder": ("bm25", "trained"),
    r"train\.recipes\.distil\.encoder": (), r"pretrain\.source": ("docstrings",), r"long_context\.data": ("own",),
    r"evaluate\.systems\.\d+": SYSTEMS,
    r"experiments\.questions\.\d+\.rows\.\d+\.corpus": ("synthetic", "dropped"),
}  # fmt: skip
KEYS = "|".join(NAMES)


def _near(info: ValidationInfo) -> tuple[Path, ...]:
    return tuple((info.context or {}).get("near", ()))


def _place(*ours: str):
    """A path of the shell or of the profile's folder, ``hub:owner/name``, or a name of ``ours``; in JSON, and
    so in records and fingerprints, without what differs from machine to machine."""
    return Annotated[
        str,
        AfterValidator(lambda value, info: places.resolve(value, _near(info), ours)),
        PlainSerializer(places.as_written, return_type=str, when_used="json"),
    ]


Place, Encoder, Pairs, Passkeys = _place(), _place("bm25"), _place("docstrings"), _place("own")
System, Reader = _place(*SYSTEMS), _place("bm25", "trained")


def _changed(value: Any, change: Callable[[str, tuple[str, ...]], str], key: str = "") -> Any:
    """Overrides with every place in them changed, however deep it lies."""
    if isinstance(value, dict):
        return {k: _changed(v, change, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [_changed(v, change, f"{key}.{n}") for n, v in enumerate(value)]
    ours = next((names for pattern, names in NAMES.items() if re.fullmatch(pattern, key)), None)
    return change(value, ours) if isinstance(value, str) and ours is not None else value


Overrides = Annotated[
    dict[str, Any],
    AfterValidator(lambda value, info: _changed(value, lambda v, ours: places.resolve(v, _near(info), ours))),
    PlainSerializer(lambda value: _changed(value, lambda v, _: places.as_written(v)), when_used="json"),
]


def local_inputs(profile: BaseModel, sections: tuple[str, ...]) -> dict[str, str]:
    """Path → SHA-256 of the files and folders of this machine that ``sections`` of a profile name; of a
    folder, over all its files. "" where nothing is yet."""
    named = {
        p for s in sections for p in _paths(getattr(profile, s).model_dump() if _is(profile, s) else {}, s)
    }
    return {places.as_written(path): places.digest(Path(path)) for path in sorted(named)}


def _is(profile: BaseModel, section: str) -> bool:
    return isinstance(getattr(profile, section, None), BaseModel)


def _paths(value: Any, key: str) -> Iterator[str]:
    """Every place in settings that is a path; the keys within overrides are dotted themselves."""
    if isinstance(value, dict):
        for k, v in value.items():
            yield from _paths(v, f"{key}.{k}")
    elif isinstance(value, list):
        for n, v in enumerate(value):
            yield from _paths(v, f"{key}.{n}")
    elif isinstance(value, str) and re.search(rf"(^|\.)({KEYS})$", key) and os.path.isabs(value):
        yield value
