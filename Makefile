# The two commands of the README are `make quickstart` and `make test`; each does all its set-up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCALE ?= reduced
PORT ?= 5000

#: Of the mutation run: modules (dotted names, all unless given) and the share of their mutants.
MODULES ?=
SHARE ?= 1

# Every command and test starts many a Python: where none keeps what it has compiled, each compiles all of it again.
unexport PYTHONDONTWRITEBYTECODE

# Compiles what pip has installed on all cores (pip would do it on one); test folders of others are never imported.
COMPILE = $(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true

.PHONY: help quickstart test tests check docs mutants gpu-check release-check mlflow slurm-up slurm-down clean

help:
	@echo "make quickstart   a real ablation grid on real scans, its tables and its page, in minutes"
	@echo "make test         format, lint, types, layers, tests"
	@echo "make docs         these pages as a site in build/site, with every switch, command and metric from the code"
	@echo "make versions     the other versions of Python that this machine has (.ci/versions full: with torch, minutes)"
	@echo "make mutants      the method made wrong line by line: do the tests notice? (hours; SHARE=0.1 for a sample)"
	@echo "make gpu-check    what could only be predicted without a GPU, checked on one, in eight minutes at most"
	@echo "make release-check  version, builds, contents, licences, bill of materials: is this commit fit to be released?"
	@echo "make mlflow       open the MLflow page on the recorded runs (PORT=$(PORT))"
	@echo "make slurm-up     a SLURM cluster of simulated nodes on this Debian machine (root); make slurm-down stops it"
	@echo "make clean        remove the environment and caches; runs and records stay"

quickstart: $(VENV)/.run
	$(BIN)/cscdarts ablate run quickstart --scale $(SCALE)
	$(BIN)/cscdarts report quickstart --out report

# Format, lint and types take one core for a minute and tests wait now and then: both at once.
test: $(VENV)/.dev
	@$(MAKE) --no-print-directory -j 2 check tests

# Four on two cores: the tests on a SLURM cluster are two groups, and mostly wait.
tests: $(VENV)/.dev
	$(BIN)/pytest -n 4 --dist loadgroup --no-loadscope-reorder

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A warning fails it; nothing is asked of a network.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html; for its search: $(BIN)/python -m mkdocs serve"

versions:
	PYTHON=$(PYTHON) .ci/versions

mutants: $(VENV)/.dev
	$(BIN)/python -m tests.mutants --share $(SHARE) $(MODULES)

gpu-check: $(VENV)/.run
	$(BIN)/python -m benchmarks.speed.gpu.check

release-check: $(VENV)/.dev
	$(BIN)/python -m tests.release.check

mlflow: $(VENV)/.run
	$(BIN)/cscdarts mlflow --port $(PORT)

slurm-up:
	slurm/dev-cluster install
	slurm/dev-cluster start

slurm-down:
	slurm/dev-cluster stop

# A fresh Debian or Ubuntu has Python but not always its venv module; root may add it, others are told how.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, this is $$($(PYTHON) --version); set PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ test "$$(id -u)" = 0 && apt-get update -q && apt-get install -y -q -o DPkg::Lock::Timeout=300 python3-venv; } || \
		{ echo "python3-venv is missing: sudo apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.run: pyproject.toml | $(BIN)/pip
	@echo "installing (torch is large: a few minutes the first time)"
	$(BIN)/pip install --quiet --no-compile -e '.[cluster,report,benchmarks]'
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/pip
	@echo "installing (torch is large: a few minutes the first time)"
	$(BIN)/pip install --quiet --no-compile -e '.[dev]'
	@$(COMPILE)
	@touch $@ $(VENV)/.run

$(VENV)/.docs: pyproject.toml | $(BIN)/pip
	@echo "installing (torch is large: a few minutes the first time)"
	$(BIN)/pip install --quiet --no-compile -e '.[cluster,report,docs]'
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
