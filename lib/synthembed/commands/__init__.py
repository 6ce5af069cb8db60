"""The command line: one module a command, thin over the rooms below."""

import os

try:  # before the rooms are imported, which look for the project from the current folder on
    os.getcwd()
except OSError as error:
    raise SystemExit(
        f"the current folder is gone or cannot be read ({error.strerror}): change to one that is there, as with cd ~"
    ) from None

import sys

# jsonschema, which papermill and nbformat import, builds a grammar of URIs where it finds one: one to three seconds of
# each command, for a format that nothing in a notebook has.
sys.modules.setdefault("rfc3987_syntax", None)
