"""`synthembed site`: a run as a static book."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthembed.commands.options import plain_errors
from synthembed.ground import run_folders
from synthembed.ground.files import ROOT, shown


def site(
    run: Annotated[str, typer.Option(help="A run, your own or a committed one.")] = "laptop",
    out: Annotated[
        Path, typer.Option(help="The folder of the site; a site that is there is replaced.")
    ] = ROOT / "site",
) -> None:
    """Build the site of a run: course, report, examples, reference; opens from its folder, without a network."""
    from synthembed.report.web import book

    with plain_errors():
        first = book.build(run_folders.find(run), out.expanduser())
    print(f"the site: {shown(first)}")
