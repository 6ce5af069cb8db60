"""The taxonomy of embedding tasks: families, placeholders, languages, reply schemas (Sec. 3.1, App. C).

A *family* is one of the six task types of Figure 2. The four asymmetric ones are prompted in two
steps (brainstorm tasks, then write one example of a task), the two symmetric ones in one step.
Everything here is data plus the pure functions that sample and render it.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field

PACKAGE_DATA = ("prompts/*",)  # read here, and so part of the code's fingerprint

Family = Literal["short-long", "long-short", "sts", "bitext", "long-long", "short-short"]

# Figure 2, left: thousands of examples per family. The figure adds up to 507, not to 500.
PAPER_COUNTS: dict[Family, float] = {
    "short-long": 167, "long-short": 122, "sts": 99, "bitext": 89, "long-long": 17, "short-short": 13,
}  # fmt: skip
FAMILIES: tuple[Family, ...] = tuple(PAPER_COUNTS)
ASYMMETRIC: tuple[Family, ...] = ("short-long", "long-short", "long-long", "short-short")

# Table 16: the task definitions that the paper trains symmetric data with.
SYMMETRIC_INSTRUCTIONS: dict[Family, str] = {
    "sts": "Retrieve semantically similar text.",
    "bitext": "Retrieve parallel sentences.",
}

# Appendix C, Tables 8-13: the values of every placeholder.
_CLARITY = ["clear", "understandable with some effort", "ambiguous"]
_STUDENT = ["high school", "college", "PhD"]
_PUPIL = ["elementary school", "high school", "college"]
_UNIT = ["sentence", "phrase", "passage"]
PLACEHOLDERS: dict[Family, dict[str, list]] = {
    "short-long": {
        "query_type": ["extremely long-tail", "long-tail", "common"],
        "query_length": ["less than 5 words", "5 to 15 words", "at least 10 words"],
        "clarity": _CLARITY,
        "difficulty": _STUDENT,
        "num_words": [50, 100, 200, 300, 400, 500],
    },
    "long-short": {
        "num_words": ["less than 10", "at least 10", "at least 50", "at least 100", "at least 200"],
        "difficulty": _STUDENT,
        "clarity": _CLARITY,
    },
    "long-long": {"num_words": [300]},
    "short-short": {},
    "sts": {"unit": _UNIT, "high_score": [4, 4.5, 5], "low_score": [2.5, 3, 3.5], "difficulty": _PUPIL},
    "bitext": {"unit": _UNIT, "high_score": [4, 4.5, 5], "low_score": [1.5, 2, 2.5], "difficulty": _PUPIL},
}

# The paper says only that placeholders are sampled at random. "speed" names the weights in the
# scripts of SPEED (arXiv 2410.18634), which shares three authors with the paper.
PLACEHOLDER_WEIGHTS: dict[str, dict[str, list[float]]] = {
    "uniform": {},
    "speed": {
        "query_type": [0.4, 0.5, 0.1],
        "query_length": [0.4, 0.4, 0.2],
        "clarity": [0.6, 0.2, 0.2],
    },
}

# The XLM-R list: 93 languages once romanised and script variants are merged.
LANGUAGES: dict[str, str] = {
    "af": "Afrikaans", "am": "Amharic", "ar": "Arabic", "as": "Assamese", "az": "Azerbaijani",
    "be": "Belarusian", "bg": "Bulgarian", "bn": "Bengali", "br": "Breton", "bs": "Bosnian",
    "ca": "Catalan", "cs": "Czech", "cy": "Welsh", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "eo": "Esperanto", "es": "Spanish", "et": "Estonian", "eu": "Basque",
    "fa": "Persian", "fi": "Finnish", "fr": "French", "fy": "Western Frisian", "ga": "Irish",
    "gd": "Scottish Gaelic", "gl": "Galician", "gu": "Gujarati", "ha": "Hausa", "he": "Hebrew",
    "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian",
    "is": "Icelandic", "it": "Italian", "ja": "Japanese", "jv": "Javanese", "ka": "Georgian",
    "kk": "Kazakh", "km": "Khmer", "kn": "Kannada", "ko": "Korean", "ku": "Kurdish", "ky": "Kyrgyz",
    "la": "Latin", "lo": "Lao", "lt": "Lithuanian", "lv": "Latvian", "mg": "Malagasy",
    "mk": "Macedonian", "ml": "Malayalam", "mn": "Mongolian", "mr": "Marathi", "ms": "Malay",
    "my": "Burmese", "ne": "Nepali", "nl": "Dutch", "no": "Norwegian", "om": "Oromo", "or": "Oriya",
    "pa": "Punjabi", "pl": "Polish", "ps": "Pashto", "pt": "Portuguese", "ro": "Romanian",
    "ru": "Russian", "sa": "Sanskrit", "sd": "Sindhi", "si": "Sinhala", "sk": "Slovak",
    "sl": "Slovenian", "so": "Somali", "sq": "Albanian", "sr": "Serbian", "su": "Sundanese",
    "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai", "tl": "Tagalog",
    "tr": "Turkish", "ug": "Uyghur", "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek",
    "vi": "Vietnamese", "xh": "Xhosa", "yi": "Yiddish", "zh": "Chinese",
}  # fmt: skip

# Figure 2, right: per cent of examples. The remaining 79 languages share PAPER_OTHERS.
PAPER_LANGUAGE_SHARES: dict[str, float] = {
    "en": 43.1, "pl": 3.0, "ja": 2.9, "it": 2.9, "ru": 2.9, "id": 2.9, "de": 2.9, "fa": 2.9,
    "es": 2.8, "zh": 2.8, "fr": 2.8, "pt": 2.8, "nl": 2.8, "ar": 2.7,
}  # fmt: skip
PAPER_OTHERS = 19.8


class Reply(BaseModel):
    """Base of the reply schemas: unknown keys are an error, and no text may be empty."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, str_min_length=1)


class Brainstorm(Reply):
    tasks: list[str] = Field(min_length=1)


class ShortLong(Reply):
    user_query: str
    positive_document: str
    hard_negative_document: str


class LongShort(Reply):
    input_text: str
    label: str
    misleading_label: str


class Matching(Reply):
    input: str
    positive_document: str


class Scored(Reply):
    S1: str
    S2: str
    S3: str


SCHEMAS: dict[str, type[Reply]] = {
    "brainstorm": Brainstorm,
    "short-long": ShortLong,
    "long-short": LongShort,
    "long-long": Matching,
    "short-short": Matching,
    "sts": Scored,
    "bitext": Scored,
}


@dataclass(frozen=True, slots=True)
class Item:
    """One request to be made: what to ask, before it is rendered.

    ``step`` is "brainstorm" or "example"; ``task`` is the instruction the example is written for
    (and later trained with); ``language`` is the language of the texts; ``target_language`` is set
    for bitext only, where ``language`` is the source.
    """

    step: Literal["brainstorm", "example"]
    number: int
    family: Family
    task: str = ""
    language: str = "en"
    target_language: str = ""
    placeholders: tuple[tuple[str, Any], ...] = ()


def seed_of(*parts: object) -> int:
    """A 63-bit seed from the profile seed and whatever names the item; the same in every process."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def language_shares(codes: list[str] | None = None) -> dict[str, float]:
    """Sampling weights by language code: the paper's shares, restricted to ``codes`` if given.

    The 14 languages that Figure 2 names keep their shares; all others split "Others" evenly.
    """
    chosen = list(LANGUAGES) if codes is None else codes
    unnamed = [c for c in chosen if c not in PAPER_LANGUAGE_SHARES]
    return {c: PAPER_LANGUAGE_SHARES.get(c) or PAPER_OTHERS / len(unnamed) for c in chosen}


class Sampler:
    """Draws the attributes of item ``number``; a pure function of (seed, settings, number)."""

    def __init__(self, seed, families, languages, placeholders, weights, tasks_per_list, examples_per_task):
        self.seed = seed
        self.families = list(families)
        self.family_weights = list(accumulate(families.values()))
        shares = language_shares(languages)
        self.languages = list(shares)
        self.language_weights = list(accumulate(shares.values()))
        self.values = {f: PLACEHOLDERS[f] | placeholders.get(f, {}) for f in FAMILIES}
        self.weights = PLACEHOLDER_WEIGHTS[weights]
        total = sum(families.values())
        # List j of a family serves the items j*span ... (j+1)*span - 1, so that the first n items ask
        # for the same tasks however many items follow: a small run is a prefix of a large one.
        self.span = {
            f: max(1, round(tasks_per_list * examples_per_task * total / share))
            for f, share in families.items()
            if share > 0
        }

    def brainstorms(self, examples: int) -> list[Item]:
        """The step-1 items that ``examples`` step-2 items need."""
        return [
            Item("brainstorm", number, family)
            for family in self.families
            if family in ASYMMETRIC and family in self.span
            for number in range(-(-examples // self.span[family]))
        ]

    def list_number(self, family: Family, number: int) -> int:
        """Which brainstormed list serves item ``number``."""
        return number // self.span[family]

    def example(self, number: int, tasks: dict[tuple[Family, int], list[str]]) -> Item | None:
        """Item ``number`` of step 2, or None if the list of tasks that it needs is not there.

        ``tasks`` maps (family, list number) to the brainstormed tasks.
        """
        rng = random.Random(seed_of(self.seed, "example", number))
        family = rng.choices(self.families, cum_weights=self.family_weights)[0]
        language = rng.choices(self.languages, cum_weights=self.language_weights)[0]
        other = language
        while family == "bitext" and other == language:
            other = rng.choices(self.languages, cum_weights=self.language_weights)[0]
        chosen = tuple((name, self._draw(rng, name, v)) for name, v in self.values[family].items())
        if family in ASYMMETRIC:
            pool = tasks.get((family, self.list_number(family, number)))
            if not pool:
                return None
            task = pool[rng.randrange(len(pool))]
        else:
            task = SYMMETRIC_INSTRUCTIONS[family]
        return Item("example", number, family, task, language, other if family == "bitext" else "", chosen)

    def _draw(self, rng: random.Random, name: str, values: list) -> Any:
        weights = self.weights.get(name)
        return rng.choices(values, weights=weights if weights and len(weights) == len(values) else None)[0]


@cache
def _template(name: str):
    env = Environment(
        loader=PackageLoader("synthembed", "prompts"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # prompts are plain text for a model, never HTML
    )
    return env.get_template(f"{name}.jinja")


def render(item: Item, tasks_per_list: int = 20) -> str:
    """The prompt of one item (Tables 8-13, in our own wording)."""
    if item.step == "brainstorm":
        return _template(f"brainstorm_{item.family}").render(count=tasks_per_list).strip()
    return (
        _template(item.family)
        .render(
            task=item.task,
            language=LANGUAGES[item.language],
            source_language=LANGUAGES[item.language],
            target_language=LANGUAGES.get(item.target_language, ""),
            **dict(item.placeholders),
        )
        .strip()
    )


def schema_of(item: Item) -> type[Reply]:
    """The pydantic model that the reply to ``item`` must satisfy."""
    return SCHEMAS["brainstorm" if item.step == "brainstorm" else item.family]
