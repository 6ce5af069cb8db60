"""Personalised passkey retrieval and the RoPE / window variants of Figure 5 (Sec. 5.2).

A document is filler text with one person's pass key hidden at a random place; a query asks for a
person's pass key, and the right document is the one that holds it. The variants change the RoPE base
or the sliding window of a trained model, without training it again.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass

import numpy as np

from .backbone import Backbone, BackboneError
from .encoder import Encoder
from .profile import LongContext, RopeVariant
from .progress import Progress
from .taxonomy import seed_of

# Our own filler and names; the paper repeats one block of plain sentences as well.
FILLER = (
    "The river runs under the bridge. The wind moves the leaves. A lamp burns in the window. "
    "The road goes on past the mill. Someone hums and walks by. "
)
GIVEN = [
    "Ada",
    "Bruno",
    "Chidi",
    "Dalia",
    "Emre",
    "Farah",
    "Goran",
    "Hana",
    "Ivo",
    "Jamila",
    "Kenji",
    "Lucia",
    "Marek",
    "Nadia",
    "Otto",
    "Priya",
    "Quentin",
    "Rosa",
    "Samir",
    "Tamar",
    "Ulla",
    "Viktor",
    "Wanda",
    "Ximena",
    "Yusuf",
    "Zofia",
]
FAMILY = [
    "Abara",
    "Bianchi",
    "Castell",
    "Dimitrov",
    "Eriksen",
    "Ferreira",
    "Grigorian",
    "Haddad",
    "Ibarra",
    "Jansen",
    "Kovacs",
    "Lindqvist",
    "Moreau",
    "Nakamura",
    "Okafor",
    "Petrov",
    "Quispe",
    "Rahman",
    "Sato",
    "Tanaka",
    "Usman",
    "Vargas",
    "Weber",
    "Xu",
    "Yilmaz",
    "Zielinski",
]


@dataclass(frozen=True)
class Passkeys:
    """One length: ``queries``, ``documents``, and for each query the row of its document."""

    length: int
    queries: list[str]
    documents: list[str]
    answers: list[int]


def make(settings: LongContext, length: int, backbone: Backbone, seed: int) -> Passkeys:
    """The data of one length, a function of (seed, length): documents of about ``length`` tokens.

    All queries of a length share its candidates, as LongEmbed has it; the paper draws 100 for each.
    """
    rng = random.Random(seed_of(seed, "passkey", length))
    names = rng.sample([f"{g} {f}" for g in GIVEN for f in FAMILY], settings.candidates)
    documents = [_document(name, rng, length, backbone) for name in names]
    asked = rng.sample(range(len(names)), settings.queries)
    return Passkeys(length, [f"What is the pass key of {names[i]}?" for i in asked], documents, asked)


def _document(name: str, rng: random.Random, length: int, backbone: Backbone) -> str:
    statement = f"{name}'s pass key is {rng.randrange(1000, 100_000)}. Keep it in mind. "
    count = backbone.contract.tokenizer
    block = len(count(FILLER, add_special_tokens=False)["input_ids"])
    used = len(count(statement, add_special_tokens=False)["input_ids"]) + 2
    sentences = FILLER.split(". ")[:-1]
    wanted = max(0, round((length - used) / block * len(sentences)))
    before = rng.randint(0, wanted)
    line = [sentences[i % len(sentences)] + ". " for i in range(wanted)]
    return ("".join(line[:before]) + statement + "".join(line[before:])).strip()


def with_variant(backbone: Backbone, variant: RopeVariant) -> Backbone:
    """The same weights under another RoPE base or sliding window; the given backbone is untouched."""
    config = copy.deepcopy(backbone.config)
    if variant.rope_theta is not None:
        config.rope_parameters = {**config.rope_parameters, "rope_theta": variant.rope_theta}
    if variant.sliding_window is not None:
        if not hasattr(config, "sliding_window"):
            raise BackboneError(
                f"long_context.variants {variant.id!r}: a {config.model_type} model has no sliding "
                "window; leave sliding_window out"
            )
        config.sliding_window = variant.sliding_window
    # A new model around the same tensors: only the buffers that depend on the config are new.
    weights = {**dict(backbone.model.named_parameters()), **dict(backbone.model.named_buffers())}
    model = copy.deepcopy(backbone.model, {id(t): t for t in weights.values()})
    model.config = config
    for module in model.modules():
        if hasattr(module, "config"):
            module.config = config
    model.rotary_emb = type(model.rotary_emb)(config=config).to(backbone.device)
    return Backbone(model, backbone.contract, backbone.source)


def accuracy(encoder: Encoder, data: Passkeys, instruction: str) -> float:
    """Top-1 accuracy in per cent."""
    queries = encoder.encode(data.queries, instruction)
    documents = encoder.encode(data.documents)
    found = (queries @ documents.T).argmax(1)
    return 100 * float(np.mean(found == np.array(data.answers)))


def run(settings: LongContext, backbone: Backbone, pooling: str, seed: int) -> list[dict]:
    """Rows {variant, length, queries, candidates, accuracy} for every variant and length."""
    variants = settings.variants or [RopeVariant(id="as trained")]
    sets = [make(settings, length, backbone, seed) for length in settings.lengths]
    rows, progress = [], Progress("passkey", "sets", every=0)
    for variant in variants:
        changed = with_variant(backbone, variant)
        for data in sets:
            encoder = Encoder(changed, pooling, max_length=2 * data.length + 64)
            score = accuracy(encoder, data, settings.instruction)
            rows.append(
                {"variant": variant.id, "paper_row": variant.paper_row, "length": data.length,
                 "queries": len(data.queries), "candidates": len(data.documents), "accuracy": score}
            )  # fmt: skip
            progress(len(rows), len(variants) * len(sets), f"{variant.id}, {data.length}: {score:.0f}")
    return rows
