"""What the notebooks show: tables of text, examples to browse, exercises and what one explores by hand."""

from synthembed.widgets import exercises
from synthembed.widgets.example_browser import browse, table

__all__ = ["browse", "exercises", "table"]
