"""The rooms of the package: which may import which, how large they are, and what they are called."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import synthembed
from synthembed.ground.files import PACKAGE, ROOT

ROOMS = sorted({path.parent for path in PACKAGE.rglob("*.py")})
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not path.stem.startswith("__"))
SANCTIONED = {"profile"}  # a module of the standard library as well, but ours is never imported bare


@pytest.fixture
def copied(tmp_path) -> Path:
    """The package's modules and the contract that they keep, where a test may spoil them."""
    shutil.copytree(PACKAGE, tmp_path / "lib" / "synthembed", ignore=_data)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _data(folder: str, names: list[str]) -> list[str]:
    return [n for n in names if n == "__pycache__" or (Path(folder, n).is_file() and not n.endswith(".py"))]


def lint(folder: Path) -> subprocess.CompletedProcess:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache", "--no-logo"], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(folder / "lib"), "COLUMNS": "200"},
    )  # fmt: skip


def test_rooms_import_one_way(copied):
    done = lint(copied)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Rooms import one way KEPT" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "said"),
    [
        ("ground/files.py", "from synthembed.report import page", "synthembed.ground.files -> synthembed.report.page"),
        ("model/tokens.py", "def f():\n    import synthembed.training.train", "synthembed.model.tokens -> synthembed.training.train"),
    ],
)  # fmt: skip
def test_an_import_against_the_order_is_found(copied, module, line, said):
    with open(copied / "lib" / "synthembed" / module, "a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = lint(copied)
    assert done.returncode != 0 and "Rooms import one way BROKEN" in done.stdout
    assert said in done.stdout


def test_every_room_has_its_place_in_the_order():
    import tomllib

    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    listed = {name for layer in contract["layers"] for name in layer.split(" | ")}
    assert listed == {f"synthembed.{room.name}" for room in ROOMS if room.parent == PACKAGE}


@pytest.mark.parametrize("room", ROOMS, ids=lambda p: p.relative_to(PACKAGE.parent).as_posix())
def test_a_room_is_small_and_says_what_it_is(room):
    modules = [p for p in room.glob("*.py") if p.name != "__init__.py"]
    assert len(modules) <= 9, sorted(p.stem for p in modules)
    assert ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))


def test_no_module_has_more_than_400_lines():
    lines = {p.relative_to(PACKAGE).as_posix(): p.read_text(encoding="utf-8").count("\n") for p in MODULES}
    assert {name: n for name, n in lines.items() if n > 400} == {}


def test_names_are_nobody_elses_and_told_apart():
    names = {p.stem for p in MODULES} | {room.name for room in ROOMS if room != PACKAGE}
    assert names & sys.stdlib_module_names == SANCTIONED
    lock = (ROOT / "requirements.lock").read_text()
    locked = {name.lower().replace("_", "-") for name in re.findall(r"^([\w.-]+)==", lock, re.M)}
    theirs = {
        top for top, distributions in importlib.metadata.packages_distributions().items()
        if {d.lower().replace("_", "-") for d in distributions} & locked
    }  # fmt: skip
    assert {"torch", "mteb", "peft"} <= theirs and not names & theirs
    assert not {name for name in names if f"{name}s" in names}, "two names that differ by a plural s"


def test_profile_is_never_imported_bare():
    for path in [
        *PACKAGE.rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "benchmarks").rglob("*.py"),
    ]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            bare = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                bare = [node.module]
            assert not {name.partition(".")[0] for name in bare} & SANCTIONED, path


@pytest.mark.parametrize("name", synthembed.__all__)
def test_public_names_can_be_imported(name):
    space: dict = {}
    exec(f"from synthembed import {name}", space)
    assert callable(space[name]) and name in dir(synthembed)


def test_public_names_load_nothing_until_they_are_used():
    code = (
        "import sys, synthembed; dir(synthembed); before = {'torch', 'mteb', 'pydantic'} & set(sys.modules)\n"
        "synthembed.Profile; print(before, 'pydantic' in sys.modules, 'torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "set() True False", done.stdout + done.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'synthembed' has no attribute 'evaluat'"):
        synthembed.evaluat  # noqa: B018
