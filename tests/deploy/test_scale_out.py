"""The page on larger scales says what its script computes."""

import importlib.util

from synthembed.ground.files import ROOT


def test_the_table_is_the_scripts():
    spec = importlib.util.spec_from_file_location("scale_out", ROOT / "docs/scale_out.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == module.PAGE.read_text(encoding="utf-8")
    assert [module.row(f)["batches of 50,000"] for f in (1, 10)] == ["13", "130"]
