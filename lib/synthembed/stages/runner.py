"""Stages in order through papermill; finished ones are skipped."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from synthembed import paper
from synthembed import profile as profiles
from synthembed.evaluation.suites import names
from synthembed.ground import console, notebook_links, run_folders
from synthembed.ground.files import ROOT, read_json, sha256, shown, write_json
from synthembed.profile import parameters
from synthembed.profile.reading import ProfileError
from synthembed.profile.settings import Profile
from synthembed.stages import sampling, warm_kernels
from synthembed.stages.definitions import stages_of
from synthembed.stages.doctor import AGAIN, kernel_died
from synthembed.stages.record import stale
from synthembed.stages.warm_kernels import Server

WIDGET = "application/vnd.jupyter.widget-view+json"
LOG = 15  # printed lines of a cell beyond which its executed copy folds them
WHOLE = "whole"  # tag of a cell whose print is what it shows, however long
# Of the environment: asserts, and with them a notebook's checks, are left out; a commit is another repository's.
MISLEADING = (
    "PYTHONOPTIMIZE", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR",
)  # fmt: skip
PATIENCE = (
    600  # seconds for a kernel to answer; papermill's 60 are few on a busy node or a cold shared file system
)
LIGHT = ("00_overview", "01_generate", "07_report")  # need neither torch nor what comes with it


class StageFailed(RuntimeError):
    """A notebook raised; the message is the error's last lines."""


def execute(
    stage: str,
    profile: str,
    overrides: list[str],
    run: str,
    folder: Path,
    server: Server | None = None,
    anew: bool = False,
) -> None:
    """Run one notebook with papermill; its executed copy lies beside stage.json. Its kernel is forked by
    ``server``, if there is one. Raises StageBusy, before anything is written, if another process is at it."""
    with run_folders.locked(folder, stage):
        _execute(stage, profile, overrides, run, folder, server, anew)


def _execute(
    stage: str,
    profile: str,
    overrides: list[str],
    run: str,
    folder: Path,
    server: Server | None,
    anew: bool,
) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    started, place = time.time(), folder / stage / f"{stage}.ipynb"
    finished = read_json(folder / stage / "stage.json", {}).get("status") == "done"
    out = folder / run_folders.WORK / place.name if finished else place  # the old one stays until then
    out.parent.mkdir(parents=True, exist_ok=True)
    errors = out.with_suffix(".stderr")
    where = folder.parent.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder.parent
    kernels = warm_kernels.manager(server) if server else warm_kernels.of_this_python()
    parameters = {"profile": profile, "overrides": overrides, "run": run, "results": str(where)}
    parameters |= {"anew": True} if anew else {}
    try:
        with open(errors, "w", encoding="utf-8") as stderr, _kernel_errors_to(stderr):
            papermill.execute_notebook(
                ROOT / "notebooks" / f"{stage}.ipynb", out, parameters=parameters, kernel_name="python3",
                cwd=Path.cwd(), progress_bar=False, stdout_file=sys.stdout, stderr_file=stderr,
                kernel_manager_class=kernels, start_timeout=PATIENCE,
            )  # fmt: skip
    except (DeadKernelError, RuntimeError) as error:
        if "didn't respond" in str(error):
            raise StageFailed(
                f"{stage}: its kernel did not answer in {PATIENCE} s: a busy machine, or a slow file system? {AGAIN}"
            ) from None
        if not isinstance(error, DeadKernelError) and "Kernel died" not in str(error):  # as it began
            raise
        raise StageFailed(f"{stage}: {kernel_died(stage, errors)}") from None
    except PapermillExecutionError as error:
        log = f"\nThe executed notebook: {shown(out)}"
        raise StageFailed(f"{stage}: {error.ename}: {error.evalue}{log}") from None
    errors.unlink()
    _forget_paths(out)
    _lead_from(out, place, stages_of(profiles.load(profile, overrides)))
    os.replace(out, place)
    place.with_name(stage + run_folders.BEFORE).unlink(missing_ok=True)
    record_path = folder / stage / "stage.json"
    record = json.loads(record_path.read_text(encoding="utf-8"))
    write_json(record_path, record | {"notebook": place.name, "notebook_sha256": sha256(place)})
    sampling.add_process(folder / stage, started)


@contextlib.contextmanager
def _kernel_errors_to(file):
    """A kernel inherits file descriptor 2: send its warnings to ``file`` instead of the terminal."""
    saved = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _forget_paths(notebook: Path) -> None:
    """Keep out of the executed copy where it was made (papermill's paths, warnings of packages), and what
    says nothing afterwards: packages' progress bars, and all but the last line of our own progress. A log that is
    still long is folded, and none of it lost. Of a widget its still picture stays (widgets/explorer.py), which
    is seen where no kernel is."""
    data = json.loads(notebook.read_text(encoding="utf-8"))
    for key in ("input_path", "output_path"):
        data["metadata"]["papermill"][key] = Path(data["metadata"]["papermill"][key]).name
    data["metadata"].pop("widgets", None)
    data["cells"] = _parameters_once(data["cells"])
    for cell in data["cells"]:
        for output in cell.get("outputs", ()):
            if WIDGET in output.get("data", ()) and "text/html" in output["data"]:
                del output["data"][WIDGET]
        if "outputs" in cell:
            log = float("inf") if WHOLE in cell["metadata"].get("tags", ()) else LOG
            cell["outputs"] = _joined(log, [
                o for o in cell["outputs"] if o.get("name") != "stderr" and WIDGET not in o.get("data", ())
            ])  # fmt: skip
    text = json.dumps(data, indent=1, ensure_ascii=False).replace(f"{ROOT}/", "")
    notebook.write_text(text + "\n", encoding="utf-8")


def _lead_from(notebook: Path, place: Path, stages: list[str]) -> None:
    """Make the executed copy's links, in its text and in what its cells show, those of the ``place`` that it is
    to lie at."""
    data, leading = json.loads(notebook.read_text(encoding="utf-8")), notebook_links.of_copy(place, stages)
    for cell in data["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = leading("".join(cell["source"])).splitlines(keepends=True)
        for output in cell.get("outputs", ()):
            if page := output.get("data", {}).get("text/html"):
                output["data"]["text/html"] = leading("".join(page)).splitlines(keepends=True)
    notebook.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _parameters_once(cells: list[dict]) -> list[dict]:
    """The cells with the values that papermill handed over in the notebook's own parameters, in the place of a
    second cell that repeats them."""
    own, given = (
        next((c for c in cells if tag in c["metadata"].get("tags", ())), None)
        for tag in ("parameters", "injected-parameters")
    )
    if own is None or given is None:
        return cells
    values = dict(re.findall(r"^(\w+) = (.*)$", "".join(given["source"]), re.M))
    line = re.compile(r"^(\w+) = .*?(\s+# .*)?$", re.M)
    own["source"] = line.sub(
        lambda m: f"{m[1]} = {values[m[1]]}{m[2] or ''}" if m[1] in values else m[0], "".join(own["source"])
    ).splitlines(keepends=True)
    return [cell for cell in cells if cell is not given]


def _joined(log: float, outputs: list[dict]) -> list[dict]:
    """Printed text that follows on printed text as one output, of progress the last line; more than ``log`` lines
    are folded."""
    joined = []
    for printed, group in groupby(outputs, lambda o: o.get("name") == "stdout"):
        found = list(group)
        if printed:
            text = console.last_only("".join("".join(o["text"]) for o in found))
            found = (
                [_folded(text)]
                if text.count("\n") > log
                else [found[0] | {"text": text.splitlines(keepends=True)}]
            )
        joined += found
    return joined


def _folded(text: str) -> dict:
    """A long log as one line that opens."""
    log = f"<details><summary>{text.count(chr(10))} lines of log</summary><pre>{html.escape(text)}</pre></details>"
    return {"output_type": "display_data", "metadata": {}, "data": {"text/plain": text, "text/html": log}}


def run_stages(
    profile: str,
    overrides: list[str],
    run: str,
    stages: list[str],
    results: Path,
    cold: bool = False,
    anew: bool = False,
) -> Path:
    """Run the given stages in order, skipping those that are finished and fresh, unless they are wanted
    ``anew``; returns the run folder.

    Where several stages need torch, their kernels are forked from one process that has imported it, unless
    ``cold``.
    """
    for name in MISLEADING:  # kernels inherit what this process has; a git hook sets the last ones
        os.environ.pop(name, None)
    loaded = profiles.load(profile, overrides)
    folder = results / run_folders.name_of(run, loaded.name)
    _check_records(folder)
    waiting = [stage for stage in stages if anew or stale(stage, loaded, folder)]
    if waiting:
        check_names(loaded)
    started = time.monotonic()
    with _server(waiting, cold) as server:
        for number, stage in enumerate(stages, 1):
            reason = "it is wanted anew" if anew else stale(stage, loaded, folder)
            other_paper = None if reason else _other_paper(stage, folder)
            reason = reason or other_paper or _notebook_missing(stage, folder)
            passed = int(time.monotonic() - started)
            clock = f"[{passed // 60:02d}:{passed % 60:02d}]"
            if reason is None:
                print(f"{clock} {number}/{len(stages)} {stage}: finished before, skipped", flush=True)
                continue
            print(f"{clock} {number}/{len(stages)} {stage}: runs, because {reason}", flush=True)
            warm = server and (stage not in LIGHT or server.warm())
            execute(
                stage, profile, overrides, run, folder, server if warm else None, anew or bool(other_paper)
            )
    return folder


def make_inputs(stage: str, profile: str, overrides: str | list | dict | None, top: Path) -> None:
    """Run stages 01 and 02, as far as ``stage`` needs them, for a notebook that was opened by hand, in a process
    of its own: a kernel is no place to start kernels from. Raises StageFailed with what it said."""
    earlier = [s for s in ("01_generate", "02_analyze") if s < stage]
    print(
        f"{stage} reads {' and '.join(earlier)} of {shown(top)}, made now: less than a minute, no key",
        flush=True,
    )
    command = [sys.executable, "-P", "-m", "synthembed", "run", "--profile", str(profile), "--run", top.name]
    command += [word for name in earlier for word in ("--only", name)]
    for key, value, _ in parameters.assignments(overrides):
        command += ["--set", f"{key}={json.dumps(value)}"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        raise StageFailed(f"{' and '.join(earlier)} could not be made:\n{done.stdout[-2000:]}")


@contextlib.contextmanager
def _server(waiting: list[str], cold: bool) -> Iterator[Server | None]:
    """The process that forks kernels, if it is worth its start; it and its kernels end with the context."""
    if cold or not warm_kernels.supported() or len([s for s in waiting if s not in LIGHT]) < 2:
        yield None
        return
    with contextlib.closing(Server()) as server:
        yield server


def _check_records(folder: Path) -> None:
    """A machine that went down may have left an empty stage.json: it is named, with what to do."""
    for path in folder.glob("*/stage.json"):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StageFailed(
                f"{shown(path)} is empty or damaged ({error}): delete this file alone and run again; replies, checkpoints "
                "and results that lie beside it are kept"
            ) from None


def check_names(profile: Profile) -> None:
    """Names that only mteb or the paper's tables can tell from misspelt ones, before anything runs."""
    paper.check_fills(profile)
    rows = [profile.with_overrides(profile.ablations.set | r.set) for r in profile.ablations.rows]
    rows += [profile.of_row(one, row) for one in profile.experiments.questions for row in one.rows]
    for settings in {p.evaluate.model_dump_json(): p.evaluate for p in (profile, *rows)}.values():
        try:
            if not names.check(settings.benchmarks, settings.tasks):
                from synthembed.evaluation import mteb_runs  # seconds, which the suite's own names need not

                mteb_runs.tasks_of(settings)
        except ValueError as error:
            raise ProfileError(str(error)) from None


def _other_paper(stage: str, folder: Path) -> str | None:
    """The overview shows the paper's settings beside a run's own: it is of another paper.yaml than today's?"""
    shown_then = read_json(folder / stage / "stage.json", {}).get("paper_profile")
    other = shown_then and shown_then != profiles.load("paper").hash()
    return "the paper's profile, which it shows, changed" if other else None


def _notebook_missing(stage: str, folder: Path) -> str | None:
    record = json.loads((folder / stage / "stage.json").read_text(encoding="utf-8"))
    if "notebook" in record and not (folder / stage / record["notebook"]).exists():
        return f"{stage}/{record['notebook']} is missing"
    return None
