"""The profile's ``generate`` section: what is asked for, of which models, how, and for how much money."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from synthembed.ground import endpoint
from synthembed.profile import taxonomy
from synthembed.profile.reading import NOT_SHOWN
from synthembed.profile.taxonomy import LANGUAGES, PLACEHOLDERS, Family

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0)]


STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)  # of every section of a profile


class Price(BaseModel):
    """USD for a million tokens."""

    model_config = STRICT

    input: Share
    output: Share


# What may differ from model to model of a mix (generate.for_model).
PER_MODEL = (
    "temperature", "top_p", "seed", "max_tokens", "token_limit", "reasoning_effort", "extra_body",
    "response_format", "base_url", "replicas", "key_variable", "price",
)  # fmt: skip


class Generate(BaseModel):
    """Synthetic data (Sec. 3.1, 4.1)."""

    model_config = STRICT

    backend: Literal["recorded", "live", "batch"] = "batch"  # not stated; the paper used Azure OpenAI
    examples: Positive = 500_000  # Sec. 4.1
    tasks_per_list: Positive = 20  # "about 20 tasks" a brainstorm, Tables 8-11
    examples_per_task: Annotated[float, Field(gt=0)] = 2.1  # derived: 500k examples, 150k instructions
    families: dict[Family, Share] = dict(taxonomy.PAPER_COUNTS)  # Figure 2, left
    languages: list[str] | None = None  # None = the 93 of the XLM-R list, Figure 2, right
    placeholders: dict[Family, dict[str, list]] = {}  # overrides of Tables 8-13
    placeholder_weights: Literal["uniform", "speed"] = "uniform"  # not stated
    tasks: Literal["dealt", "drawn"] = "dealt"  # of a list to its examples: in turn, or with replacement
    models: dict[str, Share] = {"gpt-4": 0.75, "gpt-35-turbo": 0.25}  # Sec. 4.1
    for_model: dict[str, dict[str, Any]] = {}  # keys of PER_MODEL that one model of the mix has otherwise
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0  # App. C; None = not sent
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0  # App. C; None = not sent
    seed: Literal["item"] | int | None = "item"  # not stated; each request's own, one for all, not sent
    max_tokens: Positive | None = 4096  # not stated; None = not sent, and no budget can be kept
    token_limit: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"  # its name
    reasoning_effort: str | None = None  # of reasoning models; None = not sent
    extra_body: dict[str, Any] = {}  # whatever else the endpoint takes
    response_format: Literal["json_schema", "json_object", "text"] = "text"  # GPT-4 of 2023 had no other
    base_url: str | None = None  # None = the OpenAI SDK's own default or OPENAI_BASE_URL
    replicas: list[
        str
    ] = []  # base URLs of further servers of the same models: live requests go to the idlest
    key_variable: str = "OPENAI_API_KEY"  # the environment variable that holds the key; never the key
    price: Price | None = None  # None = by generation/prices.yaml
    batch_endpoint: str = "/v1/chat/completions"  # Azure's: /chat/completions
    concurrency: Positive = 64
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None  # of each server; likewise
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    budget_usd: Annotated[float, Field(gt=0)] | None = None  # never exceeded; a paid endpoint needs one,
    no_budget: bool = False  # or this said aloud
    buy_again: bool = False  # where stored replies answer none of today's requests
    failures_at_most: Annotated[float, Field(ge=0, lt=1)] = 0.02  # of the requests; above: incomplete
    poll_s: Annotated[float, Field(gt=0)] = 30.0  # between looks at a batch
    timeout_s: Annotated[float, Field(gt=0)] = 600.0  # a reply may be paid though nobody waited for it
    stream: bool = False  # live: replies in pieces, for gateways that cut silent connections
    max_retries: Annotated[int, Field(ge=0)] = 5  # of what was certainly not answered

    _of: dict[str, Generate] = PrivateAttr(default_factory=dict)

    @field_validator("key_variable", mode="before")
    @classmethod
    def _names_a_variable(cls, v):
        """What stands here in its place is most often the key itself, which no error may show."""
        if not endpoint.is_variable(v):
            raise PydanticCustomError(
                NOT_SHOWN,
                "write the name of the environment variable that holds the key, in capitals as in MY_KEY, never the key",
            )
        return v

    @field_validator("for_model")
    @classmethod
    def _known_keys(cls, v):
        for model, changes in v.items():
            if unknown := sorted(set(changes) - set(PER_MODEL)):
                raise ValueError(
                    f"{model}: {', '.join(unknown)} cannot differ by model; {', '.join(PER_MODEL)} can"
                )
        return v

    @model_validator(mode="after")
    def _models_apply(self):
        for model in self.for_model:
            if model not in self.models:
                raise ValueError(
                    f"for_model has {model!r}, which is none of models: {', '.join(self.models)}"
                )
            self.of(model)
        return self

    def of(self, model: str) -> Generate:
        """These settings as one model of the mix has them."""
        if model not in self._of:
            changes = self.for_model.get(model)
            elsewhere = (
                {"replicas": []} if "base_url" in (changes or {}) else {}
            )  # those are of the other place
            merged = self.model_dump() | elsewhere | (changes or {}) | {"for_model": {}}
            self._of[model] = type(self)(**merged) if changes else self
        return self._of[model]

    def servers(self) -> list[Generate]:
        """These settings for each server that answers to them: ``base_url`` and its replicas, each once."""
        if not self.replicas:
            return [self]
        urls = dict.fromkeys([self.base_url, *self.replicas])
        return [self.model_copy(update={"base_url": url, "replicas": []}) for url in urls]

    @field_validator("families", "models")
    @classmethod
    def _some_share(cls, v, info):
        if sum(v.values()) <= 0:
            one = {"families": "family", "models": "model"}[info.field_name]
            raise ValueError(f"at least one {one} needs a share above 0")
        return v

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, v):
        for code in v or []:
            if code not in LANGUAGES:
                raise ValueError(f"language {code!r} is not one of the 93 codes of the XLM-R list")
        if v is not None and len(set(v)) < 2:
            raise ValueError("bitext needs at least two languages")
        return v

    @field_validator("placeholders")
    @classmethod
    def _known_placeholders(cls, v):
        for family, values in v.items():
            for name, options in values.items():
                if name not in PLACEHOLDERS[family]:
                    raise ValueError(f"family {family!r} has no placeholder {name!r}")
                if not options:
                    raise ValueError(f"placeholder {family}.{name} has no value")
        return v
