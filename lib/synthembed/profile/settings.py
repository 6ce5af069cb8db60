"""One YAML file = one run: the typed profile (reading.py reads it and words what is wrong).

The defaults below are the paper's settings, each with its section, or marked "not stated" where the
paper is silent; a profile file says only where a run departs from them (profiles/paper.yaml spells
all of them out). Unknown keys, wrong types and impossible values fail before anything runs.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from synthembed.profile import reading
from synthembed.profile.cluster import Cluster
from synthembed.profile.experiment_settings import Experiment, Experiments, Recipes, Row, Selection
from synthembed.profile.generate_settings import STRICT, Generate, Positive
from synthembed.profile.places import Encoder, Overrides, Pairs, Passkeys, Place, System, local_inputs
from synthembed.profile.reading import PROFILES, ProfileError

__all__ = ["PROFILES", "Profile", "ProfileError", "load"]

SetName = Literal[
    "eli5", "hotpotqa", "fever", "miracl", "msmarco-passage", "msmarco-document", "nq", "nli", "squad",
    "triviaqa", "quora", "mrtydi", "dureader", "t2ranking",  # public_sets.py
    "docstrings", "topics", "names", "packages", "subjects",  # installed_sets.py
]  # fmt: skip
Seed = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    model_config = STRICT


class Corpus(Section):
    """Someone else's synthetic corpus in place of the replies of stage 01."""

    source: Place  # a folder, a file, or a dataset's hub id, written hub:owner/name
    format: Literal["open-synthetic", "synembed"]
    limit: Positive | None = None


class Analyze(Section):
    """Filters (Sec. 3.1 names the first two; the others are ours)."""

    malformed: Literal[True] = True
    exact_duplicates: bool = True  # to the letter: case, signs and emoji count
    loose_duplicates: bool = False  # the same but for case, spacing and the punctuation of prose
    near_duplicates: bool = False
    near_duplicate_threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    language_mismatch: bool = False
    copied_query: bool = False
    negative_equals_positive: bool = False
    length_out_of_range: bool = False
    refusals: bool = False
    leakage: bool = False
    contamination: Literal["exact", "near"] = "exact"  # App. B matches strings; near is ours, and slower
    corpus: Corpus | None = None


class Backbone(Section):
    """The base model (Sec. 4.2, App. A)."""

    model: Place = "hub:mistralai/Mistral-7B-v0.1"  # or a local folder, or "embedded:smollm2-135m"
    revision: str | None = None  # a hub commit; None = main, and stage.json records which it was
    layers: Positive | None = None  # keep the first n layers; None = all
    initialisation: Literal["pretrained", "random"] = "pretrained"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # mixed precision, App. A
    pooling: Literal["last", "mean", "weighted-mean"] = "last"  # Sec. 3.2; the others are Table 5
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    bidirectional: bool = False  # every token sees every other (LLM2Vec); not in the paper


class Lora(Section):
    """App. A, and the released adapter_config.json for alpha and dropout."""

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    targets: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Train(Section):
    """Contrastive fine-tuning (Sec. 3.2, 4.2, App. A)."""

    method: Literal["lora", "full", "qlora"] = "lora"  # App. A; qlora = LoRA on a base in 4 bits
    instruction: Literal["natural", "none", "task-type"] = "natural"  # Table 5
    batch_size: Annotated[int, Field(ge=2)] = 2048
    max_length: Annotated[int, Field(ge=8)] = 512
    document_max_length: Annotated[int, Field(ge=8)] | None = None  # None = max_length
    temperature: Annotated[float, Field(gt=0)] = 0.02
    hard_negatives: bool = True
    mask_known_positives: bool = True  # not stated
    symmetric: bool = False  # also find the query by its positive; not in the paper
    same_task_batches: bool = False  # not stated
    recipes: Recipes = Recipes()  # losses of later papers, all off
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None  # not stated
    epochs: Annotated[float, Field(gt=0)] = 1.0
    max_steps: Positive | None = None  # None = as many as the epochs give
    chunk_tokens: Positive = 16_384  # tokens a chunk, padding included; memory, not mathematics
    graph_tokens: Annotated[int, Field(ge=0)] = 0  # tokens whose graphs may stay in memory
    grow_graphs: bool = False  # more of them, as far as a GPU's free memory goes; not measured on one yet
    gradient_checkpointing: bool | Literal["auto"] = True  # App. A; "auto" = if one text does not fit
    try_longest_first: bool = True  # the heaviest batch before step 1, so that memory fails early
    workers: Positive = 1  # processes of this machine, one GPU each, started by torchrun
    sharded: bool = False  # weights spread over the workers (FSDP2), for a base that does not fit
    checkpoint_every: Positive = 50
    trackers: list[Literal["tensorboard", "trackio", "wandb"]] = []  # beside log.jsonl

    @property
    def document_length(self) -> int:
        """Tokens after which documents are cut; queries are cut after ``max_length``."""
        return self.document_max_length or self.max_length

    @model_validator(mode="after")
    def _possible(self):
        if self.method == "qlora" and self.sharded:
            raise ValueError(
                "method qlora and sharded do not go together, as qlora has the whole base on every worker, read whole "
                "before it is in 4 bits: where that does not fit, set method lora with sharded"
            )
        if self.grow_graphs and self.sharded:
            raise ValueError(
                "grow_graphs and sharded do not go together, as a worker short of memory would leave the others "
                "waiting: set graph_tokens"
            )
        return self


class Source(Section):
    """One labelled set: where it is read from and how much of it is taken."""

    source: Place | None = None  # a folder, a file or hub:owner/name; None = the set's own
    revision: str | None = None  # a hub commit; None = main, and data.json records which it was
    ratio: Annotated[float, Field(ge=0, le=1)] | None = None  # None = the paper's; 0 leaves the set out
    limit: Positive | None = None  # examples at most


class Negatives(Section):
    """A hard negative for labelled examples that have none (App. A)."""

    encoder: Encoder | None = "hub:intfloat/multilingual-e5-base"  # App. A; or "bm25"; None = no mining
    depth: Positive = 100  # App. A: drawn from the first 100 ranks
    margin: Annotated[float, Field(ge=0, lt=1)] | None = None  # share below the positive's score; not stated
    query_prefix: str = "query: "  # as mE5 was trained
    document_prefix: str = "passage: "
    max_length: Positive = 512


class Data(Section):
    """What is trained on: the data settings of Tables 1 and 5 (Sec. 4.1, 4.2, App. A)."""

    setting: Literal["synthetic", "synthetic+msmarco", "labelled", "msmarco", "full"] = "synthetic"
    labelled: Literal["public", "installed"] = "public"  # the 13 sets, or stand-ins that need no hub
    sets: dict[SetName, Source] = {}
    negatives: Negatives = Negatives()
    shuffled: bool = False  # a control, not in the paper: every query with another one's documents
    select: Selection | None = None  # of the synthetic examples; None = all, as they are
    seed: Annotated[int, Field(ge=0)] = 42  # of sampling and drawing; one mixture for all training seeds


class Pretrain(Section):
    """Contrastive pre-training on weakly supervised pairs before fine-tuning (Sec. 5.1, Table 7)."""

    source: Pairs = "docstrings"  # or a .jsonl or .parquet file, a folder of them, hub:owner/name
    title: str = "title"  # the field of a pair's query side
    body: str = "body"  # the field of its document side
    limit: Positive | None = None  # pairs at most
    set: Overrides = {}  # overrides for the pre-training run, e.g. train.max_steps: 100


class Submission(Section):
    """How the trained model is described in its mteb results (mteb's ModelMeta)."""

    name: str = "synthembed/trained"  # organisation/model
    license: str | None = "apache-2.0"
    languages: list[str] = ["eng-Latn"]  # that the model is meant for, as mteb writes them
    training_code: str | None = None  # where it can be read
    training_data: str | None = None  # likewise
    training_datasets: list[str] = []  # of mteb's, beside those of data.setting

    @field_validator("name")
    @classmethod
    def _organisation_and_model(cls, v):
        if v.count("/") != 1 or not all(v.split("/")):
            raise ValueError(f"write it as organisation/model, got {v!r}")
        return v


class Evaluate(Section):
    """mteb with the paper's protocol (Sec. 4.2)."""

    benchmarks: Annotated[list[str], Field(min_length=1)] = ["MTEB(eng, v1)", "MIRACL", "BUCC+Tatoeba"]
    tasks: list[str] | None = None  # restrict to these; None = the whole benchmarks
    systems: list[System] = ["base", "trained"]  # and "static", "bm25", "minilm", or any hub:owner/name
    protocol: Literal["paper", "mteb-default"] = "paper"  # docs/protocol.md
    max_length: Annotated[int, Field(ge=8)] = 512  # mteb-default reads as far as the model does
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float16"  # the scripts'; a CPU takes float32
    batch_tokens: Positive = 65_536
    submission: Submission = Submission()


class Ablation(Section):
    """A complete run: an id, the overrides that make it, and the rows of the paper that it fills."""

    id: Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]  # names its folder
    fills: dict[str, str] = {}  # artefact -> row as published, e.g. table5: w/ mean pool
    set: Overrides = {}
    against: str | None = None  # the row that its delta is taken from; None = the first
    note: str = ""


class Ablations(Section):
    set: Overrides = {}  # common to every row, the default included: the shared budget
    rows: list[Ablation] = []

    @field_validator("rows")
    @classmethod
    def _unique(cls, v):
        ids = [r.id for r in v]
        if len(set(ids)) < len(ids):
            raise ValueError(f"ablation ids must differ, got {ids}")
        for row in v:
            if row.against is not None and row.against not in set(ids) - {row.id}:
                raise ValueError(f"ablation {row.id!r} is against {row.against!r}: name another of {ids}")
        return v


class RopeVariant(Section):
    """A setting of Figure 5: RoPE base and sliding window, changed without retraining."""

    id: str
    fills: dict[str, str] = {}  # {figure5: the published series}
    rope_theta: Annotated[float, Field(gt=0)] | None = None  # None = as trained
    sliding_window: Positive | None = None  # None = as the base model has it


class LongContext(Section):
    """Personalised passkey retrieval (Sec. 5.2, Figure 5)."""

    lengths: list[Positive] = [256, 512, 1024, 2048, 4096, 8192, 16384, 32768]
    data: Passkeys = "own"  # made here; or the paper's or LongEmbed's: hub:…, .jsonl, folder (passkey.read)
    queries: Positive = 50
    candidates: Annotated[int, Field(ge=2)] = 100
    candidates_per: Literal["query", "length"] = "query"  # LongEmbed: length
    unit: Literal["tokens", "words"] = "tokens"  # of lengths; LongEmbed: words, 0.75 to a token
    system: Literal["base", "trained"] = "trained"  # not stated which checkpoint
    instruction: str = "Retrieve the passage that states the pass key of the person asked about"
    variants: list[RopeVariant] = []

    @model_validator(mode="after")
    def _enough_candidates(self):
        if self.candidates_per == "length" and self.queries > self.candidates:
            raise ValueError(
                f"queries = {self.queries} is more than candidates = {self.candidates}: every query asks "
                "for another candidate's pass key"
            )
        if self.candidates > 676:
            raise ValueError(f"candidates = {self.candidates}: there are 676 names at most")
        return self


class Profile(Section):
    name: str
    description: str = ""
    seed: Seed = 42  # not stated
    seeds: list[Seed] = []  # training is repeated for each; none = seed alone
    generate: Generate = Generate()
    analyze: Analyze = Analyze()
    backbone: Backbone = Backbone()
    lora: Lora = Lora()
    data: Data = Data()
    pretrain: Pretrain | None = None  # only Table 7 pre-trains
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    ablations: Ablations = Ablations()
    long_context: LongContext = LongContext()
    experiments: Experiments = Experiments()  # beyond the paper: notebook 08
    cluster: Cluster | None = None  # None = in this process

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, v):
        if len(set(v)) < len(v):
            raise ValueError("every seed once: a repeated one would train the same model again")
        return v

    @model_validator(mode="after")
    def _one_launcher(self):
        if self.cluster is not None and self.train.workers > 1:
            raise ValueError(
                f"train.workers = {self.train.workers} starts processes of this machine without Ray, cluster.workers "
                "places them with it: set one of them"
            )
        return self

    @model_validator(mode="after")
    def _ablations_apply(self):
        for row in self.ablations.rows:
            try:
                self.with_overrides(self.ablations.set | row.set)
            except ProfileError as error:
                raise ValueError(f"ablation {row.id!r}: {error}") from None
        return self

    @model_validator(mode="after")
    def _experiments_apply(self):
        for one in self.experiments.questions:
            for row in one.rows:
                try:
                    self.of_row(one, row)
                except ProfileError as error:
                    raise ValueError(f"experiment {one.id!r}, row {row.id!r}: {error}") from None
        return self

    @model_validator(mode="after")
    def _pretraining_applies(self):
        if self.pretrain:
            try:
                first = self.for_pretraining()
            except ProfileError as error:
                raise ValueError(f"pretrain.set: {error}") from None
            if first.train.sharded and not self.train.sharded:
                raise ValueError(
                    "pretrain.set: train.sharded, but the training after it wants the whole model on every worker: "
                    "set train.sharded for both, or leave it out here"
                )
        return self

    @property
    def training_seeds(self) -> list[int]:
        """The seeds of the trainings, the main one first: ``seed`` if it is listed."""
        main = self.seed if self.seed in self.seeds or not self.seeds else self.seeds[0]
        return [main, *(s for s in self.seeds if s != main)]

    def for_seeds(self) -> list[Profile]:
        """A profile for each training seed, the main one first; data keep the seed they were made with."""
        return [self.model_copy(update={"seed": s, "seeds": []}) for s in self.training_seeds]

    def in_process(self) -> Profile:
        """The profile without its cluster: of a run that has been placed, for where it was placed."""
        return self.model_copy(update={"cluster": None})

    def for_pretraining(self) -> Profile:
        """The profile of the pre-training run: this one with ``pretrain.set`` on top."""
        changes = {"train.instruction": "none", "pretrain": None} | self.pretrain.set
        return self.with_overrides(changes)

    def of_row(self, experiment: Experiment, row: Row) -> Profile:
        """The profile of one row of an experiment: this one, the budget, the experiment's settings, the row's."""
        return self.with_overrides(self.experiments.set | experiment.set | row.set)

    def with_overrides(self, changes: dict[str, Any]) -> Profile:
        """A copy with dotted keys replaced, validated again; its own ablations and experiments are left out.

        Who sets ``seed`` alone wants that one: the list of seeds is left out as well.
        """
        data = self.model_dump() | {"ablations": {}, "experiments": {}}
        if "seed" in changes:
            data["seeds"] = []
        for key, value in changes.items():
            reading.assign(data, key, value)
        return reading.validate(Profile, data, source="overrides", lines={})

    def hash(self, *sections: str) -> str:
        """SHA-256 (16 hex digits) over the named sections or all, and what the local files they name hold."""
        data = self.model_dump(mode="json", include=set(sections) or None)
        if found := local_inputs(self, sections or tuple(type(self).model_fields)):
            data["local inputs"] = found
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def load(profile: str | Path = "laptop", overrides: str | list[str] = ()) -> Profile:
    """Read a profile by name (``profiles/<name>.yaml``) or path, with ``a.b=c`` overrides on top.

    Raises ProfileError naming file, line, key, value and remedy.
    """
    return reading.load(Profile, profile, overrides)
