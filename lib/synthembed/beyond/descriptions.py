"""Debian's package descriptions as weakly supervised pairs: a line and the text under it, in many languages.

They are read where dpkg and apt keep them: of what is installed in English, and of all packages in the languages of
which apt has fetched the lists (``Acquire::Languages``). They are their authors', under each package's licence, and
no part of this project: a row that is pre-trained on them waits until they were read (`synthembed descriptions`).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import regex

from synthembed.corpus.example import Drops
from synthembed.corpus.texts import word_count
from synthembed.ground.seeding import seed_of
from synthembed.labelled.installed_sets import LEAST_WORDS
from synthembed.profile.settings import Profile

INSTALLED = Path("/var/lib/dpkg/status")
LISTS = Path("/var/lib/apt/lists")
READER = "/usr/lib/apt/apt-helper"  # knows how apt compresses its lists
_BEGINS = re.compile(r"Description(?:-(?P<language>[a-z]{2,3}(?:_[A-Z]{2})?(?:@[a-z]+)?))?: (?P<title>.+)")
# Lines of scripts that do not part words end anywhere, and their ends are no blanks.
_UNSPACED = r"[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{lb=SA}。、，！？（）「」]"
_END = regex.compile(rf"(?<={_UNSPACED})\n(?={_UNSPACED})")


class NoDescriptions(RuntimeError):
    """This machine has no package descriptions, or they cannot be read."""


def write(
    path: Path, installed: Path = INSTALLED, lists: Path = LISTS, seed: int = 42
) -> tuple[Counter, Drops]:
    """Pairs as lines of JSON (title, body, language), in an order drawn from ``seed``; returns how many of each
    language, and what was left out. Raises NoDescriptions if there are none."""
    found, drops = {}, Drops()
    for title, body, language in _all(installed, lists):
        if word_count(body) < LEAST_WORDS:
            drops.add("description of a line or two", title)
        elif (title, body) in found:
            drops.add("seen before", title)
        else:
            found[title, body] = language
            drops.kept += 1
    if not found:
        raise NoDescriptions(
            f"there are no package descriptions in {installed} or {lists}: Debian and what is made from it have them"
        )
    pairs = sorted(found, key=lambda pair: seed_of(seed, *pair))
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"title": title, "body": body, "language": found[title, body]} for title, body in pairs)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return Counter(found.values()), drops


def _all(installed: Path, lists: Path) -> Iterator[tuple[str, str, str]]:
    if installed.exists():
        with open(installed, encoding="utf-8") as file:
            yield from described(file)
    for path in sorted(lists.glob("*_i18n_Translation-*")):
        yield from described(_lines(path))


def _lines(path: Path) -> list[str]:
    if not path.suffix:
        return path.read_text(encoding="utf-8").split("\n")  # no other sign ends a line of a control file
    if not shutil.which(READER):
        raise NoDescriptions(f"{path} is compressed, and {READER}, which reads it, is not there")
    done = subprocess.run([READER, "cat-file", str(path)], capture_output=True, encoding="utf-8")
    if done.returncode:
        raise NoDescriptions(f"{path} cannot be read: {done.stderr.strip()}")
    return done.stdout.split("\n")


def described(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(title, body, language) of each description in a control file: after the title come lines that begin with a
    blank, of which " ." parts paragraphs and two blanks begin a line of a list."""
    title, language, body = "", "", []
    for line in (*lines, ""):
        if title and line.startswith(" "):
            body.append(line.strip())
            continue
        if title:
            text = "\n".join("\n\n" if part == "." else part for part in body)
            yield title, " ".join(_END.sub("", text).split()), language
        begins = _BEGINS.match(line)
        title, language, body = (
            (begins["title"].strip(), begins["language"] or "en", []) if begins else ("", "", [])
        )


def present(profile: Profile) -> tuple[Profile, dict[str, str]]:
    """The profile without the rows of experiments whose pairs for pre-training are not there, and why those wait."""
    questions, waiting = [], {}
    for question in profile.experiments.questions:
        rows = []
        for row in question.rows:
            pretrain = profile.of_row(question, row).pretrain
            lacking = pretrain and pretrain.source.startswith((".", "~"))  # else resolved, or a name
            if lacking:
                waiting[f"{question.id}/{row.id}"] = (
                    f"no pairs in {pretrain.source}. Make them with\n{row.command}"
                )
            else:
                rows.append(row)
        questions.append(question.model_copy(update={"rows": rows}))
    experiments = profile.experiments.model_copy(update={"questions": questions})
    return profile.model_copy(update={"experiments": experiments}), waiting
