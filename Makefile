# The front door: needs Python >= 3.11 with venv and pip, and make. Everything else lives in .venv.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

# One pytest worker per core, at most 8: each compiles the simulator and the learners for itself.
PARALLEL := --numprocesses logical --maxprocesses 8 --dist worksteal

.PHONY: help compare check lint test test-fast test-training test-process test-diffusers test-slow docs bench clean

help:
	@echo "make compare     train MAPPO and compare it with every rule on campus: runs/<...>/report.html (6 minutes)"
	@echo "                 ARGS='mine.yaml --seconds 60' passes arguments; '$(BIN)/edgebrush compare --help' lists them"
	@echo "make test        test-fast, test-training and test-process"
	@echo "make check       lint, test-fast, test-training, test-process, test-diffusers, docs: what a change must pass"
	@echo "make lint        ruff check, ruff format --check, mypy"
	@echo "make test-fast   the tests that start no process and no server, in parallel"
	@echo "make test-training   the tests that train every learner, in parallel"
	@echo "make test-process    the tests that start processes or servers"
	@echo "make test-diffusers  the tests that need PyTorch and diffusers, which it installs"
	@echo "make test-slow   the tests that take minutes each"
	@echo "make docs        the documentation site: site/index.html"
	@echo "make bench       decisions per second of the simulator; latency of the step-level engine; a decision on a UE"

compare: .venv/ready
	$(BIN)/edgebrush compare $(ARGS)

check: lint test-fast test-training test-process test-diffusers docs

lint: .venv/ready-dev
	$(BIN)/ruff check src tests tools benchmarks examples
	$(BIN)/ruff format --check src tests tools benchmarks examples
	$(BIN)/mypy

test: test-fast test-training test-process

test-fast: .venv/ready-dev
	$(BIN)/python -m pytest -m "not training and not process and not diffusers and not slow" $(PARALLEL) $(ARGS)

test-training: .venv/ready-dev
	$(BIN)/python -m pytest -m "training and not slow" $(PARALLEL) $(ARGS)

test-process: .venv/ready-dev
	$(BIN)/python -m pytest -m "process and not diffusers and not slow" $(ARGS)

test-diffusers: .venv/ready-diffusers
	$(BIN)/python -m pytest -m "diffusers and not slow" $(ARGS)

test-slow: .venv/ready-dev
	$(BIN)/python -m pytest -m slow --timeout 3600 $(ARGS)

docs: .venv/ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

bench: .venv/ready
	$(BIN)/python benchmarks/simulator.py $(ARGS)
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/decision.py

clean:
	rm -rf .venv

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

.venv/ready-diffusers: .venv/ready-dev
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[diffusers]"
	touch $@

.venv/ready-docs: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	touch $@
