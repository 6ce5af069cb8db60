"""The same texts before and after training: neighbours, a map, and one text under two instructions.

Each encoder is looked at by itself, so that no two models are in memory at once, and leaves numbers alone: a
finished stage shows them again without a model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from torch.nn.functional import normalize

from synthembed.evaluation import peers, systems
from synthembed.evaluation.protocol import dtype
from synthembed.evaluation.suites.embedded_tasks import DATA, rows
from synthembed.ground import hardware
from synthembed.model import backbone as backbones
from synthembed.model.backbone import Backbone

# texts, and the instruction of all or a list with that of each → vectors of length 1
Encode = Callable[[list[str], str | list[str]], np.ndarray]
TEXTS = 300
INSTRUCTION = "Classify the main topic of the given text"  # that of the task whose texts these are
NEAREST = 3
# Sentences of ours with the topic that a reader would give them; they share few words with the suite's texts.
SENTENCES = {
    "My knee hurts whenever I walk down stairs.": "health",
    "Die Zentralbank hat überraschend die Zinsen gesenkt.": "business",
    "The keeper held two penalties and the outsiders went through.": "sports",
    "Parliament voted through the night and the coalition broke.": "politics",
    "She hung forty canvases in a disused mill and sold none.": "arts",
}
READINGS = {  # of the suite's messages: what is alike, and the instruction that says so
    "subject": "Given a message, retrieve messages about the same matter, whatever their writers want",
    "act": "Given a message, retrieve messages whose writers do the same, such as thank or warn, about anything",
}
QUERY = "how do bees find their way home"
DOCUMENTS = [
    "Foragers steer by the sun and correct its path with an inner clock.",
    "How I found my way home after the bees got into the car.",
    "Copper prices fell for the third month running.",
]
ANSWERS = "Given a question, retrieve passages that answer it"
MESSAGES = ("rd-q31",)  # the wedding photographer who left early: a complaint


def suite_texts() -> tuple[list[str], list[str]]:
    """300 texts of the suite, and their topics."""
    found = [
        row for part in ("test", "train") for row in rows(DATA / "classification" / "topic" / f"{part}.jsonl")
    ]
    return [r["text"] for r in found[:TEXTS]], [r["label"] for r in found[:TEXTS]]


def look(encode: Encode) -> dict:
    """What one encoder makes of the texts: ``map`` (300 × 2), the ``agreement`` (share of texts whose nearest
    other text has their topic), of each text the ``nearest`` others and of each sentence its ``neighbours`` as
    [number of the text, cosine], ``readings``: message → instruction → the nearest messages, as ``messages``
    numbers them, and the cosines of a ``question`` to three documents."""
    texts, topics = suite_texts()
    vectors = encode(texts, INSTRUCTION)
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -2)
    agreement = float(np.mean([topics[j] == topics[i] for i, j in enumerate(alike.argmax(1))]))
    cosines = encode(list(SENTENCES), INSTRUCTION) @ vectors.T
    corpus, queries = messages()
    documents, found = encode([d["text"] for d in corpus], ""), {}
    for kind, instruction in READINGS.items():
        near = nearest(encode([q["text"] for q in queries], instruction) @ documents.T)
        for query, places in zip(queries, near, strict=True):
            found.setdefault(query["id"], {})[kind] = places
    return {
        "map": principal_axes(vectors).round(4).tolist(),
        "agreement": agreement,
        "nearest": nearest(alike),
        "neighbours": nearest(cosines),
        "readings": found,
        "question": similarities(encode, QUERY, DOCUMENTS, ANSWERS),
    }


def similarities(encode: Encode, query: str, documents: list[str], instruction: str = "") -> list[float]:
    """Cosines of a query, under an instruction, to documents, which have none; read as the playground reads them."""
    asked, *found = encode([query, *documents], [instruction, *[""] * len(documents)])
    return [round(float(x), 4) for x in np.stack(found) @ asked]


def messages() -> tuple[list[dict], list[dict]]:
    """Messages of the suite with ``subject`` and ``act``: those that share one of the two with a query, and the
    queries."""
    corpus, queries = (rows(DATA / "readings" / f"{name}.jsonl") for name in ("corpus", "queries"))
    asked = [q for q in queries if q["id"] in MESSAGES]
    kept = [d for d in corpus if any(d["subject"] == q["subject"] or d["act"] == q["act"] for q in asked)]
    return kept, asked


def nearest(cosines: np.ndarray, count: int = NEAREST) -> list[list[list]]:
    """For each row of cosines the best ``count``: [number of the text, cosine], the nearest first."""
    best = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return [
        [[int(i), round(float(row[i]), 4)] for i in places] for row, places in zip(cosines, best, strict=True)
    ]


def principal_axes(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, dim) on the two directions in which they differ most (PCA), (n, 2). The signs, which PCA
    leaves open, are such that the largest entry of each direction is positive."""
    centred = vectors - vectors.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    axes *= np.sign(axes[[0, 1], np.abs(axes).argmax(1)])[:, None]
    return centred @ axes.T


def encoder_of(profile, model: Backbone, static: bool = False) -> Encode:
    """A model as the run reads it; without instructions if it was trained so (``train.instruction``)."""
    scored = systems.subject(profile, model, "synthembed/looked-at", "1", static)
    encoder, told = scored.encoder, scored.style == "natural"

    def encode(texts: list[str], instruction: str | list[str]) -> np.ndarray:
        if isinstance(instruction, str):
            return encoder.encode(texts, instruction if told else "", normalize=True)
        each = zip(texts, instruction, strict=True)
        rows = [encoder.rows([text], one if told else "")[0] for text, one in each]
        return normalize(encoder.encode_rows(rows), dim=-1).numpy()

    return encode


def in_turn(profile, loaders: dict[str, Callable[[], Backbone]]) -> dict[str, Callable[[], Encode]]:
    """Loaders of encoders, of models that are all kept and of which one is on an accelerator at a time: that which
    encodes or is being loaded. The others wait in the CPU's memory; on a CPU all stay where they are."""
    loaded: dict[str, Backbone] = {}

    def make_room() -> None:
        for model in loaded.values():
            if model.device.type != "cpu":
                model.model.to("cpu")
                hardware.release()

    def load(name: str) -> Encode:
        make_room()
        model = loaded[name] = loaders[name]()
        on, read = model.device, encoder_of(profile, model)

        def encode(texts: list[str], instruction: str | list[str]) -> np.ndarray:
            if model.device != on:
                make_room()
                model.model.to(on)
            return read(texts, instruction)

        return encode

    return {name: partial(load, name) for name in loaders}


def before(profile, base: Backbone) -> dict[str, dict]:
    """``look`` at the base, and at the mean of its token embeddings."""
    return {
        "base": look(encoder_of(profile, base)),
        "static": look(encoder_of(profile, base, static=True)),
    }


def load_trained(stage) -> Backbone:
    """The trained model of a stage's run, as it is scored. Raises FileNotFoundError if its weights are not there."""
    profile = stage.profile
    source = profile.backbone.model_copy(update={"dtype": dtype(profile.evaluate)})
    if not (stage.of("03_train") / "model").is_dir():
        raise FileNotFoundError(
            "the trained weights are not kept in a committed run: synthembed run makes them"
        )
    return backbones.load(backbones.export_settings(source, stage.of("03_train")), profile.seed)


def after(stage) -> dict[str, dict]:
    """``look`` at the trained model and, where the run has it among its systems, at all-MiniLM-L6-v2."""
    found = {"trained": look(encoder_of(stage.profile, load_trained(stage)))}
    if "minilm" in stage.profile.evaluate.systems:
        found["minilm"] = look(peer_encoder("minilm"))
    return found


def peer_encoder(name: str) -> Encode:
    """A peer as a function; it knows no instructions."""
    model, _ = peers.peer(name)
    return lambda texts, instruction: model.encode(
        texts, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
    )
