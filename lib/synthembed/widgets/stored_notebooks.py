"""The project's notebooks are stored without outputs, also by JupyterLab, which saves what one looks at.

`make lab` names ``without_outputs`` as the server's pre_save_hook. Otherwise a reader who runs a notebook, and
changes nothing, would have changed a file that git tracks; what a cell printed is seen until the page is closed,
and a run keeps executed copies of its own.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

OURS = re.compile(r"\d\d_\w+\.ipynb")  # a reader's own beside them, or a copy of one, keeps what it printed


def without_outputs(model: dict, path: str, contents_manager, **more) -> None:
    """Take outputs, counts and what Lab notes about the kernel out of the project's notebooks in notebooks/ before
    they are written; code and prose that were changed are kept. Other files are written as they are."""
    file = Path(contents_manager.root_dir) / path.strip("/")
    ours = file.parent.name == "notebooks" and OURS.fullmatch(file.name) and file.exists()
    if model.get("type") != "notebook" or not ours:
        return
    content = model["content"]
    content["metadata"] = json.loads(file.read_text(encoding="utf-8"))["metadata"]
    for cell in content["cells"]:
        cell["metadata"] = {key: value for key, value in cell["metadata"].items() if key == "tags"}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
