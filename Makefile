# GossipSwarm: `make demo` and `make test` set everything up by themselves.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SECONDS_OF_FUZZ ?= 60
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
OPERATOR_IMAGE ?= gossipswarm-operator:$(VERSION)
AGENT_IMAGE ?= gossipswarm-agent:$(VERSION)
BASE_IMAGE ?=
DOCKER_BUILD ?= docker build

.PHONY: help setup demo demo-down test lint fmt bench fuzz docs manifests images e2e e2e-smoke lock clean

help: ## Show this help
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements-dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

setup: $(STAMP) ## Make the virtual environment and install into it

demo: $(STAMP) ## The whole walkthrough on a local swarm of 150 agents
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python examples/demo.py

demo-down: $(STAMP) ## Remove the demo's swarm, processes and files
	@$(BIN)/gossipctl swarm delete demo --yes --if-exists
	@$(BIN)/gossipctl swarm delete hooked --yes --if-exists 2>/dev/null

test: $(STAMP) ## Every test that needs no cluster
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest

lint: $(STAMP) ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=agent:cli:operator $(BIN)/lint-imports

fmt: $(STAMP) ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## Run every benchmark; figures go to docs/results/
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m bench

fuzz: $(STAMP) ## Explore random schedules of faults for SECONDS_OF_FUZZ (60); prints failing seeds
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/fuzz.py --seconds $(SECONDS_OF_FUZZ)

docs: $(STAMP) ## Write the reference pages from the program
	@$(BIN)/python docs/generate.py

manifests: $(STAMP) ## Renew what follows from the CRDs, the roles and the chart; needs helm
	@$(BIN)/python charts/generate.py

images: ## Build OPERATOR_IMAGE and AGENT_IMAGE, FROM BASE_IMAGE if it is set, with DOCKER_BUILD (docker build)
	$(DOCKER_BUILD) -f Containerfile --target operator -t $(OPERATOR_IMAGE) $(if $(BASE_IMAGE),--build-arg BASE=$(BASE_IMAGE)) .
	$(DOCKER_BUILD) -f Containerfile --target agent -t $(AGENT_IMAGE) $(if $(BASE_IMAGE),--build-arg BASE=$(BASE_IMAGE)) .

e2e-smoke: $(STAMP) ## Install, use, cut, heal, upgrade and remove everything once, on a kind cluster, its own or E2E_CONTEXT
	@$(BIN)/python -m pytest e2e/smoke.py --capture=no

e2e: $(STAMP) ## Every story on a kind cluster, its own or E2E_CONTEXT; what failed is laid out in e2e/failures
	@$(BIN)/python -m pytest e2e

lock: ## Resolve the dependencies again and write the hashes
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml -o requirements.txt
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra operator pyproject.toml -o requirements-operator.txt
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra dev pyproject.toml -o requirements-dev.txt

clean: ## Remove what was built
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
