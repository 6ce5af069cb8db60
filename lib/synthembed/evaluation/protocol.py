"""How mteb reads a model: the paper's protocol, and what mteb does by itself (Sec. 4.2).

The paper's protocol is that of its evaluation scripts; ``mteb-default`` is what the installed mteb does
with the released model (``InstructSentenceTransformerModel``, as its ``e5_mistral`` entry sets it up).
docs/protocol.md has every switch with its effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import mteb
import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import PromptType

from synthembed.cluster.actor_pool import Pool
from synthembed.ground import hardware
from synthembed.ground.console import WARNED, Progress
from synthembed.ground.weights import embedded
from synthembed.model import backbone as backbones
from synthembed.model.blocks import store as blocks
from synthembed.model.blocks.spread import over
from synthembed.model.cpu import bfloat16_linear
from synthembed.model.encoder import Encoder
from synthembed.model.instructions import task_type_prefix
from synthembed.profile.settings import Evaluate, Submission


@dataclass(frozen=True)
class Protocol:
    """Switches in which the two protocols differ; what both do alike is in docs/protocol.md."""

    both_sides: bool  # the instruction stands before documents too, outside retrieval
    quora_documents: bool  # QuoraRetrieval's documents are questions, and read as its queries are
    normalize_classification: bool  # vectors of length 1 for the classifier as well
    cut: bool  # texts end at evaluate.max_length (512), not where the model ends


PROTOCOLS = {
    "paper": Protocol(both_sides=True, quora_documents=True, normalize_classification=False, cut=True),
    "mteb-default": Protocol(
        both_sides=False, quora_documents=False, normalize_classification=True, cut=False
    ),
}
PAPER = PROTOCOLS["paper"]
SPLITS = {"MSMARCO": ["dev"]}  # both protocols; its test split has few queries with graded judgements
# A task that mteb has no instruction for takes that of another (the paper's Table 15 has one for MIRACL);
# those that are not here take the instruction of their type (``abstask_prompt``).
INSTRUCTION_OF = {"MIRACLRetrievalHardNegatives": "MIRACLRetrieval"}


def dtype(settings: Evaluate) -> str:
    """What vectors that are scored are computed in, as ``backbone.dtype`` has it: ``evaluate.dtype``.

    By default float16, as in the paper's scripts. A CPU has no products in float16 worth having: there it is
    float32, which is the same numbers with 13 more bits.
    """
    half_on_cpu = settings.dtype == "float16" and hardware.device().type == "cpu"
    return "float32" if half_on_cpu else settings.dtype


def in_dtype(backbone: backbones.Backbone, settings: Evaluate) -> backbones.Backbone:
    """A model that was just trained, in the ``dtype`` that it is scored in; in place. "auto" leaves it."""
    if (name := dtype(settings)) != "auto":
        if name == "float32":
            bfloat16_linear.give_way(backbone.model)
        backbone.model.to(getattr(torch, name))
    return backbone


def reads_up_to(backbone: backbones.Backbone) -> int:
    """Tokens at which a model ends: its positions or its window (the released one has 4,096)."""
    limits = (
        backbone.config.max_position_embeddings,
        getattr(backbone.config, "sliding_window", None),
        backbone.contract.tokenizer.model_max_length,
    )
    return min(x for x in limits if x)


class MtebEncoder(AbsEncoder):
    """Our encoder as mteb's EncoderProtocol: which texts get which instruction, and normalisation.

    ``style`` is how the model was trained to read queries: "natural" (an instruction), "none", or
    "task-type" (Table 5's fixed words). Under a protocol that does not cut texts, the encoder reads as
    far as its model does.
    """

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        revision: str,
        style: str = "natural",
        about: Submission | None = None,
        date: str | None = None,
        base: str | None = None,
        protocol: Protocol = PAPER,
    ):
        if not protocol.cut:
            encoder.max_length = reads_up_to(encoder.backbone)
        self.model = self.encoder = encoder
        self.style = style
        self.protocol = protocol
        self.cut: dict[str, dict[str, dict[str, int]]] = {}  # task → side → texts, and of them cut
        self.kept_at: str | None = None  # where blocks of large corpora are kept: a folder, a URL, or nowhere
        self.storage: str | None = None  # a folder or URL that all machines share, for such blocks
        self.pool: Pool | None = None  # workers that hold this model; None: it runs here
        self.mteb_model_meta = model_meta(encoder, name, revision, style, about or Submission(), date, base)

    def encode(self, inputs, *, task_metadata, hf_split, hf_subset, prompt_type=None, **kwargs):
        """Vectors (texts, dim), float32. mteb's batches hold a document as "title text"."""
        texts = [text for batch in inputs for text in batch["text"]]
        if self.kept_at and len(texts) > blocks.BLOCK:
            return blocks.vectors_of(*self.keep(texts, len(texts), task_metadata, hf_subset, prompt_type))
        before = self.before(task_metadata, prompt_type)
        progress = _progress(task_metadata, hf_subset, prompt_type)
        normalize = self._normalizes(task_metadata)
        read = self.encoder.backbone.contract.read
        cut_before = read["cut"]
        if self.style == "task-type":
            vectors = self.encoder.encode([before + t for t in texts], "", normalize, progress)
        else:
            vectors = self.encoder.encode(texts, before, normalize, progress)
        self._count(task_metadata.name, prompt_type, len(set(texts)), read["cut"] - cut_before)
        return vectors

    def keep(
        self, texts: Iterable[str], total: int, task_metadata, hf_subset, prompt_type
    ) -> tuple[blocks.Store, list[blocks.Block]]:
        """Have the vectors of one side of a task in blocks at ``kept_at``; those that are there are not made
        again. They are kept in float16 if that is what they are computed in."""
        before, about = self.before(task_metadata, prompt_type), self.mteb_model_meta
        if self.style == "task-type":
            texts, before = (before + t for t in texts), ""
        half = self.encoder.backbone.model.dtype == torch.float16
        reading = blocks.Reading(
            f"{about.name} {about.revision}",
            before,
            self._normalizes(task_metadata),
            "float16" if half else "float32",
        )
        store, progress = blocks.Store(self.kept_at), _progress(task_metadata, hf_subset, prompt_type)
        found = blocks.keep(
            self.encoder, texts, reading, store, progress, total, self.pool and over(self.pool)
        )
        self._count(
            task_metadata.name, prompt_type, sum(b.distinct for b in found), sum(b.cut for b in found)
        )
        return store, found

    def _normalizes(self, task) -> bool:
        return task.type != "Classification" or self.protocol.normalize_classification

    def _count(self, task: str, prompt_type, texts: int, cut: int) -> None:
        """Add to ``cut``, and warn where more than 1 % of the distinct texts end at ``max_length``."""
        kind = prompt_type.value if prompt_type else "text"
        found = self.cut.setdefault(task, {}).setdefault(kind, {"texts": 0, "cut": 0})
        found["texts"] += texts
        found["cut"] += cut
        if cut > WARNED * texts:
            print(
                f"  warning: {task}: {cut:,} of {texts:,} texts ({kind}) are cut at {self.encoder.max_length} tokens "
                "(evaluate.max_length)", flush=True,
            )  # fmt: skip

    def before(self, task, prompt_type) -> str:
        """The instruction (or fixed prefix) of one side of a task; "" for none."""
        if self.style == "none" or not self._instructed(task, prompt_type):
            return ""
        if self.style == "task-type":
            return task_type_prefix(task.type)
        if task.prompt is None and task.name in INSTRUCTION_OF:
            task = mteb.get_task(INSTRUCTION_OF[task.name]).metadata
        side = PromptType.query if isinstance(task.prompt, dict) else prompt_type
        return self.get_instruction(task, side)

    def _instructed(self, task, prompt_type) -> bool:
        if prompt_type != PromptType.document:
            return True
        if task.name == "QuoraRetrieval":
            return self.protocol.quora_documents
        return self.protocol.both_sides and task.type not in ("Retrieval", "InstructionRetrieval")


def _progress(task, hf_subset: str, prompt_type) -> Progress:
    return Progress(f"  {task.name} {hf_subset} {prompt_type or ''}".rstrip(), "texts")


def model_meta(
    encoder: Encoder,
    name: str,
    revision: str,
    style: str,
    about: Submission,
    date: str | None,
    base: str | None,
) -> ModelMeta:
    """What mteb's leaderboard wants to know of a model: ``date`` is the day it was made, ``base`` what from."""
    backbone = encoder.backbone
    parameters = list(backbone.model.parameters())
    return ModelMeta(
        loader=None,
        name=name,
        revision=revision,
        release_date=date,
        languages=about.languages,
        n_parameters=sum(p.numel() for p in parameters),
        n_embedding_parameters=backbone.model.get_input_embeddings().weight.numel(),
        memory_usage_mb=round(sum(p.numel() * p.element_size() for p in parameters) / 2**20),
        max_tokens=encoder.max_length,
        embed_dim=encoder.dim,
        license=about.license,
        open_weights=True,
        public_training_code=about.training_code,
        public_training_data=about.training_data,
        framework=["PyTorch", "Sentence Transformers", "safetensors"],
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=style != "none",
        training_datasets=set(about.training_datasets),
        adapted_from=base and embedded.original(base),
    )
