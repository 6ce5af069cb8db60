"""Where runs lie: the committed ones, which are read, and a reader's own; who is working in which; what is
left in them of other settings.

A run is a folder of stages. The committed runs, ``results/<run>/``, are the reference. A reader's own run
has the same layout below ``runs/`` (or where ``SYNTHEMBED_RUNS`` says), which git ignores. In ``.work/`` of a
run lie stages that are made anew beside the old ones, and the locks; in ``other_settings/<key>/`` of a folder
what was trained there under another key.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from synthembed.ground.files import ROOT, read_json, shown
from synthembed.ground.places import PlaceError

ELSEWHERE = "SYNTHEMBED_RUNS"  # of the environment: a folder for runs, in the place of runs/
WORK, OTHERS = ".work", "other_settings"
BEFORE = ".before.ipynb"  # the executed copy of a stage that was made anew by hand
OTHERS_KEPT = 8  # of one folder: the newest
PAID = "01_generate"  # what lies there was paid for, and is never cleaned away
LONGEST = 200  # bytes of a run's name; file systems take 255, and locks and copies add to it
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
ANOTHER = 'another run folder (--run NAME; in a notebook, run = "NAME")'  # where a second process may work
_held: dict[Path, FileLock] = {}


class StageBusy(RuntimeError):
    """Another process is at work on this stage of this run."""


def committed() -> Path:
    """The folder of the runs that come with the checkout."""
    return ROOT / "results"


def own() -> Path:
    """The folder of a reader's own runs; a relative one is below the checkout."""
    return ROOT / os.environ.get(ELSEWHERE, "runs")


def leads_elsewhere(name: str) -> str | None:
    """A run is one folder among the others: what is wrong with a name that would be written elsewhere."""
    if name.startswith(".") or any(sign in name for sign in "/\\\0"):
        return f"{name!r}: a plain name, without a slash or a dot at its beginning"
    if len(os.fsencode(name)) > LONGEST:
        return f"{name[:40]!r}...: a name of {LONGEST} bytes at most"
    return None


def name_of(run: str, profile: str) -> str:
    """The name of a run's folder: what was asked for, or else the profile's own. Raises PlaceError if that leads
    elsewhere."""
    if wrong := leads_elsewhere(run):
        raise PlaceError(f"the run's name: {wrong}")
    if not run and (wrong := leads_elsewhere(profile) or (None if profile else "it is empty")):
        raise PlaceError(f"the profile's name, which its run's folder has: {wrong}")
    return run or profile


def find(run: str) -> Path:
    """A run by its name: the reader's own if there is one, or else the committed one. A name with a slash is
    a folder, as the shell has it or from the checkout on. Raises FileNotFoundError naming those there are."""
    run = os.path.expanduser(run)
    places = [Path(run).resolve(), ROOT / run] if "/" in run else [own() / run, committed() / run]
    for place in places:
        if any(place.glob("*/stage.json")):
            return place
    known = sorted({p.parent.parent.name for top in (own(), committed()) for p in top.glob("*/*/stage.json")})
    raise FileNotFoundError(
        f"no folder {' or '.join(map(shown, reversed(places)))}; there are {', '.join(known)}"
    )


def reference(run: str) -> Path | None:
    """The committed run of this name, if there is one."""
    folder = committed() / run
    return folder if any(folder.glob("*/stage.json")) else None


# --- locks ---------------------------------------------------------------------------------------


def lock(run: Path, stage: str, another: str = ANOTHER) -> None:
    """Claim a stage of a run for this process until ``unlock`` or its end. Of this process, and of the runner
    that started this kernel, it may be claimed already. Raises StageBusy, before anything was touched, which names
    ``another`` place to work in as the command at hand has it."""
    path = run / WORK / f"{stage}.lock"
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    found = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        found.acquire()
    except Timeout:
        holder = _holder(path)
        if holder.get("host") == socket.gethostname() and str(holder.get("pid")) == os.environ.get(
            "JPY_PARENT_PID"
        ):
            return
        raise StageBusy(
            f"{stage} of {shown(run)} is being made by process {holder.get('pid', '?')} on {holder.get('host', '?')}, "
            f"since {holder.get('since', '?')}: wait until it has ended, end it (a notebook: shut its kernel down), "
            f"or use {another}."
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"{shown(path.parent)}: its file system has no locks ({error}), so nothing keeps two processes from "
            f"working on one run: start one only, or set {ELSEWHERE} to a folder on a local disk.",
            stacklevel=3,
        )
        return
    _held[path] = found
    about = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError):  # Windows lets nobody write to a locked file
        path.write_text(json.dumps(about), encoding="utf-8")


def unlock(run: Path, stage: str) -> None:
    """Give a stage back; what this process does not hold stays as it is."""
    if found := _held.pop(run / WORK / f"{stage}.lock", None):
        found.release()


@contextlib.contextmanager
def locked(run: Path, stage: str, another: str = ANOTHER) -> Iterator[None]:
    """A stage claimed for as long as the context lasts, as ``lock`` does."""
    lock(run, stage, another)
    try:
        yield
    finally:
        unlock(run, stage)


def _holder(path: Path) -> dict:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return {}


def seconds_of(record: dict) -> float:
    """How long a stage took by its stage.json: the sitting that ended it (``wall_s``), and what earlier ones had done
    that it went on with (``kept_s``, which older records do not have)."""
    return record.get("wall_s", 0.0) + record.get("kept_s", 0.0)


# --- a stage beside itself -----------------------------------------------------------------------


def beside(run: Path, stage: str) -> Path:
    """Where a finished stage of a run is made anew, until it takes the old one's place."""
    return run / WORK / stage


def being_made(run: Path, stage: str) -> Path:
    """The folder that a stage is made in now: beside the finished one, if it was begun there, or in its place."""
    made = beside(run, stage)
    return made if made.exists() else run / stage


def carry_notebook(folder: Path, made: Path, stage: str) -> None:
    """Keep the executed notebook of the finished stage in ``folder`` for the one that is ``made`` beside it, as
    ``<stage>.before.ipynb``: it is the only record of what the old stage showed, and a stage that is made by
    hand has no executed copy of its own until the next run writes one."""
    names = (f"{stage}.ipynb", stage + BEFORE)
    if old := next((folder / name for name in names if (folder / name).exists()), None):
        shutil.copy2(old, made / (stage + BEFORE))


def copy_beside(folder: Path, names: list[Path], target: Path) -> None:
    """A new folder ``target`` with files of ``folder``; it is there whole or not at all. Large files that are
    written once are linked and not copied."""
    building = target.with_name(target.name + ".copying")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for path in names:
        place = building / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl" or path.stat().st_size < 1 << 20:  # it may be written to, or is cheap
            shutil.copy2(path, place)
            continue
        try:
            os.link(path, place)
        except OSError:
            shutil.copy2(path, place)
    os.replace(building, target)


def swap(made: Path, folder: Path) -> None:
    """Put a stage that was made beside ``folder`` into its place. A kill in between is mended by ``mend``."""
    old = made.with_name(made.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    os.replace(folder, old)
    os.replace(made, folder)
    shutil.rmtree(old, ignore_errors=True)


def mend(made: Path, folder: Path) -> bool:
    """Finish a ``swap`` that a kill cut short: the new stage if it is complete, or else the old one. Whether
    there was one."""
    old = made.with_name(made.name + ".old")
    if not old.exists():
        return False
    if not folder.exists():
        whole = read_json(made / "stage.json", {}).get("status") == "done"
        os.replace(made if whole else old, folder)
    shutil.rmtree(old, ignore_errors=True)
    return True


# --- what was trained under other settings -------------------------------------------------------


def set_aside(place: Path, key: str, names: Iterable[str], folder: Path) -> None:
    """Move what was made under ``key`` in ``place`` to ``folder``/other_settings/<key>/. The oldest of more
    than OTHERS_KEPT are removed, and named."""
    found = [place / name for name in names if (place / name).exists()]
    if not found:
        return
    aside = folder / OTHERS / key
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for path in found:
        os.replace(path, aside / path.name)
    print(f"what was made here under other settings is kept in {shown(aside)}", flush=True)
    kept = sorted((folder / OTHERS).iterdir(), key=lambda p: (p.stat().st_mtime_ns, p.name))
    for old in kept[:-OTHERS_KEPT]:
        print(f"{shown(old)}: removed, the oldest of more than {OTHERS_KEPT} of other settings", flush=True)
        shutil.rmtree(old)


def bring_back(folder: Path, key: str, place: Path) -> bool:
    """Move what was set aside in ``folder`` under ``key`` to ``place``; False if there is none."""
    aside = folder / OTHERS / key
    if not aside.is_dir():
        return False
    place.mkdir(parents=True, exist_ok=True)
    for path in aside.iterdir():
        if (place / path.name).is_dir():
            shutil.rmtree(place / path.name)
        os.replace(path, place / path.name)
    aside.rmdir()
    return True


# --- the committed runs --------------------------------------------------------------------------

# What of a run is not kept in git: weights, caches, and what is rebuilt from the recordings in seconds.
NOT_COMMITTED = {
    "01_generate": ("requests.jsonl", "items.jsonl", "replies.jsonl", "batches", "ledger"),
    "02_analyze": ("examples.jsonl", "dataset"),
    "03_train": ("model", "adapter", "checkpoints", "seeds", "pretraining", OTHERS),
    "04_evaluate": ("mteb",),
    "05_ablations": ("rows",),
    "08_beyond": ("rows",),
}


def keep(name: str, stages: Iterable[str]) -> Path:
    """Copy a complete run of one's own over the committed one of its name, without what git does not keep.
    Raises FileNotFoundError naming a stage that is not finished."""
    run, target = own() / name, committed() / name
    for stage in stages:
        if read_json(run / stage / "stage.json", {}).get("status") != "done":
            raise FileNotFoundError(f"{shown(run / stage)} is not finished: synthembed run first")
    wanted = {
        p.relative_to(run) for p in run.glob("*/**/*") if p.is_file() and _is_committed(p.relative_to(run))
    }
    for path in target.glob("*/**/*") if target.exists() else ():
        inner = path.relative_to(target)
        if path.is_file() and _is_committed(inner) and inner not in wanted:
            path.unlink()
    for inner in sorted(wanted):
        (target / inner).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(run / inner, target / inner)
    return target


def _is_committed(inner: Path) -> bool:
    stage, name = inner.parts[:2]
    return (
        stage != WORK
        and name not in NOT_COMMITTED.get(stage, ())
        and inner.suffix not in (".stderr", ".partial")
        and not name.endswith(BEFORE)
    )


# --- listing and cleaning ------------------------------------------------------------------------


def listing() -> list[dict]:
    """Every run, the reader's own first, and in each what ``clean`` would remove: ``what``, ``folder``,
    ``bytes``, ``days`` since it was last changed."""
    found = []
    for top in (own(), committed()):
        for run in sorted({p.parent.parent for p in top.glob("*/*/stage.json")}):
            done = sum(read_json(p, {}).get("status") == "done" for p in run.glob("*/stage.json"))
            kind = "own" if top == own() else "committed"
            found.append(_described(f"{kind} run, {done} stages finished", run))
            found += [_described(what, folder) for what, folder in leftovers(run)]
    return found


def leftovers(run: Path) -> Iterator[tuple[str, Path]]:
    """What no stage of a run needs: trainings of other settings, and stages begun anew and not finished.
    Replies that were paid for are never among it."""
    for folder in sorted(run.rglob(OTHERS)):
        yield from (
            (f"other settings of {folder.parent.relative_to(run)}", place)
            for place in sorted(folder.iterdir())
        )
    for folder in sorted((run / WORK).glob("*/")):
        if not folder.name.startswith(PAID):
            yield f"{folder.name}, begun anew and not finished", folder


def clean(run: Path, days: float = 0) -> list[dict]:
    """Remove ``leftovers`` that were last changed more than ``days`` ago, and say which. What another process
    is working on stays."""
    removed = []
    for what, folder in list(leftovers(run)):
        about = _described(what, folder)
        if about["days"] < days or not folder.exists():
            continue
        top = folder.relative_to(run / WORK if folder.is_relative_to(run / WORK) else run).parts[0]
        with contextlib.suppress(StageBusy), locked(run, top.partition(".")[0]):
            shutil.rmtree(folder)
            removed.append(about)
    return removed


def _described(what: str, folder: Path) -> dict:
    files = [p.stat() for p in folder.rglob("*") if p.is_file()]
    newest = max((f.st_mtime for f in files), default=folder.stat().st_mtime)
    size = sum(f.st_size for f in files)
    return {"what": what, "folder": folder, "bytes": size, "days": max(0.0, (time.time() - newest) / 86_400)}


def table(rows: list[dict]) -> str:
    """``listing`` or what ``clean`` removed, as lines of text."""
    return "\n".join(
        f"{row['bytes'] / 1e6:10,.1f} MB  {row['days']:6.1f} days  {shown(row['folder'])}  ({row['what']})"
        for row in rows
    )
