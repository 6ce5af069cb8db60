"""Labelled sets that every installation has, read where it stands: stand-ins for the public sets.

Where no data hub can be reached, the data settings of Tables 1 and 5 still need labelled pairs that
people wrote. These are: docstrings (in the place of MS-MARCO's passages), the sections of Python's
language reference, names of places, languages and currencies in the CLDR data of babel, and the
descriptions and topics of the pinned packages. Nothing of them is in this repository; they are small,
technical and mostly English, and stand for the settings' machinery, not for the public sets' worth
(docs/data-card.md).
"""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import itertools
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from synthembed.corpus.example import Drops
from synthembed.ground.files import shipped
from synthembed.ground.seeding import seed_of
from synthembed.labelled.readers import Record
from synthembed.profile.taxonomy import PAPER_LANGUAGE_SHARES, Family

LOCK = shipped("requirements.lock")
SKIPPED_FOLDERS = {"tests", "test", "testing", "_vendor", "vendor", "vendored", "site-packages"}
DOCUMENTED = {"networkx", "numpy", "pandas", "scikit-learn", "scipy", "sympy"}
DOCSTRINGS = 900
GENERIC = {"Software Development", "Libraries", "Python Modules", "Application Frameworks", "Utilities"}
LEAST_WORDS = 12  # of a docstring's body, a section, a description


class InstallationError(ValueError):
    """The installation lacks what a set is read from; the message names it and the remedy."""


@dataclass(frozen=True)
class InstalledSet:
    """One set: ``read(seed, drops)`` yields its records, of which ``limit`` are taken at most."""

    name: str
    title: str
    read: Callable[[int, Drops], Iterator[Record]]
    family: Family
    instructions: tuple[str, ...]
    limit: int | None = None
    ratio: float = 1.0


# --- docstrings ----------------------------------------------------------------------------------


def pinned() -> list[str]:
    """Names of the packages in requirements.lock."""
    if not LOCK.exists():
        raise InstallationError(
            f"{LOCK.name} came neither with the checkout nor with the wheel: install the library again"
        )
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    return [m[1] for line in lines if (m := re.match(r"([A-Za-z0-9._-]+)==", line))]


def docstrings(packages: list[str], seed: int, drops: Drops) -> Iterator[tuple[str, str, str]]:
    """Summary line and body of the docstrings in installed packages, file by file in an order drawn
    from ``seed``. The files are parsed, never imported."""
    files = {}
    for package in packages:
        try:
            listed = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:  # pinned for another platform
            continue
        files |= {
            f"{package}/{f}": f for f in listed if f.suffix == ".py" and not SKIPPED_FOLDERS & set(f.parts)
        }
    for name in sorted(files, key=lambda n: seed_of(seed, n)):
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(files[name].locate().read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError, RecursionError):
            drops.add("file that cannot be parsed", name)
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                text = ast.get_docstring(node, clean=False)
                if text and (pair := split_docstring(text)):
                    yield f"{name}:{node.lineno}", *pair
                elif text:
                    drops.add("docstring without summary and body", text)


def split_docstring(text: str) -> tuple[str, str] | None:
    """(summary, body), or None: a summary is a paragraph of 4 to 30 words, a body has 12 or more."""
    summary, _, body = inspect.cleandoc(text).partition("\n\n")
    if 4 <= len(summary.split()) <= 30 and len(body.split()) >= LEAST_WORDS:
        return summary, body
    return None


def _docstring_records(seed: int, drops: Drops) -> Iterator[Record]:
    """Summary → body, of the first DOCSTRINGS in packages that document in prose: not all, for time."""
    packages = [name for name in pinned() if name in DOCUMENTED]
    for name, summary, body in itertools.islice(docstrings(packages, seed, drops), DOCSTRINGS):
        yield Record(name, _line(summary), (_line(body),))


# --- Python's language reference -----------------------------------------------------------------

_HEADING = re.compile(r"^(?P<title>\S[^\n]*)\n(?P<mark>[*=\-~^])(?P=mark){2,}\n", re.MULTILINE)


def _topic_records(seed: int, drops: Drops) -> Iterator[Record]:
    """Heading → section of the reference that ``help()`` shows (pydoc_data, in the standard library)."""
    from pydoc_data.topics import topics

    for topic, text in sorted(topics.items()):
        headings = list(_HEADING.finditer(text))
        for number, heading in enumerate(headings):
            end = headings[number + 1].start() if number + 1 < len(headings) else None
            body = _line(text[heading.end() : end])
            if len(body.split()) < LEAST_WORDS:
                drops.add("section without text", heading["title"])
                continue
            yield Record(f"{topic}-{number}", f"{heading['title']} in Python", (body,))


# --- names in many languages ---------------------------------------------------------------------


def _name_records(seed: int, drops: Drops) -> Iterator[Record]:
    """English name → name in another language, of CLDR's territories, languages and currencies (babel);
    the hard negative is the next name of that kind in that language's alphabet."""
    from babel import Locale

    english = _names(Locale.parse("en"))
    for code in sorted(set(PAPER_LANGUAGE_SHARES) - {"en"}):
        for kind, names in _names(Locale.parse(code)).items():
            ordered = sorted(set(names.values()))
            after = dict(zip(ordered, ordered[1:] + ordered[:1], strict=True))
            for key, name in names.items():
                source = english[kind].get(key)
                if not source or source == name:
                    drops.add("name that is the same in English, or has none", name)
                else:
                    yield Record(f"{code}-{kind}-{key}", source, (name,), (after[name],), "en", code)


def _names(locale) -> dict[str, dict[str, str]]:
    kinds = {"territory": locale.territories, "language": locale.languages, "currency": locale.currencies}
    return {kind: {str(k): str(v) for k, v in names.items()} for kind, names in kinds.items()}


# --- the pinned packages -------------------------------------------------------------------------


def _metadata() -> Iterator[tuple[str, importlib.metadata.PackageMetadata]]:
    for package in sorted(set(pinned()), key=str.lower):
        try:
            yield package, importlib.metadata.metadata(package)
        except importlib.metadata.PackageNotFoundError:  # pinned for another platform
            continue


def _package_records(seed: int, drops: Drops) -> Iterator[Record]:
    """A package's one-line summary → the prose of its description, markup and badges left out."""
    for package, about in _metadata():
        paragraphs = re.split(r"\n\s*\n", about.get_payload() or about["Description"] or "")
        prose = [_line(p) for p in paragraphs if not re.search(r"https?:|[<>|`]|\]\[|^\s*[#*\-=.\d]", p)]
        body = " ".join(p for p in prose if len(p.split()) >= LEAST_WORDS)
        if about["Summary"] and body:
            yield Record(package, _line(about["Summary"]), (body,))
        else:
            drops.add("package without a description in prose", package)


def _subject_records(seed: int, drops: Drops) -> Iterator[Record]:
    """A package's summary → the subject that its authors filed it under (its last trove classifier that
    is not a generic one); the hard negative is a subject that it was not filed under, drawn from ``seed``."""
    found = {}
    for package, about in _metadata():
        topics = [c for c in about.get_all("Classifier") or [] if c.startswith("Topic ::")]
        own = [s for s in (c.split(" :: ")[-1] for c in topics) if s not in GENERIC]
        if own and about["Summary"]:
            found[package] = (_line(about["Summary"]), own)
        else:
            drops.add("package without a subject", package)
    subjects = sorted({s for _, own in found.values() for s in own})
    for package, (summary, own) in found.items():
        others = [s for s in subjects if s not in own]
        other = min(others, key=lambda s: seed_of(seed, package, s))
        yield Record(package, summary, (own[-1],), (other,))


def _line(text: str) -> str:
    return " ".join(text.split())


INSTALLED: tuple[InstalledSet, ...] = (
    InstalledSet(
        "docstrings", "docstrings, for MS-MARCO", _docstring_records, "short-long",
        ("Given what a function or class is for, find the documentation that describes it",),
    ),
    InstalledSet(
        "topics", "Python's language reference", _topic_records, "short-long",
        ("Given a subject of the Python language, find the section of its reference manual on it",),
    ),
    InstalledSet(
        "names", "names in 13 languages (CLDR)", _name_records, "bitext",
        ("Given a name in English, find the same name in another language",), 400,
    ),
    InstalledSet(
        "packages", "package descriptions", _package_records, "short-long",
        ("Given a software package in one line, find its description",),
    ),
    InstalledSet(
        "subjects", "subjects of packages", _subject_records, "long-short",
        ("Given a software package in one line, tell the subject that it belongs to",),
    ),
)  # fmt: skip
