"""A stage and its record, fingerprints, the papermill runner, the command line, doctor.

The names below are loaded when they are first used: ``synthembed --help`` needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # read by stages.fingerprints too: whoever takes a name from here reaches these modules
    from synthembed.stages.fingerprints import code_hash, code_of
    from synthembed.stages.record import STAGES, Stage

__all__ = ["STAGES", "Stage", "code_hash", "code_of"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "record" if name in ("STAGES", "Stage") else "fingerprints"
    return getattr(import_module(f"{__name__}.{home}"), name)
