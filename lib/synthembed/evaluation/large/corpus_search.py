"""Retrieval over a corpus of any size, as mteb's SearchProtocol: encoded in blocks, searched block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from mteb._create_dataloaders import create_dataloader
from mteb.types import PromptType

from synthembed.evaluation.protocol import MtebEncoder
from synthembed.model.blocks import store as blocks
from synthembed.model.blocks.nearest import nearest
from synthembed.model.blocks.spread import nearest_over

READ = 1_024  # documents of a batch of mteb's loader


class CorpusSearch:
    """``model`` with a search of its own: exact, by cosine, in the memory of a few blocks.

    mteb's own takes 50,000 documents at a time and merges in Python; scores are the same
    (tests/evaluation/large). The workers that a model has encode and search for it.
    """

    def __init__(self, model: MtebEncoder):
        self.model = model
        self.mteb_model_meta = model.mteb_model_meta

    def index(self, corpus, *, task_metadata, hf_split, hf_subset, encode_kwargs, num_proc=None, **kwargs):
        """Have every document's vector kept; finished blocks of a run that was killed are not encoded again."""
        self.ids = corpus["id"]
        self.store, self.blocks = self.model.keep(
            _texts(corpus, task_metadata), len(corpus), task_metadata, hf_subset, PromptType.document
        )

    def search(
        self, queries, *, task_metadata, hf_split, hf_subset, top_k, encode_kwargs, top_ranked=None, num_proc=None,
        **kwargs,
    ) -> dict[str, dict[str, float]]:  # fmt: skip
        """Query → document → cosine, of the ``top_k`` nearest; of those in ``top_ranked`` alone, if given."""
        loader = create_dataloader(queries, task_metadata=task_metadata, prompt_type=PromptType.query)
        vectors = self.model.encode(
            loader,
            task_metadata=task_metadata,
            hf_split=hf_split,
            hf_subset=hf_subset,
            prompt_type=PromptType.query,
        )
        asked = list(queries["id"])
        if top_ranked is not None:
            return self._reranked(asked, vectors, top_ranked, top_k)
        cosines, places = self._nearest(vectors, top_k)
        wanted = np.unique(places)
        name = dict(zip(wanted.tolist(), (self.ids[int(i)] for i in wanted), strict=True))
        return {
            q: {name[p]: c for p, c in zip(row_p, row_c, strict=True)}
            for q, row_p, row_c in zip(asked, places.tolist(), cosines.tolist(), strict=True)
        }

    def _nearest(self, vectors: np.ndarray, k: int):
        if self.model.pool:
            return nearest_over(self.model.pool, vectors, self.store, self.blocks, k)
        return nearest(vectors, map(self.store.read, self.blocks), k, self.model.encoder.backbone.device)

    def _reranked(self, asked, vectors, top_ranked, k) -> dict[str, dict[str, float]]:
        """Cosines of the documents that each query comes with; one pass over the blocks gathers their vectors."""
        wanted = {document for q in asked for document in top_ranked.get(q, ())}
        places = {i: row for row, i in enumerate(self.ids) if i in wanted}
        rows = np.fromiter(places.values(), int, len(places))
        held, start = np.empty((len(rows), self.model.encoder.dim), np.float32), 0
        for block in self.blocks:
            inside = (rows >= start) & (rows < start + block.rows)
            if inside.any():
                held[inside] = self.store.read(block)[rows[inside] - start]
            start += block.rows
        at = {document: n for n, document in enumerate(places)}
        found = {}
        for q, vector in zip(asked, vectors, strict=True):
            documents = list(top_ranked.get(q, ()))
            of = held[[at[d] for d in documents]]
            cosines, order = nearest(vector[None], [of], k) if documents else (np.empty((1, 0)),) * 2
            found[q] = {documents[int(o)]: float(c) for o, c in zip(order[0], cosines[0], strict=True)}
        return found


def is_large(task, split: str, subset: str) -> bool:
    """Whether a retrieval task's corpus, which must be loaded, has more than one block of documents."""
    task.convert_v1_dataset_format_to_v2(num_proc=None)
    return len(task.dataset[subset][split]["corpus"]) > blocks.BLOCK


def _texts(corpus, task_metadata) -> Iterator[str]:
    """Documents as mteb reads them, "title text", one block in memory."""
    for start in range(0, len(corpus), blocks.BLOCK):
        part = corpus.select(range(start, min(start + blocks.BLOCK, len(corpus))))
        loader = create_dataloader(
            part, task_metadata=task_metadata, prompt_type=PromptType.document, batch_size=READ
        )
        for batch in loader:
            yield from batch["text"]
