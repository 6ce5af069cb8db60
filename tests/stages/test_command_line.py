"""The command line: errors that help."""

import subprocess
import sys

from synthembed.ground.files import ROOT


def test_the_command_explains_itself_without_a_traceback():
    done = subprocess.run(
        [sys.executable, "-m", "synthembed", "run", "--profile", "smoke", "--set", "train.batchsize=4"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "unknown key train.batchsize; did you mean 'batch_size'?" in done.stderr
