"""What the notebooks show: tables of text, and examples to browse."""

from synthembed.widgets.example_browser import browse, table

__all__ = ["browse", "table"]
