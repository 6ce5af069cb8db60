"""The corpora that rows of experiments are trained on: the kept examples, what filters dropped, faults put in.

A row names its corpus. ``synthetic`` is what notebook 02 kept and ``dropped`` what it did not;
``./dropped/<filter>`` is what one filter dropped. ``./faults/<fault>-<n>`` is n kept examples as they are and n
further ones with one fault, made here from kept examples. The fault is in one text of an example, all else stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from synthembed.corpus import example_files
from synthembed.corpus.example import Drops, Example
from synthembed.corpus.filters import REASONS
from synthembed.corpus.languages import MIN_LANGUAGE_CHARACTERS
from synthembed.corpus.texts import LEAST_WORDS, letters, words
from synthembed.generation import two_steps
from synthembed.labelled import selection
from synthembed.labelled.mixture import shuffled
from synthembed.profile.settings import Profile

MADE = re.compile(r"\./(?P<kind>dropped|faults)/(?P<name>[a-z_]+)(?:-(?P<count>\d+))?")


def of_rows(profile: Profile, generated: Path, analysed: Path) -> dict[str, list[Example]]:
    """Name → examples of the corpora that the experiments of a profile name, but for files, from finished stages
    01 and 02. Raises ValueError for a filter or a fault that there is not, and for more examples than there are."""
    kept = example_files.read(analysed / "examples.jsonl")
    written = example_files.from_replies(
        generated / "replies.jsonl", two_steps.read_items(generated), Drops()
    )
    there = {e.id for e in kept}
    dropped = [e for e in written if e.id not in there]
    reasons = json.loads((analysed / "drops.json").read_text(encoding="utf-8"))["dropped_examples"]
    found = {"synthetic": kept, "dropped": dropped}
    for name in {row.corpus for question in profile.experiments.questions for row in question.rows}:
        if asked := MADE.fullmatch(name):
            if asked["kind"] == "dropped":
                reason = _known(asked["name"], REASONS, name)
                found[name] = [e for e in dropped if reasons.get(e.id) == reason]
            else:
                found[name] = with_fault(kept, asked["name"], int(asked["count"] or 0), profile.data.seed)
    return found


def _known(name: str, table: dict, corpus: str):
    if name not in table:
        raise ValueError(f"corpus: {corpus}: there is no {name!r}, but {', '.join(table)}")
    return table[name]


def with_fault(kept: list[Example], fault: str, count: int, seed: int) -> list[Example]:
    """``count`` examples as they are, those that ``data.select: {examples: count}`` draws, and ``count`` others with
    ``fault``, drawn among those that can have it. Raises ValueError if there are too few."""
    applies, change = _known(fault, FAULTS, f"./faults/{fault}-{count}")
    sound = selection.drawn(kept, count, seed)
    among = sound if fault in OF_THE_SOUND else _others(kept, sound)
    able = [e for e in among if applies(e)]
    if fault not in OF_THE_SOUND:
        able = selection.drawn(able, count, seed)
    faulty = list(islice(change(able), count))
    if not 0 < count == len(sound) == len(faulty):
        raise ValueError(
            f"corpus: ./faults/{fault}-{count}: {len(kept)} examples make {len(sound)} sound ones and {len(faulty)} with "
            "the fault; write a smaller number, above 0"
        )
    return sound + faulty


def _others(kept: list[Example], sound: list[Example]) -> list[Example]:
    taken = {e.id for e in sound}
    return [e for e in kept if e.id not in taken]


# --- faults ---------------------------------------------------------------------------------------------------


def _each(change: Callable[[Example], Example]) -> Callable[[list[Example]], Iterable[Example]]:
    return lambda examples: map(change, examples)


def _repeated(examples: list[Example]) -> Iterable[Example]:
    """Near-copies of examples that stay in the corpus. Query and document both differ from the original's, else the
    loss would know the one for a positive of the other and leave it out."""
    for number, e in enumerate(cycle(examples)) if examples else ():
        turn = number // len(examples)
        yield replace(
            e,
            id=f"{e.id}-copy-{turn}",
            query=f"{e.query}{'!' * (turn + 1)}",
            positive=f"{e.positive}{'!' * (turn + 1)}",
        )


# Fault → which examples can have it, and how they get it. But for the last, the names are those of the filters that
# drop it (``analyze``): a corpus of the faulty half alone would lose all of it.
FAULTS: dict[str, tuple[Callable[[Example], bool], Callable[[list[Example]], Iterable[Example]]]] = {
    "copied_query": (
        lambda e: e.family == "short-long" and len(words(e.query)) >= 4,
        _each(lambda e: replace(e, positive=f"{e.query} {e.positive}")),
    ),
    "negative_equals_positive": (  # not sign by sign: the loss leaves out a negative that is a known positive
        lambda e: bool(e.negative),
        _each(lambda e: replace(e, negative=f"{e.positive}.")),
    ),
    "language_mismatch": (  # a translation that was not made
        lambda e: e.family == "bitext" and letters(e.query) >= MIN_LANGUAGE_CHARACTERS,
        _each(lambda e: replace(e, positive=e.query)),
    ),
    "near_duplicates": (lambda e: len(words(e.positive)) >= 2 * LEAST_WORDS, _repeated),
    "mispaired": (lambda e: True, lambda examples: shuffled(examples, 0)),  # no filter of notebook 02 sees it
}
OF_THE_SOUND = {"near_duplicates"}  # made from the sound examples, not from others
