"""A stage's code: every module of ours that its notebook reaches, at any depth, and the data they read."""

from pathlib import Path

import pytest
from synthembed.stages import fingerprints
from synthembed.stages.fingerprints import PACKAGE, _data_of, _reached

# A package with modules at three depths, that import one another in every way that Python knows.
MODULES = {
    "__init__.py": "",
    "top.py": "from . import plain\nfrom .room import inner\n",
    "plain.py": "",
    "absolute.py": "import house.room.cellar.deep\n",
    "lazy.py": "def later():\n    from .room.cellar.deep import value\n    return value\n",
    "room/__init__.py": "",
    "room/inner.py": "from .sibling import x\nfrom ..plain import y\nfrom .cellar import deep\n",
    "room/sibling.py": "x = 1\n",
    "room/cellar/__init__.py": "from .other import z\n",
    "room/cellar/deep.py": "from ...attic import w\nfrom .. import upstairs\nvalue = 1\n",
    "room/cellar/other.py": "z = 1\n",
    "room/upstairs.py": "",
    "attic.py": "w = 1\n",
    "unused.py": "",
    "room/unused.py": "",
}


@pytest.fixture
def house(tmp_path):
    for name, text in MODULES.items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "house"


@pytest.mark.parametrize(
    "source", ["from house import top", "import house.absolute", "from house.lazy import later"]
)
def test_code_reaches_modules_at_every_depth(house, source):
    found = {p.relative_to(house).as_posix() for p in _reached(source, house)}
    cellar = {"room/cellar/__init__.py", "room/cellar/deep.py", "room/cellar/other.py", "room/upstairs.py"}
    assert cellar | {"__init__.py", "room/__init__.py", "attic.py"} <= found
    if "top" in source:
        assert {"top.py", "plain.py", "room/inner.py", "room/sibling.py"} <= found
    assert not {"unused.py", "room/unused.py"} & found


@pytest.mark.parametrize(
    "name", [n for n in MODULES if "unused" not in n and n not in ("absolute.py", "lazy.py")]
)
def test_a_module_edited_at_any_depth_is_changed_code(house, name):
    def code():
        return fingerprints._hash_of("", "from house import top", house)

    before, path = code(), house / name
    path.write_text(path.read_text() + "changed = True\n")
    assert code() != before
    path = house / "room" / "unused.py"
    before = code()
    path.write_text("changed = True\n")
    assert code() == before, "a module that nothing imports is no code of the stage"


def test_package_data_is_code_of_the_module_that_reads_it():
    claimed = {f for module in PACKAGE.rglob("*.py") for f in _data_of(module)}
    there = {
        f
        for f in PACKAGE.rglob("*")
        if f.is_file() and f.suffix not in (".py", ".pyc") and "egg" not in str(f)
    }
    assert claimed == there, (
        "a file of the package that no module names in PACKAGE_DATA, or the other way round"
    )


def test_a_changed_prompt_is_changed_code(monkeypatch):
    before = fingerprints.code_hash("01_generate"), fingerprints.code_hash("07_report")
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: read(p) + (b" " if p.name == "sts.jinja" else b""))
    assert fingerprints.code_hash("01_generate") != before[0]
    assert fingerprints.code_hash("07_report") == before[1]


def test_code_hash_follows_imports():
    names = {p.name for p in _reached("from synthembed.training import train")}
    assert {"train.py", "contrastive.py", "encoder.py", "settings.py", "taxonomy.py"} <= names
    assert not {"page.py", "figures.py", "command_line.py"} & names
    tail = {
        p.as_posix().partition("evaluation/")[2]
        for p in _reached("from synthembed.evaluation import systems")
    }
    assert {"suites/embedded_tasks.py", "suites/benchmarks.py", "mteb_runs.py"} <= tail
    assert fingerprints.code_of("report.page") != fingerprints.code_of("evaluation.passkey")
