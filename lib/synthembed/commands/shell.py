"""What a shell hands to a command, made fit for every one: streams and a home folder."""

from __future__ import annotations

import os
import sys

from synthembed.ground import places, run_folders


def prepare() -> None:
    """Called once, before a command; kernels inherit what it leaves."""
    _standard_streams()
    for stream in (sys.stdout, sys.stderr):  # a console that lacks a sign shows its number in the place
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    places.keep_out_of_home()
    _folder_of_runs()


def _folder_of_runs() -> None:
    """Files of variables and quotes leave ~ as it is written, and a variable that is empty is one that is not set."""
    if folder := os.environ.pop(run_folders.ELSEWHERE, ""):
        os.environ[run_folders.ELSEWHERE] = os.path.expanduser(folder)


def _standard_streams() -> None:
    """Where one is closed (``>&-``, some services) its descriptor would be the next file's or socket's, and a
    kernel would print into that."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            if null != number:
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))
