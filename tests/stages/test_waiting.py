"""OpenMP's threads wait with a short spin: set before torch is loaded, unless somebody has said otherwise."""

import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")
SHOW = "; import os; print([os.environ.get(n) for n in ('GOMP_SPINCOUNT', 'KMP_BLOCKTIME')])"


def output_of(code: str, **environment) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(("code", "environment", "expected"), [
    ("import synthembed", {}, ["1000", "0"]),
    ("import synthembed", {"OMP_WAIT_POLICY": "ACTIVE"}, [None, None]),
    ("import synthembed", {"KMP_BLOCKTIME": "200"}, ["1000", "200"]),
    ("import sys; sys.modules['torch'] = sys; import synthembed", {}, [None, None]),
])  # fmt: skip
def test_our_import_sets_it_and_a_users_own_value_wins(code, environment, expected):
    assert output_of(code + SHOW, **environment).strip() == str(expected)


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP says what it has read")
@pytest.mark.parametrize(("environment", "spins"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_the_openmp_library_that_torch_loads_has_read_it(environment, spins):
    shown = output_of("import synthembed, torch", OMP_DISPLAY_ENV="VERBOSE", **environment)
    if "GOMP_SPINCOUNT" not in shown:
        pytest.skip("torch was built with another OpenMP")
    assert f"GOMP_SPINCOUNT = '{spins}'" in shown
