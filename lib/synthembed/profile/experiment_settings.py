"""Settings that go beyond the paper: which examples are trained on, recipes of later papers, and experiments
as rows of data (notebook 08). All of it is off by default, and what is off changes no number.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from synthembed.profile.generate_settings import STRICT, Positive
from synthembed.profile.places import Overrides, Place, Reader
from synthembed.profile.taxonomy import Family

Id = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]  # names a folder


class Section(BaseModel):
    model_config = STRICT


class Judge(Section):
    """An embedding model that reads the corpus: a teacher, a miner of negatives, or a judge of pairs."""

    encoder: Reader = "embedded:me5-small-4bit"  # or "bm25" where ranks are enough; "trained" is stage 03's
    query_prefix: str = "query: "  # as mE5 was trained; {instruction} in it is the example's own
    document_prefix: str = "passage: "
    max_length: Positive = 128


class Mined(Judge):
    """Hard negatives of the synthetic examples, found among all their documents, in place of the written ones."""

    count: Positive = 1
    depth: Positive = 30  # ranks that they are drawn from
    margin: Annotated[float, Field(ge=0, lt=1)] | None = (
        None  # share below the positive's score (NV-Retriever)
    )
    keep_written: bool = False  # beside the LLM's own


class Consistency(Judge):
    """A pair is consistent if its positive is among the first ``top`` of all documents for its query (Promptagator,
    Gecko). ``take`` says which of the two kinds is trained on."""

    top: Positive = 1
    take: Literal["consistent", "others"] = "consistent"


class Selection(Section):
    """Which of the synthetic examples are trained on, and with which negatives."""

    share: Annotated[float, Field(gt=0, le=1)] = (
        1.0  # drawn by the hash of each example's id: shares are nested
    )
    examples: Positive | None = None  # at most so many, likewise; what compares two kinds at one number
    families: list[Family] | None = None  # these alone
    without: list[Family] = []
    languages: list[str] | None = None  # of the query and, where it has one of its own, the document
    consistency: Consistency | None = None
    negatives: Mined | None = None


class Distil(Judge):
    """The student's distribution over a batch's documents is drawn to a teacher's (KL)."""

    weight: Annotated[float, Field(gt=0)] = 1.0  # of the KL beside the contrastive loss
    temperature: Annotated[float, Field(gt=0)] = 0.01  # of the teacher's cosines; mE5's lie between 0.7 and 1


class Recipes(Section):
    """Losses of later papers (training/later/losses_after.py)."""

    focal: Annotated[float, Field(ge=0)] = 0.0  # gamma of (1 - p)^gamma; 0 = every query counts alike
    matryoshka: list[Positive] = []  # dimensions whose beginnings are trained as vectors of their own
    distil: Distil | None = None


# --- experiments -----------------------------------------------------------------------------------------


class Reading(Section):
    """One way to read a trained model, without training: fewer dimensions, fewer bits, another instruction."""

    id: Id
    dims: Positive | None = None  # the first so many
    precision: Literal["float32", "int8", "binary", "binary-rescored"] = "float32"
    instruction: Literal["own", "paraphrased", "wrong", "empty", "german"] = "own"


class Row(Section):
    """One training under some settings, once for each seed."""

    id: Id
    set: Overrides = {}
    x: float | None = None  # its place on the axis of a curve
    corpus: Literal["synthetic", "dropped"] | Place = "synthetic"  # or another run's examples.jsonl
    soup: bool = False  # the average of the weights of several trainings: of all seeds but one
    scored_at: list[Positive] = []  # steps after which a part of the suite is scored: a learning curve
    readings: list[Reading] = []
    command: str = ""  # that makes what the row waits for
    note: str = ""


class Experiment(Section):
    """A question, its rows, and what its figure says: what is varied and what is held."""

    id: Id
    question: str
    varied: str
    held: str
    kind: Literal["bars", "curve", "heat", "bytes", "steps"] = "bars"
    axis: str = ""  # of a curve: what x counts
    against: str | None = None  # the row that deltas are taken from; None = the first
    set: Overrides = {}  # common to its rows
    rows: Annotated[list[Row], Field(min_length=1)]

    @field_validator("rows")
    @classmethod
    def _unique(cls, v):
        ids = [row.id for row in v]
        if len(set(ids)) < len(ids):
            raise ValueError(f"ids of rows must differ, got {ids}")
        return v

    @model_validator(mode="after")
    def _against_one_of_them(self):
        if self.against is not None and self.against not in {row.id for row in self.rows}:
            raise ValueError(f"against = {self.against!r}: name one of {[row.id for row in self.rows]}")
        if self.kind == "curve" and any(row.x is None for row in self.rows):
            missing = [row.id for row in self.rows if row.x is None]
            raise ValueError(f"a curve wants every row's x, its place on the axis: {missing} have none")
        return self


class Experiments(Section):
    """Notebook 08. Rows of the same settings and seed, whatever their experiment, are trained once."""

    alone: bool = False  # the profile is for notebook 08: of the other stages only what it reads is run
    set: Overrides = {}  # common to all rows: the budget
    curve_tasks: list[str] = []  # the part of the suite that learning curves are scored on
    questions: list[Experiment] = []

    @field_validator("questions")
    @classmethod
    def _unique(cls, v):
        ids = [one.id for one in v]
        if len(set(ids)) < len(ids):
            raise ValueError(f"ids of experiments must differ, got {ids}")
        return v
