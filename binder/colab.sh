#!/bin/bash
# In Colab, in the first cell, with the address of this repository:
#     !git clone ADDRESS companion && bash companion/binder/colab.sh
# then Runtime > Restart session, and `%cd companion`; the cells of notebooks/ run as they are.
set -euo pipefail
cd "$(dirname "$0")/.."
python -m pip install --quiet -r requirements.lock
python -m pip install --quiet --no-deps --no-build-isolation --editable .
python -m synthembed runs
