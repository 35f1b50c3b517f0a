# Needs make and a python3 (3.11 or newer) with venv; everything else is installed into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help run test docs prove stale bench explore clean
.DEFAULT_GOAL := help

help: ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints/cpu.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints/cpu.txt hatchling editables
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints/cpu.txt --no-build-isolation -e '.[dev]'
	touch $@

run: $(READY) ## measure the worksheet (quick budget) and write report/index.html
	$(BIN)/leadline worksheet --budget quick --out report

test: $(READY) ## lint, types, floors, then every test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

docs: $(READY) ## build the documentation site in docs/_build/html, without a network
	$(BIN)/sphinx-build -q -n -W --keep-going -E -b html docs docs/_build/html

prove: $(READY) ## run the long proofs, which the tests only sample, and write docs/evidence.md
	LEADLINE_PROVE=1 $(BIN)/pytest tests/reliability -s

stale: $(READY) ## list the proofs whose source files have changed since; fail if there are any
	$(BIN)/python -m tests.reliability.proofs

bench: $(READY) ## measure the bars against peers and write benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

explore: $(READY) ## open the interactive pages
	@$(BIN)/leadline explore

clean: ## remove the environment, the report and the caches
	rm -rf $(VENV) report docs/_build docs/_generated .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
