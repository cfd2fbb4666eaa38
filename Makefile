# `make help` lists the targets. `.venv` is set up from requirements.lock where it is missing or out of date.
PYTHON ?= python3
TASK ?= cola
EXPERIMENT ?= class_weights
ARGS ?=
HOST =# make's own HOST=... only: shells and conda have a HOST of their own
PORT =
AUTH =
MINUTES = 10
VENV := .venv
RUN := PYTHONPATH=src $(VENV)/bin/python
READY := $(VENV)/.ready
MKDOCS := NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs
RIVALS := benchmarks/rivals/.venv
AUDIT := .audit
TWO_AT_A_TIME := -n 2 --dist loadfile --no-loadscope-reorder

ifdef STORE
export MLFLOW_BACKEND_STORE_URI = $(value STORE)
endif

.DEFAULT_GOAL := help
.PHONY: help setup train ablate compare evaluate promote predict server ui check docs docs-serve format test test-fast bench bench-train bench-cluster bench-predict bench-runtimes bench-growth bench-resume soak audit lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-15s%s\n", $$1, $$2}'

setup: $(READY) ## Set up .venv from requirements.lock (Python 3.11 to 3.13)

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "distilspark needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.11 ..." >&2; exit 2; }
	@test ! -L $(VENV) || { echo "$(VENV) is a link to an environment that others use, and is not set up anew: remove the link, or touch $(READY) where it fits requirements.lock" >&2; exit 2; }
	@echo "setting up $(VENV) from requirements.lock: a few minutes and 4 GB, once"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@echo "preparing a quick start of Spark"
	@$(RUN) -m distilspark.first_start >$(VENV)/first_start.log 2>&1 || echo "skipped, see $(VENV)/first_start.log: Spark works without it, and starts more slowly"
	@touch $@

train: $(READY) ## Fine-tune, evaluate, log and register: make train TASK=stsb ARGS="training.epochs=1 model=minilm"
	@$(RUN) -m distilspark train task=$(TASK) $(ARGS)

ablate: $(READY) ## Train every variant of an ablation over its seeds: make ablate TASK=cola EXPERIMENT=class_weights
	@$(RUN) -m distilspark train --multirun task=$(TASK) experiment=$(EXPERIMENT) $(ARGS)
evaluate: $(READY) ## Judge the champion on labelled rows: make evaluate TASK=cola ARGS="data=files data.path=FILE"
	@$(RUN) -m distilspark evaluate task=$(TASK) $(ARGS)

promote: $(READY) ## Challenger against champion on the same rows: make promote TASK=cola ARGS="promote.require=true"
	@$(RUN) -m distilspark promote task=$(TASK) $(ARGS)

predict: $(READY) ## Score files with the champion: make predict TASK=cola ARGS="input=sentences.txt output=scored"
	@$(RUN) -m distilspark predict task=$(TASK) $(ARGS)

compare: $(READY) ## A sweep, runs or models side by side: make compare ARGS="sweep=ID", ARGS="runs=[ID,ID]" or ARGS="models=[URI,URI]"
	@$(RUN) -m distilspark compare $(ARGS)

server: $(READY) ## Serve the tracking store to a team: make server STORE=postgresql://... AUTH=on HOST=... PORT=...
	@$(RUN) -m distilspark server $(if $(HOST),host=$(HOST)) $(if $(PORT),port=$(PORT)) $(if $(AUTH),auth=$(AUTH)) $(ARGS)

ui: server ## Open the MLflow UI: `make server`, then http://127.0.0.1:5000

check: $(READY) ## Lint, format, types, imports between layers, documentation
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	PYTHONPATH=src $(VENV)/bin/lint-imports
	$(MKDOCS) build --quiet

docs: $(READY) ## Fill the documentation's tables, and build it into site/; a dead link or an unknown name fails it
	$(RUN) docs/generate/fill.py
	$(MKDOCS) build

docs-serve: $(READY) ## Show the documentation on http://127.0.0.1:8000, as it is while you write
	$(MKDOCS) serve --dev-addr 127.0.0.1:8000

format: $(READY) ## Format and mend what the linter can
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

test: $(READY) ## All tests, two files at a time: most of them wait for a process that starts
	$(VENV)/bin/python -m pytest $(TWO_AT_A_TIME)

test-fast: $(READY) ## The tests that take seconds
	$(VENV)/bin/python -m pytest $(TWO_AT_A_TIME) -m "not slow"

bench: $(READY) $(RIVALS)/.ready ## Run all benchmarks, then write docs/benchmarks.md; three hours; to try them out: make bench ARGS=--quick
	@$(RUN) benchmarks/suite.py $(ARGS)

bench-train: $(READY) $(RIVALS)/.ready ## Measure training against Hugging Face's Trainer and the report's way; an hour; writes benchmarks/results/
	$(RUN) benchmarks/training_speed.py $(ARGS)
	$(RUN) benchmarks/training.py

bench-cluster: $(READY) ## Measure training on two workers against one, and on paper on more; writes benchmarks/results/
	$(RUN) benchmarks/cluster_training.py $(ARGS)

bench-predict: $(READY) $(RIVALS)/.ready ## Measure scoring: Spark against its rivals, memory, a cluster; half an hour; writes benchmarks/results/
	$(RUN) benchmarks/scoring.py $(ARGS)

bench-runtimes: $(READY) $(RIVALS)/.ready ## Measure ONNX Runtime against OpenVINO; writes benchmarks/results/
	$(RUN) benchmarks/runtimes.py $(ARGS)

bench-growth: $(READY) ## Measure the cost of more rows, tokens, weights, cores, files and runs; a quarter of an hour; writes benchmarks/results/
	$(RUN) benchmarks/growth.py $(ARGS)
	$(RUN) docs/generate/pictures.py

bench-resume: $(READY) $(RIVALS)/.ready ## Kill trainings at 30 % of an epoch, ours and Trainer's, and compare the weights; writes benchmarks/results/
	$(RUN) benchmarks/resume.py

soak: $(READY) ## Kill scorings, streams and trainings at random moments: make soak MINUTES=30; writes benchmarks/results/
	$(RUN) benchmarks/soak.py --minutes $(MINUTES) $(ARGS)

$(RIVALS)/.ready: requirements.lock benchmarks/rivals/requirements.txt
	@echo "setting up $(RIVALS): a few minutes and 5 GB, once"
	@$(PYTHON) -m venv --clear $(RIVALS)
	@$(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/rivals/requirements.txt
	@touch $@

audit: $(AUDIT)/.ready ## Look the lock's packages up in an advisory database: make audit ARGS="--vulnerability-service=osv"
	@$(AUDIT)/bin/pip-audit --strict --requirement requirements.lock --disable-pip --progress-spinner off $(ARGS) 2>$(AUDIT)/log \
	|| { grep '^Found ' $(AUDIT)/log >&2 || echo "nothing was audited: no advisory database answers for every package ($(AUDIT)/log)" >&2; exit 1; }
	@tail -n 1 $(AUDIT)/log

$(AUDIT)/.ready: Makefile
	@$(PYTHON) -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	@touch $@

lock: ## Pin everything in requirements.lock anew (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --extra dev --quiet pyproject.toml --output-file requirements.lock

clean: ## Remove the environments and caches; runs and models stay
	rm -rf $(VENV) $(RIVALS) $(AUDIT) site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
