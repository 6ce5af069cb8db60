"""Where a stage's time goes, by kind of work: a thread looks at the main thread's stack every 20 ms.

Switched on by ``synthembed run --where``. It changes no result, and its ``where.json`` is no output of the
stage. A look that comes late, since C code kept the interpreter to itself, counts for the time since the
last one. What other threads do meanwhile is not counted.

On the CPU autograd's backward pass runs in the main thread, so our own products there are seen as such;
what it does in C++ alone (the products of torch's own linear layers among it) is ``BACKWARD``.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections import Counter
from functools import cache
from pathlib import Path
from types import FrameType

from synthembed.ground.files import PACKAGE, read_json, write_json

SWITCH = "SYNTHEMBED_WHERE"  # of the environment: a notebook's kernel inherits it
FILE = "where.json"
EVERY = 0.02

PRODUCTS, ATTENTION, MODEL, BACKWARD = (
    "matrix products", "attention", "other model work", "backward, the rest",
)  # fmt: skip
TOKENISING, FILES, MTEB = "tokenising", "reading and writing", "mteb's own work"
IMPORTS, WAITING, OWN = "imports", "waiting", "our Python, the rest"
_NOTEBOOK = "a notebook's cell"
KINDS = (PRODUCTS, ATTENTION, MODEL, BACKWARD, TOKENISING, FILES, MTEB, IMPORTS, WAITING, OWN)

# (file, function, kind): the first rule that fits a frame is its kind, and the innermost frame with a kind is
# the stack's. A frame that no rule fits (numpy, pandas, most of torch, IPython) works for whom it is called by.
_RULES = [(re.compile(file), re.compile(function), kind) for file, function, kind in (
    (r"synthembed/model/cpu/(onednn|bfloat16|int8)_linear|torch/nn/modules/linear", "", PRODUCTS),
    (r"synthembed/training/contrastive", "add$", PRODUCTS),
    (r"synthembed/model/packed_rows", "_grouped|_varlen|_mask", ATTENTION),
    (r"transformers/(masking_utils|integrations/.*attention)", "", ATTENTION),
    (r"transformers/models/", "eager_attention_forward", ATTENTION),
    (r"torch/autograd/graph", "_engine_run_backward", BACKWARD),
    (r"synthembed/model/tokens|transformers/tokenization|tokenizers/", "", TOKENISING),
    (r"synthembed/(ground/(files|embedded)|model/(backbone|export|vector_files)|training/checkpoints)", "", FILES),
    (r"transformers/(modeling_(utils|gguf)|core_model_loading|configuration_utils)|gguf/", "", FILES),
    (r"safetensors/|torch/serialization|pyarrow/parquet|(pathlib|shutil|zipfile|tempfile)\.py", "", FILES),
    (r"synthembed/(model/|training/contrastive)|transformers/|peft/|sentence_transformers/", "", MODEL),
    (r"torch/(nn/modules/|nn/init|optim/|utils/checkpoint)", "", MODEL),
    (r"mteb/|sklearn/|scipy/|datasets/|pytrec_eval", "", MTEB),
    (r"(selectors|socket|ssl|subprocess|queue)\.py|multiprocessing/connection", "", WAITING),
    (r"threading\.py|concurrent/futures/", "wait|join|acquire|result", WAITING),
    (r"httpx|httpcore|openai/|http/client|urllib", "", WAITING),
    (r"synthembed/", "", OWN),
    (r"IPython/core/interactiveshell", "", _NOTEBOOK),
)]  # fmt: skip
# Kinds that end the walk. Work of another kind may be what a module does while it is loaded, which only a frame
# further out tells (and then all of it is IMPORTS); outside a notebook's cell there is nothing to find.
_LAST = {PRODUCTS, ATTENTION, BACKWARD, TOKENISING, WAITING, _NOTEBOOK}


@cache
def _kind_of_code(file: str, name: str) -> str | None:
    file = file.replace("\\", "/")
    if file.startswith("<frozen importlib"):
        return IMPORTS
    ours = PACKAGE.as_posix() + "/"
    for start in (ours, "/site-packages/", f"/python{sys.version_info[0]}.{sys.version_info[1]}/", "/Lib/"):
        before, found, after = file.partition(start)
        if found:
            file = f"synthembed/{after}" if start == ours and not before else after
            break
    return next((k for f, function, k in _RULES if f.match(file) and function.match(name)), None)


def kind_of(frame: FrameType | None) -> str:
    """The kind of work of a stack, given by its innermost frame."""
    innermost = kind = None
    while frame is not None:
        kind = _kind_of_code(frame.f_code.co_filename, frame.f_code.co_name)
        if kind == IMPORTS:
            return IMPORTS
        if kind in _LAST:
            break
        innermost, frame = innermost or kind, frame.f_back
    return innermost or (OWN if kind in (None, _NOTEBOOK) else kind)


class Sampler:
    """Counts the seconds of the thread that made it by kind of work, until it is closed."""

    def __init__(self):
        self.opened, self.seconds, self.looks, self.cost = time.time(), Counter(), 0, 0.0
        self._began, self._watched, self._end = time.perf_counter(), threading.get_ident(), threading.Event()
        self._thread = threading.Thread(target=self._look, name="where", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        last, going_on = self._began, True
        while going_on:
            going_on = not self._end.wait(EVERY)
            kind = kind_of(sys._current_frames().get(self._watched)) if going_on else FILES
            now = time.perf_counter()
            self.seconds[kind] += now - last
            self.looks, self.cost, last = self.looks + going_on, time.thread_time(), now

    def close(self, folder: Path) -> None:
        """Write ``where.json`` into a stage's folder."""
        self._end.set()
        self._thread.join()
        write_json(folder / FILE, {
            "opened": self.opened, "wall_s": round(time.perf_counter() - self._began, 2),
            "seconds": {k: round(self.seconds[k], 2) for k in KINDS},
            "looks": self.looks, "cost_s": round(self.cost, 3),
        })  # fmt: skip


def begin() -> Sampler | None:
    """A sampler of the calling thread, if one is wanted."""
    return Sampler() if os.environ.get(SWITCH) else None


def add_process(folder: Path, started: float) -> None:
    """The runner's part, after a stage that it began at ``started``: the time before the stage opened and
    after it closed, in which a kernel starts and ends and the notebook is written."""
    found = read_json(folder / FILE)
    if found and found["opened"] >= started:
        end = time.time() - found["opened"] - found["wall_s"]
        write_json(
            folder / FILE,
            found | {"start_s": round(found["opened"] - started, 2), "end_s": round(max(0, end), 2)},
        )
