"""Texts compared: equal, alike, copied, and how many words they have, in any script."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import cache, lru_cache

import numpy as np
import regex

# Scripts that do not separate words: those that Unicode's line breaking (UAX 14) looks up in a dictionary (SA:
# Thai, Lao, Khmer, Burmese, ...) or breaks between syllables (AK, AS, AP: Javanese, Balinese, ...), and East Asia's.
_UNSPACED = r"[[\p{lb=SA}\p{lb=AK}\p{lb=AS}\p{lb=AP}\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{scx=Bopo}]&&[\p{L}\p{M}\p{N}]]"
_IS_UNSPACED = regex.compile(_UNSPACED, regex.VERSION1)

# --- equal -----------------------------------------------------------------------------------------


# Other widths and shapes of a character, unlike raised and lowered ones: 10² is not 102.
_SHAPES = regex.compile(
    r"[\p{dt=Wide}\p{dt=Narrow}\p{dt=Compat}\p{dt=Font}\p{dt=Square}\p{dt=Initial}\p{dt=Medial}\p{dt=Final}"
    r"\p{dt=Isolated}]+"
)
_TAGS = r"\U000E0020-\U000E007F"  # of flags: England's and Scotland's differ in these alone
_SPACE = rf"[[\s\p{{Cc}}\p{{Cf}}\p{{Variation_Selector}}]--[{_TAGS}]]"
_QUOTE = r"[\"'`\p{Quotation_Mark}]"
# What a sentence puts around its words: marks that end it or a part of it, quotes and brackets. Inside a
# word (1.5, o'clock) and before it (.NET, -5, #tag) marks tell texts apart, and so does a word of marks (":)").
_ENDS = rf"[{_QUOTE}\p{{Terminal_Punctuation}}\p{{Pe}}\p{{Pf}}\p{{Ps}}\p{{Pi}}…·]+"
_BEGINS = rf"[{_QUOTE}\p{{Ps}}\p{{Pi}}¿¡]+"
_BESIDE = rf"[{_QUOTE}\p{{P}}--[#%&@*/\\\p{{Pd}}_]]+"  # in scripts without spaces nothing else parts clauses
_PROSE = regex.compile(
    rf"{_SPACE}+"
    rf"|(?<=[\p{{L}}\p{{M}}\p{{N}}\p{{So}}\p{{Sc}}+#%]){_ENDS}(?={_SPACE}|$)"
    rf"|(?<![^\s\p{{Cc}}\p{{Cf}}]){_BEGINS}(?=[\p{{L}}\p{{N}}])"
    rf"|(?<![^\s\p{{Cc}}\p{{Cf}}])[.,;:!?…«»]+(?={_SPACE}|$)",
    regex.VERSION1,
)
# What nobody sees, wherever it stands, and what only stretches an Arabic or N'Ko word.
_UNSEEN = regex.compile(rf"[[\p{{DI}}\p{{Cf}}\u0640\u07fa]--[{_TAGS}]]+", regex.VERSION1)
# One sign written in several ways; and what stands within a word or between words as marks of prose do elsewhere:
# Armenian writes its question mark on a vowel, Ethiopic a colon for a blank.
_SAME = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201b\u02bb\u02bc\u05f3", "'") | dict.fromkeys("\u2010\u2011\u2212", "-")
    | {"\u05f4": '"', "\u1361": " "} | dict.fromkeys("\u055b\u055c\u055e", "")
)  # fmt: skip
_PROSE_UNSPACED = regex.compile(
    rf"(?<={_UNSPACED}\p{{M}}*){_BESIDE}|{_BESIDE}(?={_UNSPACED})", regex.VERSION1
)


def normalised(text: str) -> str:
    """Lower case, one form of each character, without spacing and the punctuation of prose: for texts
    that are the same but for how they are set.

    Signs stay: C++ is not C#, -5 not 5, 1.5 not 15, and a thumb up is none down.
    """
    plain = text
    if not text.isascii():
        plain = _plain(text)
        if _IS_UNSPACED.search(plain):
            plain = _PROSE_UNSPACED.sub("", plain)
    return _PROSE.sub("", _folded(plain)) or text.strip()


def _plain(text: str) -> str:
    """One form of each character, and none that nobody sees."""
    seen = unicodedata.normalize("NFC", _UNSEEN.sub("", text)).translate(_SAME)
    return unicodedata.normalize("NFC", _SHAPES.sub(lambda m: unicodedata.normalize("NFKC", m[0]), seen))


def _folded(text: str) -> str:
    """Without case. Turkish has two pairs of i, of which the capitals are those of one elsewhere."""
    folded = unicodedata.normalize("NFC", text.casefold())  # which takes ΐ apart
    return folded if folded.isascii() else folded.replace("i\u0307", "i").replace("ı", "i")


_NO_LETTER = regex.compile(r"[^\p{L}\p{N}\p{M}]+")


def letters(text: str) -> int:
    """How many letters, digits and marks a text has."""
    return len(_NO_LETTER.sub("", unicodedata.normalize("NFKC", text).casefold()))


# --- words -----------------------------------------------------------------------------------------

# Letters with their marks (vowel signs of Indic scripts are marks), or digits; one letter with its marks at a
# time in scripts that do not separate words.
_LETTERS = rf"{_UNSPACED}\p{{M}}*|(?:(?!{_UNSPACED})[\p{{L}}\p{{M}}\p{{N}}])+"
_WORD = regex.compile(_LETTERS, regex.VERSION1)
# Words, and the signs that tell apart what has the same words.
_TERM = regex.compile(
    rf"{_LETTERS}|[\p{{S}}%&@{_TAGS}--[`|~^]]+|(?<=[\p{{L}}\p{{N}}])#|#(?=[\p{{L}}\p{{N}}])|[\p{{Pd}}](?=\p{{N}})",
    regex.VERSION1,
)
_ASCII_WORD = re.compile("[a-z0-9]+")  # the same, ten times as fast


def words(text: str) -> list[str]:
    """Words, or single letters with their marks in scripts that do not separate words."""
    if text.isascii():
        return _ASCII_WORD.findall(text.casefold())
    return _WORD.findall(_folded(_plain(text)))


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
    """MinHash over 3-shingles of words and signs: a text too close to an earlier one (Jaccard over a threshold).

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
    tokens = _TERM.findall(_folded(_plain(text)))
    shingles = {" ".join(tokens[i : i + 3]) for i in range(max(1, len(tokens) - 2))}
    found = _empty(permutations).copy()
    found.update_batch([s.encode("utf-8", "surrogatepass") for s in shingles])
    return found.hashvalues


@cache  # drawing the permutations costs as much as hashing a text
def _empty(permutations: int):
    from datasketch import MinHash

    return MinHash(num_perm=permutations, hashfunc=_hash32)


def _hash32(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "big")


def hash64(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


CHARACTERS_PER_WORD = 1.6  # letters, with their marks, of scripts that do not separate words


_RARE = regex.compile(r"(?![\u3000-\u30FF\u4E00-\u9FFF])\p{Han}")


def word_count(text: str) -> float:
    """Words; in scripts that do not separate them, letters over CHARACTERS_PER_WORD. Rare Chinese characters
    (of the extensions) are names and words of dialects, each a word by itself."""
    tokens = words(text)
    unspaced = sum(bool(_IS_UNSPACED.match(t)) and not _RARE.match(t) for t in tokens)
    return len(tokens) - unspaced + unspaced / CHARACTERS_PER_WORD
