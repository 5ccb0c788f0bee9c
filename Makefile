# Targets for people; `make` lists them.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test check coverage bench docs clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): requirements.txt core/pyproject.toml plugins/*/pyproject.toml benchmarks/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Suffuse needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": run make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

setup: $(STAMP)  ## make .venv with all members editable

demo: $(STAMP)  ## train, sample and evaluate on handwritten digits; writes demo/report.html
	$(BIN)/suffuse demo --out demo

test: $(STAMP)  ## the whole test suite
	$(BIN)/python -m pytest -n 2

check: $(STAMP)  ## what CI runs beside the tests: style, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

coverage: $(STAMP)  ## the suite with a table of what it covers
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term-missing:skip-covered

bench: $(STAMP)  ## a few minutes of benchmarks; writes benchmarks-results/report.html
	$(BIN)/suffuse bench run quick
	$(BIN)/suffuse bench report

docs: $(STAMP)  ## the documentation, into site/
	$(BIN)/mkdocs build --quiet

clean:  ## remove what the build and the demo made
	rm -rf .venv demo site .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.* .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
