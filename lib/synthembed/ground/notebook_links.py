"""Links of a notebook, in notebooks/ and in its executed copy, which lies in a folder of its own:
RUN/01_generate/01_generate.ipynb.

A link to another notebook leads to the run's copy of it where the run has one, and to notebooks/ where it has not;
a page of docs/ is farther up. Both forms name the same pages, and ``of_source`` gets one from the other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

from synthembed.ground.files import ROOT

_NOTEBOOK = r"(\d\d_\w+)\.ipynb"
_LINK = re.compile(rf"(\]\(|href=\")(?:{_NOTEBOOK}|\.\./(docs)/)")


def of_copy(place: Path, stages: Collection[str]) -> Callable[[str], str]:
    """What makes of text with links of notebooks/, in Markdown or HTML, that of the copy at ``place``, a file in
    a run that has ``stages`` or will have them."""
    up = Path(os.path.relpath(ROOT, place.parent)).as_posix()

    def link(found: re.Match) -> str:
        begin, notebook, docs = found.groups()
        if docs:
            return f"{begin}{up}/docs/"
        return f"{begin}{f'../{notebook}' if notebook in stages else f'{up}/notebooks'}/{notebook}.ipynb"

    return lambda text: _LINK.sub(link, text)


def of_source(text: str) -> str:
    """The links of an executed copy's Markdown as they stand in notebooks/."""
    text = re.sub(rf"\]\((?:\.\./)+(?:[^)\s]*/)?{_NOTEBOOK}", r"](\1.ipynb", text)
    return re.sub(r"\]\((?:\.\./)+(?:[^)\s]*?/)?docs/", "](../docs/", text)
