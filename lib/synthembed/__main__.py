"""``python -m synthembed`` is the command ``synthembed``."""

from synthembed.commands.command_line import app

app()
