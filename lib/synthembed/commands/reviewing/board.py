"""`synthembed board`: results/board.md, made from runs."""

from __future__ import annotations

from typing import Annotated

import typer

from synthembed.commands.options import plain_errors
from synthembed.ground import run_folders
from synthembed.ground.files import shown


def board(
    add: Annotated[str, typer.Option(help="A run of yours to put on the board, by name or folder.")] = "",
    by: Annotated[str, typer.Option(help="With --add: who made it.")] = "",
    note: Annotated[str, typer.Option(help="With --add: a line about it.")] = "",
) -> None:
    """Check the runs of the board and write results/board.md; with --add, put a run of yours on it first."""
    if add and not by:
        raise typer.BadParameter("who made it? --by NAME", param_hint="--by")
    if (by or note) and not add:
        raise typer.BadParameter("which run is it of? --add RUN", param_hint="--add")
    with plain_errors():
        from synthembed.review import board as boards

        if add:
            print(f"{shown(boards.add(run_folders.find(add), by, note))}: commit it with the run's folder")
        print(f"{shown(boards.write())}: {len(boards.entries())} runs, each checked")
