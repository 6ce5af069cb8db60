"""A stage's code: every module of ours that its notebook reaches, at any depth, and the data they read."""

import ast
import io
import json
import os
import re
import tokenize
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


# --- what of a source is code ----------------------------------------------------------------------


def tokens(source: str) -> list[str]:
    """What Python reads of a source, comments and empty lines aside, as its own tokenizer finds it."""
    aside = (tokenize.COMMENT, tokenize.NL)
    found = tokenize.generate_tokens(io.StringIO(source).readline)
    return [t.string for t in found if t.type not in aside]


SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_of_every_module_comments_go_and_nothing_else():
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        plain = fingerprints.without_comments(source)
        assert tokens(plain) == tokens(source), path
        found = {t.type for t in tokenize.generate_tokens(io.StringIO(plain).readline)}
        assert not found & {tokenize.COMMENT}, path


def test_of_every_module_docstrings_go_and_nothing_else():
    for path in SOURCES[::3]:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        without = fingerprints.without_docstrings(source, tree)
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        said = [n.body[0] for n in ast.walk(tree) if isinstance(n, documented) and ast.get_docstring(n)]
        gone = {line for text in said for line in range(text.lineno, text.end_lineno + 1)}
        left = [line for number, line in enumerate(source.split("\n"), 1) if number not in gone]
        assert said and without == "\n".join(left), path


PIECES = [
    "x = 1", "# a note", "    # indented", "", "y = '# no note'  # a note", 'z = """', "# within or without", '"""',
    "f = f\"{x!r:#>4}\"", "r = r'\\'  # '", "s = 'it\\'s'  # a note", "t = '''# a", "'''", "w = x + \\", "    1",
]  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=9))
def test_what_is_left_of_a_source_is_what_python_reads(pieces):
    source = "\n".join(pieces) + "\n"
    try:
        expected = ast.dump(ast.parse(source))
    except (SyntaxError, ValueError):
        return
    plain = fingerprints.without_comments(source)
    assert ast.dump(ast.parse(plain)) == expected
    assert fingerprints.without_comments(plain) == plain


EDITS = {
    "a comment": ("value = 1", "value = 1  # the first", True),
    "a line of comment": ("value = 1", "# the first\n\nvalue = 1", True),
    "a function's docstring": ('    """One."""\n', '    """One, and\n    more."""\n', True),
    "the module's docstring": ('"""About."""', '"""About it."""', True),
    "a class without one": ('    """A thing."""\n    size = 2', "    size = 2", True),
    "a text that is none": ('text = """Said."""', 'text = """Said again."""', False),
    "a sign within a text": ("'a # b'", "'a # c'", False),
    "a number": ("value = 1", "value = 2", False),
    "an indentation": ("    if value:\n        return 1\n    return 2", "    if value:\n        return 1\n        return 2", False),
    "a text after the first statement": ('    value\n    "x"', '    value\n    "y"', False),
}  # fmt: skip
MODULE = '''"""About."""

value = 1
text = """Said."""
sign = 'a # b'


class Thing:
    """A thing."""
    size = 2


def one():
    """One."""
    if value:
        return 1
    return 2


def two():
    value
    "x"
'''


@pytest.mark.parametrize("edit", EDITS)
def test_words_about_the_code_are_no_code_and_all_else_is(house, edit):
    old, new, same = EDITS[edit]
    assert MODULE.count(old) == 1
    (house / "plain.py").write_text(MODULE)
    before = fingerprints._hash_of("", "from house import top", house)
    (house / "plain.py").write_text(MODULE.replace(old, new))
    assert (fingerprints._hash_of("", "from house import top", house) == before) is same


def test_an_edit_of_the_same_size_is_seen(house):
    def code():
        return fingerprints._hash_of("", "from house import top", house)

    path = house / "room" / "sibling.py"
    before = code()
    path.write_text("x = 2\n")
    os.utime(path, ns=(1, 1))
    assert code() != before


def test_no_stage_shows_what_its_hash_leaves_out():
    """A module that read its own words, or another's, would make something of what counts as no code."""
    for notebook in sorted((PACKAGE.parents[1] / "notebooks").glob("0*.ipynb")):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        plain = "\n".join(s for s in code if not s.startswith("%"))
        sources = {p: p.read_text(encoding="utf-8") for p in _reached(plain)} | {notebook: "\n".join(code)}
        for path, source in sources.items():
            if path.name != "fingerprints.py":
                assert not re.search(r"__doc__|\bgetsource|\bgetdoc\b|getcomments", source), path
