# The project's verbs. `make help` lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup sweep test test-slow lint format report train tables leakage cards clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/ready ## create .venv and install by constraints.txt

.venv/ready: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

sweep: setup ## the main job: three granularities beside every reference; after a kill, ARGS=resume=latest goes on
	$(BIN)/python -m src.sweep -m granularity=layer,element,joint $(ARGS)

test: setup ## the default tests (minutes)
	$(BIN)/python -m pytest -q $(ARGS)

test-slow: setup ## the tests that need a real language model
	$(BIN)/python -m pytest -q -m slow $(ARGS)

lint: setup ## style, layout and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## let ruff put the layout right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

report: setup ## rebuild the newest sweep's tables and figures
	$(BIN)/python -m src.report $(ARGS)

train: setup ## train the embedded backbone and specialists
	$(BIN)/python -m src.train $(ARGS)

tables: setup ## official benchmark tables: what there is; ARGS="fetch human root=../tables", "verify …", "list …"
	$(BIN)/python -m src.tasks $(or $(ARGS),fetch)

leakage: setup ## what test questions share with training; ARGS="root=../tables suite=real"
	$(BIN)/python -m src.tasks leakage $(ARGS)

cards: setup ## measure the floors again and write them into the data cards; ARGS="human root=../tables"
	$(BIN)/python -m src.tasks floors cards=benchmarks/cards $(or $(ARGS),suite=all root=../shared/data)

clean: ## remove outputs, caches and what building leaves, not the environment
	rm -rf outputs build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
