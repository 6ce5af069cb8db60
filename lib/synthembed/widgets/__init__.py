"""What the notebooks show: tables of text, examples to browse, exercises and what one explores by hand."""

from synthembed.widgets import exercises
from synthembed.widgets.batch_matrix import batch
from synthembed.widgets.example_browser import KEPT, browse, table
from synthembed.widgets.explorer import Explorer, first
from synthembed.widgets.prompt_explorer import prompts
from synthembed.widgets.reading_places import reading_places, tokens

__all__ = [
    "KEPT",
    "Explorer",
    "batch",
    "browse",
    "exercises",
    "first",
    "prompts",
    "reading_places",
    "table",
    "tokens",
]
