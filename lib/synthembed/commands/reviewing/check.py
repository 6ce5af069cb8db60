"""`synthembed check`: a run verified by itself, and beside a reference."""

from __future__ import annotations

from typing import Annotated

import typer

from synthembed.commands.options import plain_errors
from synthembed.ground import run_folders


def check(
    run: Annotated[
        str, typer.Argument(help="A run by name, or its folder: runs/mine, results/laptop.")
    ] = "laptop",
    against: Annotated[
        str,
        typer.Option(
            help="The reference: a committed run's name or folder. Adds the reproduction's verdict."
        ),
    ] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Every finding, not the first twelve of a kind.")
    ] = False,
) -> None:
    """Verify a run from its files alone, and say what to doubt; fails if it contradicts itself."""
    with plain_errors():
        folder = run_folders.find(run)
        from synthembed.review import checking  # after the name: what follows takes seconds to import

        found = checking.review(folder)
        print(found.text(most=10_000 if everything else 12))
        failed = not found.follows
        if against:
            reference = run_folders.find(
                against if "/" in against else f"{run_folders.committed()}/{against}"
            )
            beside = checking.reproduction(folder, reference)
            print(f"\n{beside.text()}")
            failed = failed or beside.verdict == checking.FAILED
    raise typer.Exit(failed)
