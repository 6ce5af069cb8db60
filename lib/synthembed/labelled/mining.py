"""Hard negatives for labelled sets that have none: one drawn from an encoder's top ranks (App. A).

The ranks are exact: every query is compared with every document, in blocks, so memory does not grow
with the corpus (BM25 holds its index). Vectors and ranks lie in a cache under the hash of what they
were made from: an interrupted run goes on, a second run reads.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from synthembed.corpus.texts import normalised, words
from synthembed.ground import hardware
from synthembed.ground.console import Progress
from synthembed.ground.seeding import seed_of
from synthembed.ground.weights import embedded
from synthembed.profile.settings import Negatives

BLOCK = 16_384  # documents encoded, stored and searched at a time
CHUNK = 1_024  # queries searched at a time
ROWS = 2**32 - 1  # documents at most
NOTHING = torch.iinfo(torch.int64).min
TRIED = 5  # candidates looked at, in case the first drawn repeats the positive word for word

Documents = Callable[[], Iterator[tuple[str, str]]]  # (id, text), the same every time it is called


class MiningError(ValueError):
    """Negatives cannot be mined; the message names the setting and the remedy."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that wants a hard negative. ``known`` are the ids of all documents judged to answer it,
    ``positive`` the one it is trained with, which has the text ``text``."""

    id: str
    query: str
    positive: str
    text: str
    known: frozenset[str]


@dataclass(frozen=True)
class Ranks:
    """Of n queries, the best k documents: rows in the corpus and scores, best first; and the score of
    the positive (NaN if the corpus lacks it). A row of -1 stands where there are fewer documents."""

    rows: np.ndarray  # (n, k) int64
    scores: np.ndarray  # (n, k) float32
    positive: np.ndarray  # (n,) float32


def mine(
    asked: list[Asked], documents: Documents, settings: Negatives, seed: int, folder: Path
) -> tuple[dict[str, str], Counter]:
    """Query id → the text of a hard negative, and counts of why some queries have none.

    Drawn at random from the first ``settings.depth`` ranks, never a document known to answer the query
    nor one with its text, and none that scores within ``settings.margin`` of the positive.
    """
    counts: Counter = Counter()
    if not asked:
        return {}, counts
    digest, total, rows_of = _survey(asked, documents)
    most = max(sum(len(rows_of.get(d, ())) for d in a.known) for a in asked)
    ranks = _cached_ranks(asked, documents, settings, settings.depth + most, (digest, total, rows_of), folder)
    drawn: dict[str, list[int]] = {}
    for number, one in enumerate(asked):
        known = {row for d in one.known for row in rows_of.get(d, ())}
        found = candidates(ranks, number, known, settings)
        random.Random(seed_of(seed, "negative", one.id)).shuffle(found)
        drawn[one.id] = found[:TRIED]
    texts = _texts(documents, {row for rows in drawn.values() for row in rows})
    negatives = {}
    for one in asked:
        same = {normalised(one.query), normalised(one.text)}
        chosen = next((t for t in map(texts.get, drawn[one.id]) if normalised(t) not in same), None)
        if chosen is not None:
            negatives[one.id] = chosen
        else:
            counts["no candidate" if not drawn[one.id] else "candidates repeat the positive"] += 1
    return negatives, counts


def ranked(asked: list[Asked], documents: Documents, settings: Negatives, k: int, folder: Path) -> Ranks:
    """The best ``k`` documents of each query by ``settings.encoder``, from the cache in ``folder`` or found now."""
    return _cached_ranks(asked, documents, settings, k, _survey(asked, documents), folder)


def candidates(ranks: Ranks, number: int, known: set[int], settings: Negatives) -> list[int]:
    """Rows that may be drawn for a query: of the first ``depth`` that are not known positives, those
    that score at most the positive's score less ``margin`` of it. By BM25, a score of 0 is no rank."""
    rows, scores = ranks.rows[number].tolist(), ranks.scores[number].tolist()
    ranked = [(r, s) for r, s in zip(rows, scores, strict=True) if r >= 0 and r not in known]
    if settings.encoder == "bm25":
        ranked = [(r, s) for r, s in ranked if s > 0]
    ranked = ranked[: settings.depth]
    positive = float(ranks.positive[number])
    if settings.margin is None or np.isnan(positive):
        return [r for r, _ in ranked]
    bound = positive - settings.margin * abs(positive)
    return [r for r, s in ranked if s <= bound]


# --- exact top ranks in blocks -------------------------------------------------------------------


def merge(best: torch.Tensor, scores: torch.Tensor, first: int) -> torch.Tensor:
    """Keep the best k: ``best`` (n, k) keys so far, ``scores`` (n, b) of documents ``first`` onwards.

    A key is a score's bits in an order-keeping form above the document's number counted down, so one
    integer top-k decides all, ties by document number.
    """
    bits = (scores.float() + 0.0).contiguous().view(torch.int32)
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    rows = torch.arange(first, first + scores.shape[1], device=scores.device)
    keys = (ordered << 32) | (ROWS - rows)
    return torch.cat([best, keys], 1).topk(best.shape[1], 1).values


def unpack(best: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(rows, scores) of keys; -1 and -inf where there was no document."""
    ordered = (best >> 32).int()
    scores = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    empty = best == NOTHING
    rows = (ROWS - (best & ROWS)).masked_fill(empty, -1)
    return rows.cpu().numpy(), scores.masked_fill(empty, -torch.inf).cpu().numpy()


class Lexical:
    """BM25 over words, or characters where a script does not separate words; all documents in memory."""

    name = "bm25"

    def rank(self, asked: list[Asked], documents: Documents, total: int, k: int, rows_of: dict) -> Ranks:
        import bm25s

        index = bm25s.BM25()
        tokens = [words(text) or [""] for _, text in documents()]
        index.index(tokens, show_progress=False)
        best = torch.full((len(asked), k), NOTHING)
        positive = np.full(len(asked), np.nan, np.float32)
        progress = Progress("  mining", "queries")
        for number, one in enumerate(asked):
            found = [w for w in words(one.query) if w in index.vocab_dict]
            scores = index.get_scores(found) if found else np.zeros(len(tokens), np.float32)
            best[number] = merge(best[number : number + 1], torch.from_numpy(scores)[None], 0)[0]
            if rows := rows_of.get(one.positive):
                positive[number] = scores[rows[0]]
            progress(number + 1, len(asked))
        return Ranks(*unpack(best), positive)


class Dense:
    """Cosine of a sentence-transformers model's vectors: a hub id, a folder, or an "embedded:" model."""

    def __init__(self, settings: Negatives, folder: Path):
        from sentence_transformers import SentenceTransformer

        try:
            where = embedded.folder_of(settings.encoder)
            self.model = SentenceTransformer(where, device=str(hardware.device()))
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise MiningError(
                f"data.negatives.encoder {settings.encoder!r} cannot be loaded ({reason}): give a hub id that "
                'can be reached (hub:owner/name), a local folder, "embedded:minilm-l6", "bm25", or null for no mining'
            ) from None
        self.model.max_seq_length = settings.max_length
        self.settings, self.folder = settings, folder
        probe = self._encode(["what a model makes of this text tells it from others"])
        how = (settings.encoder, settings.max_length, settings.query_prefix, settings.document_prefix)
        self.name = f"{how} {probe.round(3).tobytes().hex()}"

    def rank(self, asked: list[Asked], documents: Documents, total: int, k: int, rows_of: dict) -> Ranks:
        on = self.model.device
        prefix, other = self.settings.query_prefix, self.settings.document_prefix
        queries = [
            torch.from_numpy(self.vectors([prefix + a.query for a in part])).to(on)
            for part in _batched(asked, CHUNK)
        ]
        best = [torch.full((len(q), k), NOTHING, device=on) for q in queries]
        trained = _positions(asked, rows_of)
        positive = np.full(len(asked), np.nan, np.float32)
        progress, first = Progress("  mining", "documents"), 0
        for block in _batched(documents(), BLOCK):
            vectors = torch.from_numpy(self.vectors([other + text for _, text in block])).to(on)
            for n, part in enumerate(queries):
                best[n] = merge(best[n], part @ vectors.T, first)
            for row in range(first, first + len(block)):
                for number in trained.get(row, ()):
                    query = queries[number // CHUNK][number % CHUNK]
                    positive[number] = float(query @ vectors[row - first])
            first += len(block)
            progress(first, total)
        return Ranks(*unpack(torch.cat(best)), positive)

    def vectors(self, texts: list[str]) -> np.ndarray:
        """(texts, dim) float32 of length 1, read from the cache if these very texts were encoded before."""
        path = self.folder / f"vectors-{_digest([self.name, *texts])}.npy"
        if not path.exists():
            made = self._encode(texts)
            _save(path, lambda file: np.save(file, made))
        return np.load(path)

    def _encode(self, texts: list[str]) -> np.ndarray:
        return self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def _positions(asked: list[Asked], rows_of: dict) -> dict[int, list[int]]:
    """Row of a document → the numbers of the queries that are trained with it."""
    found: dict[int, list[int]] = {}
    for number, one in enumerate(asked):
        if rows := rows_of.get(one.positive):
            found.setdefault(rows[0], []).append(number)
    return found


def _survey(asked: list[Asked], documents: Documents) -> tuple[str, int, dict[str, list[int]]]:
    """A hash of queries and corpus, the number of documents, and the rows of those known to answer a query."""
    needed = {d for one in asked for d in one.known}
    rows_of: dict[str, list[int]] = {}
    digest = hashlib.blake2b(digest_size=16)
    for one in asked:
        digest.update(f"{one.id}\n{one.query}\n{one.positive}\n{sorted(one.known)}\n".encode())
    total = 0
    for row, (document, text) in enumerate(documents()):
        total = row + 1
        digest.update(f"{document}\n{text}\n".encode())
        if document in needed:
            rows_of.setdefault(document, []).append(row)
    return digest.hexdigest(), total, rows_of


def _cached_ranks(asked, documents, settings: Negatives, k: int, surveyed, folder: Path) -> Ranks:
    score = Lexical() if settings.encoder == "bm25" else Dense(settings, folder)
    digest, total, rows_of = surveyed
    path = folder / f"ranks-{_digest([digest, score.name, str(k)])}.npz"
    if not path.exists():
        found = score.rank(asked, documents, total, k, rows_of)
        _save(path, lambda file: np.savez(file, **vars(found)))
    with np.load(path) as stored:
        return Ranks(**stored)


def _texts(documents: Documents, wanted: set[int]) -> dict[int, str]:
    return {row: text for row, (_, text) in enumerate(documents()) if row in wanted}


def _batched(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while block := list(itertools.islice(items, size)):
        yield block


def _digest(parts: Iterable[str]) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def _save(path: Path, write: Callable) -> None:
    """Atomically, so that an interrupted run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with open(partial, "wb") as file:
        write(file)
    os.replace(partial, path)
