"""What commands share: options that several take, errors without a traceback, what is said of a run."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from synthembed.ground import run_folders
from synthembed.ground.files import shown

ProfileOption = Annotated[
    str, typer.Option("--profile", "-P", help="Name in profiles/, or path to a YAML file.")
]


def _with_values(overrides: list[str]) -> list[str]:
    """An option without its value is wrong usage; the notebooks' overrides are refused alike."""
    for one in overrides:
        key, equals, value = one.partition("=")
        if equals and key.strip() and not value.strip():
            from synthembed.profile.parameters import no_value

            raise typer.BadParameter(no_value(one))
    return overrides


SetOption = Annotated[
    list[str],
    typer.Option("--set", help="Override, as section.key=value; repeatable.", callback=_with_values),
]
BatchTokensOption = Annotated[int, typer.Option(min=1, help="Tokens of one forward pass.")]
ServeOption = Annotated[bool, typer.Option("--serve", help="Serve a search page on this machine when done.")]
PortOption = Annotated[
    int, typer.Option(min=0, max=65_535, help="Port of the search page; 0: any that is free.")
]


def _one_folder(name: str) -> str:
    if wrong := run_folders.leads_elsewhere(name):
        raise typer.BadParameter(wrong)
    return name


RunOption = Annotated[
    str,
    typer.Option("--run", help="Name of the run folder; the profile's by default.", callback=_one_folder),
]


NOT_WRITTEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
OF_A_PLACE = (FileNotFoundError, FileExistsError, IsADirectoryError)
NO_NAME = (errno.ENAMETOOLONG, errno.ENOTDIR)


def _certificates(error: BaseException | None) -> str:
    """What to do where certificates cannot be loaded, whose file the system's error does not name; "" for any other."""
    given = os.environ.get("SSL_CERT_FILE")
    of_the_system = isinstance(error, OSError) and error.errno is not None and error.filename is None
    if not given or not of_the_system:
        return ""
    import ssl

    try:
        ssl.create_default_context(cafile=given)
    except OSError as reason:
        return f"SSL_CERT_FILE = {given!r} cannot be used ({reason}): name a file of certificates (PEM), or unset it"
    return ""


def _refused(error: BaseException | None) -> list[str]:
    """What settings that are made of a command's options say of them, which carry their names; else nothing."""
    kind = type(error)
    if not (kind.__module__.startswith("pydantic") and kind.__name__ == "ValidationError"):
        return []
    said = []
    for one in error.errors():
        option = f"--{str(one['loc'][-1]).replace('_', '-')} {one['input']!r}: " if one["loc"] else ""
        said.append(option + one["msg"].removeprefix("Value error, "))
    return said


class plain_errors:
    """Errors that name file, value and remedy need no traceback."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if refused := _refused(error):
            print("\n".join(refused), file=sys.stderr)
            raise typer.Exit(2)
        ours = kind and kind.__module__.startswith("synthembed.")
        if said := _certificates(error):
            print(said, file=sys.stderr)
            raise typer.Exit(1)
        if ours or (kind and issubclass(kind, OF_A_PLACE)):
            print(error, file=sys.stderr)
            raise typer.Exit(1)
        if kind and issubclass(kind, OSError) and error.errno in NOT_WRITTEN:
            where = error.filename or "a file that was being written"
            print(
                f"{where}: {error.strerror}. Work in a folder that can be written and has room; what is read must be "
                "readable.",
                file=sys.stderr,
            )
            raise typer.Exit(1)
        if kind and issubclass(kind, OSError) and error.errno in NO_NAME:
            print(f"{str(error.filename)[:200]}: {error.strerror}. Check the name.", file=sys.stderr)
            raise typer.Exit(1)
        if kind and issubclass(kind, UnicodeDecodeError) and isinstance(error.object, bytes):
            around = error.object[max(0, error.start - 30) : error.end + 30].decode("utf-8", "replace")
            print(
                f"a file that was read is not UTF-8, at byte {error.start + 1}, about here: {around!r}. Save it as "
                "UTF-8",
                file=sys.stderr,
            )
            raise typer.Exit(1)


def quiet() -> None:
    """No bars and warnings of other packages between what a command says."""
    import warnings

    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # of weights that are missing model.backbone says what matters
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def show(folder: Path, measured: Path | None = None) -> None:
    """Print where the report is, the verdict table, and how the run (``measured``, if the report lies elsewhere)
    stands beside the committed one."""
    from synthembed.paper import reference_run

    verdicts = folder / "07_report" / "tables" / "verdicts.md"
    if verdicts.exists():
        print(
            f"\n{verdicts.read_text(encoding='utf-8')}\nReport: {shown(folder / '07_report' / 'report.html')}"
        )
        run = measured or folder
        if found := reference_run.compare(run, run_folders.reference(run.name)):
            print(f"\nBeside the committed run, {shown(found.reference)}: {found.text()}")
