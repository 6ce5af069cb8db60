"""The 13 public data sets of the full-data setting as a table (App. A), one line each, two for MS-MARCO.

Sampling ratios are the paper's; sets without a ratio are taken whole, which is an inference. Which
version of a set was meant follows from the paper's citations: NQ, SQuAD and TriviaQA as DPR has them,
NLI as SimCSE has it. The instructions are this project's own wording of what each set asks for.
``python -m synthembed.labelled.public_sets`` prints the table of docs/labelled-data.md.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

from synthembed.ground import places
from synthembed.ground.data_files.opener import ReadError
from synthembed.ground.files import sha256
from synthembed.labelled.readers import text_id
from synthembed.profile.settings import Source
from synthembed.profile.taxonomy import Family

# How a set's files are read (readers.py).
Form = Literal["passages", "triplets", "pairs", "duplicates", "collection"]


@dataclass(frozen=True)
class PublicSet:
    """One set: where it is, how its files are read, and how much of it is taken.

    ``files`` maps a role to a glob pattern in ``hub`` (or in ``hubs[role]``), with ``{part}`` for each
    key of ``parts``; the values of ``parts`` are language codes. ``columns`` name the fields of the
    forms "triplets", "pairs" and "duplicates". A judgement of ``relevant`` or more is a positive, one
    below it a negative. ``size`` counts training queries that have a positive, from the sets' cards and
    papers, approximate.
    """

    name: str
    title: str
    hub: str
    files: dict[str, str]
    form: Form
    family: Family
    instructions: tuple[str, ...]
    size: int
    licence: str
    ratio: float = 1.0
    parts: dict[str, str] = field(default_factory=lambda: {"": "en"})
    columns: tuple[str, ...] = ()
    relevant: int = 1
    hubs: dict[str, str] = field(default_factory=dict)
    mteb: str = ""  # mteb's task of which these are the training data
    by_hand: str = ""  # where the files come from if the hub has no plain ones

    @property
    def expected(self) -> int:
        """Examples after sampling."""
        return round(self.size * self.ratio)


WIKI_QUESTIONS = (
    "Given a question, find the encyclopedia passage that holds its answer",
    "Find passages from which the question can be answered",
)
SEARCH = "Given what somebody typed into a web search engine, find {} that satisfy it"
CHINESE_SEARCH = ("Given a search query in Chinese, find passages of web pages that answer it",)
MIRACL_LANGUAGES = "ar bn en es fa fi fr hi id ja ko ru sw te th zh"
MRTYDI_LANGUAGES = {
    "arabic": "ar", "bengali": "bn", "english": "en", "finnish": "fi", "indonesian": "id", "japanese": "ja",
    "korean": "ko", "russian": "ru", "swahili": "sw", "telugu": "te", "thai": "th",
}  # fmt: skip
BEIR = {"corpus": "corpus.jsonl.gz", "queries": "queries.jsonl.gz", "qrels": "train.tsv"}


def _miracl(role: str) -> str:
    return f"miracl-v1.0-{{part}}/{role}/{role}.miracl-v1.0-{{part}}-train.tsv"


PUBLIC: tuple[PublicSet, ...] = (
    PublicSet(
        "eli5", "ELI5", "sentence-transformers/eli5", {"train": "pair/train-*.parquet"}, "pairs", "short-long",
        ("Given a question that asks for an explanation, find the answer that explains it best",),
        325_475, "not stated", ratio=0.1, columns=("question", "answer"),
    ),
    PublicSet(
        "hotpotqa", "HotpotQA", "BeIR/hotpotqa", BEIR, "collection", "short-long",
        ("Given a question that takes several facts to answer, find passages that state one of them",),
        85_000, "CC BY-SA 4.0", hubs={"qrels": "BeIR/hotpotqa-qrels"}, mteb="HotpotQA",
    ),
    PublicSet(
        "fever", "FEVER", "BeIR/fever", BEIR, "collection", "short-long",
        ("Given a claim, find encyclopedia passages by which it can be checked",),
        109_810, "CC BY-SA 3.0", hubs={"qrels": "BeIR/fever-qrels"}, mteb="FEVER",
    ),
    PublicSet(
        "miracl", "MIRACL", "miracl/miracl",
        {"corpus": "miracl-corpus-v1.0-{part}/docs-*.jsonl.gz", "queries": _miracl("topics"), "qrels": _miracl("qrels")},
        "collection", "short-long", WIKI_QUESTIONS, 40_203, "Apache-2.0",
        parts={code: code for code in MIRACL_LANGUAGES.split()}, hubs={"corpus": "miracl/miracl-corpus"}, mteb="MIRACLRetrieval",
    ),
    PublicSet(
        "msmarco-passage", "MS-MARCO passage", "Tevatron/msmarco-passage", {"train": "train.jsonl.gz"},
        "passages", "short-long", (SEARCH.format("passages"),), 400_782, "non-commercial", ratio=0.5, mteb="MSMARCO",
    ),
    PublicSet(
        "msmarco-document", "MS-MARCO document", "irds/msmarco-document",
        {"corpus": "msmarco-docs.tsv.gz", "queries": "msmarco-doctrain-queries.tsv.gz",
         "qrels": "msmarco-doctrain-qrels.tsv.gz"},
        "collection", "short-long", (SEARCH.format("web pages"),), 367_013, "non-commercial", ratio=0.2,
        by_hand="https://microsoft.github.io/msmarco/Datasets", mteb="MSMARCO",
    ),
    PublicSet(
        "nq", "NQ", "Tevatron/wikipedia-nq", {"train": "nq-train.jsonl.gz"}, "passages", "short-long",
        WIKI_QUESTIONS, 58_880, "CC BY-SA 3.0", mteb="NQ",
    ),
    PublicSet(
        "nli", "NLI", "princeton-nlp/datasets-for-simcse", {"train": "nli_for_simcse.csv"}, "triplets", "sts",
        ("Given a statement, find one that follows from it", "Find a sentence that means what this one means"),
        275_601, "SNLI CC BY-SA 4.0, MultiNLI mixed", columns=("sent0", "sent1", "hard_neg"),
    ),
    PublicSet(
        "squad", "SQuAD", "Tevatron/wikipedia-squad", {"train": "squad-train.jsonl.gz"}, "passages",
        "short-long", WIKI_QUESTIONS, 70_096, "CC BY-SA 4.0", mteb="XQuADRetrieval",
    ),
    PublicSet(
        "triviaqa", "TriviaQA", "Tevatron/wikipedia-trivia", {"train": "trivia-train.jsonl.gz"}, "passages",
        "short-long", WIKI_QUESTIONS, 60_413, "not stated",
    ),
    PublicSet(
        "quora", "Quora duplicates", "sentence-transformers/quora-duplicates",
        {"train": "pair-class/train-*.parquet"}, "duplicates", "sts",
        ("Given a question, find others that ask the same", "Find questions that this one repeats in other words"),
        149_263, "non-commercial", ratio=0.1, columns=("sentence1", "sentence2", "label"), mteb="QuoraRetrieval",
    ),
    PublicSet(
        "mrtydi", "MrTyDi", "castorini/mr-tydi", {"train": "mrtydi-v1.1-{part}/train.jsonl.gz"}, "passages",
        "short-long", WIKI_QUESTIONS, 48_729, "Apache-2.0", parts=MRTYDI_LANGUAGES, mteb="MrTidyRetrieval",
    ),
    PublicSet(
        "dureader", "DuReader", "zyznull/dureader-retrieval-ranking", {"train": "train.jsonl.gz"}, "passages",
        "short-long", CHINESE_SEARCH, 86_395, "Apache-2.0", parts={"": "zh"}, mteb="DuRetrieval",
    ),
    PublicSet(
        "t2ranking", "T2Ranking", "THUIR/T2Ranking",
        {"corpus": "data/collection.tsv", "queries": "data/queries.train.tsv", "qrels": "data/qrels.train.tsv"},
        "collection", "short-long", CHINESE_SEARCH, 200_360, "Apache-2.0", ratio=0.5, parts={"": "zh"}, relevant=2, mteb="T2Retrieval",
    ),
)  # fmt: skip

MSMARCO = "msmarco-passage"  # the set of "synthetic + msmarco" and "msmarco" (Sec. 4.2, Table 5)
SYNTHETIC = 500_000  # Sec. 4.1
PAPER_TOTAL = 1_800_000  # Sec. 4.2: "about 1.8M" after sampling


def table() -> str:
    """The sets as Markdown, with their expected sizes and the difference from the paper's total."""
    lines = [
        "| set | hub id | form | languages | queries | ratio | after sampling |",
        "|---|---|---|---|---|---|---|",
    ]
    for s in PUBLIC:
        languages = ", ".join(s.parts.values())
        sizes = f"{s.size:,} | {s.ratio:g} | {s.expected:,}"
        lines.append(f"| {s.title} | {s.hub} | {s.form} | {languages} | {sizes} |")
    labelled = sum(s.expected for s in PUBLIC)
    total = labelled + SYNTHETIC
    off = 100 * (total / PAPER_TOTAL - 1)
    lines.append(f"| all sets | | | | | | {labelled:,} |")
    lines.append(f"| synthetic (Sec. 4.1) | | | | | | {SYNTHETIC:,} |")
    lines.append(f"| all, {off:+.1f} % of the paper's 1.8M | | | | | | {total:,} |")
    return "\n".join(lines)


# --- where a set's files are ---------------------------------------------------------------------


def locate(entry: PublicSet, source: Source) -> tuple[dict[str, dict[str, list[Path]]], str]:
    """(part → role → files, revision): on this machine, or fetched from the hub once.

    Raises ReadError naming the key, the pattern and the remedy if a file is not there.
    """
    key = f"data.sets.{entry.name}.source"
    local = Path(source.source) if source.source and not places.hub_id(source.source) else None
    if local and not local.exists():
        raise ReadError(f"{key}: there is no file or folder {local}: put {wanted(entry)} there")
    if local and local.is_file():
        if len(entry.files) > 1 or len(entry.parts) > 1:
            raise ReadError(f"{key} {source.source!r} is one file; a folder with {wanted(entry)} is needed")
        return {"": {"train": [local]}}, sha256(local)[:16]
    if local:
        roots, revision = dict.fromkeys(entry.files, local), ""
    else:
        roots, revision = _fetched(entry, source, key)
    found = {
        part: {
            role: _matching(roots[role], pattern, key, (part, language))
            for role, pattern in entry.files.items()
        }
        for part, language in entry.parts.items()
    }
    read: dict[Path, str] = {}
    for part, roles in found.items():
        for file in (f for listed in roles.values() for f in listed):
            if read.setdefault(file, part) != part:
                raise ReadError(
                    f"{key}: {file.name} would be read as {read[file]!r} and as {part!r}: put the files of each language "
                    "into a folder of its name"
                )
    return found, revision or _fingerprint(local, found)


def wanted(entry: PublicSet) -> str:
    return ", ".join(Path(p).name.format(part="<part>") for p in entry.files.values())


def _fetched(entry: PublicSet, source: Source, key: str) -> tuple[dict[str, Path], str]:
    from huggingface_hub import snapshot_download

    if entry.by_hand and not source.source:
        raise ReadError(
            f"{key}: the hub has no plain files of {entry.title}; put {wanted(entry)} from {entry.by_hand} "
            f"into a folder and name it here, or leave the set out with data.sets.{entry.name}.ratio=0"
        )
    roots, revisions = {}, []
    for role, pattern in entry.files.items():
        own = source.source and places.hub_id(source.source)
        repository = own or entry.hubs.get(role, entry.hub)
        patterns = [pattern.format(part=part) for part in entry.parts]
        revision = source.revision if repository in (own, entry.hub) else None
        try:
            roots[role] = Path(
                snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=patterns)
            )
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ReadError(
                f"{key}: the hub did not give {repository!r} ({reason}); "
                f"name a folder with {wanted(entry)}, or leave the set out with data.sets.{entry.name}.ratio=0"
            ) from None
        revisions.append(f"{repository}@{roots[role].name}")
    return roots, " ".join(dict.fromkeys(revisions))


def _matching(root: Path, pattern: str, key: str, part: tuple[str, str]) -> list[Path]:
    """Files of a pattern below ``root``, gzipped or not, in capitals or not, in its folders or beside one
    another. Of a set in several languages, only those whose path names this part's or its language."""
    exact = pattern.format(part=part[0]).lower()
    plain = exact.removesuffix(".gz")
    files = {f.relative_to(root).as_posix().lower(): f for f in sorted(root.rglob("*")) if f.is_file()}
    for wanted in (exact, plain):
        if found := [
            f for n, f in files.items() if n.count("/") == wanted.count("/") and PurePath(n).match(wanted)
        ]:
            return found
    others = []
    for wanted in (PurePath(exact).name, PurePath(plain).name):
        found = {name: f for name, f in files.items() if PurePath(name).match(wanted)}
        mine = [f for name, f in found.items() if "{part}" not in pattern or _names(name, part)]
        folders = sorted({f.parent.relative_to(root).as_posix() for f in mine})
        if len(folders) > 1:
            raise ReadError(
                f"{key}: {wanted} lies in {len(folders)} folders of {root} ({', '.join(folders[:3])}), and would be read "
                "from all of them: keep the one that is meant"
            )
        if mine:
            return mine
        others += found
    if others:
        raise ReadError(
            f"{key}: no path of {', '.join(others[:3])} in {root} names {part[0]!r} or {part[1]!r}: put the files of each "
            "language into a folder of its name, since several languages are never read as one"
        )
    raise ReadError(
        f"{key}: no file {pattern.format(part=part[0])} in {root}; the set's other files may be there, this one is not"
    )


def _names(path: str, part: tuple[str, str]) -> bool:
    return any(re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", path) for word in part)


def _fingerprint(root: Path, found: dict) -> str:
    files = sorted({f for roles in found.values() for listed in roles.values() for f in listed})
    about = json.dumps([[f.relative_to(root).as_posix(), f.stat().st_size] for f in files])
    return f"local, names and sizes {text_id(about)}"


if __name__ == "__main__":
    print(table())
