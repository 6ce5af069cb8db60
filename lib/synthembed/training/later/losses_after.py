"""Losses of papers after this one (``train.recipes``), each beside its source; all of them off by default.

* Focal weights: (1 - p)^gamma before each query's loss, p being what the model gives its positive (Lin et al.,
  "Focal Loss for Dense Object Detection", 2017; of embeddings KaLM-Embedding-V2, 2025).
* Matryoshka: the loss of the first d dimensions too, for several d (Kusupati et al., 2022). The paper names the
  size of its vectors as a limitation.
* Distillation: the student's distribution over a query's documents is drawn to a teacher's by their KL
  divergence (Hinton et al., 2015; of retrieval Hofstätter et al., 2020, and of embeddings Jasper, 2024).

They are sums of InfoNCE and of plain functions of the batch's cosines, so that gradient caching serves as before.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn import functional as F

from synthembed.ground.weights import embedded
from synthembed.labelled.mining import Dense
from synthembed.profile.experiment_settings import Distil, Recipes
from synthembed.profile.settings import Negatives, Train
from synthembed.training.contrastive import info_nce


def wanted(settings: Train) -> bool:
    """Whether a profile asks for more than InfoNCE."""
    return settings.recipes != Recipes()


def loss_of(vectors: torch.Tensor, batch, settings: Train) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of a batch (batches.Batch) and what is logged of it; ``vectors`` (n, dim) are those of all its texts.

    The mean over ``matryoshka`` dimensions (all of them counts as one of these), each with focal weights if asked
    for, plus the distillation of whole vectors.
    """
    recipes, whole = settings.recipes, vectors.shape[1]
    if too_many := [d for d in recipes.matryoshka if d > whole]:
        raise ValueError(f"train.recipes.matryoshka: {too_many[0]} dimensions, but vectors have {whole}")
    losses, metrics = [], {}
    for size in dict.fromkeys([*recipes.matryoshka, whole]):  # the whole comes last, and is what is logged
        loss, metrics = _contrastive(vectors[:, :size], batch, settings)
        losses.append(loss)
    total = torch.stack(losses).mean()
    if recipes.distil:
        teacher = teacher_cosines(batch, recipes.distil).to(vectors)
        logits = masked_logits(vectors, batch, settings.temperature)
        divergence = distillation(logits, teacher / recipes.distil.temperature)
        metrics = metrics | {"divergence": divergence.item()}
        total = total + recipes.distil.weight * divergence
    return total, metrics


def _contrastive(vectors: torch.Tensor, batch, settings: Train) -> tuple[torch.Tensor, dict[str, float]]:
    on = vectors.device
    parts = (batch.query_rows.to(on), batch.document_rows.to(on), batch.positives.to(on))
    focal = settings.recipes.focal
    if not focal:
        return info_nce(vectors, *parts, settings.temperature, batch.excluded, settings.symmetric)
    with torch.no_grad():
        _, metrics = info_nce(vectors, *parts, settings.temperature, batch.excluded)
    return focal_loss(masked_logits(vectors, batch, settings.temperature), parts[2], focal), metrics


def masked_logits(vectors: torch.Tensor, batch, temperature: float) -> torch.Tensor:
    """(queries, documents): cosines over the temperature, -inf where a document is no negative of a query."""
    on = vectors.device
    unit = F.normalize(vectors, dim=1)
    logits = unit[batch.query_rows.to(on)] @ unit[batch.document_rows.to(on)].T / temperature
    if batch.excluded is None:
        return logits
    return logits.masked_fill(batch.excluded.to_dense().to(on), float("-inf"))


def focal_loss(logits: torch.Tensor, positives: torch.Tensor, gamma: float) -> torch.Tensor:
    """The mean over queries of -(1 - p)^gamma log p, with p the softmax's share of the positive."""
    log_p = logits.log_softmax(1).gather(1, positives[:, None])[:, 0]
    missed = -torch.expm1(log_p)  # 1 - p, exact where p is near 1
    return -(missed.clamp_min(1e-12) ** gamma * log_p).mean()


def distillation(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The mean over queries of KL(teacher, student), both (queries, documents) of logits; documents that the
    student must not count (-inf) count for neither."""
    out = student.isneginf()
    target = teacher.masked_fill(out, float("-inf")).log_softmax(1)
    found = student.log_softmax(1)
    apart = target.exp() * (target.masked_fill(out, 0) - found.masked_fill(out, 0))
    return apart.sum(1).mean()


# --- the teacher ---------------------------------------------------------------------------------------------


def teacher_cosines(batch, settings: Distil) -> torch.Tensor:
    """(queries, documents) of cosines by the teacher, of the texts without instructions."""
    queries, documents = batch.texts
    teacher = _teacher(settings)
    asked = teacher.vectors([settings.query_prefix + q for q in queries])
    return asked @ teacher.vectors([settings.document_prefix + d for d in documents]).T


class Teacher:
    """A sentence-transformers model that reads each text once in a process."""

    def __init__(self, settings: Distil):
        chosen = Negatives(encoder=settings.encoder, max_length=settings.max_length)
        self.model, self.seen = Dense(chosen, embedded.cache_folder() / "mining").model, {}

    def vectors(self, texts: list[str]) -> torch.Tensor:
        """(texts, dim), of length 1, on the CPU."""
        if new := [t for t in dict.fromkeys(texts) if t not in self.seen]:
            with torch.random.fork_rng():
                found = self.model.encode(new, normalize_embeddings=True, show_progress_bar=False)
            self.seen |= dict(zip(new, torch.from_numpy(found), strict=True))
        return torch.stack([self.seen[t] for t in texts])


@lru_cache(maxsize=1)
def _teacher(settings: Distil) -> Teacher:
    return Teacher(settings)
