"""A few thousand inputs of the fuzz target; it runs for as long as one likes by itself (fuzz_replies.py)."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="a coverage-guided fuzzer: pip install atheris")


def test_no_input_of_the_fuzzer_ends_a_run(tmp_path):
    target = Path(__file__).with_name("fuzz_replies.py")
    command = [sys.executable, target, "-atheris_runs=3000", "-seed=1", tmp_path / "inputs"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 3000 in" in done.stderr or "Done 3000" in done.stdout + done.stderr
