"""The documents keep up with the code: what they name is there, and the picture of the rooms is today's."""

import ast
import importlib.util
import re
from functools import cache

import pytest
import yaml
from synthembed.ground.files import PACKAGE, ROOT
from synthembed.profile.settings import Profile

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
ARCHITECTURE = ROOT / "docs" / "architecture.md"
FILES = (".py", ".yaml", ".toml", ".svg", ".md", ".jinja")  # of the checkout; .json and so on a run makes


def drawing():
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "docs" / "rooms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named(page) -> list[str]:
    """What stands in backticks on a page, blocks of code aside."""
    return re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))


@cache
def names_in(path) -> dict[str, ast.AST]:
    """Name → definition, of a module or, below a class, of its body."""
    return _names(ast.parse(path.read_text(encoding="utf-8")))


def _names(node: ast.AST) -> dict[str, ast.AST]:
    found = {}
    for child in node.body:
        targets = getattr(child, "targets", [getattr(child, "target", None)])
        found |= {t.id: child for t in targets if isinstance(t, ast.Name)}
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[child.name] = child
    return found


def is_ours(name: str) -> bool:
    """Whether ``room.module.name`` (or a room, a module, a method) is there; nothing is imported."""
    path, parts = PACKAGE, name.split(".")
    while parts and (path / parts[0]).is_dir():
        path /= parts.pop(0)
    if not parts:
        return True
    path = path / f"{parts.pop(0)}.py"
    if not path.exists():
        return False
    known = names_in(path)
    for part in parts:
        if part not in known:
            return False
        known = _names(known[part]) if isinstance(known[part], ast.ClassDef) else {}
    return True


def is_setting(name: str) -> bool:
    model = Profile
    for part in name.split("."):
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return False
        model = fields[part].annotation
    return True


def is_there(path: str) -> bool:
    return any(any(base.glob(path)) for base in (ROOT, PACKAGE))


def has_key(file: str, key: str) -> bool:
    path = next(base / file for base in (ROOT, PACKAGE) if (base / file).exists())
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    for part in key.split("."):
        if part not in data:
            return False
        data = data[part]
    return True


def found(token: str) -> bool | None:
    """Whether what a page names is there; None for words that name nothing of ours."""
    file, _, key = token.partition(":")
    if re.fullmatch(r"[\w./-]+\.yaml:[\w.]+", token):
        return is_there(file) and has_key(file, key)
    if re.fullmatch(r"[\w./*-]+", token) and ("/" in token or token.endswith(FILES)):
        return is_there(token)
    if re.fullmatch(r"\w+(\.\w+)+", token) and not token.endswith((".json", ".jsonl", ".html")):
        return is_ours(token) or is_setting(token)
    return None


def test_what_the_architecture_names_is_there():
    judged = {token: found(token) for token in named(ARCHITECTURE)}
    assert [token for token, there in judged.items() if there is False] == []
    assert sum(there is True for there in judged.values()) > 120  # the reading of the page did not fail


@pytest.mark.parametrize("wrong", [
    "model.packed.forward", "model.encoder.Encoder.decode", "train.temprature", "docs/nowhere.md",
    "profiles/laptop.yaml:train.rate", "training.train.train.step",
])  # fmt: skip
def test_a_name_that_is_not_there_is_found_out(wrong):
    assert found(wrong) is False


def test_every_room_and_module_is_named_in_the_architecture():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    rooms = drawing()
    lacking = [f"{r}.{m}" for r in rooms.rooms() for m in rooms.modules(r) if f"`{r}.{m}" not in text]
    assert lacking == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_paths_and_tests_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"\b(?:lib|tests|docs|benchmarks|notebooks|profiles)/[\w./-]*\w", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    for path, word in re.findall(r"pytest (tests/[\w./]+) -k (\w+)", text):
        tests = re.findall(r"def (test_\w+)", (ROOT / path).read_text(encoding="utf-8"))
        assert any(word in test for test in tests), f"{path} -k {word}"
    for module in re.findall(r"python -m (synthembed[\w.]*|benchmarks[\w.]*)", text):
        assert (
            is_there(f"{module.replace('.', '/')}.py")
            or is_there(module)
            or is_ours(module.partition(".")[2])
        )


def test_the_picture_of_the_rooms_is_drawn_from_this_code(tmp_path):
    rooms = drawing()
    rooms.write(tmp_path / "rooms.svg")
    same = (tmp_path / "rooms.svg").read_text() == rooms.PICTURE.read_text()
    assert same, "docs/rooms.svg is of other code: .venv/bin/python docs/rooms.py draws it anew"


@pytest.mark.parametrize(("statement", "modules"), [
    ("from synthembed.model.encoder import Encoder, pool", {("model", "encoder")}),
    ("from synthembed.model import encoder, export as writer", {("model", "encoder"), ("model", "export")}),
    ("from synthembed import paper, profile as profiles", {("paper",), ("profile",)}),
    ("import synthembed.model.cpu.allocator", {("model", "cpu", "allocator")}),
    ("import numpy", set()),
    ("from numpy import linalg", set()),
])  # fmt: skip
def test_the_picture_tells_modules_from_what_is_in_them(statement, modules):
    assert set(drawing()._imported(ast.parse(statement).body[0])) == modules


def test_the_lowest_room_imports_no_other():
    rooms = drawing()
    assert rooms.rooms()[0] == "ground"
    assert not any(room == "ground" for room, _ in rooms.imports())
