"""Texts compared: equal, alike, copied, and how many words they have, in any script."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import cache, lru_cache

import numpy as np
import regex

_NO_LETTER = regex.compile(r"[^\p{L}\p{N}\p{M}]+")


def normalised(text: str) -> str:
    """Lower case, one form of each character, no punctuation or spacing: for equality of texts."""
    return _NO_LETTER.sub("", unicodedata.normalize("NFKC", text).casefold())


# Letters with their marks (vowel signs of Indic scripts are marks), or digits; one character at a time
# in scripts that do not separate words.
_UNSPACED = r"[\u0E00-\u0EFF\u3040-\u30FF\u4E00-\u9FFF]"
_WORD = regex.compile(rf"{_UNSPACED}|(?:(?!{_UNSPACED})[\p{{L}}\p{{M}}\p{{N}}])+")


def words(text: str) -> list[str]:
    """Words, or single characters in scripts that do not separate words."""
    return _WORD.findall(text.casefold())


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


LEAST_WORDS = 5  # shorter texts repeat without meaning anything; of them, equality alone is judged


class NearDuplicates:
    """MinHash over word 3-shingles: a text too close to an earlier one (Jaccard over a threshold).

    Signatures and the choice of bands are datasketch's; the buckets are one dictionary of ours, as
    datasketch's take three times the memory.
    """

    def __init__(self, threshold: float, permutations: int = 64):
        from datasketch import MinHashLSH

        self.threshold, self.permutations = threshold, permutations
        self.bands = MinHashLSH(threshold=threshold, num_perm=permutations).hashranges
        self.keys: list[str] = []
        self.signatures: list[np.ndarray] = []
        self.buckets: dict[int, tuple[int, ...]] = {}

    def find(self, text: str) -> str | None:
        """Key of an earlier near-duplicate of ``text``, if there is one."""
        return self._near(_signature(text, self.permutations)) if len(words(text)) >= LEAST_WORDS else None

    def _buckets_of(self, signature: np.ndarray) -> list[int]:
        return [hash64(bytes([n]) + signature[a:b].tobytes()) for n, (a, b) in enumerate(self.bands)]

    def _near(self, signature: np.ndarray) -> str | None:
        candidates = {row for bucket in self._buckets_of(signature) for row in self.buckets.get(bucket, ())}
        for row in sorted(candidates):
            if np.count_nonzero(self.signatures[row] == signature) > self.threshold * self.permutations:
                return self.keys[row]
        return None

    def seen(self, key: str, text: str) -> bool:
        """Whether ``text`` is near an earlier one; if not, it is remembered under ``key``."""
        if len(words(text)) < LEAST_WORDS:
            return False
        signature = _signature(text, self.permutations)
        if self._near(signature):
            return True
        row = len(self.keys)
        self.keys.append(key)
        self.signatures.append(signature)
        for bucket in self._buckets_of(signature):
            self.buckets[bucket] = (*self.buckets.get(bucket, ()), row)
        return False


@lru_cache(64)  # the filters look at the same texts one after the other
def _signature(text: str, permutations: int) -> np.ndarray:
    tokens = words(text)
    shingles = {" ".join(tokens[i : i + 3]) for i in range(max(1, len(tokens) - 2))}
    found = _empty(permutations).copy()
    found.update_batch([s.encode() for s in shingles])
    return found.hashvalues


@cache  # drawing the permutations costs as much as hashing a text
def _empty(permutations: int):
    from datasketch import MinHash

    return MinHash(num_perm=permutations, hashfunc=_hash32)


def _hash32(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "big")


def hash64(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


CHARACTERS_PER_WORD = 1.6  # of scripts that do not separate words


def word_count(text: str) -> float:
    """Words; in scripts that do not separate them, characters over CHARACTERS_PER_WORD."""
    tokens = words(text)
    unspaced = sum(bool(re.match(_UNSPACED, t)) for t in tokens)
    return len(tokens) - unspaced + unspaced / CHARACTERS_PER_WORD
