"""From a folder of documents to a model that finds things in them, measured before and after, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic.dataclasses import dataclass as checked

from synthembed.adapt import advice, asking, ladder, measuring, queries, selection, starting
from synthembed.adapt.embedding import cut_texts, exporting, prompts
from synthembed.adapt.embedding.prompts import Prompted
from synthembed.adapt.ladder import Symptoms
from synthembed.adapt.queries import TASK
from synthembed.adapt.reading import languages, passages
from synthembed.adapt.reading.documents import DocumentsError, Reading, read
from synthembed.adapt.reading.passages import Passage
from synthembed.adapt.searching import search_index
from synthembed.adapt.searching.search_page import templates
from synthembed.adapt.selection import Selection
from synthembed.corpus import example_files
from synthembed.ground import run_folders
from synthembed.ground.console import counted
from synthembed.ground.files import PACKAGE, read_json, read_lines, shown, typed, write_json
from synthembed.ground.weights import embedded
from synthembed.labelled import mixture
from synthembed.model import adapter
from synthembed.model import backbone as backbones
from synthembed.model.backbone import Backbone
from synthembed.profile.settings import Profile
from synthembed.training import train

EXAMPLE = "example"  # the name of the documents that come along
EXAMPLE_FOLDER = PACKAGE / "adapt" / "example"
PACKAGE_DATA = ("example/*", "templates/*")  # read here, and so part of the code's fingerprint
SHOWN = 500  # examples of each kind in generated.html


@checked(frozen=True)
class Settings:
    """What an adaptation has beside a profile; papermill's -r hands numbers and truth values over as text."""

    generator: asking.Generator = "recorded"
    queries: int = 1  # written for each passage
    words: int = 120  # of a passage, at most about
    held_out: float = 0.25  # share of the documents
    keep_rank: int = 20  # a query's passage must rank so high for it; 0 = no consistency filter
    task: str = TASK
    text_field: str = "text"
    mask: str = ""
    peers: bool = True  # BM25 and an embedding model of others beside ours
    general: int = 512  # recorded examples that a bare language model is trained on first


@dataclass
class Adapted:
    """What a run left: its folder, what it was measured at, the verdict, and the model while it is in memory."""

    folder: Path
    rows: list[dict]
    difference: measuring.Interval
    verdict: str
    model: Backbone
    passages: list[Passage]
    exported: Path | None = None


def documents_of(named: str) -> Path:
    """The folder that is meant: a path, or the example that comes along."""
    return EXAMPLE_FOLDER if named == EXAMPLE and not Path(named).exists() else Path(named).expanduser()


def own_folder(documents: Path) -> Path:
    """runs/adapt/NAME for a folder of documents; raises DocumentsError if that is taken by another of the same name."""
    documents = documents.resolve()
    out = run_folders.own() / "adapt" / (documents.stem if documents.is_file() else documents.name)
    before = (_noted(out) or {}).get("folder", str(documents))
    if before != str(documents):
        raise DocumentsError(f"{shown(out)} is of {before}: say where this one goes, with --out")
    return out


def _noted(out: Path) -> dict | None:
    """What an earlier run noted of its documents in ``out``, None if there was none; raises DocumentsError if that
    cannot be read."""
    path = out / "documents.json"
    try:
        about = read_json(path)
        if about is not None and not ({"folder", "settings"} <= set(about)):
            raise ValueError("it names no folder and no settings")
        return about
    except (ValueError, TypeError) as error:
        raise DocumentsError(
            f"{shown(path)} is damaged ({error}): delete it, and run synthembed adapt again"
        ) from None


def _passages(documents: Path, out: Path, s: Settings) -> tuple[Reading, list[Passage]]:
    if documents.is_dir() and documents.resolve() == out.resolve():
        raise DocumentsError(
            f"{shown(out)} has the documents, and what is made of them is to go elsewhere: another --out"
        )
    reading = read(documents, s.text_field, passages.mask_of(s.mask), out)
    return reading, passages.split(reading.documents, s.words)


def generated(
    documents: Path, out: Path, profile: Profile, s: Settings, say: Callable = print,
    agree: Callable[[], bool] | None = None,
) -> tuple[Reading, list[Passage], asking.Written]:  # fmt: skip
    """Documents → passages → queries, as files in ``out``: documents.json, passages.jsonl, and asking.ask's, which
    ``agree`` is for. Raises selection.SelectionError, with nothing asked, if the documents are too few."""
    reading, found = _passages(documents, out, s)
    language = languages.told_of([p.body for p in found])
    say(
        f"{reading}\n{counted(len(found), 'passage')} of about {s.words} words at most{f', {language}' if language else ''}"
    )
    held = selection.foresee(found, s.held_out, profile.seed, s.queries)
    if parts := len(held - {p.document for p in found}):
        say(
            f"of few documents, or of one that is longer than all others together, parts are held out to measure by: {parts}"
        )
    out.mkdir(parents=True, exist_ok=True)
    _jsonl(out / "passages.jsonl", map(asdict, found))
    write_json(out / "documents.json", {
        "documents": len(reading.documents), "passages": len(found), "left_out": dict(reading.counts()),
        "names": reading.left_out, "folder": str(documents.resolve()), "settings": asdict(s),
    })  # fmt: skip
    with asking.generator(profile, s.generator) as asks:
        written = asking.ask(found, asks, out, s.queries, s.task, say, agree)
    about = [
        f"{written.new:,} new replies",
        f"{len(written.examples):,} of {len(written.asked):,} requests have a usable one",
    ]
    about += [
        f"{count:,} {reason}" for reason, count in (*written.drops.counts.items(), *written.failures.items())
    ]
    say(", ".join(about) + (f"; {written.usd:.2f} USD" if written.usd else ""))
    if not written.examples:  # fewer than are looked at while they come
        raise asking.GenerationStopped(
            f"none of the {len(written.asked):,} replies can be used ({dict(written.drops.counts)})\n"
            f"{advice.on(str(dict(written.drops.counts)), profile) or 'What to try: another --llm'}"
        )
    return reading, found, written


def _systems(
    found: list[Passage], start: Prompted, peers: bool, say: Callable
) -> dict[str, measuring.Searcher]:
    """What ranks passages before anything is trained, by name, each with its passages encoded once: the start model
    ("before"), BM25, and with ``peers`` the embedding model of others that knows the language."""
    systems = {"before": measuring.by_encoder(start, found), "bm25": measuring.by_bm25(found)}
    if peers:
        name = measuring.neural_for(found)
        try:
            systems[name] = measuring.by_neural(name, found)
        except embedded.BackboneError as error:
            say(f"{name} cannot be had, and is left out: {error}")
    return systems


def chosen(
    written: asking.Written, found: list[Passage], encoder: Prompted, systems: dict[str, measuring.Searcher],
    out: Path, profile: Profile, s: Settings, say: Callable = print,
) -> Selection:  # fmt: skip
    """Filtered and split examples, as examples.jsonl, held_out.jsonl, drops.json and generated.html in ``out``.

    The consistency filter takes the best of the ranks by BM25, by an embedding model of others, and by the start
    model if that is one too: a bare language model's ranks are no better than chance.
    """
    for line in cut_texts.told(found, written.examples, encoder, profile.train, s.words):
        say(line)
    bare = encoder.backbone.recipe.pooling is None
    judges = [search for name, search in systems.items() if s.keep_rank and not (bare and name == "before")]
    if judges and s.keep_rank > len(found) / 4:
        say(
            f"the consistency filter hardly drops a query: {s.keep_rank} of {counted(len(found), 'passage')} are good enough for "
            f"it (--keep-rank {max(1, len(found) // 10)} is a tenth of them)"
        )
    picked = selection.select(
        written.examples, written.asked, found, s.held_out, profile.seed,
        (lambda some: np.min([measuring.measure(j, some, found) for j in judges], axis=0)) if judges else None,
        s.keep_rank, written.drops,
    )  # fmt: skip
    example_files.write(out / "examples.jsonl", picked.train)
    example_files.write(out / "held_out.jsonl", picked.held_out)
    write_json(out / "drops.json", picked.drops.as_dict())
    _jsonl(out / "dropped.jsonl", (asdict(one) | {"reason": why} for one, why in picked.dropped))
    parts = {
        "Trained on": [(e, "") for e in picked.train], "Held out": [(e, "") for e in picked.held_out],
        "Dropped": picked.dropped,
    }  # fmt: skip
    counts = {
        "asked for": len(written.asked),
        "trained on": len(picked.train),
        "held out": len(picked.held_out),
    }
    page = templates().get_template("generated.html.jinja")
    told = page.render(name=out.name, counts=counts | dict(picked.drops.counts), parts=parts, most=SHOWN)
    (out / "generated.html").write_text(told, encoding="utf-8")
    dropped = ", ".join(f"{why}: {n}" for why, n in picked.drops.counts.most_common()) or "none"
    say(f"examples: {len(picked.train)} to train on, {len(picked.held_out)} held out; dropped: {dropped}")
    return picked


def run(
    documents: Path, out: Path, profile: Profile, s: Settings, anyway: bool = False, say: Callable = print,
    agree: Callable[[], bool] | None = None,
) -> Adapted:  # fmt: skip
    """All of it: read, ask, filter, train, measure before and after, and export to ``out``/model.

    Raises ladder.Worse if the model got worse on held-out queries, with scores.json written and nothing exported,
    unless ``anyway``. Run again, it asks for new passages alone, and goes on with a training that was broken off.
    """
    _, found, written = generated(documents, out, profile, s, say, agree)
    given, (profile, general) = profile, starting.prepared(profile, s.general, say)
    before = _encoder(profile, s.task)
    base = before.backbone
    systems = _systems(found, before, s.peers, say)
    picked = chosen(written, found, before, systems, out, profile, s, say)
    owners = [picked.document_of[e.id] for e in picked.held_out]
    first = measuring.measure(systems.pop("before"), picked.held_out, found)
    say(f"before: nDCG@10 {measuring.interval(measuring.ndcg(first), owners)}")
    data = (
        mixture.shuffled(picked.train, profile.seed) if profile.data.shuffled else picked.train
    )  # the control
    wanted = profile.model_copy(
        update={"backbone": profile.backbone.model_copy(update={"pooling": before.pooling})}
    )
    wanted, data = prompts.to_train(wanted, data, before.prompts, s.task)
    model = adapter.merge_lora(train.train(wanted, base, data, out / "training"))
    after = prompts.encoder(model, before.pooling, before.prompts)
    (out / "index.npz").unlink(missing_ok=True)  # of a model that was trained before
    index = search_index.build(found, after, s.task, out / "index.npz")
    last = measuring.measure(measuring.by_encoder(after, found, index.vectors), picked.held_out, found)
    rows = [measuring.row("before", first, owners), measuring.row("after", last, owners)]
    if s.peers:
        for name, search in systems.items():
            rows.append(measuring.row(name, measuring.measure(search, picked.held_out, found), owners))
    change = measuring.difference(last, first, owners)
    verdict = ladder.judge(change, len(set(owners)))
    write_json(out / "scores.json", {"rows": rows, "difference": asdict(change), "verdict": verdict})
    say(f"{table(rows)}\nafter − before: {change} points of nDCG@10: {verdict}")
    best = max(rows[2:], key=lambda row: row["ndcg@10"], default=None)
    if best and best["ndcg@10"] > rows[1]["ndcg@10"]:
        say(
            f"{best['system']}, which learned nothing of these documents, has {best['ndcg@10']:.1f}, and ours {rows[1]['ndcg@10']:.1f}"
        )
    done = Adapted(out, rows, change, verdict, model, found)
    if verdict == ladder.WORSE and not anyway:
        _set_aside(out / "model", say)
        raise ladder.refusal(_symptoms(rows, change, picked, written, profile, out))
    if verdict != ladder.BETTER:
        say(
            "What to try:\n"
            + "\n".join(
                f"  {step}" for step in ladder.steps(_symptoms(rows, change, picked, written, profile, out))
            )
        )
    done.exported = _export(done, picked, written, given, before, general)
    return done


def _encoder(profile: Profile, task: str) -> Prompted:
    base = backbones.load(profile.backbone, profile.seed)
    return prompts.encoder(base, profile.backbone.pooling, prompts.of(base, task, profile.train.instruction))


def _set_aside(model: Path, say: Callable) -> None:
    """A model that an earlier run exported stays, but not where this run's would be."""
    if model.exists():
        before = model.with_name("model_before")
        shutil.rmtree(before, ignore_errors=True)
        model.rename(before)
        say(f"the model of an earlier run is now in {before.name}")


def table(rows: list[dict]) -> str:
    """Scores as text, in per cent with 95 % intervals over documents."""
    wide = max(10, *(len(r["system"]) for r in rows))
    head = f"{'system':<{wide}} {'nDCG@10':>22} {'hit@1':>7} {'recall@10':>10}   {rows[0]['queries']} queries of {rows[0]['documents']} documents"
    lines = [
        f"{r['system']:<{wide}} {r['ndcg@10']:>7.1f} [{r['low']:>5.1f}, {r['high']:>5.1f}] {r['hit@1']:>7.1f} {r['recall@10']:>10.1f}"
        for r in rows
    ]
    return "\n".join([head, *lines])


def opened(out: Path, say: Callable = print) -> search_index.Index:
    """The index of a finished adaptation for its documents as they are now: only new passages are encoded.

    Raises FileNotFoundError if there is no exported model in ``out``.
    """
    about = _noted(out)
    if about is None or not (out / "model" / "modules.json").exists():
        raise FileNotFoundError(f"{out} has no adapted model: synthembed adapt DOCUMENTS --out {typed(out)}")
    s = Settings(**about["settings"])
    folder = Path(about["folder"])
    if folder.exists():
        reading, found = _passages(folder, out, s)
        say(str(reading))
    else:
        say(f"{folder} is no longer there: what was read of it is searched")
        found = [Passage(**row) for row in read_lines(out / "passages.jsonl")]
    loaded = backbones.load(Profile(name="search").backbone.model_copy(update={"model": str(out / "model")}))
    index = search_index.build(found, prompts.encoder(loaded, "last"), s.task, out / "index.npz")
    say(f"{len(found):,} passages, {index.new:,} of them encoded now")
    return index


def _export(
    done: Adapted,
    picked: Selection,
    written: asking.Written,
    profile: Profile,
    read_as: Prompted,
    general: int,
) -> Path:
    said = [str((line.get("response") or {}).get("body", {}).get("model", "an LLM"))
            for line in read_lines(done.folder / "replies.jsonl") if line["custom_id"] in written.asked]  # fmt: skip
    return exporting.write(
        done.folder / "model", done.model, read_as, profile,
        name=done.folder.name, train=len(picked.train), generators=exporting.writers(said),
        documents=len({p.document for p in done.passages}), passages=len(done.passages),
        held_out=len(picked.held_out), held_documents=len({picked.document_of[e.id] for e in picked.held_out}),
        rows=done.rows, difference=str(done.difference), verdict=done.verdict, general=general,
    )  # fmt: skip


def _symptoms(rows, change, picked: Selection, written, profile: Profile, out: Path) -> Symptoms:
    log = list(read_lines(out / "training" / "log.jsonl"))
    of = {row["system"]: row["ndcg@10"] for row in rows}
    inconsistent = sum(n for why, n in picked.drops.counts.items() if why.startswith("inconsistent"))
    return Symptoms(
        change, of["before"], of.get("bm25", 0.0), len(picked.train), len(picked.held_out), len(written.asked),
        sum(picked.drops.counts.values()), inconsistent, profile.train.epochs,
        [line["loss"] for line in log], [line["accuracy"] for line in log], picked.drops.counts[selection.STRAYS],
        max(((row["ndcg@10"], row["system"]) for row in rows[2:]), default=(0.0, "")), of["after"], profile.backbone.model,
    )  # fmt: skip


def _jsonl(path: Path, rows) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def looked(
    documents: Path, out: Path, profile: Profile, s: Settings, say: Callable = print,
    agree: Callable[[], bool] | None = None,
) -> Selection:  # fmt: skip
    """``run`` up to the training: what is written can be looked at in generated.html before it is trained on."""
    _, found, written = generated(documents, out, profile, s, say, agree)
    profile, _ = starting.prepared(profile, s.general, say)
    encoder = _encoder(profile, s.task)
    systems = _systems(found, encoder, s.peers, say) if s.keep_rank else {}
    return chosen(written, found, encoder, systems, out, profile, s, say)


def planned(documents: Path, out: Path, profile: Profile, s: Settings) -> str:
    """What a run would read, ask for, send away and pay at most; nothing is asked or written but requests."""
    reading, found = _passages(documents, out, s)
    selection.foresee(found, s.held_out, profile.seed, s.queries)
    changes = {
        "recorded": {"generate.backend": "recorded"},
        "embedded": {"generate.backend": "live", "generate.base_url": "http://127.0.0.1:1/v1"},
    }
    asks = profile.with_overrides(
        changes.get(
            s.generator, {"generate.backend": "live"} if profile.generate.backend == "recorded" else {}
        )
    )
    stored = asking.stored(out / "replies.jsonl")
    lines = [line for _, line in queries.requests(found, asks, s.queries, s.task)]
    return f"{reading}\n{counted(len(found), 'passage')}\n{asking.announce(asks, lines, stored)}"
