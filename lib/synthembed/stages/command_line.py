"""Stages in order through papermill, and what can be done with their results."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from synthembed.ground.files import ROOT, shown
from synthembed.stages import sampling

# Commands import what they need when they run: the help needs nothing, and the report no model.
app = typer.Typer(
    add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes longer to import than all that the help needs
)  # fmt: skip

ProfileOption = Annotated[
    str, typer.Option("--profile", "-P", help="Name in profiles/, or path to a YAML file.")
]
SetOption = Annotated[list[str], typer.Option("--set", help="Override, as section.key=value; repeatable.")]
RunOption = Annotated[str, typer.Option("--run", help="Name of the run folder; the profile's by default.")]


@app.command()
def run(
    profile: ProfileOption = "laptop",
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
) -> None:
    """Run the notebooks of a profile; finished stages are skipped."""
    from synthembed.stages.record import STAGES
    from synthembed.stages.runner import run_stages

    names = [_stage(s) for s in only] or list(STAGES)[list(STAGES).index(_stage(start)) if start else 0 :]
    if where:
        os.environ[sampling.SWITCH] = "1"  # for the kernels, which inherit it
    with _plain_errors():
        folder = run_stages(profile, set_, run, names, ROOT / "results", cold)
    show(folder)


def _stage(name: str) -> str:
    from synthembed.stages.record import STAGES

    found = [s for s in STAGES if s == name or s.partition("_")[2] == name or s.partition("_")[0] == name]
    if not found:
        raise typer.BadParameter(f"no stage {name!r}: stages are {', '.join(STAGES)}")
    return found[0]


class _plain_errors:
    """Errors that name file, value and remedy need no traceback."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        ours = kind and kind.__module__.startswith("synthembed.")
        if ours or (kind and issubclass(kind, FileNotFoundError | FileExistsError)):
            print(error, file=sys.stderr)
            raise typer.Exit(1)


def show(folder: Path) -> None:
    """Print where the report is, and the verdict table."""
    verdicts = folder / "07_report" / "tables" / "verdicts.md"
    if verdicts.exists():
        print(
            f"\n{verdicts.read_text(encoding='utf-8')}\nReport: {shown(folder / '07_report' / 'report.html')}"
        )


@app.command()
def report(
    run: Annotated[list[str], typer.Option(help="A run folder under results/ (laptop); repeatable.")] = [],  # noqa: B006
    readme: Annotated[bool, typer.Option("--readme", help="Write the README's table as well.")] = False,
) -> None:
    """Render the report of a run again, from its results; several runs side by side in results/A+B."""
    from synthembed.report import page as reports
    from synthembed.report import results

    folders = [ROOT / "results" / name for name in run or ["laptop"]]
    for folder in folders:
        if not folder.is_dir():
            known = sorted(p.parent.parent.name for p in folder.parent.glob("*/*/stage.json"))
            raise typer.BadParameter(
                f"no folder results/{folder.name}; there are {', '.join(dict.fromkeys(known))}"
            )
    top = folders[0] if len(folders) == 1 else ROOT / "results" / "+".join(run)
    out = top / "07_report"
    reports.build(folders, out)
    if readme:
        reports.write_readme(results.Results(folders[0]), ROOT / "README.md")
    show(top)


@app.command()
def encode(
    texts: Annotated[
        Path, typer.Argument(help="One text a line, or .jsonl with a field 'text' (and 'title').")
    ],
    out: Annotated[
        Path, typer.Argument(help="The .npy file of vectors; opens with numpy.load(mmap_mode='r').")
    ],
    model: Annotated[str, typer.Option(help="Hub id or folder of a model that reads at eos.")],
    instruction: Annotated[str, typer.Option(help="For queries; documents take none.")] = "",
    dtype: Annotated[str, typer.Option(help="float16 or float32.")] = "float16",
    max_length: Annotated[int, typer.Option(help="Tokens after which texts are cut.")] = 512,
    batch_tokens: Annotated[int, typer.Option(help="Tokens of one forward pass.")] = 4_096,
    normalize: Annotated[bool, typer.Option(help="Vectors of length 1.")] = True,
    int8: Annotated[bool, typer.Option("--int8", help="int8 weights: faster on CPU, not exact.")] = False,
) -> None:
    """Turn a file of any size into vectors; a run that was killed goes on where it was."""
    from synthembed.model import backbone as backbones
    from synthembed.model import vector_files
    from synthembed.model.cpu.int8_linear import to_int8
    from synthembed.model.encoder import Encoder
    from synthembed.profile import Backbone

    if dtype not in ("float16", "float32"):
        raise typer.BadParameter(f"{dtype!r}: float16 or float32", param_hint="--dtype")
    with _plain_errors():
        loaded = backbones.load(Backbone(model=model))
        identity = f"{model} {backbones.fingerprint(loaded)}{' int8' if int8 else ''}"
        if int8:
            loaded = backbones.Backbone(to_int8(loaded.model), loaded.contract, loaded.source)
        encoder = Encoder(loaded, max_length=max_length, batch_tokens=batch_tokens)
        total = sum(1 for _ in open(texts, "rb"))
        count = vector_files.encode_to(
            encoder, vector_files.read_texts(texts), out, instruction, normalize, dtype, total, identity
        )
    print(f"{count:,} vectors of {encoder.dim} numbers, {dtype}: {out}")


@app.command()
def verify(
    model: Annotated[str, typer.Option(help="Hub id, or a folder with the release's files.")] = (
        "intfloat/e5-mistral-7b-instruct"
    ),
    tasks: Annotated[
        list[str], typer.Option(help="Of MTEB(eng, v1); repeatable, or several with commas.")
    ] = [],  # noqa: B006
    revision: Annotated[str, typer.Option(help="A commit of the hub.")] = "",
    protocol: Annotated[str, typer.Option(help="paper or mteb-default.")] = "paper",
    batch_tokens: Annotated[int, typer.Option(help="Tokens of one forward pass.")] = 16_384,
    out: Annotated[Path, typer.Option(help="Where verdicts and results are kept.")] = ROOT
    / "results"
    / "verify",
) -> None:
    """The published scores of released weights, met here or not; by default five sets that take minutes."""
    from synthembed.evaluation import released_weights as checks
    from synthembed.stages.fingerprints import code_of

    names = [name for given in tasks for name in given.replace(",", " ").split()]
    with _plain_errors():
        folder = out / model.strip("/").replace("/", "__")
        code = code_of("evaluation.released_weights")
        entries = checks.verify(model, names, folder, revision or None, protocol, batch_tokens, code)
    print(f"{checks.table(entries)}\n{shown(folder / 'verdicts.json')}")
    raise typer.Exit(any(e["verdict"] in ("differs", "not run") for e in entries))


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    run: Annotated[str, typer.Option(help="Name of the run folder under results/.")] = "laptop",
) -> None:
    """The trained model of a run with its adapter and a card that has its scores, to publish."""
    from synthembed.report import publishing

    with _plain_errors():
        publishing.publish(ROOT / "results" / run, out)
    print(f"{out}: loads with SentenceTransformer; its README.md is the model card")


@app.command()
def estimate(profile: ProfileOption = "paper", set_: SetOption = []) -> None:  # noqa: B006
    """Requests and tokens of a profile's generation, before anything is spent."""
    from synthembed import profile as profiles
    from synthembed.generation import cost

    with _plain_errors():
        loaded = profiles.load(profile, set_)
    print(cost.estimate(loaded))


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

    with _plain_errors():
        loaded = profiles.load(profile, set_)
        print(again.reask(loaded, ROOT / "results" / (run or loaded.name) / "01_generate", reason))


@app.command()
def doctor(profile: ProfileOption = "laptop", set_: SetOption = []) -> None:  # noqa: B006
    """Check that this machine can run a profile: profile, disk, memory, device, base model, key."""
    from synthembed import profile as profiles
    from synthembed.stages.doctor import problems_of

    with _plain_errors():
        loaded = profiles.load(profile, set_)
    problems = list(problems_of(loaded))
    for problem in problems:
        print(f"problem: {problem}")
    print("ready" if not problems else f"{len(problems)} problem(s)")
    raise typer.Exit(bool(problems))


if __name__ == "__main__":
    app()
