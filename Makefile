# Heed's front door. `make up` runs it, `make test` proves it; `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help up test fuzz check demo bench lock format clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.run: pyproject.toml locks/run.txt deploy/install.sh
	@PYTHON="$(PYTHON)" bash deploy/install.sh run

.venv/.test: .venv/.run locks/test.txt
	@PYTHON="$(PYTHON)" bash deploy/install.sh test

up: .venv/.run ## install what is needed and start the whole loop; Ctrl-C stops it
	@exec $(BIN)/heed up $(ARGS)

test: .venv/.test ## install what tests need and run them all
	@bash deploy/test.sh $(ARGS)

fuzz: .venv/.test ## the property tests on new examples, ten times as many as in `make test`
	@$(BIN)/pytest -m hypothesis --hypothesis-profile fuzz $(ARGS)
	@SCHEMATHESIS_SEED=$${RANDOM} SCHEMATHESIS_EXAMPLES=40 $(BIN)/pytest tests/clients/test_description.py

check: .venv/.test ## format, lint, types, import directions: no services
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pytest -q -p no:cacheprovider tests/unit/test_house.py

demo: .venv/.run ## the loop in one sitting, ending in a picture and a table
	@exec $(BIN)/heed demo $(ARGS)

bench: .venv/.test ## every benchmark with its peers
	@exec $(BIN)/python -m benchmarks $(ARGS)

format: .venv/.test ## write the format and the safe lint fixes
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lock: ## resolve the locks anew (names, versions, hashes; no hosts)
	@bash deploy/lock.sh

clean: ## remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
