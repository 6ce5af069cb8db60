"""What a stage was made from: ``stage.json``, and whether a finished stage may be skipped.

A stage reads files of earlier stages and writes only its own folder ``<run>/<stage>/``. It is fresh while
its profile sections, its input files, its code and its output files are those that stage.json names. Files
are compared by hash, never by time.

Opening destroys nothing. A finished and fresh stage is read; one that must be made again is made beside the
old one, which it replaces when it is complete.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from synthembed import profile as profiles
from synthembed.ground import run_folders
from synthembed.ground.files import ROOT, read_json, sha256, shown, write_json
from synthembed.ground.run_folders import OTHERS
from synthembed.profile import parameters
from synthembed.profile.reading import ProfileError
from synthembed.profile.settings import Profile
from synthembed.stages.definitions import STAGES, Spec, stages_of
from synthembed.stages.fingerprints import code_hash, commit, machine, versions

__all__ = ["STAGES", "MissingInput", "Spec", "Stage", "stages_of", "stale"]


class MissingInput(RuntimeError):
    """An earlier stage has not written what this one reads."""


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted(
        {p for pattern in patterns for p in folder.glob(pattern) if p.is_file() and _here(p, folder)}
    )


def _here(path: Path, folder: Path) -> bool:
    return OTHERS not in path.relative_to(folder).parts


def _finished(folder: Path) -> bool:
    return read_json(folder / "stage.json", {}).get("status") == "done"


def _seconds(folder: Path, others: bool = True) -> Iterator[tuple[object, float]]:
    """(what tells it from any other, seconds) of each step of training and each scored task below a folder, or
    with ``others`` also of those that were set aside. A torn line of a killed training has none."""
    for path in folder.rglob("*.json*"):
        if not others and not _here(path, folder):
            continue
        if path.name == "log.jsonl":
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError, ZeroDivisionError):
                    step = json.loads(line)
                    yield line, step["tokens"] / step["tokens_per_s"]
        elif "mteb" in path.parts and '"evaluation_time"' in (text := path.read_text(encoding="utf-8")):
            scored = json.loads(text)
            yield (scored.get("task_name"), scored.get("date")), scored["evaluation_time"] or 0.0


def inputs_of(stage: str, folder: Path) -> dict[str, str]:
    """Input files of a stage below the run's ``folder``, with their hashes; missing ones raise."""
    found = {}
    for pattern in STAGES[stage].inputs:
        paths = _matching(folder, (pattern,))
        if not paths:
            earlier = pattern.partition("/")[0]
            raise MissingInput(
                f"{stage} needs {shown(folder / pattern)}, which is not there. Run that stage first: "
                f"synthembed run --only {earlier} (or make reproduce), with the same profile and run."
            )
        found |= {p.relative_to(folder).as_posix(): sha256(p) for p in paths}
    return found


def fingerprint(stage: str, profile: Profile, inputs: dict[str, str]) -> str:
    parts = [profile.hash(*STAGES[stage].sections) if STAGES[stage].sections else "", code_hash(stage)]
    parts.append(json.dumps(versions()))
    parts += [f"{k}={v}" for k, v in sorted(inputs.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def stale(stage: str, profile: Profile, folder: Path) -> str | None:
    """Why a stage must run, in words; None if it is finished and fresh."""
    path = folder / stage / "stage.json"
    if not path.exists():
        return "it has not run"
    record = json.loads(path.read_text(encoding="utf-8"))
    if record.get("status") != "done":
        return "it did not finish"
    for name, wanted in record["outputs"].items():
        output = folder / stage / name
        if not output.exists():
            return f"{stage}/{name} is missing"
        if sha256(output) != wanted:
            return f"{stage}/{name} was changed"
    try:
        inputs = inputs_of(stage, folder)
    except MissingInput:
        return "its input is missing"
    for name in sorted(set(inputs) | set(record["inputs"])):
        if inputs.get(name) != record["inputs"].get(name):
            return f"{name} changed"
    if record["code"] != code_hash(stage):
        return "its code changed"
    if record["fingerprint"] != fingerprint(stage, profile, inputs):
        return "its settings changed"
    return None


@dataclass
class Stage:
    """An open stage: its profile, the folder that it is read from, and the one that cells write to.

    While a stage is made the two are one, and ``reading`` is false. Of a finished stage ``folder`` is never
    written to; ``out`` is then a folder that ends with this process.
    """

    name: str
    profile: Profile
    run: Path  # the run's folder, in which earlier stages lie
    folder: Path
    inputs: dict[str, str] = field(default_factory=dict)
    code: str = ""
    reading: bool = False
    started: float = field(default_factory=time.time)
    facts: dict = field(default_factory=dict)
    earlier: dict = field(default_factory=dict)  # what was done before it was opened (_seconds)
    watch: object = None
    _aside: tempfile.TemporaryDirectory | None = None

    @classmethod
    def open(
        cls,
        name: str,
        profile: str = "laptop",
        overrides: str | list | dict | None = (),
        run: str = "",
        results: str = "",
        anew: bool = False,
    ) -> Stage:
        """Open a stage: load the profile, check that the inputs exist; then read what is finished and fresh, or
        begin to make it (``anew``: in any case).

        Called by the first code cell of a notebook, with its parameters. Without ``results``, the folder of
        runs, a notebook that is opened by hand makes what its stage needs of stages 01 and 02, or, where it
        needs a training that was not made, shows the committed run. Raises ProfileError, PlaceError (a run's
        name that leads elsewhere), MissingInput or StageBusy with a remedy.
        """
        _refuse_unknown_parameters(name)
        given = {"profile": profile, "run": run, "results": results}
        profile, run, results = (parameters.text(name, value) for name, value in given.items())
        # By name, since no result depends on it: fingerprints.code_hash follows import statements.
        watch = import_module("synthembed.stages.sampling").begin()
        if str(anew) not in ("True", "False"):
            raise ProfileError(f"anew = {anew!r}: True or False")
        anew = str(anew) == "True"  # papermill -r hands over text
        loaded = profiles.load(profile, overrides)
        top = (ROOT / results if results else run_folders.own()) / run_folders.name_of(run, loaded.name)
        if not anew and not stale(name, loaded, top):
            return cls._of_finished(name, loaded, top)
        try:
            inputs = inputs_of(name, top)
        except MissingInput as missing:
            if results:
                raise
            if _made_without_training(name, loaded, top):
                # By name: how a notebook is run moves no number.
                import_module("synthembed.stages.runner").make_inputs(name, profile, overrides, top)
            elif overrides or not _finished((committed := run_folders.committed() / top.name) / name):
                raise
            else:
                return cls._of_finished(name, loaded, committed, str(missing))
            inputs = inputs_of(name, top)
        run_folders.lock(top, name)
        if (
            run_folders.mend(run_folders.beside(top, name), top / name)
            and not anew
            and not stale(name, loaded, top)
        ):
            run_folders.unlock(top, name)
            return cls._of_finished(name, loaded, top)
        stage = cls(name, loaded, top, top / name, inputs, code_hash(name), watch=watch)
        stage._begin(anew)
        return stage

    @classmethod
    def _of_finished(cls, name: str, profile: Profile, run: Path, missing: str = "") -> Stage:
        folder = run / name
        print(
            f"{missing}\nShown here is the committed run, {shown(folder)}, which is not written to."
            if missing
            else f"{shown(folder)} is finished, and nothing that it is made from has changed: it is read and not "
            "written to. anew = True makes it anew."
        )
        record = read_json(folder / "stage.json")
        return cls(name, profile, run, folder, record["inputs"], record["code"], reading=True)

    @property
    def out(self) -> Path:
        """Where cells write."""
        if not self.reading:
            return self.folder
        if self._aside is None:
            self._aside = tempfile.TemporaryDirectory(prefix="synthembed-", ignore_cleanup_errors=True)
        return Path(self._aside.name)

    def once(self, name: str, make: Callable[[], dict]) -> dict:
        """The content of the stage's JSON file ``name``: read if the stage is finished, made now if not."""
        if self.reading:
            return read_json(self.folder / name)
        made = make()
        write_json(self.folder / name, made)
        return made

    def of(self, stage: str) -> Path:
        """The folder of an earlier stage of this run."""
        return self.run / stage

    def _begin(self, anew: bool) -> None:
        """Where the stage is made: in its place, or beside it if that holds a finished one. What was begun
        before and is of another profile, other inputs or other code goes, but never what is kept."""
        place, beside = self.run / self.name, run_folders.beside(self.run, self.name)
        if not _finished(place) and not beside.exists():
            place.mkdir(parents=True, exist_ok=True)
            self.folder = place
        else:
            self.folder = beside
            if not beside.exists():
                run_folders.copy_beside(place, self._kept(place), beside)
        kept = set(self._kept(self.folder, anew))
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_file() and path not in kept and path.suffix not in NOTEBOOK:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        self.earlier = dict(_seconds(self.folder))
        self._write("running")

    def _kept(self, folder: Path, anew: bool = False) -> list[Path]:
        """What the stage goes on with; ``anew``, only with what was paid for and with other settings' work."""
        patterns = () if anew and self.name != run_folders.PAID else STAGES[self.name].keep
        found = _matching(folder, patterns)
        found += [p for p in folder.rglob("*") if p.is_file() and not _here(p, folder)]
        replies = folder / "replies.jsonl"
        if _was_recorded(folder) and self.profile.generate.backend == "recorded" and not _paid(replies):
            found = [p for p in found if p != replies]  # replayed anew: the recordings may have changed
        return found

    def close(self, **facts) -> dict:
        """End the stage: drop its checkpoints, record outputs and facts in stage.json, take the place of the
        stage that it was made beside. A stage that is only read stays as it is. Returns its record."""
        if self.reading:
            return read_json(self.folder / "stage.json")
        self.facts |= facts
        for path in _matching(self.folder, STAGES[self.name].scratch):
            if path.parent.name == "checkpoints":
                path.unlink()
        place = self.run / self.name
        if self.folder != place:  # the next run finds that the executed copy is missing, and writes it
            run_folders.carry_notebook(place, self.folder, self.name)
            old = read_json(place / "stage.json", {})
            self.facts |= {"notebook": old["notebook"]} if "notebook" in old else {}
        record = self._write("done")
        if self.watch:
            self.watch.close(self.folder)
        if self.folder != place:
            run_folders.swap(self.folder, place)
        self.folder, self.reading = place, True
        run_folders.unlock(self.run, self.name)
        return record

    def _seeds(self) -> list[int]:
        several = "seeds" in STAGES[self.name].sections
        return self.profile.training_seeds if several else [self.profile.seed]

    def _outputs(self) -> dict[str, str]:
        left_out = set(_matching(self.folder, (*STAGES[self.name].scratch, "stage.json", "where.json")))
        paths = sorted(p for p in self.folder.rglob("*") if p.is_file() and p not in left_out)
        return {
            p.relative_to(self.folder).as_posix(): sha256(p)
            for p in paths
            if p.suffix not in (".partial", *NOTEBOOK) and _here(p, self.folder)
        }

    def _kept_seconds(self) -> float:
        """What earlier sittings spent on what the stage has now; ``wall_s`` is this sitting's alone. Loading and
        saving in between has no record, so this is a few per cent too low."""
        now = {what: s for what, s in _seconds(self.folder, others=False) if what in self.earlier}
        return round(sum(now.values(), 0.0), 1)

    def _write(self, status: str) -> dict:
        record = {
            "stage": self.name,
            "status": status,
            "profile": self.profile.name,
            "profile_hash": self.profile.hash(),
            "settings": self.profile.model_dump(mode="json", include=set(STAGES[self.name].sections)),
            "fingerprint": fingerprint(self.name, self.profile, self.inputs),
            "code": self.code,
            "inputs": self.inputs,
            "outputs": self._outputs() if status == "done" else {},
            "seeds": self._seeds(),
            **commit(),
            "versions": versions(),
            "machine": machine(),
            "started": datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds"),
            "wall_s": round(time.time() - self.started, 1),
            "kept_s": self._kept_seconds() if status == "done" else 0.0,
            **self.facts,
        }
        write_json(self.folder / "stage.json", record)
        return record


NOTEBOOK = (".ipynb", ".stderr")  # the executed copy is papermill's, written while the stage runs
PARAMETERS = {"profile", "overrides", "run", "results", "anew"}
EXPLORED = {
    "01_generate",
    "02_analyze",
    "03_train",
    "04_evaluate",
    "06_long_context",
}  # these take `explore` as well


def _made_without_training(stage: str, profile: Profile, top: Path) -> bool:
    """Whether what a stage reads takes seconds and no money."""
    reads = {pattern.partition("/")[0] for pattern in STAGES[stage].inputs}
    free = profile.generate.backend == "recorded" or not stale("01_generate", profile, top)
    return free and reads <= {"01_generate", "02_analyze"}


def _refuse_unknown_parameters(notebook: str) -> None:
    """papermill only warns of parameters that a notebook does not have; here they are an error."""
    known = PARAMETERS | ({"explore"} if notebook in EXPLORED else set())
    with contextlib.suppress(ImportError):
        from IPython import get_ipython

        shell = get_ipython()
        for source in (shell.user_ns.get("In") or []) if shell else []:
            if not source.startswith("# Parameters"):
                continue
            assigned = [n.targets[0].id for n in ast.parse(source).body if isinstance(n, ast.Assign)]
            unknown = sorted(set(assigned) - known)
            if unknown:
                raise ProfileError(
                    f"unknown notebook parameter {', '.join(unknown)}: a notebook takes "
                    f"{', '.join(sorted(known))}; put settings into overrides, as in "
                    '-p overrides "train.max_steps=10 seed=1"'
                )


def _was_recorded(folder: Path) -> bool:
    record = read_json(folder / "stage.json", {})
    return record.get("settings", {}).get("generate", {}).get("backend") == "recorded"


def _paid(replies: Path) -> bool:
    """Whether an endpoint's replies are among the stored ones; recorded replies report no usage."""
    if not replies.exists():
        return False
    with open(replies, encoding="utf-8") as lines:
        return any('"usage": {' in line and _usage(line) for line in lines)


def _usage(line: str) -> dict | None:
    with contextlib.suppress(json.JSONDecodeError):  # a torn last line is repaired later
        return json.loads(line)["response"]["body"].get("usage")
    return None
