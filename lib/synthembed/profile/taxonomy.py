"""The taxonomy of embedding tasks as data: families, placeholders, languages, and the paper's shares of them
(Sec. 3.1, Figure 2, App. C).

A *family* is one of the six task types of Figure 2. The four asymmetric ones are prompted in two steps
(brainstorm tasks, then write one example of a task), the two symmetric ones in one step. What is drawn
and rendered from this is in generation/items.py.
"""

from __future__ import annotations

from typing import Literal

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
