# Every target sets itself up: git, make and python3 >= 3.11 are all that a machine needs.
PYTHON ?= python3
PROFILE ?= laptop
VENV := .venv
BIN := $(VENV)/bin
# What pip does on one core after all else, on all of them; a file of a package that no Python reads is no error.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
BYTECODE := $(BIN)/python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true

.PHONY: reproduce test lab bench site lint setup extras clean

reproduce: setup
	$(BIN)/synthembed run --profile $(PROFILE)

test: extras
	$(BIN)/python -m pytest -n 2 --dist loadfile

lab: setup  # what transformers says to PEFT of its next version is no news to a reader
	PYTHONWARNINGS=ignore::FutureWarning:transformers.modeling_utils $(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/00_overview.ipynb \
	  --ContentsManager.pre_save_hook=synthembed.widgets.stored_notebooks.without_outputs

bench: setup
	$(BIN)/python -m benchmarks

bench-gpu: setup
	$(BIN)/python -m benchmarks.gpu

bench-%: setup
	$(BIN)/python -m benchmarks $*

# A run as a static book under site/: your own run, or the committed one. It opens from the folder, offline.
site: extras
	$(BIN)/synthembed site --run $(PROFILE) --out site

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check lib tests benchmarks
	$(BIN)/lint-imports --no-cache

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock requirements-cuda.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "$(PYTHON) is not Python 3.11 to 3.13: set PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	$(BYTECODE)
	@touch $@

# What the tests, the site, a cluster and `adapt` need beyond a run.
extras: $(VENV)/.extras

$(VENV)/.extras: $(VENV)/.ready requirements-extras.lock
	$(PIP) -r requirements-extras.lock
	$(BYTECODE)
	@touch $@

clean:
	rm -rf $(VENV)
