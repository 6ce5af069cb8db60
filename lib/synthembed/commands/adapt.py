"""`synthembed adapt DOCUMENTS` and `synthembed search FOLDER`: the method on a reader's own texts."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from synthembed.commands.options import PortOption, ProfileOption, ServeOption, SetOption, plain_errors, quiet

GENERATORS = ("recorded", "embedded", "endpoint")


def adapt(
    documents: Annotated[
        str,
        typer.Argument(help="A folder (txt, md, html, pdf, docx, odt, jsonl, parquet, csv), or `example`."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where all of it goes; runs/adapt/NAME by default.")
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            help="The start model: a run (laptop), a folder or hub:owner/name; the profile's by default."
        ),
    ] = "",
    endpoint: Annotated[
        str, typer.Option(help="Base URL of an OpenAI-compatible endpoint that writes the queries.")
    ] = "",
    llm: Annotated[
        str, typer.Option(help="The model to ask there; not needed where the endpoint has only one.")
    ] = "",
    budget: Annotated[
        float | None, typer.Option(min=0.001, help="USD, never exceeded; an endpoint elsewhere wants one.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Agree beforehand that passages go to an endpoint elsewhere.")
    ] = False,
    generator: Annotated[
        str,
        typer.Option(help="recorded (of the example), embedded (a small model here; poor), or endpoint."),
    ] = "",
    queries: Annotated[int, typer.Option(min=1, help="Queries written for each passage.")] = 1,
    words: Annotated[int, typer.Option(min=20, help="Words of a passage, at most about.")] = 120,
    held_out: Annotated[
        float, typer.Option("--held-out", min=0.05, max=0.9, help="Share of the documents to measure by.")
    ] = 0.25,
    keep_rank: Annotated[
        int,
        typer.Option(min=0, help="A query's passage is to rank so high for it, or it is dropped; 0: never."),
    ] = 20,
    general: Annotated[
        int,
        typer.Option(
            min=0,
            help="Recorded examples of many subjects that a bare language model is trained on first; 0: none.",
        ),
    ] = 512,
    task: Annotated[
        str,
        typer.Option(
            help="The instruction before every query; without it a model with prompts of its own keeps them."
        ),
    ] = "",
    field: Annotated[str, typer.Option(help="A table's field that holds the text.")] = "text",
    mask: Annotated[
        str, typer.Option(help="Hide personal data first: contacts, or module:function of your own.")
    ] = "",
    look: Annotated[
        bool, typer.Option("--look", help="Stop before training, to look at generated.html.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be asked for, and of whom; ask nothing.")
    ] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Export even a model that got worse.")] = False,
    peers: Annotated[
        bool, typer.Option(help="Measure BM25 and an embedding model of others beside it.")
    ] = True,
    serve: ServeOption = False,
    port: PortOption = 0,
    profile: ProfileOption = "adapt",
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Train an embedding model on your own documents: queries are written for them, and it is measured before
    and after on documents that were held out. A model that got worse is not exported."""
    from synthembed import profile as profiles
    from synthembed.adapt import adaptation, asking, starting
    from synthembed.adapt import queries as asked
    from synthembed.ground import run_folders
    from synthembed.ground.files import shown, typed

    pointed = bool(endpoint or llm or budget)
    generator = generator or ("endpoint" if pointed else "recorded")
    if generator not in GENERATORS or (pointed and generator != "endpoint"):
        allowed = "endpoint, as --endpoint, --llm or --budget is given" if pointed else ", ".join(GENERATORS)
        raise typer.BadParameter(f"{generator!r}: {allowed}", param_hint="--generator")
    quiet()
    with plain_errors():
        folder = adaptation.documents_of(documents)
        out = out.expanduser() if out else adaptation.own_folder(folder)
        loaded = starting.start_of(profiles.load(profile, set_), start)
        if pointed:
            loaded = asking.pointed_at(loaded, endpoint, llm, budget)
        settings = adaptation.Settings(
            generator, queries, words, held_out, keep_rank, task or asked.TASK, field, mask, peers, general
        )
        if plan:
            return print(adaptation.planned(folder, out, loaded, settings))
        # A second one would take this one's checkpoints for another's.
        with run_folders.locked(out, "adapt", "another folder (--out FOLDER)"):
            if look:
                adaptation.looked(folder, out, loaded, settings, agree=lambda: _agreed(yes))
                return print(f"what was written: {shown(out / 'generated.html')}")
            done = adaptation.run(folder, out, loaded, settings, anyway, agree=lambda: _agreed(yes))
    print(
        f"the model: {shown(done.exported)} (other formats: synthembed export NEW --model {typed(done.exported)} --format gguf)"
    )
    if serve:
        search(out, port)
    else:
        print(f"search your documents: synthembed search {typed(out)}")


def _agreed(yes: bool) -> bool:
    """Whether the texts may go to an endpoint elsewhere: said beforehand, or asked at a terminal."""
    if yes or not sys.stdin.isatty():
        if not yes:
            print("nobody is at a terminal to agree to it: say --yes beforehand", file=sys.stderr)
        return yes
    return typer.confirm("Send them?", default=False)


def search(
    folder: Annotated[Path, typer.Argument(help="What `synthembed adapt` wrote, such as runs/adapt/NAME.")],
    port: PortOption = 0,
    query: Annotated[str, typer.Option("--query", "-q", help="Print what is found, and serve no page.")] = "",
) -> None:
    """Search adapted documents, on a page served to this machine alone; changed documents are encoded anew."""
    from synthembed.adapt import adaptation
    from synthembed.adapt.searching import search_page
    from synthembed.ground.files import read_json, read_lines

    quiet()
    folder = folder.expanduser()
    with plain_errors():
        index = adaptation.opened(folder)
        if query:
            for one in search_page.results(index, query, 5):
                print(
                    f"{one['score']:.3f}  {one['document']}  {one['title']}\n       {' '.join(one['text'].split())[:200]}"
                )
            return
        rows = (read_json(folder / "scores.json") or {"rows": []})["rows"]
        about = {
            row["system"]: f"nDCG@10 {row['ndcg@10']:.1f} on {row['queries']} held-out queries"
            for row in rows
        }
        tries = [row["query"] for row in islice(read_lines(folder / "held_out.jsonl"), 4)]
        server = search_page.server(index, folder.resolve().name, about, port, tries)
    print(
        f"http://{search_page.LOOPBACK}:{server.server_port}/ (served to this machine alone; Ctrl-C ends it)",
        flush=True,
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
