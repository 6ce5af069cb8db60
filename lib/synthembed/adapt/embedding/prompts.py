"""What stands before a query and before a passage: the start model's own prompts where it has any (Sec. 3.2).

A model that embeds already is read as it says it is, before the training, in it and after it, and so is what is
exported: multilingual-e5's "query: " and "passage: ", or nothing at all. Under the paper's instruction it would be
worse before, and the training would be praised for what the wrong prompt cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from synthembed.adapt.queries import TASK
from synthembed.corpus.example import Example
from synthembed.model import export
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import Encoder
from synthembed.model.instructions import task_type_prefix, with_instruction
from synthembed.model.tokens import CACHE
from synthembed.profile.settings import Profile

FAMILY = "short-long"
DOCUMENT = ("document", "passage", "corpus")  # what models call theirs; the first that is there


@dataclass(frozen=True)
class Prompts:
    """What is put before a query and before a passage."""

    query: str = ""
    document: str = ""


def of(base: Backbone, task: str = TASK, style: str = "natural") -> Prompts:
    """The prompts of an adaptation that starts from ``base``.

    Its own if it embeds already and nobody asks for another ``task``; else the instruction before queries, or what
    train.instruction (``style``) has in its place.
    """
    if style == "task-type":
        return Prompts(task_type_prefix(FAMILY))
    if style != "natural":
        return Prompts()
    own, default = base.recipe.prompts, base.recipe.prompt
    if base.recipe.pooling is None:
        return Prompts(with_instruction(task, ""))
    # sentence-transformers saves an empty "query" and "document" with every model, so that an empty one says nothing.
    document = next((own[name] for name in DOCUMENT if own.get(name)), default)
    return Prompts(own.get("query") or default if task == TASK else with_instruction(task, ""), document)


@dataclass
class Prompted(Encoder):
    """An encoder with prompts: an instruction marks a text as a query, and its words are ``prompts``'."""

    prompts: Prompts = Prompts()

    def rows(self, texts: list[str], instruction: str = "") -> list[list[int]]:
        found = CACHE.ids(self.backbone.contract, self.prompted(texts, instruction), self.max_length)
        self.backbone.contract.check(found)
        return found

    def prompted(self, texts: Sequence[str], instruction: str = "") -> list[str]:
        """Texts as the model reads them."""
        prompt = self.prompts.query if instruction else self.prompts.document
        return [prompt + text for text in texts]


def encoder(base: Backbone, pooling: str, prompts: Prompts | None = None) -> Prompted:
    """``base`` read as it says, or by ``pooling`` and 512 tokens where it says nothing."""
    recipe = base.recipe
    return Prompted(
        base, recipe.pooling or pooling, recipe.max_length or 512, prompts=of(base) if prompts is None else prompts
    )  # fmt: skip


def to_train(
    profile: Profile, examples: Sequence[Example], prompts: Prompts, task: str
) -> tuple[Profile, list[Example]]:
    """Profile and examples so that the training reads texts under ``prompts``."""
    if prompts == Prompts(with_instruction(task, "")) or profile.train.instruction == "task-type":
        return profile, list(examples)  # which the training puts there itself, by train.instruction
    bare = profile.with_overrides({"train.instruction": "none"})
    before = prompts.document
    return bare, [
        replace(
            e, query=prompts.query + e.query, positive=before + e.positive,
            negative=before + e.negative if e.negative else e.negative, further=tuple(before + d for d in e.further),
        )
        for e in examples
    ]  # fmt: skip


def exported(base: Backbone, prompts: Prompts, style: str) -> dict:
    """What config_sentence_transformers.json says of prompts: those of ``base`` that an adaptation leaves alone too."""
    own, default = base.recipe.prompts, base.recipe.prompt
    others = own if base.recipe.pooling else export.prompts(style)
    name = next((name for name, text in own.items() if text == default), None) if default else None
    return {
        "prompts": others | {"query": prompts.query, "document": prompts.document},
        "default_prompt_name": name,
    }
