"""``python -m synthembed`` is the command ``synthembed``."""

from synthembed.stages.command_line import app

app()
