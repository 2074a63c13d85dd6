# One command per habit. Nothing needs to be activated first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_OUTPUT ?= demo-output

.DEFAULT_GOAL := help
.PHONY: help install demo test check format lint types bench lock clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

install: $(STAMP) ## set everything up in .venv (hash-checked; loops compiled)

# The lock is complete, so pip resolves nothing and checks every hash; the project itself is then linked in place.
$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m segmentation.kernels
	@touch $(STAMP)

demo: $(STAMP) ## run the reference cases and a small archive; writes demo-output/
	$(BIN)/regionflow demo $(DEMO_OUTPUT)

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: format lint types test ## format, lint, types, tests

format: $(STAMP)
	$(BIN)/ruff format .

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP) ## the benchmarks; writes benchmarks/results/
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

lock: ## resolve the dependencies anew
	$(BIN)/uv pip compile pyproject.toml --extra amg --extra dashboard --extra s3 --group dev --group test --group bench --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock

clean: ## remove what the other targets made
	rm -rf $(VENV) $(DEMO_OUTPUT) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
