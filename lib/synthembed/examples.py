"""Replies → validated, filtered, de-duplicated examples; every drop is counted with its reason.

The paper drops replies that are not the wanted JSON, and exact duplicates (Sec. 3.1). The other
filters are ours and are switched in the profile's ``analyze`` section.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from .profile import Analyze
from .taxonomy import Brainstorm, Family, Item, schema_of


@dataclass(frozen=True, slots=True)
class Example:
    """One training triple. ``instruction`` goes before the query only; ``negative`` may be missing."""

    id: str
    family: Family
    instruction: str
    language: str
    target_language: str
    query: str
    positive: str
    negative: str | None = None

    def documents(self) -> list[str]:
        return [self.positive] + ([self.negative] if self.negative else [])


class Rejected(Exception):
    """A reply or example that is not used; the first argument is the reason it is counted under."""


@dataclass
class Drops:
    """Counts per reason, with a few examples of what each reason dropped."""

    counts: Counter = field(default_factory=Counter)
    samples: dict = field(default_factory=lambda: defaultdict(list))
    kept: int = 0

    def add(self, reason: str, sample: str, most: int = 3) -> None:
        self.counts[reason] += 1
        if len(self.samples[reason]) < most:
            self.samples[reason].append(sample[:300])

    def as_dict(self) -> dict:
        return {
            "kept": self.kept,
            "dropped": sum(self.counts.values()),
            "reasons": dict(self.counts.most_common()),
            "samples": dict(self.samples),
        }


def content_of(line: dict) -> str:
    """The text of a Batch output line; raises Rejected with the reason if there is none."""
    response = line.get("response") or {}
    if line.get("error") or response.get("status_code") != 200:
        raise Rejected("request failed")
    choices = (response.get("body") or {}).get("choices") or []
    if not choices:
        raise Rejected("empty reply")
    message, finish = choices[0].get("message") or {}, choices[0].get("finish_reason")
    if message.get("refusal"):
        raise Rejected("refusal")
    if finish == "length":
        raise Rejected("cut off at max_tokens")
    if finish == "content_filter":
        raise Rejected("content filter")
    text = (message.get("content") or "").strip()
    if not text:
        raise Rejected("empty reply")
    return text


_FENCE = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)


def parse(line: dict, item: Item):
    """The reply as its schema's object; raises Rejected("not JSON" or "not the schema")."""
    text = content_of(line)
    if fenced := _FENCE.match(text):  # endpoints without structured output like to add a fence
        text = fenced.group(1)
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        raise Rejected("not JSON") from None
    try:
        return schema_of(item).model_validate(data)
    except ValidationError:
        raise Rejected("not the schema") from None


def tasks_of(line: dict, item: Item) -> list[str]:
    """Step 1's reply as a list of tasks without repetitions."""
    reply: Brainstorm = parse(line, item)
    return list(dict.fromkeys(" ".join(t.split()) for t in reply.tasks))


# Which reply keys are query, positive and hard negative; for STS, bitext and classification this
# reading of the schema is an inference, the paper does not state it (docs/deviations.md).
ROLES: dict[Family, tuple[str, str, str | None]] = {
    "short-long": ("user_query", "positive_document", "hard_negative_document"),
    "long-short": ("input_text", "label", "misleading_label"),
    "long-long": ("input", "positive_document", None),
    "short-short": ("input", "positive_document", None),
    "sts": ("S1", "S2", "S3"),
    "bitext": ("S1", "S2", "S3"),
}


def example_of(line: dict, item: Item) -> Example:
    reply = parse(line, item)
    query, positive, negative = ROLES[item.family]
    return Example(
        line["custom_id"], item.family, item.task, item.language, item.target_language,
        getattr(reply, query), getattr(reply, positive), getattr(reply, negative) if negative else None,
    )  # fmt: skip


def normalised(text: str) -> str:
    """Lower case, one form of each character, no punctuation or spacing: for equality of texts."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in text if unicodedata.category(c)[0] in "LNM")


def words(text: str) -> list[str]:
    """Words, or single characters in scripts that do not separate words."""
    return re.findall(r"[\u0E00-\u0EFF\u3040-\u30FF\u4E00-\u9FFF]|[^\W_]+", text.casefold())


def longest_copied_run(query: str, document: str) -> float:
    """Longest run of the query's words that stands in the document, as a share of the query's words."""
    ours, theirs = words(query), words(document)
    best, previous = 0, [0] * (len(theirs) + 1)
    for word in ours:
        row = [0] * (len(theirs) + 1)
        for j, other in enumerate(theirs):
            if word == other:
                row[j + 1] = previous[j] + 1
        best, previous = max(best, max(row)), row
    return best / len(ours) if ours else 0.0


@cache
def _detector():
    from lingua import LanguageDetectorBuilder

    return LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models().build()


# lingua's code where it differs from the XLM-R list's; None: a language that lingua does not know.
_LINGUA = {"no": "nb"}
MIN_LANGUAGE_CHARACTERS = 40  # shorter texts do not tell their language reliably


def detected_language(text: str) -> str | None:
    """ISO 639-1 code of a text, or None if it is too short to tell."""
    if len(normalised(text)) < MIN_LANGUAGE_CHARACTERS:
        return None
    found = _detector().detect_language_of(text)
    code = found.iso_code_639_1.name.lower() if found else None
    return {"nb": "no", "nn": "no"}.get(code, code)


def detectable_languages() -> set[str]:
    from lingua import Language

    codes = {language.iso_code_639_1.name.lower() for language in Language.all()}
    return codes | {"no"}


class NearDuplicates:
    """MinHash over word 3-shingles: a text too close to an earlier one (Jaccard over a threshold)."""

    def __init__(self, threshold: float, permutations: int = 64):
        from datasketch import MinHashLSH

        self.threshold, self.permutations = threshold, permutations
        self.index = MinHashLSH(threshold=threshold, num_perm=permutations)
        self.hashes: dict[str, object] = {}

    def hash(self, text: str):
        from datasketch import MinHash

        tokens = words(text)
        shingles = {" ".join(tokens[i : i + 3]) for i in range(max(1, len(tokens) - 2))}
        found = MinHash(num_perm=self.permutations, hashfunc=_hash32)
        found.update_batch([s.encode() for s in shingles])
        return found

    def find(self, text: str) -> str | None:
        """Key of an earlier near-duplicate of ``text``, if there is one."""
        found = self.hash(text)
        for key in self.index.query(found):
            if self.hashes[key].jaccard(found) > self.threshold:
                return key
        return None

    def add(self, key: str, text: str) -> None:
        self.hashes[key] = self.hash(text)
        self.index.insert(key, self.hashes[key])


def _hash32(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "big")


def filtered(examples: Iterable[Example], settings: Analyze, drops: Drops) -> Iterator[Example]:
    """The examples that pass every filter that is on; the rest is counted in ``drops``."""
    seen: set[tuple[str, str]] = set()
    near = NearDuplicates(settings.near_duplicate_threshold) if settings.near_duplicates else None
    detectable = detectable_languages() if settings.language_mismatch else set()
    for example in examples:
        reason = None
        key = (normalised(example.query), normalised(example.positive))
        if settings.exact_duplicates and key in seen:
            reason = "exact duplicate"
        elif (
            settings.negative_equals_positive and example.negative and key[1] == normalised(example.negative)
        ):
            reason = "negative equals positive"
        elif settings.copied_query and _copies(example):
            reason = "query copied into positive"
        elif settings.language_mismatch and _wrong_language(example, detectable):
            reason = "language mismatch"
        elif near and example.family != "bitext" and near.find(example.query):
            reason = "near-duplicate query"
        if reason:
            drops.add(reason, f"{example.query} => {example.positive}")
            continue
        seen.add(key)
        if near and len(words(example.query)) >= 5:  # of shorter queries, equality is judged alone
            near.add(example.id, example.query)
        drops.kept += 1
        yield example


def _copies(example: Example) -> bool:
    """Only where the query should be answered, not repeated: retrieval with queries of 4+ words."""
    if example.family != "short-long" or len(words(example.query)) < 4:
        return False
    return longest_copied_run(example.query, example.positive) > 0.6


def _wrong_language(example: Example, detectable: set[str]) -> bool:
    pairs = [(example.query, example.language)]
    if example.family != "long-short":  # labels are too short to tell
        other = example.target_language or example.language
        pairs += [(text, other) for text in example.documents()]
    for text, wanted in pairs:
        found = detected_language(text) if wanted in detectable else None
        if found and found != wanted:
            return True
    return False


def write(path: Path, examples: Iterable[Example]) -> int:
    """Examples as JSON lines; returns how many."""
    count = 0
    partial = path.with_suffix(".partial")
    with open(partial, "w", encoding="utf-8") as file:
        for example in examples:
            file.write(json.dumps(asdict(example), ensure_ascii=False) + "\n")
            count += 1
    partial.replace(path)
    return count


def read(path: Path) -> list[Example]:
    """Examples from JSON lines; raises ValueError naming file and line of a bad one."""
    found = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                found.append(Example(**json.loads(line)))
            except (json.JSONDecodeError, TypeError) as error:
                raise ValueError(f"{path.name}, line {number}: not an example ({error})") from None
    return found
