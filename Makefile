# Two commands to begin with: `make demo` and `make test`. Each installs what it needs, once.

PYTHON    ?= $(shell command -v python3.11 || command -v python3)
VENV      ?= .venv
WORKSPACE ?= workspace
DATASET   ?= ml-100k
# More than two cores' worth: much of a test's time is spent on waiting for processes.
WORKERS   ?= 3
PORT      ?= 5000
# `make airflow` replays days into a workspace of its own: what `make demo` made knows them all.
AIRFLOW_WORKSPACE ?= $(WORKSPACE)-airflow
AIRFLOW_PORT ?= 8080
MLFLOW_PORT ?= $(PORT)

BIN       := $(VENV)/bin
# What `make TARGET` installs of pyproject.toml's extras; each has a file that says when it did.
DEMO      := $(VENV)/.installed-demo
INSTALLED := $(VENV)/.installed
$(DEMO):      EXTRAS := pipeline
$(INSTALLED): EXTRAS := all,accuracy,docs,dev

export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
BENCHMARKS := meta-train adapt-score point-in-time build-tasks serve
PROTOCOL  ?= temporal-ml100k
RECORD    := metarec-ml100k strong-ml1m tanp-ml1m hire-ml1m
SEEDS     ?= 5
LEARNERS  ?=
OUT       ?=
DATABASE  ?=
DEPLOYED  ?= pipeline,serve
MUTANTS   ?=
MEASURE   ?=

.PHONY: help setup demo test faults test-numerics test-gpu accuracy leaderboard bench lint style types format docs figures mlflow notebooks airflow serve app doctor constraints audit hashes sbom mutants clean

help: ## List the targets.
	@echo "make TARGET, where TARGET is:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16
	@echo "Variables: PYTHON, VENV, WORKSPACE ($(WORKSPACE)), DATASET ($(DATASET)), WORKERS ($(WORKERS)), PORT ($(PORT))."
	@echo "demo, mlflow and doctor install the extra pipeline alone, the others all extras and the test tools;"
	@echo "again only after pyproject.toml or constraints.txt changed. README.md lists the extras."

setup: $(INSTALLED) ## Create .venv and install everything into it, test tools included.

$(DEMO) $(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "recmeta needs Python 3.11, 3.12 or 3.13: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); the first time this takes minutes."
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: $(DEMO) ## Fetch MovieLens 100K and run the whole pipeline on it, from the log to ranked lists.
	$(BIN)/recmeta run --dataset $(DATASET) --workspace $(WORKSPACE) || test $$? -eq 3

test: setup ## Run the whole test suite.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

faults: setup ## Inject faults of every kind into real commands, count what was lost, write the table of docs/reliability.md (20 minutes or more).
	mkdir -p build && rm -f build/faults.jsonl
	RECMETA_FAULTS=1 RECMETA_FAULTS_OUT=build/faults.jsonl $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/faults
	$(BIN)/python tests/faults/table.py build/faults.jsonl

test-numerics: setup ## Run the tests that compare floats on other processors' kernels, with 1 and 2 threads.
	RECMETA_SLOW=1 $(BIN)/python -m pytest tests/testing/test_on_any_processor.py

test-gpu: setup ## Run the tests that need a GPU; they skip where there is none.
	$(BIN)/python -m pytest -m gpu -rs tests/metalearn tests/serving

accuracy: setup ## Measure accuracy by a published protocol: PROTOCOL=temporal-ml100k [SEEDS= LEARNERS= OUT=].
	$(BIN)/python -m benchmarks.accuracy $(PROTOCOL) --seeds $(SEEDS) $(if $(OUT),--out $(OUT)) $(if $(LEARNERS),--learners $(LEARNERS))

leaderboard: setup ## Run every protocol of the record, the cheapest first, and write docs/leaderboard.md [SEEDS=].
	for name in $(RECORD); do \
	  $(BIN)/python -m benchmarks.accuracy $$name --seeds $(SEEDS) || exit 1; \
	done

bench: setup ## Measure speed against peers, print the tables, save them in benchmarks/speed/results.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	for name in $(BENCHMARKS); do \
	  $(BIN)/python -m benchmarks.speed $$name --save benchmarks/speed/results/$$name.json || exit 1; \
	done

lint: style types docs ## Check style, format, types, and that the documentation builds without a warning.

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

format: setup ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Build the documentation as a site, build/site/index.html; a warning is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

figures: setup ## Make the tables and pictures of README.md and docs anew from saved results [MEASURE=1: after `make demo`, those of the demo, too].
	$(BIN)/python -m docs.figures $(if $(MEASURE),--lists --demo $(WORKSPACE))

mlflow: $(DEMO) ## Serve the MLflow page of the workspace, to this machine alone.
	@echo "MLflow has no login: every account of this machine can read and change what is there."
	$(BIN)/mlflow server --host 127.0.0.1 --backend-store-uri sqlite:///$(abspath $(WORKSPACE))/mlflow.db \
	  --artifacts-destination $(abspath $(WORKSPACE))/mlartifacts --port $(PORT)

notebooks: setup ## Run the notebooks anew on ./workspace, and keep what they show.
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb

airflow: setup ## Start Airflow with the DAGs, and MLflow, on this machine (MovieLens 100K day by day) [AIRFLOW_WORKSPACE= AIRFLOW_PORT= MLFLOW_PORT=].
	$(BIN)/python -m recmeta.orchestration.local --workspace $(AIRFLOW_WORKSPACE) \
	  --airflow-port $(AIRFLOW_PORT) --mlflow-port $(MLFLOW_PORT)

serve: setup ## Serve the champion; API keys come from RECMETA_API_KEYS.
	$(BIN)/recmeta serve --workspace $(WORKSPACE)

app: setup ## Open the page to try the champion, for this machine alone: http://127.0.0.1:8000.
	$(BIN)/recmeta evidence --workspace $(WORKSPACE)
	$(BIN)/recmeta serve --workspace $(WORKSPACE) --no-auth

doctor: $(DEMO) ## Check the installation, the GPU and the stores.
	$(BIN)/recmeta doctor --workspace $(WORKSPACE)

constraints: ## Resolve all dependencies and extras together anew, and write constraints.txt.
	$(PYTHON) -m venv --clear build/resolve
	build/resolve/bin/python -m pip install --quiet --upgrade pip
	build/resolve/bin/python -m pip install --quiet --dry-run --ignore-installed \
	  --report build/resolve/report.json '.[all,accuracy,bench,gpu,audit,mutants,docs,deploy,lineage,dev]'
	{ sed -n '/^#/p' constraints.txt; \
	  $(PYTHON) -c 'import json; found = json.load(open("build/resolve/report.json"))["install"]; \
	  pins = ("{name}=={version}".format(**p["metadata"]).split("+")[0] for p in found); \
	  print("\n".join(sorted((p for p in pins if not p.startswith("recmeta==")), key=str.lower)))'; \
	} > build/constraints.txt
	mv build/constraints.txt constraints.txt

audit: setup ## Look for risky code, and the pins up among known vulnerabilities [DATABASE=all.zip of OSV, without a network].
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[audit]'
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml recmeta dags feature_store deploy setup.py
	$(if $(DATABASE),$(BIN)/python deploy/audit.py constraints.txt --database $(DATABASE),\
	  $(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt)

hashes: ## Write build/requirements.txt: what is deployed on this platform, with archives' hashes [DEPLOYED=pipeline,serve].
	$(PYTHON) -m venv --clear build/resolve
	build/resolve/bin/python -m pip install --quiet --upgrade pip
	build/resolve/bin/python -m pip install --quiet --dry-run --ignore-installed --constraint constraints.txt \
	  --report build/resolve/report.json '.[$(DEPLOYED)]'
	$(PYTHON) deploy/hashes.py build/resolve/report.json > build/requirements.txt

sbom: setup hashes ## Write build/sbom.json: the bill of materials (CycloneDX) of what `make hashes` wrote.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[audit]'
	$(BIN)/cyclonedx-py requirements build/requirements.txt --output-reproducible --output-file build/sbom.json

mutants: setup ## Change the code in small ways, one at a time, and see whether its tests notice [MUTANTS='recmeta.tasks.splits*'].
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[mutants]'
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children $(WORKERS) $(MUTANTS)
	$(BIN)/mutmut results

clean: ## Remove caches and builds; the workspace and .venv stay.
	rm -rf build dist mutants .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
