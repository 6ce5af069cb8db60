"""The paper's numbers, and the registry of its tables and figures."""

from synthembed.paper.recipe import differences
from synthembed.paper.registry import (
    TITLES,
    Cell,
    anchor,
    artefacts,
    benchmarks,
    cells,
    check_fills,
    fills,
    moved_by_mteb,
    published,
    short,
    systems,
    table,
    ways,
)

__all__ = [
    "TITLES", "Cell", "anchor", "artefacts", "benchmarks", "cells", "check_fills", "differences", "fills", "moved_by_mteb", "published",
    "short", "systems", "table", "ways",
]  # fmt: skip
