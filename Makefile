# What one types; the work is in scripts/. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help venv demo images secrets test test-unit test-contract test-integration lint check clean
BIN := .venv/bin
STAMP := .venv/.dev
PYTEST := $(BIN)/pytest

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  */\1\t/p' Makefile | sort | while IFS='	' read -r name what; do printf '  make %-18s %s\n' "$$name" "$$what"; done

venv: $(STAMP)  ## .venv with all that development needs

$(STAMP): setup.cfg pyproject.toml
	@scripts/venv dev
	@touch $@

.venv/.demo: setup.cfg pyproject.toml
	@scripts/venv sampling,plot,table,docker
	@touch $@

demo: .venv/.demo  ## an OpenFOAM sweep, from nothing to a table and a plot
	@scripts/get-openfoam
	@$(BIN)/queue-runner run examples/cavity/study.yaml

images: venv  ## the container images, in the engine that answers, else in one of our own
	@scripts/images

secrets:  ## passwords, token and URLs for docker-compose.yml, in secrets/
	@scripts/secrets

test: venv  ## all tests, with all they need
	@scripts/with-servers $(PYTEST) tests

test-unit: venv  ## tests without any server
	@$(PYTEST) tests/unit

test-contract: venv  ## the broker contract against real servers
	@scripts/with-servers $(PYTEST) tests/contract

test-integration: venv  ## whole programs and real servers
	@scripts/with-servers $(PYTEST) tests/integration

lint: venv  ## ruff, mypy --strict, import arrows
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy --strict queue_runner
	@$(BIN)/lint-imports

check: lint test-unit  ## what to run before each commit

clean:  ## removes .venv and .cache
	@scripts/engine stop
	@rm -rf .venv .cache
