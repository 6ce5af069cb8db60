"""A stage and its record, fingerprints, the papermill runner, the command line, doctor."""

from synthembed.stages.fingerprints import code_hash, code_of
from synthembed.stages.record import STAGES, Stage

__all__ = ["STAGES", "Stage", "code_hash", "code_of"]
