"""Stages in order through papermill, and what can be done with their results."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from synthembed.commands import adapt, export, shell
from synthembed.commands.build_site import site
from synthembed.commands.descriptions import descriptions
from synthembed.commands.estimate import estimate
from synthembed.commands.options import (
    BatchTokensOption,
    ProfileOption,
    RunOption,
    SetOption,
    plain_errors,
    show,
)  # fmt: skip
from synthembed.commands.reviewing import board, check, publish
from synthembed.commands.rewrite import rewrite
from synthembed.ground import console, places, run_folders
from synthembed.ground.files import ROOT, SHIPPED, is_project, shown
from synthembed.stages import sampling

# Commands import what they need when they run: the help needs nothing, and the report no model.
app = typer.Typer(
    add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes longer to import than all that the help needs
)  # fmt: skip


@app.callback()
def prepare() -> None:
    """What holds for every command on every machine."""
    shell.prepare()


@app.command()
def run(
    profile: Annotated[
        list[str],
        typer.Option(
            "--profile", "-P", help="Name in profiles/, or path to a YAML file; several run in turn."
        ),
    ] = ["laptop"],  # noqa: B006
    only: Annotated[list[str], typer.Option(help="Run these stages only, e.g. 03_train; repeatable.")] = [],  # noqa: B006
    start: Annotated[str, typer.Option("--from", help="Run from this stage on.")] = "",
    set_: SetOption = [],  # noqa: B006
    run: RunOption = "",
    cold: Annotated[
        bool, typer.Option("--cold", help="A new process with its own imports for each stage.")
    ] = False,
    where: Annotated[
        bool, typer.Option("--where", help="Count where the time goes (benchmarks.minutes).")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Make the stages once more; what was paid for is kept.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="What became of each run as JSON on stdout; the log on stderr.")
    ] = False,
) -> None:
    """Run the notebooks of a profile into runs/; finished stages are skipped.

    Of several profiles one that fails does not stop the others. Exit code 1: a run failed; 2: wrong usage.
    """
    import json
    from functools import partial

    from synthembed import profile as profiles
    from synthembed.stages import run_queue
    from synthembed.stages.record import STAGES, stages_of
    from synthembed.stages.runner import run_stages

    if only and start:
        raise typer.BadParameter("--only names the stages by itself: leave --from out", param_hint="--from")
    order = list(STAGES)
    named = sorted({_stage(s) for s in only}, key=order.index)
    first = order.index(_stage(start)) if start else 0
    if where:
        os.environ[sampling.SWITCH] = "1"  # for the kernels, which inherit it
    if run and len(profile) > 1:
        raise typer.BadParameter(
            "one folder cannot hold several profiles: leave --run out", param_hint="--run"
        )

    def make(one: str) -> Path:
        loaded = profiles.load(one, set_)
        names = named or [s for s in stages_of(loaded) if s in order[first:]]
        return run_stages(one, set_, run, names, run_folders.own(), cold, anew)

    with plain_errors(), _log_on_stderr() if as_json else contextlib.nullcontext():
        _supported()
        if not is_project(ROOT):
            _lay_out(ROOT)
        if len(profile) == 1 and not as_json:
            show(make(profile[0]))
            return
        outcomes = []
        for number, one in enumerate(profile, 1):
            print(f"run {number} of {len(profile)}: {one}", flush=True)
            outcomes.append(run_queue.outcome(one, partial(make, one)))
            if error := outcomes[-1]["error"]:
                print(error, file=sys.stderr)
    print(
        json.dumps(outcomes, indent=1, ensure_ascii=False) if as_json else "\n" + run_queue.summary(outcomes)
    )
    raise typer.Exit(any(o["status"] == run_queue.FAILED for o in outcomes))


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(help="Where the notebooks and profiles go; here by default.")
    ] = Path(),
) -> None:
    """Lay out the notebooks and profiles that came with the package; a first `run` does so by itself."""
    with plain_errors():
        _lay_out(folder.expanduser())


def _lay_out(folder: Path) -> None:
    if not SHIPPED.is_dir():
        if folder.resolve() == ROOT:
            print("the notebooks and profiles are here: this is the repository")
            return
        raise places.PlaceError(f"notebooks and profiles are those of the repository, {ROOT}: run it there")
    new, other = places.lay_out(folder)
    print(f"{len(new)} notebooks and profiles laid out in {folder.resolve()}; results will lie there as well")
    if other:
        print(f"left as they are, though the package has others: {', '.join(other)}")


@contextlib.contextmanager
def _log_on_stderr() -> Iterator[None]:
    """What is printed goes to stderr: to a copy of it, as the runner lends the descriptor to kernels."""
    sys.stderr.flush()
    copy = open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    with copy, contextlib.redirect_stdout(copy):
        yield


def _supported() -> None:
    if sys.platform == "win32":
        raise places.PlaceError(
            "a run is not supported on Windows itself: use WSL 2 (wsl --install), where it is Linux's"
        )


def _stage(name: str) -> str:
    from synthembed.stages.record import STAGES

    found = [s for s in STAGES if s == name or s.partition("_")[2] == name or s.partition("_")[0] == name]
    if not found:
        raise typer.BadParameter(f"no stage {name!r}: stages are {', '.join(STAGES)}")
    return found[0]


@app.command()
def report(
    run: Annotated[
        list[str], typer.Option(help="A run, your own or a committed one (laptop); repeatable.")
    ] = [],  # noqa: B006
    readme: Annotated[
        bool, typer.Option("--readme", help="Write the README's parts of a run as well.")
    ] = False,
) -> None:
    """Render the report of a run again, from its results, below runs/; several runs side by side in runs/A+B.
    Stage 07 of a run that is finished stays as it is: its report is rendered beside it, in rendered/."""
    from synthembed.report import page as reports
    from synthembed.report import results
    from synthembed.review import readme as readmes

    try:
        folders = [run_folders.find(name) for name in run or ["laptop"]]
    except FileNotFoundError as error:
        raise typer.BadParameter(str(error)) from None
    own = run_folders.own()
    in_place = len(folders) == 1 and "/" in (run or [""])[0] and folders[0].parent != own  # named by its path
    top = folders[0] if in_place else own / "+".join(f.name for f in folders)
    if not in_place and (top / "07_report" / "stage.json").exists():
        top = top / "rendered"  # its bytes would differ, and the stage would be taken for a stale one
    beside = run_folders.reference(folders[0].name) if len(folders) == 1 else None
    with plain_errors():
        reports.build(folders, top / "07_report", beside)
        if readme:
            committed = run_folders.committed() / folders[0].name
            readmes.write(results.Results(committed), ROOT / "README.md")
        show(top, folders[0] if len(folders) == 1 else None)


@app.command()
def runs() -> None:
    """List runs, your own and the committed ones, with size and age, and in each what `clean` would remove."""
    with plain_errors():
        print(run_folders.table(run_folders.listing()) or "no runs yet", flush=True)


@app.command()
def clean(
    run: Annotated[list[str], typer.Argument(help="Runs of yours; all by default.")] = [],  # noqa: B006
    days: Annotated[float, typer.Option(min=0, help="Only what was last changed so many days ago.")] = 0,
) -> None:
    """Remove trainings of other settings, and stages begun anew and not finished; never what was paid for."""
    own = run_folders.own()
    with plain_errors():
        folders = [run_folders.find(name) for name in run] or sorted(own.glob("*/"))
        gone = [about for folder in folders for about in run_folders.clean(folder, days)]
    print(f"{run_folders.table(gone)}\nremoved {sum(r['bytes'] for r in gone) / 1e6:,.1f} MB".strip())


@app.command()
def keep(run: Annotated[str, typer.Argument(help="A complete run of yours.")] = "laptop") -> None:
    """For maintainers: make a run of yours the committed one of its name (without weights and caches)."""
    from synthembed.stages.definitions import stages_in

    with plain_errors():
        name = run_folders.name_of(run, "")  # its name need not be a profile's
        print(f"{shown(run_folders.keep(name, stages_in(run_folders.own() / name)))}: now commit it")


@app.command()
def encode(
    texts: Annotated[
        Path, typer.Argument(help="One text a line (.txt), or a table: .jsonl, .json, .csv, .tsv, .parquet.")
    ],
    out: Annotated[
        Path, typer.Argument(help="The .npy file of vectors; opens with numpy.load(mmap_mode='r').")
    ],
    model: Annotated[
        str,
        typer.Option(help="Folder, or hub:owner/name; read as its sentence-transformers files say."),
    ],
    field: Annotated[
        str, typer.Option(help="A table's field that holds the text; 'title' goes before it.")
    ] = "text",
    instruction: Annotated[str, typer.Option(help="For queries; documents take none.")] = "",
    prompt: Annotated[
        str, typer.Option(help="Before every text one of the model's own, by its name, such as query.")
    ] = "",
    dtype: Annotated[str, typer.Option(help="float16 or float32.")] = "float16",
    max_length: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens after which texts are cut; by default the model's, or 512."),
    ] = None,
    batch_tokens: BatchTokensOption = 4_096,
    normalize: Annotated[
        bool | None, typer.Option(help="Vectors of length 1; by default as the model says.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="int8 weights: faster on CPU, not exact.")] = False,
    workers: Annotated[
        int,
        typer.Option(help="Workers of a Ray cluster (extra: cluster), one for each GPU; 0 = this process."),
    ] = 0,
    address: Annotated[
        str, typer.Option(help="Of that cluster: auto or host:port; local = a new one.")
    ] = "local",
    storage: Annotated[
        str | None, typer.Option(help="Folder or URL that its nodes share, for blocks until all are there.")
    ] = None,
) -> None:
    """Turn a file of any size into vectors; a run that was killed goes on where it was."""
    from synthembed.ground.data_files.opener import form_of
    from synthembed.model import backbone as backbones
    from synthembed.model import vector_files
    from synthembed.model.cpu.int8_linear import to_int8
    from synthembed.model.encoder import Encoder
    from synthembed.profile import Backbone
    from synthembed.profile.cluster import Cluster

    if dtype not in ("float16", "float32"):
        raise typer.BadParameter(f"{dtype!r}: float16 or float32", param_hint="--dtype")
    if not workers and (address != "local" or storage):
        raise typer.BadParameter(
            "--address and --storage are of a cluster: give --workers", param_hint="--workers"
        )
    if field != "text" and form_of(texts) in ("txt", ""):
        raise typer.BadParameter(f"{texts.name} is read by lines, which have no fields", param_hint="--field")
    with plain_errors():
        cluster = Cluster(workers=workers, address=address, storage=storage) if workers else None
        model, texts, out = places.resolve(model), texts.expanduser(), out.expanduser()
        if texts.is_dir() or not texts.exists():  # before a model is loaded, which takes longer
            raise FileNotFoundError(f"no file {texts}: name the file that has the texts")
        vector_files.check_place(out)
        loaded = backbones.load(Backbone(model=model))
        identity = f"{model} {backbones.fingerprint(loaded)}{' int8' if int8 else ''}"
        own = {name: text for name, text in loaded.recipe.prompts.items() if text}
        if prompt and (instruction or prompt not in own):
            there = ", ".join(own) or "none"
            raise typer.BadParameter(
                f"{prompt!r}: without --instruction, and of {there}", param_hint="--prompt"
            )
        if prompt:
            loaded = replace(loaded, recipe=replace(loaded.recipe, prompt=own[prompt]))
            identity += f" {own[prompt]!r}"
        elif own and not instruction and not loaded.recipe.prompt:
            print(f"none of the model's prompts stands before these texts: --prompt takes {', '.join(own)}")
        if int8:
            loaded = replace(loaded, model=to_int8(loaded.model))
        encoder = Encoder(loaded, max_length=max_length, batch_tokens=batch_tokens)
        read, total = vector_files.read_texts(texts, field), vector_files.count_of(texts)
        if cluster:
            from synthembed.model.blocks import spread

            normal = loaded.recipe.normalize if normalize is None else normalize
            reading = spread.Reading(identity, instruction, normal, dtype)
            count, cut, unknown = spread.encode_to(encoder, read, out, reading, cluster, total)
        else:
            before = loaded.contract.read.copy()  # what was cut on purpose when the model was looked at
            count = vector_files.encode_to(encoder, read, out, instruction, normalize, dtype, total, identity)
            cut, unknown = (loaded.contract.read[what] - before[what] for what in ("cut", "unknown"))
    told = f"{cut:,} distinct texts were cut at {encoder.max_length:,} tokens"
    print(f"warning: {told}: raise --max-length" if cut > console.WARNED * count else told)
    if unknown:
        print(f"warning: {unknown:,} distinct texts are in signs that the model's tokenizer does not know")
    print(f"{count:,} vectors of {encoder.dim} numbers, {dtype}: {out}")


@app.command()
def verify(
    model: Annotated[str, typer.Option(help="hub:owner/name, or a folder with the release's files.")] = (
        "intfloat/e5-mistral-7b-instruct"
    ),
    tasks: Annotated[
        list[str], typer.Option(help="Of MTEB(eng, v1); repeatable, or several with commas.")
    ] = [],  # noqa: B006
    revision: Annotated[str, typer.Option(help="A commit of the hub.")] = "",
    protocol: Annotated[str, typer.Option(help="paper or mteb-default.")] = "paper",
    batch_tokens: BatchTokensOption = 16_384,
    out: Annotated[Path, typer.Option(help="Where verdicts and results are kept.")] = ROOT
    / "results"
    / "verify",
) -> None:
    """The published scores of released weights, met here or not; by default five sets that take minutes."""
    from synthembed.evaluation import released_weights as checks
    from synthembed.stages.fingerprints import code_of

    names = [name for given in tasks for name in given.replace(",", " ").split()]
    with plain_errors():
        model = places.resolve(model)
        folder = out.expanduser() / model.removeprefix(places.HUB).strip("/").replace("/", "__")
        code = code_of("evaluation.released_weights")
        entries = checks.verify(model, names, folder, revision or None, protocol, batch_tokens, code)
    print(f"{checks.table(entries)}\n{shown(folder / 'verdicts.json')}")
    raise typer.Exit(any(e["verdict"] in ("differs", "not run") for e in entries))


@app.command()
def reask(
    profile: ProfileOption = "laptop",
    reason: Annotated[
        list[str], typer.Option(help="Of usage.json's unusable replies, or all; repeatable.")
    ] = [],  # noqa: B006
    set_: SetOption = [],  # noqa: B006
    run: RunOption = "",
) -> None:
    """Ask again for the stored replies of a run that cannot be used, by reason; none named lists them."""
    from synthembed import profile as profiles
    from synthembed.generation.paid import again

    with plain_errors():
        loaded, stage = profiles.load(profile, set_), "01_generate"
        top = run_folders.own() / run_folders.name_of(run, loaded.name)
        run_folders.lock(top, stage)
        print(again.reask(loaded, run_folders.being_made(top, stage), reason))


@app.command()
def doctor(profile: ProfileOption = "laptop", set_: SetOption = []) -> None:  # noqa: B006
    """Check that this machine can run a profile: profile, disk, memory, device, base model, key."""
    from synthembed import profile as profiles
    from synthembed.stages.doctor import problems_of

    with plain_errors():
        problems = list(problems_of(profiles.load(profile, set_)))
    for problem in problems:
        print(f"problem: {problem}")
    print("ready" if not problems else f"{len(problems)} problem(s)")
    raise typer.Exit(bool(problems))


for command in (
    estimate, site, check.check, board.board, publish.publish, rewrite, descriptions, adapt.adapt, adapt.search,
    export.export,
):  # fmt: skip
    app.command()(command)


if __name__ == "__main__":
    app()
