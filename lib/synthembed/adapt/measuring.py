"""How well a reader's own held-out queries find their passages: before, after, and beside systems that are not ours.

Every query is searched among all passages, trained ones included, as it will be in use. Intervals resample
documents, not queries, as the queries of one document rise and fall together.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import regex
from scipy.special import ndtr, stdtrit

from synthembed.adapt.reading import languages
from synthembed.adapt.reading.passages import Passage
from synthembed.corpus.example import Example
from synthembed.corpus.texts import word_count, words
from synthembed.model.encoder import Encoder

RESAMPLES, LEVEL, DEPTH = 10_000, 0.95, 10
BLOCK = 4096  # queries that are ranked at once: of 50,000 passages their scores take 0.8 GB
ENGLISH, MULTILINGUAL = "minilm", "me5-small-4bit"  # embedding models of others, of evaluation.peers


@dataclass(frozen=True)
class Interval:
    """A mean in per cent, or a difference in points, with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"


def ranks(scores: np.ndarray, sources: Sequence[int]) -> np.ndarray:
    """The rank of each query's source, (queries,), of ``scores`` (queries, passages). Ties count against it."""
    own = scores[np.arange(len(sources)), list(sources)]
    return (scores >= own[:, None]).sum(1)


def ndcg(found: np.ndarray) -> np.ndarray:
    """nDCG@10 in per cent for each rank of the one relevant passage."""
    return np.where(found <= DEPTH, 100 / np.log2(1 + found), 0.0)


def metrics(found: np.ndarray) -> dict[str, float]:
    """Means over queries, in per cent."""
    return {
        "ndcg@10": float(ndcg(found).mean()),
        "hit@1": float(100 * (found == 1).mean()),
        "recall@10": float(100 * (found <= DEPTH).mean()),
        "mrr@10": float(100 * np.where(found <= DEPTH, 1 / found, 0).mean()),
    }


def interval(values: np.ndarray, documents: Sequence[str], seed: int = 0) -> Interval:
    """The mean of ``values`` (queries,) with the interval over documents resampled (a ratio of sums)."""
    _, group = np.unique(np.asarray(documents), return_inverse=True)
    sums, counts = np.bincount(group, values), np.bincount(group)
    drawn = np.random.default_rng(seed).multinomial(
        len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES
    )
    means = (drawn @ sums) / (drawn @ counts)
    tail = _tail(len(counts))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high))


def _tail(documents: int) -> float:
    """What is cut off at each end of the resampled means: less where few documents are resampled, whose spread is
    smaller than that of the means themselves (Hesterberg 2015, the expanded percentile interval)."""
    if documents < 2:
        return 0.0
    return float(ndtr(stdtrit(documents - 1, (1 - LEVEL) / 2) * np.sqrt(documents / (documents - 1))))


Searcher = Callable[[Sequence[str], str], np.ndarray]  # (queries, instruction) → scores (queries, passages)


def by_encoder(encoder: Encoder, passages: Sequence[Passage], vectors: np.ndarray | None = None) -> Searcher:
    """Cosines of our model's vectors, the instruction before each query."""
    documents = encoder.encode([p.text for p in passages], normalize=True) if vectors is None else vectors
    return lambda texts, instruction: encoder.encode(list(texts), instruction, normalize=True) @ documents.T


def terms(text: str) -> list[str]:
    """What BM25 counts: words, and pairs of neighbouring letters in scripts that do not separate words, where a
    single letter says nothing. A letter without neighbours stands alone."""
    found, before, paired = [], "", False
    for word in words(text):
        if not _unspaced(word):
            found += [before] * bool(before and not paired)
            found.append(word)
            before, paired = "", False
            continue
        if before:
            found.append(before + word)
        before, paired = word, bool(before)
    return found + [before] * bool(before and not paired)


@cache
def _unspaced(word: str) -> bool:
    return word_count(word) < 1


GRAM = 4  # letters; fewer where vowels are not written, or a letter is a syllable


def inflected(text: str) -> list[str]:
    """``terms`` of a language whose words change their endings, beginnings or vowels: longer ones are also counted
    by their runs of GRAM letters (McNamee and Mayfield 2004), which finds most of what a stemmer of each language would. Points of Hebrew and Arabic, Greek accents and the dots of Turkish i are one."""
    found = []
    for word in terms(_UNMARKED.sub("", unicodedata.normalize("NFD", text)).replace("ı", "i")):
        word = unicodedata.normalize("NFC", word)
        size = 2 if _HANGUL.match(word) else 3 if _DENSE.match(word) else GRAM
        found.append(word)
        if len(word) > size and not _unspaced(word[0]):
            found += [word[n : n + size] for n in range(len(word) - size + 1)]
    return found


_UNMARKED = regex.compile(r"(?<=[\p{Greek}\p{Hebrew}\p{Arabic}]\p{M}*)\p{M}|(?<=[Ii])\u0307|\u0640")
_HANGUL, _DENSE = regex.compile(r"\p{Hangul}"), regex.compile(r"[\p{Hebrew}\p{Arabic}\p{Ethiopic}]")


def by_bm25(passages: Sequence[Passage]) -> Searcher:
    """BM25 over ``terms``, in other languages than English over ``inflected``."""
    import bm25s

    english = languages.of_collection([p.body for p in passages]) == "English"
    counted = terms if english else inflected
    index = bm25s.BM25()
    tokens = [counted(p.text) or [""] for p in passages]
    index.index(tokens, show_progress=False)

    def scores(texts, instruction):
        known = [[w for w in counted(t) if w in index.vocab_dict] for t in texts]
        nothing = np.zeros(len(tokens), np.float32)
        return np.stack([index.get_scores(k) if k else nothing for k in known])

    return scores


def neural_for(passages: Sequence[Passage]) -> str:
    """The embedding model of others that knows a collection's language: MiniLM knows English alone."""
    language = languages.of_collection([p.body for p in passages])
    if language is None:  # too little to tell, or none that the detector knows: then its script decides
        seen = languages.scripts(" ".join(p.body[:200] for p in passages[:40]))
        return ENGLISH if not seen or seen.most_common(1)[0][0] == "Latin" else MULTILINGUAL
    return ENGLISH if language == "English" else MULTILINGUAL


def by_neural(name: str, passages: Sequence[Passage]) -> Searcher:
    """all-MiniLM-L6-v2 or multilingual-e5-small, with its own prompts and no instruction of ours."""
    from synthembed.evaluation import peers

    model, _ = peers.peer(name)

    def encode(texts, prompt):
        known = {"prompt_name": prompt} if prompt in model.prompts else {}
        return model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False, **known)

    documents = encode([p.text for p in passages], "document")
    return lambda texts, instruction: encode(texts, "query") @ documents.T


def measure(search: Searcher, examples: Sequence[Example], passages: Sequence[Passage]) -> np.ndarray:
    """The rank of each example's passage for its query, (examples,)."""
    place, found = {p.text: n for n, p in enumerate(passages)}, []
    for start in range(0, len(examples), BLOCK):
        some = examples[start : start + BLOCK]
        scores = search([e.query for e in some], some[0].instruction)
        found.append(ranks(scores, [place[e.positive] for e in some]))
    return np.concatenate(found)


def row(system: str, found: np.ndarray, documents: Sequence[str]) -> dict:
    """One row of scores.json."""
    about = interval(ndcg(found), documents)
    return {
        "system": system, "benchmark": "own documents", **metrics(found), "low": about.low, "high": about.high,
        "queries": len(found), "documents": len(set(documents)),
    }  # fmt: skip


def difference(after: np.ndarray, before: np.ndarray, documents: Sequence[str]) -> Interval:
    """after − before in points of nDCG@10, on the same queries."""
    return interval(ndcg(after) - ndcg(before), documents)
