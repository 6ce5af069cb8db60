"""The paper's benchmarks by name, as mteb's own task objects (Sec. 4.2, 5.1; Tables 1-6, Figure 5).

Task lists come from the installed mteb, so that a name here means what the leaderboard means by it;
nothing is fetched before a task loads its data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mteb

from synthembed.evaluation.suites.embedded_tasks import embedded
from synthembed.evaluation.suites.names import refuse_unknown

# The 16 languages of the paper's Table 6; mteb's MIRACL has German and Yoruba as well.
MIRACL_LANGUAGES = [
    "ar", "bn", "en", "es", "fa", "fi", "fr", "hi", "id", "ja", "ko", "ru", "sw", "te", "th", "zh",
]  # fmt: skip

# Secondary metrics, beside the main one (Table 6). A subset of EmbeddedMultilingual has about 150 documents,
# two thirds of which are among the first 100; recall among the first 3 is what tells systems apart there.
MORE = {
    "MIRACLRetrieval": ("recall_at_100",),
    "MIRACLRetrievalHardNegatives": ("recall_at_100",),
    "EmbeddedMultilingual": ("recall_at_100", "recall_at_3"),
}


@dataclass(frozen=True)
class Benchmark:
    """``tasks()`` gives new task objects; which of them compare with the paper is in paper/artefacts.yaml."""

    about: str
    tasks: Callable[[], list]


def _miracl(name: str) -> list:
    return [mteb.get_task(name, hf_subsets=MIRACL_LANGUAGES)]


def _named(*names: str) -> list:
    return [mteb.get_task(name) for name in names]


BENCHMARKS = {
    "MTEB(eng, v1)": Benchmark(
        "56 English data sets, CQADupstack's 12 as one (Tables 1, 3, 5, 7, 17)",
        lambda: list(mteb.get_benchmark("MTEB(eng, v1)").tasks),
    ),
    "BEIR": Benchmark(
        "the 15 public retrieval sets of MTEB (Table 3)", lambda: list(mteb.get_benchmark("BEIR").tasks)
    ),
    "MIRACL": Benchmark(
        "retrieval in 16 languages, whole corpora, dev (Tables 2, 6)", lambda: _miracl("MIRACLRetrieval")
    ),
    "MIRACL (hard negatives)": Benchmark(
        "MIRACL with a few hundred documents a query: cheap, and not the benchmark of the paper",
        lambda: _miracl("MIRACLRetrievalHardNegatives"),
    ),
    "BUCC+Tatoeba": Benchmark(
        "bitext mining, 4 and 112 pairs of languages (Table 4)", lambda: _named("BUCC", "Tatoeba")
    ),
    "LongEmbed passkey": Benchmark(
        "passkey retrieval with 100 candidates shared by all queries of a length (after Figure 5)",
        lambda: _named("LEMBPasskeyRetrieval"),
    ),
    "embedded": Benchmark("the suite that comes with the library", embedded),
}


def load(names: list[str], only: list[str] | None = None) -> dict[str, list]:
    """Benchmark as scores.json names it → its new task objects, or those of them named in ``only``.

    A part of a benchmark is called "..., part" and compares with nothing; the embedded suite, which
    compares with nothing anyway, keeps its name. A benchmark without any of ``only`` is left out.
    Raises ValueError, with the known names, for an unknown benchmark or a task in none of them.
    """
    whole = {name: _tasks(name) for name in names}
    known = {t.metadata.name for tasks in whole.values() for t in tasks}
    refuse_unknown(names, only, known)
    found = {}
    for name, tasks in whole.items():
        kept = [t for t in tasks if not only or t.metadata.name in only]
        part = len(kept) < len(tasks) and name != "embedded"
        if kept:
            found[f"{name}, part" if part else name] = kept
    return found


def _tasks(name: str) -> list:
    if name in BENCHMARKS:
        return BENCHMARKS[name].tasks()
    try:
        return list(mteb.get_benchmark(name).tasks)
    except KeyError:
        raise ValueError(
            f"evaluate.benchmarks: unknown benchmark {name!r}; known are {', '.join(BENCHMARKS)}, "
            "and every benchmark of mteb by its name there"
        ) from None
