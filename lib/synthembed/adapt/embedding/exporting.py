"""The adapted model as a folder: card, prompts, and the terms that travel with the start model's weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from synthembed.adapt.embedding import prompts
from synthembed.adapt.embedding.prompts import Prompted
from synthembed.adapt.searching.search_page import templates
from synthembed.ground import places
from synthembed.ground.files import read_json, write_json
from synthembed.ground.weights import embedded
from synthembed.model import export
from synthembed.model.backbone import Backbone
from synthembed.profile.settings import Profile


def write(folder: Path, model: Backbone, read_as: Prompted, profile: Profile, **about) -> Path:
    """``model`` in ``folder``, in the place of what was there; ``read_as`` is the start model's encoder, ``profile``
    names the start model, and ``about`` is what the card tells beside them."""
    made = folder.with_name(f"{folder.name}.partial")  # the old one stays until the new one is whole
    shutil.rmtree(made, ignore_errors=True)
    style = profile.train.instruction
    before = {
        name: text.replace("\n", "\\n")
        for name, text in (("query", read_as.prompts.query), ("document", read_as.prompts.document))
    }
    base = places.as_written(embedded.original(profile.backbone.model))
    card = templates().get_template("card.md.jinja").render(base=base, before=before, **about)
    export.export(model, made, read_as.pooling, style, card, read_as.max_length)
    path = made / "config_sentence_transformers.json"
    write_json(path, read_json(path) | prompts.exported(read_as.backbone, read_as.prompts, style))
    for notice in _notices(profile.backbone.model):
        shutil.copy(notice, made)
    shutil.rmtree(folder, ignore_errors=True)
    return made.rename(folder)


def writers(names: Sequence[str]) -> str:
    """Who wrote the queries, for the card; a model that was a file's path is its name alone."""
    return " and ".join(sorted({Path(name).name if Path(name).is_absolute() else name for name in names}))


def _notices(model: str) -> list[Path]:
    """Terms that travel with the start model's weights: of an embedded one, or in the folder of one made of it."""
    own = [p for p in sorted(Path(model).glob("*")) if p.suffix in (".md", ".html") and p.name != "README.md"]
    return own if Path(model).is_dir() else embedded.notices(model)
