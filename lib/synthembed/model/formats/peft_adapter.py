"""A LoRA adapter as PEFT has it: small, and of use with the very base that it was trained on alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthembed.ground.weights import embedded
from synthembed.model import backbone as backbones
from synthembed.model.encoder import Encoder
from synthembed.profile.settings import Backbone

CARD = """# A LoRA adapter of {base}

```python
from peft import PeftModel
from transformers import AutoModel

base = AutoModel.from_pretrained("{base}"{revision})
{cut}model = PeftModel.from_pretrained(base, "path/of/this/folder")
```

A text is `[bos] tokens [eos]`, with bos where the base has one; its vector is the last layer's, {pooling} pooling, brought
to length 1. Before a query stands `Instruct: {{task}}\\nQuery: `, before a document nothing, if the training had
`instruction: {style}`.

{measured}

What the format does not carry:

{losses}
"""


def encode(folder: Path, settings: Backbone, texts: Sequence[str]) -> np.ndarray:
    """Vectors of length 1, (texts, dim), of the base of ``settings`` with the adapter that peft loads from ``folder``."""
    from peft import PeftModel

    base = backbones.load(settings.model_copy(update={"dtype": "float32"}))
    merged = PeftModel.from_pretrained(base.model, folder).merge_and_unload()
    return Encoder(replace(base, model=merged), settings.pooling).encode(list(texts), normalize=True)


def losses(settings: Backbone) -> list[str]:
    """What a reader of the adapter has to bring along, in words."""
    found = [
        "pooling, eos, the prompts and the length of 1: none of them is in an adapter; the sentence-transformers "
        "format has them"
    ]
    if settings.layers:
        found.append(f"the cut: only the first {settings.layers} layers of the base are used")
    if settings.model.startswith("embedded:"):
        found.append(
            f"the base's own weights: it was trained on those of a package, in 4 or 8 bits, and {embedded.original(settings.model)} "
            "of the hub has others, so that vectors with it differ"
        )
    return found


def card(settings: Backbone, style: str, measured: str) -> str:
    """README.md of the export."""
    cut = (
        f"base.layers = base.layers[:{settings.layers}]\nbase.config.num_hidden_layers = {settings.layers}\n"
    )
    revision = f', revision="{settings.revision}"' if settings.revision else ""
    return CARD.format(
        base=embedded.original(settings.model).removeprefix("hub:"), revision=revision, cut=cut if settings.layers else "", pooling=settings.pooling,
        style=style, measured=measured, losses="\n".join(f"- {loss}" for loss in losses(settings)),
    )  # fmt: skip
