"""`synthembed publish`: model, data, results and site of a run, in a folder or on a hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from synthembed.commands.options import plain_errors
from synthembed.ground import run_folders


def publish(
    to: Annotated[Path, typer.Option("--to", help="A new folder.")],
    run: Annotated[str, typer.Option(help="A complete run of yours, by name or folder.")] = "laptop",
    hub: Annotated[
        str, typer.Option(help="OWNER/NAME: upload the model there, and the data to OWNER/NAME-data.")
    ] = "",
    public: Annotated[bool, typer.Option("--public", help="Repositories that everybody sees.")] = False,
) -> None:
    """Gather what is published of a run, with its cards, once `check` has passed; upload it only with --hub."""
    if public and not hub:
        raise typer.BadParameter("repositories are those of --hub OWNER/NAME", param_hint="--public")
    if hub and not re.fullmatch(r"[\w.-]+/[\w.-]+", hub):  # gathering takes minutes
        raise typer.BadParameter(f"{hub!r}: OWNER/NAME", param_hint="--hub")
    to = to.expanduser()
    with plain_errors():
        folder = run_folders.find(run)
        from synthembed.review import publication

        made = publication.gather(folder, to)
        print(
            f"{to}: "
            + ", ".join(f"{part} {files} files" for part, files in made.items())
            + "; README.md says what is what"
        )
        if hub:
            found = publication.upload(to, hub, private=not public)
            print(f"uploaded: model {found.model}, data {found.data}, {'public' if public else 'private'}")
