"""The reference of the library, made without importing it."""

import ast

from synthembed.ground.files import PACKAGE
from synthembed.report.web import reference


def test_every_public_function_and_class_has_an_entry_and_nothing_was_imported(tmp_path):
    rooms = reference.write(tmp_path)
    assert "ground" in rooms and "report" in rooms
    for room in rooms:
        text = (tmp_path / f"{room}.rst").read_text()
        for path in (PACKAGE / room).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    assert f":: {node.name}" in text, (path, node.name)


def test_signs_of_restructuredtext_in_a_docstring_are_words():
    assert reference._text("2 * x_ of ``a*b `` | c") == r"2 \* x\_ of ``a*b`` \| c"
