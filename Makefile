# The front door: needs Python >= 3.11 with venv and pip, and make. Everything else lives in .venv.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: help compare test test-diffusers test-slow lint bench docs clean

help:
	@echo "make compare     train MAPPO and compare it with every rule on campus: runs/<...>/report.html (6 minutes)"
	@echo "                 ARGS='mine.yaml --seconds 60' passes arguments; '$(BIN)/edgebrush compare --help' lists them"
	@echo "make test        the tests;  make test-slow: the long ones too;  make lint: ruff and mypy"
	@echo "make test-diffusers  the tests that need PyTorch and diffusers, which it installs"
	@echo "make docs        the documentation site: site/index.html"
	@echo "make bench       decisions per second of the simulator; latency of the step-level engine; a decision on a UE"

compare: .venv/ready
	$(BIN)/edgebrush compare $(ARGS)

test: .venv/ready-dev
	$(BIN)/python -m pytest $(ARGS)

test-diffusers: .venv/ready-diffusers
	$(BIN)/python -m pytest tests/diffusion tests/profiling $(ARGS)

test-slow: .venv/ready-dev
	$(BIN)/python -m pytest -m "slow or not slow" --timeout 3600 $(ARGS)

lint: .venv/ready-dev
	$(BIN)/ruff check src tests tools benchmarks examples
	$(BIN)/mypy

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
