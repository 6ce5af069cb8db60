"""Personalised passkey retrieval and the RoPE / window variants of Figure 5 (Sec. 5.2).

A document is filler text with one person's pass key hidden at a random place; a query asks for a
person's pass key, and the right document is the one that holds it. The variants change the RoPE base
or the sliding window of a trained model, without training it again.
"""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from synthembed.evaluation.intervals import wilson
from synthembed.ground import places
from synthembed.ground.console import Progress
from synthembed.ground.files import read_lines
from synthembed.ground.seeding import seed_of
from synthembed.ground.weights.embedded import BackboneError
from synthembed.model import packed_rows
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import Encoder
from synthembed.profile.settings import LongContext, RopeVariant

WORDS_PER_TOKEN = 0.75  # as LongEmbed counts
# Our own filler and names; the paper repeats one block of plain sentences as well.
FILLER = (
    "The river runs under the bridge. The wind moves the leaves. A lamp burns in the window. "
    "The road goes on past the mill. Someone hums and walks by. "
)
GIVEN = (
    "Ada Bruno Chidi Dalia Emre Farah Goran Hana Ivo Jamila Kenji Lucia Marek "
    "Nadia Otto Priya Quentin Rosa Samir Tamar Ulla Viktor Wanda Ximena Yusuf Zofia"
)
FAMILY = (
    "Abara Bianchi Castell Dimitrov Eriksen Ferreira Grigorian Haddad Ibarra Jansen Kovacs Lindqvist Moreau "
    "Nakamura Okafor Petrov Quispe Rahman Sato Tanaka Usman Vargas Weber Xu Yilmaz Zielinski"
)


@dataclass(frozen=True)
class Passkeys:
    """One length: ``queries``; ``documents``; for each query the rows of its ``candidates`` among the
    documents, and of the right one in ``answers``."""

    length: int
    queries: list[str]
    documents: list[str]
    candidates: list[range]
    answers: list[int]


def make(settings: LongContext, length: int, backbone: Backbone, seed: int) -> Passkeys:
    """Data of our own for one length, a function of (seed, length): documents of about ``length`` tokens.

    As in the paper every query has candidates of its own, or all of a length share theirs (LongEmbed).
    """
    rng = random.Random(seed_of(seed, "passkey", length))
    everyone = [f"{given} {family}" for given in GIVEN.split() for family in FAMILY.split()]
    count, shared = settings.candidates, settings.candidates_per == "length"
    groups = [rng.sample(everyone, count) for _ in range(1 if shared else settings.queries)]
    names = [name for group in groups for name in group]
    documents = [_document(name, rng, length, settings.unit, backbone) for name in names]
    if shared:
        answers = rng.sample(range(count), settings.queries)
        candidates = [range(count)] * settings.queries
    else:
        candidates = [range(i * count, (i + 1) * count) for i in range(settings.queries)]
        answers = [rng.choice(rows) for rows in candidates]
    queries = [f"What is the pass key of {names[i]}?" for i in answers]
    return Passkeys(length, queries, documents, candidates, answers)


def _document(name: str, rng: random.Random, length: int, unit: str, backbone: Backbone) -> str:
    def size(text: str) -> float:
        if unit == "words":
            return len(text.split()) / WORDS_PER_TOKEN
        return len(backbone.contract.tokenizer(text, add_special_tokens=False)["input_ids"])

    statement = f"{name}'s pass key is {rng.randrange(1000, 100_000)}. Keep it in mind. "
    sentences = FILLER.split(". ")[:-1]
    room = length - size(statement) - 2  # bos and eos
    wanted = max(0, round(room / size(FILLER) * len(sentences)))
    before = rng.randint(0, wanted)
    line = [sentences[i % len(sentences)] + ". " for i in range(wanted)]
    return ("".join(line[:before]) + statement + "".join(line[before:])).strip()


def read(source: str, lengths: list[int]) -> list[Passkeys]:
    """The paper's data: a hub dataset, or JSON Lines, of {query, candidates, label, context_length}. Or
    LongEmbed's: its hub id, or a folder as ``write_longembed`` writes it.

    Raises ValueError if fields or lengths are not there.
    """
    import datasets

    if is_longembed(source):
        return _read_longembed(source, lengths)
    if source.endswith(".jsonl"):
        rows = datasets.load_dataset("json", data_files=source, split="train")
    else:
        rows = datasets.concatenate_datasets(list(datasets.load_dataset(places.name_for(source)).values()))
    if missing := {"query", "candidates", "label", "context_length"} - set(rows.column_names):
        raise ValueError(
            f"long_context.data {source}: no field {', '.join(sorted(missing))}; 'own' makes data"
        )
    return [_of_rows(length, of_length) for length, of_length in _by_length(rows, lengths, source).items()]


def is_longembed(source: str) -> bool:
    return Path(source).is_dir() or places.hub_id(source) == "dwzhu/LongEmbed"


def _by_length(rows, lengths: list[int], source: str) -> dict[int, list[dict]]:
    found: dict[int, list[dict]] = {}
    for row in rows:
        found.setdefault(row["context_length"], []).append(row)
    if absent := [length for length in lengths if length not in found]:
        raise ValueError(
            f"long_context.data {source}: nothing of context_length {absent}; it has "
            f"{sorted(found)}: set long_context.lengths"
        )
    return {length: found[length] for length in lengths}


def _read_longembed(source: str, lengths: list[int]) -> list[Passkeys]:
    import datasets

    if Path(source).is_dir():
        parts = [read_lines(Path(source) / f"{name}.jsonl") for name in ("queries", "corpus", "qrels")]
    else:
        parts = [
            datasets.load_dataset(places.name_for(source), "passkey", split=n)
            for n in ("queries", "corpus", "qrels")
        ]
    queries, corpus = (_by_length(rows, lengths, source) for rows in parts[:2])
    right = {row["qid"]: row["doc_id"] for row in parts[2]}
    sets = []
    for length in lengths:
        row_of = {document["doc_id"]: i for i, document in enumerate(corpus[length])}
        asked, texts = queries[length], [document["text"] for document in corpus[length]]
        if lost := [q["qid"] for q in asked if right.get(q["qid"]) not in row_of]:
            raise ValueError(f"long_context.data {source}: no document of length {length} answers {lost[:3]}")
        answers = [row_of[right[q["qid"]]] for q in asked]
        sets.append(
            Passkeys(length, [q["text"] for q in asked], texts, [range(len(texts))] * len(asked), answers)
        )
    return sets


def _of_rows(length: int, rows: list[dict]) -> Passkeys:
    ends = np.cumsum([len(r["candidates"]) for r in rows])
    candidates = [range(int(end) - len(r["candidates"]), int(end)) for end, r in zip(ends, rows, strict=True)]
    answers = [c[int(r["label"])] for c, r in zip(candidates, rows, strict=True)]
    documents = [text for r in rows for text in r["candidates"]]
    return Passkeys(length, [r["query"] for r in rows], documents, candidates, answers)


def write_longembed(sets: list[Passkeys], folder: Path) -> None:
    """Data whose candidates are shared, as LongEmbed lays it out: queries, corpus and qrels by length."""
    parts: dict[str, list[dict]] = {"queries": [], "corpus": [], "qrels": []}
    for data in sets:
        if any(len(c) != len(data.documents) for c in data.candidates):
            raise ValueError("LongEmbed has one corpus a length: set long_context.candidates_per: length")
        length, n = {"context_length": data.length}, data.length
        parts["corpus"] += [
            {"doc_id": f"{n}-doc{i}", "text": t} | length for i, t in enumerate(data.documents)
        ]
        parts["queries"] += [{"qid": f"{n}-query{i}", "text": t} | length for i, t in enumerate(data.queries)]
        parts["qrels"] += [
            {"qid": f"{n}-query{i}", "doc_id": f"{n}-doc{a}"} | length for i, a in enumerate(data.answers)
        ]
    for name, rows in parts.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def with_variant(backbone: Backbone, variant: RopeVariant) -> Backbone:
    """The same weights under another RoPE base or sliding window; the given backbone is untouched.

    A window can be laid on any decoder that runs without padding (packed_rows.py), also on one that was
    trained with full attention; layers that have a shorter one keep it. Where layers with and without a
    window have bases of their own (Gemma 3), the new base is that of the layers without.
    """
    config = copy.deepcopy(backbone.config)
    if variant.rope_theta is not None:
        rope, new = config.rope_parameters, {"rope_theta": variant.rope_theta}
        far = rope.get("full_attention")
        config.rope_parameters = {**rope, "full_attention": {**far, **new}} if far else {**rope, **new}
    if variant.sliding_window is not None:
        if not packed_rows.supports(backbone.model):
            raise BackboneError(
                f"long_context.variants {variant.id!r}: a {config.model_type} model does not run without "
                "padding here, where a window is laid; leave sliding_window out"
            )
        config.sliding_window = variant.sliding_window
    # A new model around the same tensors: only the buffers that depend on the config are new.
    weights = {**dict(backbone.model.named_parameters()), **dict(backbone.model.named_buffers())}
    model = copy.deepcopy(backbone.model, {id(t): t for t in weights.values()})
    model.config = config
    for module in model.modules():
        if hasattr(module, "config"):
            module.config = config
    if variant.sliding_window is not None:
        for layer in model.layers:  # what packed_rows.attend reads; a shorter window of the layer's own stays
            layer.self_attn.laid_window = variant.sliding_window
    model.rotary_emb = type(model.rotary_emb)(config=config).to(backbone.device)
    return Backbone(model, backbone.contract, backbone.source)


def accuracy(encoder: Encoder, data: Passkeys, instruction: str) -> float:
    """Top-1 accuracy in per cent: how often the right document is more alike than every other candidate.

    A tie is a miss: the authors' set has the right document always first.
    """
    queries = encoder.encode(data.queries, instruction)
    documents = np.empty((len(data.documents), encoder.dim), np.float32)
    for rows in dict.fromkeys(data.candidates):  # one query's at a time: 100 documents of 32k tokens
        part = slice(rows.start, rows.stop)
        vectors = encoder.encode_branches(encoder.rows(data.documents[part]))
        documents[part] = torch.nn.functional.normalize(vectors, dim=-1)
    right = 0
    for query, rows, answer in zip(queries, data.candidates, data.answers, strict=True):
        alike = documents[rows.start : rows.stop] @ query
        at = answer - rows.start
        right += bool(alike[at] > np.delete(alike, at).max())
    return 100 * right / len(data.queries)


def sets_of(settings: LongContext, backbone: Backbone, seed: int) -> list[Passkeys]:
    """The data of every length, made or read."""
    if settings.data != "own":
        return read(settings.data, settings.lengths)
    return [make(settings, length, backbone, seed) for length in settings.lengths]


def run(settings: LongContext, backbone: Backbone, pooling: str, sets: list[Passkeys]) -> list[dict]:
    """Rows {variant, fills, benchmark, length, queries, candidates, candidates_per, accuracy, low, high}
    for every variant and length; low and high bound the 95 % interval, in per cent."""
    own = "own passkey data" if settings.candidates_per == "length" else "own passkey data, as in the paper"
    read_from = "LongEmbed passkey" if is_longembed(settings.data) else "personalised passkey"
    benchmark = own if settings.data == "own" else read_from
    variants = settings.variants or [RopeVariant(id="as trained")]
    rows, progress = [], Progress("passkey", "sets", every=0)
    for variant in variants:
        changed = with_variant(backbone, variant)
        for data in sets:
            encoder = Encoder(changed, pooling, max_length=2 * data.length + 64)
            score = accuracy(encoder, data, settings.instruction)
            low, high = wilson(score, len(data.queries))
            rows.append(
                {"variant": variant.id, "fills": variant.fills, "benchmark": benchmark, "length": data.length,
                 "queries": len(data.queries), "candidates": len(data.candidates[0]),
                 "candidates_per": "length" if len(data.candidates[0]) == len(data.documents) else "query",
                 "accuracy": score, "low": low, "high": high}
            )  # fmt: skip
            progress(len(rows), len(variants) * len(sets), f"{variant.id}, {data.length}: {score:.0f}")
    return rows
