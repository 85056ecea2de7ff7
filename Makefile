# Needs only Python 3.11 or newer with pip; everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
RIVALS := .venv/.rivals

# constraints.txt pins the build's own needs too; pip has one setting for each of the two.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help install check test soak bench bench-quick demo diagrams clean

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

install: $(STAMP) ## Install the package and its tools into .venv

# The stamp is made last, so that an installation that broke off starts again.
$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into .venv"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq -e '.[dev]'
	@$(BIN)/python -m compileall -q lifecycle   # also where nothing may be written at the first start
	@touch $@

check: install ## Format, lint, types, import rules, docs
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > .venv/imports.log || { cat .venv/imports.log; exit 1; }
	@if [ -d tests/docs ]; then $(BIN)/python -m pytest -q tests/docs; fi

test: install ## Run all tests; ARGS="-k sweep" is passed on
	@$(BIN)/python -m pytest -n 3 --dist loadgroup --cov --cov-report= -p tests.plugins.coverage_gate $(ARGS)

soak: install ## Random lives and populations, 25 times as many as the suite tries
	@LIFECYCLE_SOAK=25 $(BIN)/python -m pytest -n 2 --timeout 0 tests/test_promises.py tests/test_equivalence.py tests/test_terms.py $(ARGS)

# Rivals and plots are of no use to anything else.
$(RIVALS): $(STAMP)
	@echo "Installing what the benchmark compares with"
	@$(BIN)/python -m pip install -qq -e '.[dev,bench]'
	@touch $@

bench: $(RIVALS) ## Every figure beside its rivals, into benchmarks/RESULTS.md; ARGS="--only growth"
	@$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(RIVALS) ## The same with small numbers, in under two minutes; keeps nothing
	@$(BIN)/python -m benchmarks --quick $(ARGS)

demo: install ## 300 accounts live through 14 months, in under a minute
	@$(BIN)/lifecycle demo

diagrams: install ## Draw the definition again into diagrams/
	@$(BIN)/lifecycle diagram --all

clean: ## Remove everything that is not source
	@rm -rf .venv .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@rm -rf build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
