"""`synthembed export`: a trained model in the format of another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthembed.commands.options import plain_errors, quiet
from synthembed.ground import run_folders

FORMATS = ("sentence-transformers", "peft", "gguf", "onnx")


def export(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    run: Annotated[str, typer.Option(help="Name of the run; laptop by default.")] = "",
    model: Annotated[
        str, typer.Option(help="In place of a run: a folder that loads with SentenceTransformer.")
    ] = "",
    form: Annotated[str, typer.Option("--format", help=", ".join(FORMATS))] = "sentence-transformers",
    precision: Annotated[str, typer.Option(help="Weights of a GGUF file: f32 or f16.")] = "f32",
    check: Annotated[
        bool,
        typer.Option(help="Load it with its own runtime and compare vectors; worse than 0.999 is refused."),
    ] = True,
) -> None:
    """A trained model for sentence-transformers (with a card that has its scores), as a PEFT adapter, or for
    llama.cpp (gguf) and onnxruntime (onnx), with the same vectors."""
    from synthembed.report import publishing

    if form not in FORMATS:
        raise typer.BadParameter(f"{form!r}: {', '.join(FORMATS)}", param_hint="--format")
    if run and model:
        raise typer.BadParameter("a run has a model of its own: give one of the two", param_hint="--model")
    quiet()
    with plain_errors():
        told = publishing.export(
            run_folders.find(run or "laptop") if not model else None,
            out.expanduser(),
            form,
            model,
            precision,
            check,
        )
    print(told)
