"""Stages in order through papermill, and the ``synthembed`` command."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from . import profile as profiles
from . import progress
from .profile import ROOT, Profile, ProfileError
from .provenance import STAGES, stale, write_json

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)

ProfileOption = Annotated[
    str, typer.Option("--profile", "-P", help="Name in profiles/, or path to a YAML file.")
]
SetOption = Annotated[list[str], typer.Option("--set", help="Override, as section.key=value; repeatable.")]
RunOption = Annotated[str, typer.Option("--run", help="Name of the run folder; the profile's by default.")]


class StageFailed(RuntimeError):
    """A notebook raised; the message is the error's last lines."""


def execute(stage: str, profile: str, overrides: list[str], run: str, folder: Path) -> None:
    """Run one notebook with papermill; its executed copy lies beside stage.json."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    out = folder / stage / f"{stage}.ipynb"
    out.parent.mkdir(parents=True, exist_ok=True)
    errors = out.with_suffix(".stderr")
    where = folder.parent.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder.parent
    parameters = {"profile": profile, "overrides": overrides, "run": run, "results": str(where)}
    try:
        with open(errors, "w", encoding="utf-8") as stderr, _kernel_errors_to(stderr):
            papermill.execute_notebook(
                ROOT / "notebooks" / f"{stage}.ipynb", out, parameters=parameters, kernel_name="python3",
                cwd=ROOT, progress_bar=False, stdout_file=sys.stdout, stderr_file=stderr,
            )  # fmt: skip
    except PapermillExecutionError as error:
        log = f"\nThe executed notebook: {_show(out)}"
        raise StageFailed(f"{stage}: {error.ename}: {error.evalue}{log}") from None
    errors.unlink()
    _forget_paths(out)
    record_path = folder / stage / "stage.json"
    record = json.loads(record_path.read_text(encoding="utf-8"))
    write_json(record_path, record | {"notebook": out.name})


@contextlib.contextmanager
def _kernel_errors_to(file):
    """A kernel inherits file descriptor 2: send its warnings to ``file`` instead of the terminal."""
    saved = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _forget_paths(notebook: Path) -> None:
    """Keep out of the executed copy where it was made (papermill's paths, warnings of packages), and what
    says nothing afterwards: packages' progress bars, megabytes of widgets, and all but the last line of
    our own progress."""
    data = json.loads(notebook.read_text(encoding="utf-8"))
    for key in ("input_path", "output_path"):
        data["metadata"]["papermill"][key] = Path(data["metadata"]["papermill"][key]).name
    ours = any("widgets." in "".join(cell["source"]) for cell in data["cells"])
    unwanted = () if ours else ("application/vnd.jupyter.widget-view+json",)
    if not ours:
        data["metadata"].pop("widgets", None)
    for cell in data["cells"]:
        if "outputs" in cell:
            cell["outputs"] = _joined([
                o for o in cell["outputs"]
                if o.get("name") != "stderr" and not set(unwanted) & set(o.get("data", ()))
            ])  # fmt: skip
    text = json.dumps(data, indent=1, ensure_ascii=False).replace(f"{ROOT}/", "")
    notebook.write_text(text + "\n", encoding="utf-8")


def _joined(outputs: list[dict]) -> list[dict]:
    """Printed text that follows on printed text as one output, of progress the last line."""
    joined = []
    for printed, group in groupby(outputs, lambda o: o.get("name") == "stdout"):
        found = list(group)
        if printed:
            text = progress.last_only("".join("".join(o["text"]) for o in found))
            found = [found[0] | {"text": text.splitlines(keepends=True)}]
        joined += found
    return joined


def run_stages(profile: str, overrides: list[str], run: str, stages: list[str], results: Path) -> Path:
    """Run the given stages in order, skipping those that are finished and fresh; returns the run folder."""
    loaded = profiles.load(profile, overrides)
    folder = results / (run or loaded.name)
    if any(stale(stage, loaded, folder) for stage in stages):
        _check_names(loaded)
    started = time.monotonic()
    for number, stage in enumerate(stages, 1):
        reason = stale(stage, loaded, folder) or _notebook_missing(stage, folder)
        clock = f"[{int(time.monotonic() - started) // 60:02d}:{int(time.monotonic() - started) % 60:02d}]"
        if reason is None:
            print(f"{clock} {number}/{len(stages)} {stage}: finished before, skipped", flush=True)
            continue
        print(f"{clock} {number}/{len(stages)} {stage}: runs, because {reason}", flush=True)
        execute(stage, profile, overrides, run, folder)
    return folder


def _check_names(profile: Profile) -> None:
    """Names that only mteb or the paper's tables can tell from misspelt ones, before anything runs."""
    from . import ablations, evaluate

    ablations.check(profile)
    rows = (profile.with_overrides(profile.ablations.set | r.set) for r in profile.ablations.rows)
    for settings in {p.evaluate.model_dump_json(): p.evaluate for p in (profile, *rows)}.values():
        try:
            evaluate.tasks_of(settings)
        except ValueError as error:
            raise ProfileError(str(error)) from None


def _notebook_missing(stage: str, folder: Path) -> str | None:
    record = json.loads((folder / stage / "stage.json").read_text(encoding="utf-8"))
    if "notebook" in record and not (folder / stage / record["notebook"]).exists():
        return f"{stage}/{record['notebook']} is missing"
    return None


@app.command()
def run(
    profile: ProfileOption = "laptop",
    only: Annotated[list[str], typer.Option(help="Run these stages only, e.g. 03_train; repeatable.")] = [],  # noqa: B006
    start: Annotated[str, typer.Option("--from", help="Run from this stage on.")] = "",
    set_: SetOption = [],  # noqa: B006
    run: RunOption = "",
) -> None:
    """Run the notebooks of a profile; finished stages are skipped."""
    names = [_stage(s) for s in only] or list(STAGES)[list(STAGES).index(_stage(start)) if start else 0 :]
    with _plain_errors():
        folder = run_stages(profile, set_, run, names, ROOT / "results")
    show(folder)


def _stage(name: str) -> str:
    found = [s for s in STAGES if s == name or s.partition("_")[2] == name or s.partition("_")[0] == name]
    if not found:
        raise typer.BadParameter(f"no stage {name!r}: stages are {', '.join(STAGES)}")
    return found[0]


class _plain_errors:
    """Errors that name file, value and remedy need no traceback."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        ours = kind and kind.__module__.startswith(("synthembed.", __name__))
        if ours or (kind and issubclass(kind, FileNotFoundError | FileExistsError)):
            print(error, file=sys.stderr)
            raise typer.Exit(1)


def show(folder: Path) -> None:
    """Print where the report is, and the verdict table."""
    verdicts = folder / "07_report" / "tables" / "verdicts.md"
    if verdicts.exists():
        print(
            f"\n{verdicts.read_text(encoding='utf-8')}\nReport: {_show(folder / '07_report' / 'report.html')}"
        )


@app.command()
def report(
    run: Annotated[list[str], typer.Option(help="A run folder under results/ (laptop); repeatable.")] = [],  # noqa: B006
    readme: Annotated[bool, typer.Option("--readme", help="Write the README's table as well.")] = False,
) -> None:
    """Render the report of a run again, from its results; several runs side by side in results/A+B."""
    from . import report as reports

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
        reports.write_readme(reports.Results(folders[0]), ROOT / "README.md")
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
    from . import backbone as backbones
    from . import vectors
    from .encoder import Encoder
    from .int8 import to_int8

    if dtype not in ("float16", "float32"):
        raise typer.BadParameter(f"{dtype!r}: float16 or float32", param_hint="--dtype")
    with _plain_errors():
        loaded = backbones.load(profiles.Backbone(model=model))
        identity = f"{model} {backbones.fingerprint(loaded)}{' int8' if int8 else ''}"
        if int8:
            loaded = backbones.Backbone(to_int8(loaded.model), loaded.contract, loaded.source)
        encoder = Encoder(loaded, max_length=max_length, batch_tokens=batch_tokens)
        total = sum(1 for _ in open(texts, "rb"))
        count = vectors.encode_to(
            encoder, vectors.read_texts(texts), out, instruction, normalize, dtype, total, identity
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
    from . import verify as checks

    names = [name for given in tasks for name in given.replace(",", " ").split()]
    with _plain_errors():
        folder = out / model.strip("/").replace("/", "__")
        entries = checks.verify(model, names, folder, revision or None, protocol, batch_tokens)
    print(f"{checks.table(entries)}\n{_show(folder / 'verdicts.json')}")
    raise typer.Exit(any(e["verdict"] in ("differs", "not run") for e in entries))


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    run: Annotated[str, typer.Option(help="Name of the run folder under results/.")] = "laptop",
) -> None:
    """The trained model of a run with its adapter and a card that has its scores, to publish."""
    from . import export as exports

    with _plain_errors():
        exports.publish(ROOT / "results" / run, out)
    print(f"{out}: loads with SentenceTransformer; its README.md is the model card")


@app.command()
def estimate(profile: ProfileOption = "paper", set_: SetOption = []) -> None:  # noqa: B006
    """Requests and tokens of a profile's generation, before anything is spent."""
    from . import cost

    with _plain_errors():
        loaded = profiles.load(profile, set_)
    print(cost.estimate(loaded))


@app.command()
def doctor(profile: ProfileOption = "laptop", set_: SetOption = []) -> None:  # noqa: B006
    """Check that this machine can run a profile: profile, disk, memory, device, base model, key."""
    with _plain_errors():
        loaded = profiles.load(profile, set_)
    problems = list(_problems(loaded))
    for problem in problems:
        print(f"problem: {problem}")
    print("ready" if not problems else f"{len(problems)} problem(s)")
    raise typer.Exit(bool(problems))


def _problems(profile: Profile):
    import torch

    from . import backbone, labelled

    print(f"profile {profile.name} ({profile.hash()}), torch {torch.__version__}, device {backbone.device()}")
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < 5:
        yield f"{free:.1f} GB of disk are free; a run wants 5"
    if sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)):
        yield f"Python {sys.version.split()[0]}: use 3.11 to 3.13"
    if (
        profile.generate.backend != "recorded"
        and not profile.generate.base_url
        and not os.environ.get("OPENAI_API_KEY")
    ):
        yield "OPENAI_API_KEY is not set and generate.base_url is empty: generation cannot start"
    yield from labelled.missing(profile.data)
    try:
        source = backbone.folder_of(profile.backbone)
        from transformers import AutoConfig

        AutoConfig.from_pretrained(source)
    except (backbone.BackboneError, OSError) as error:
        yield f"backbone.model {profile.backbone.model!r}: {str(error).splitlines()[0]}"


def _show(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    app()
