"""The embedded suite's tasks in a table, and names that are checked against it: without mteb, whose import
takes seconds.
"""

from __future__ import annotations

# The 16 languages of the paper's Table 6 (the first 8 are Table 2's), and 26 for bitext, as mteb writes them.
RETRIEVAL_LANGUAGES = {
    "en": "eng-Latn", "fr": "fra-Latn", "es": "spa-Latn", "ru": "rus-Cyrl",
    "te": "tel-Telu", "hi": "hin-Deva", "bn": "ben-Beng", "sw": "swh-Latn",
    "ar": "ara-Arab", "fa": "fas-Arab", "fi": "fin-Latn", "id": "ind-Latn",
    "ja": "jpn-Jpan", "ko": "kor-Kore", "th": "tha-Thai", "zh": "zho-Hans",
}  # fmt: skip
BITEXT_LANGUAGES = {
    "de": "deu-Latn", "fr": "fra-Latn", "es": "spa-Latn", "it": "ita-Latn", "pt": "por-Latn",
    "nl": "nld-Latn", "pl": "pol-Latn", "ru": "rus-Cyrl", "id": "ind-Latn", "vi": "vie-Latn",
    "tr": "tur-Latn", "ja": "jpn-Jpan", "zh": "cmn-Hans", "ar": "arb-Arab", "hi": "hin-Deva",
    "sw": "swh-Latn", "bn": "ben-Beng", "cs": "ces-Latn", "el": "ell-Grek", "fa": "pes-Arab",
    "fi": "fin-Latn", "he": "heb-Hebr", "ko": "kor-Hang", "sv": "swe-Latn", "th": "tha-Thai",
    "uk": "ukr-Cyrl",
}  # fmt: skip

# name, type, folder, instruction, what it is, languages
TASKS = [
    ("EmbeddedEncyclopedia", "Retrieval", "retrieval/encyclopedia",
     {"query": "Given a question, retrieve encyclopedic passages that answer it"},
     "Questions against confusable encyclopedic passages.", None),
    ("EmbeddedAdvice", "Retrieval", "retrieval/advice",
     {"query": "Given a situation or a doubt, retrieve advice that resolves it"},
     "Situations told in a person's own words against practical advice; graded judgements.", None),
    ("EmbeddedCode", "Retrieval", "retrieval/code",
     {"query": "Given a description of what is wanted, retrieve code or technical notes that provide it"},
     "Plain-language needs against code snippets and technical notes.", None),
    ("EmbeddedMultilingual", "Retrieval", "retrieval/multilingual",
     {"query": "Given a question, retrieve passages in the same language that answer it"},
     "Questions against passages in the 16 languages of the paper's Table 6.",
     {lang: [code] for lang, code in RETRIEVAL_LANGUAGES.items()}),
    ("EmbeddedCommunity", "Reranking", "reranking/community",
     {"query": "Retrieve posts that are about the same problem as the given post"},
     "Posts of online communities with hard candidates.", None),
    ("EmbeddedSTSGeneral", "STS", "sts/general", "Retrieve sentences with a similar meaning",
     "Sentence pairs of news, captions, science with graded similarity.", None),
    ("EmbeddedSTSDialogue", "STS", "sts/dialogue", "Retrieve messages with a similar meaning",
     "Pairs of questions, requests, opinions with graded similarity.", None),
    ("EmbeddedDuplicates", "PairClassification", "pair/duplicates",
     "Retrieve text that has the same meaning as the given text",
     "Pairs that do or do not mean the same, with hard negatives.", None),
    ("EmbeddedTopic", "Classification", "classification/topic",
     "Classify the main topic of the given text", "Eight topics that border on one another.", None),
    ("EmbeddedIntent", "Classification", "classification/intent",
     "Given a customer's message, find what the customer wants", "Fourteen intents of a self-service assistant.", None),
    ("EmbeddedEmotion", "Classification", "classification/emotion",
     "Classify the emotion expressed in the given message", "Six emotions, in half of the texts not named.", None),
    ("EmbeddedForumTitles", "Clustering", "clustering/forum_titles",
     "Identify the community in which the given title was posted", "Titles from twelve communities.", None),
    ("EmbeddedAbstracts", "Clustering", "clustering/abstracts",
     "Identify the scientific field of the given abstract", "Openings of abstracts from ten fields.", None),
    ("EmbeddedSummaries", "Summarization", "summarization/briefs",
     "Given a text, retrieve faithful summaries of it", "Summaries of differing quality with ratings.", None),
    ("EmbeddedBitext", "BitextMining", "bitext", "Retrieve translations of the given sentence",
     "Translations of everyday sentences, some of them near-identical, 26 languages to English.",
     {f"{lang}-en": [code, "eng-Latn"] for lang, code in BITEXT_LANGUAGES.items()}),
    ("EmbeddedReadingSubject", "InstructionRetrieval", "readings/subject",
     {"query": "Given a message, retrieve messages about the same matter, whatever their writers want"},
     "Messages by what they are about; the texts are those of EmbeddedReadingAct.", None),
    ("EmbeddedReadingAct", "InstructionRetrieval", "readings/act",
     {"query": "Given a message, retrieve messages whose writers do the same, such as thank or warn, about anything"},
     "Messages by what their writers do; the texts are those of EmbeddedReadingSubject.", None),
]  # fmt: skip


def refuse_unknown(benchmarks: list[str], only: list[str] | None, known: set[str]) -> None:
    """Raises ValueError if a task in ``only`` is none of the ``known`` ones of these benchmarks."""
    if unknown := sorted(set(only or ()) - known):
        raise ValueError(
            f"evaluate.tasks: {unknown} are in none of {benchmarks}, which have {', '.join(sorted(known))}"
        )


def check(benchmarks: list[str], only: list[str] | None) -> bool:
    """Whether these names could be checked here: those of the embedded suite alone can. Raises ValueError for
    a task that it does not have."""
    if set(benchmarks) != {"embedded"}:
        return False
    refuse_unknown(benchmarks, only, {name for name, *_ in TASKS})
    return True
