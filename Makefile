# Every task of a user or a developer has a target. `make` lists them.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export BENTOML_DO_NOT_TRACK := True
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export BENTOML_HOME := $(CURDIR)/artifacts/bentoml
ACTIVATED := DO_NOT_TRACK DVC_NO_ANALYTICS BENTOML_DO_NOT_TRACK PREFECT_SERVER_ANALYTICS_ENABLED BENTOML_HOME

PYTHON ?= python3.11
READY := .venv/ready

.PHONY: help setup spark run table serve release rollback champion schedule plots unit test slow bench check docs docs-check audit clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(READY) ## .venv with the tested set of packages

# constraints.txt has all that is needed, so pip has nothing to resolve but what a build of torch for GPUs needs more.
# All cores compile: pip would with one. Some packages hold templates that are no Python.
$(READY): constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	pip install --quiet --no-compile --no-deps --requirement constraints.txt
	pip install --quiet --no-compile --no-build-isolation --constraint constraints.txt --editable '.[dev,docs]'
	pip check
	python -W ignore -m compileall -q -j 0 .venv/lib > /dev/null || true
	@for name in $(ACTIVATED); do echo "export $$name='$${!name}'"; done >> .venv/bin/activate
	@touch $@

# Of its own, as its 480 MB are needed by few. Java 17 is the system's: apt-get install openjdk-17-jre-headless
spark: $(READY) ## what engine.name: spark of params.yaml needs
	pip install --quiet --no-compile --no-build-isolation --constraint constraints.txt --editable '.[spark]'

run: $(READY) ## the whole pipeline on the data set of params.yaml, then its result
	dvc repro || { python -m monitoring.index; exit 1; }
	@dvc plots show > /dev/null
	@python -m monitoring.index
	@python -m models.evaluation.results_table --metrics reports/metrics.json

table: $(READY) ## the result of the last run
	@python -m models.evaluation.results_table --metrics reports/metrics.json

serve: $(READY) ## the ranking service on the model just trained: http://127.0.0.1:3000
	@python -m serving.consume & trap "kill $$! 2> /dev/null" EXIT; bentoml serve

release: $(READY) ## promote the model just trained to champion, if the promotion policy accepts it
	@python -m release.promote

rollback: $(READY) ## roll back to the previous champion
	@python -m release.promote --rollback

champion: $(READY) ## the ranking service on the champion: http://127.0.0.1:3000
	@test -e artifacts/releases/champion || { echo "there is no release yet: make release"; exit 1; }
	@export HINET_MODEL="$(CURDIR)/artifacts/releases/champion/model"; \
	export HINET_ONLINE_STORE="$${HINET_ONLINE_STORE:-$(CURDIR)/artifacts/online.db}"; \
	export HINET_EVENTS="$${HINET_EVENTS:-$(CURDIR)/artifacts/events}"; \
	python -m serving.consume & trap "kill $$! 2> /dev/null" EXIT; \
	bentoml serve "$$(realpath artifacts/releases/champion)/bento"

schedule: $(READY) ## Prefect server, automations and all deployments in one process
	@python -m flows.ops.schedule

plots: $(READY) ## one page with every plot: reports/page/index.html
	dvc plots show
	@python -m monitoring.index

# --dist loadfile: the tests of a file run in one process, so its fixtures are made once (tests/support/scheduling.py).
IN_TWO := -n 2 --dist loadfile --no-loadscope-reorder

unit: $(READY) ## the pure tests, in a minute
	pytest $(IN_TWO) -m 'unit and not slow'

test: $(READY) ## the suite that has to pass
	pytest $(IN_TWO) -m 'not slow'

slow: $(READY) ## the long tests: kill -9 in every stage, several seeds; property tests on new examples
	HYPOTHESIS_PROFILE=search pytest -m 'slow or hypothesis'

bench: $(READY) ## every network with five seeds on the simulation (an hour)
	python -m benchmarks.accuracy

check: $(READY) ## lint, types, import contracts
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	codespell

docs: $(READY) ## the documentation as a site: artifacts/site/index.html
	python -m docs.generate
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

docs-check: $(READY) ## whether the generated pages and blocks are those of the code
	python -m docs.generate --check

audit: $(READY) ## known vulnerabilities of the pinned packages (asks a database on the network)
	pip-audit --requirement constraints.txt --no-deps --disable-pip

clean: ## removes what the pipeline made (not the releases, not the archives, not the cache of DVC)
	find artifacts -mindepth 1 -maxdepth 1 ! -name releases -exec rm -rf {} +
	rm -rf data/ingested data/truth data/validated data/quarantine data/features data/training data/tensors
