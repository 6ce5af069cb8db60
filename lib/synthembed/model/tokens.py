"""The token contract: ids = [bos] + text + eos, put there by our own code (Sec. 3.2)."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from synthembed.ground.weights.embedded import BackboneError

TEXTS = 1_000  # given to the tokenizer at a time: whole texts, of which most may be cut off
KEPT = 64 * 2**20  # bytes of ids that are kept for texts that are asked for again


@dataclass(frozen=True)
class TokenContract:
    """ids = [bos, if the base has one] + text ids, cut to fit + eos, put there by our own code.

    An encoder's [cls] and [sep] stand for bos and eos where its tokenizer has no eos.

    A tokenizer never puts them there itself: with transformers >= 5 the released e5-mistral tokenizer
    drops ``</s>`` and last-token pooling reads the wrong vector. Which they are, its template decides where
    it has one: some models (Qwen3-Embedding) end a text with another token than their eos.
    """

    tokenizer: PreTrainedTokenizerBase
    bos: int | None
    eos: int
    read: Counter = field(default_factory=Counter, compare=False, repr=False)  # "texts", "cut", "unknown"

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, as_saved: bool = False) -> TokenContract:
        """The contract of a tokenizer. ``as_saved`` is for a model that says how its texts are read (a
        sentence-transformers folder): then there is no bos unless the template puts one there, and a
        template without a last token is refused unless ``add_eos_token`` asks for one.
        """
        before, after = added_by(tokenizer)
        if len(before) > 1 or len(after) > 1:
            put = [tokenizer.convert_ids_to_tokens(side) for side in (before, after)]
            raise BackboneError(
                f"the tokenizer puts {put[0]} before a text and {put[1]} after it, and here at most one token "
                "stands on each side: the vectors would be others. Use a model that is read at one last token"
            )
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        if eos is None and None not in (tokenizer.cls_token_id, tokenizer.sep_token_id):
            bos, eos = tokenizer.cls_token_id, tokenizer.sep_token_id
        if as_saved and not before:
            bos = None
        if as_saved and not after and not tokenizer.init_kwargs.get("add_eos_token"):
            raise BackboneError(
                "the model's own tokenizer puts no token after a text, and here a vector is read with one "
                "(Sec. 3.2): the vectors would be others. Encode with sentence-transformers"
            )
        bos, eos = (before or [bos])[0], (after or [eos])[0]
        if eos is None:
            raise BackboneError(
                "the tokenizer has no eos token, and the embedding is read at eos (Sec. 3.2): "
                "set tokenizer.eos_token in the base model's folder"
            )
        return cls(tokenizer, bos, eos)

    def ids(self, texts: list[str], max_length: int) -> list[list[int]]:
        """Token ids of each text, at most ``max_length`` with bos and eos; ``read`` counts what is cut, and what is
        half or more in signs that the tokenizer does not know, whose vectors are nearly one.

        Raises BackboneError naming a text that no tokenizer takes (half of a surrogate pair).
        """
        _check_whole(texts)
        head = [] if self.bos is None else [self.bos]
        room = max_length - len(head) - 1
        if room < 1:
            raise ValueError(f"max_length {max_length} leaves no room for text beside bos and eos")
        rows, none = [], self.tokenizer.unk_token_id
        none = None if none in (self.bos, self.eos) else none
        for start in range(0, len(texts), TEXTS):
            encoded = self.tokenizer(
                texts[start : start + TEXTS],
                add_special_tokens=False,
                return_attention_mask=False,
                verbose=False,
            )["input_ids"]
            rows += [head + ids[:room] + [self.eos] for ids in encoded]
            self.read.update(texts=len(encoded), cut=sum(len(ids) > room for ids in encoded))
            self.read.update(unknown=sum(2 * ids.count(none) >= len(ids) > 0 for ids in encoded))
        return rows

    def check(self, ids: list[list[int]]) -> None:
        """Raise if a sequence lacks bos or eos; called wherever ids reach a model."""
        for number, row in enumerate(ids):
            if row[-1] != self.eos or (self.bos is not None and row[0] != self.bos):
                raise BackboneError(
                    f"token contract broken at row {number}: ids {row[:2]}...{row[-2:]} must begin "
                    f"with bos {self.bos} and end with eos {self.eos}"
                )


def added_by(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The ids that a tokenizer's own template puts before and after a text."""
    bare, whole = (tokenizer("a", add_special_tokens=put)["input_ids"] for put in (False, True))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise BackboneError(f"the tokenizer reads 'a' as {bare} alone and as {whole} with its special tokens")


@dataclass
class TokenCache:
    """Ids of lists of texts that several models of one tokenizer read, as the systems of an evaluation do.

    At most ``limit`` bytes; the list that was asked for longest ago goes first, and one that alone would
    take a quarter of it is not kept.
    """

    limit: int = KEPT
    size: int = 0
    kept: OrderedDict = field(default_factory=OrderedDict, repr=False)

    def ids(self, contract: TokenContract, texts: list[str], max_length: int) -> list[list[int]]:
        """As ``contract.ids``."""
        digest = hashlib.sha256()
        for text in texts:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(encoded) + encoded)
        key = (contract, max_length, digest.digest())  # a tokenizer is equal to itself alone
        if key in self.kept:
            self.kept.move_to_end(key)
            ids, ends, (cut, unknown) = (part.tolist() for part in self.kept[key])
            contract.read.update(texts=len(texts), cut=cut, unknown=unknown)
            return [ids[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        before = contract.read.copy()
        rows = contract.ids(texts, max_length)
        ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
        ids = np.fromiter((i for row in rows for i in row), np.int32)
        counts = np.array([contract.read[what] - before[what] for what in ("cut", "unknown")], np.int64)
        taken = ids.nbytes + ends.nbytes + counts.nbytes
        if taken <= self.limit / 4:
            self.kept[key] = ids, ends, counts
            self.size += taken
        while self.size > self.limit:
            _, parts = self.kept.popitem(last=False)
            self.size -= sum(part.nbytes for part in parts)
        return rows


CACHE = TokenCache()


def _check_whole(texts: list[str]) -> None:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        number = next(n for n, text in enumerate(texts) if _HALF.search(text))
        raise BackboneError(
            f"text {number + 1}, {texts[number][:60]!r}: half a character (a surrogate without its other half, "
            "often of a cut emoji) is in it: delete it"
        ) from None


_HALF = re.compile("[\ud800-\udfff]")
