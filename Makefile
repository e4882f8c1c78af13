# What one types; the work is in scripts/. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help servers venv demo test test-unit test-contract test-integration lint check clean
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
	@scripts/venv sampling,plot,table
	@touch $@

demo: .venv/.demo  ## an OpenFOAM sweep, from nothing to a table and a plot
	@scripts/get-openfoam
	@$(BIN)/queue-runner run examples/cavity/study.yaml

servers:
	@scripts/apt-install "servers for the tests" redis-server rabbitmq-server postgresql

test: venv servers  ## all tests, with all they need
	@scripts/get-openfoam
	@QUEUE_RUNNER_TESTS_REQUIRE=all $(PYTEST) tests

test-unit: venv  ## tests without any server
	@$(PYTEST) tests/unit

test-contract: venv servers  ## the broker contract against real servers
	@QUEUE_RUNNER_TESTS_REQUIRE=all $(PYTEST) tests/contract

test-integration: venv servers  ## whole programs and real servers
	@scripts/get-openfoam
	@QUEUE_RUNNER_TESTS_REQUIRE=all $(PYTEST) tests/integration

lint: venv  ## ruff, mypy --strict, import arrows
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy --strict queue_runner
	@$(BIN)/lint-imports

check: lint test-unit  ## what to run before each commit

clean:  ## removes .venv and .cache
	@scripts/engine stop
	@rm -rf .venv .cache
