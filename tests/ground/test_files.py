"""Files are written whole."""

import json

import pytest
from synthembed.ground import files


def test_writes_are_atomic(tmp_path):
    files.write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "x.json", {"a": object()})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
