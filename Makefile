# What one types; the work is in scripts/. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help venv demo images secrets test test-unit test-contract test-integration faults fuzz soak lint check bench guard clean
# the tests start programs by the thousand: each would compile all that it imports
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
STAMP := .venv/.dev
PYTEST := $(BIN)/pytest
# most of a test's time is waiting for servers and daemons; more at once than this only makes them slow
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? 2 * n : 8)))
PARALLEL := $(PYTEST) -n $(JOBS) --dist loadgroup

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
	@scripts/with-servers scripts/steady $(PARALLEL)

test-unit: venv  ## tests without any server
	@$(PYTEST) -n 2 tests/unit

test-contract: venv  ## the broker contract against real servers
	@scripts/with-servers $(PARALLEL) tests/contract

test-integration: venv  ## whole programs and real servers
	@scripts/with-servers $(PARALLEL) tests/integration

# the tests of one broker server run one after the other
SERVERS ?= 3
faults: venv  ## programs, servers and networks that break in the midst of a sweep
	@scripts/with-servers scripts/steady $(PYTEST) -n $(SERVERS) --dist loadgroup tests/faults

fuzz: venv  ## whatever bytes to all that reads a stranger's, for SECONDS=120 each; TARGETS="job zeromq-server"
	@$(BIN)/python -c 'import atheris' 2>/dev/null || scripts/venv dev,fuzz
	@$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS) $(TARGETS)

SECONDS ?= 120
soak: venv  ## mixed jobs on each broker while things break, for SECONDS=120; nothing may be lost or leak
	@scripts/with-servers $(BIN)/python -m benchmarks.soak.run --seconds $(SECONDS) $(if $(OUT),--out $(OUT)) $(BROKERS)

lint: venv  ## ruff, mypy --strict, import arrows
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy --strict queue_runner
	@MYPYPATH=benchmarks $(BIN)/mypy --strict benchmarks/measure
	@$(BIN)/mypy --strict --explicit-package-bases -p benchmarks.soak -p tests.faults
	@$(BIN)/lint-imports

check: lint test-unit  ## what to run before each commit

# such as BENCH="--workloads noop,true --only queue-runner,celery --rounds 3"
BENCH ?= --plot docs/images/performance.png --into docs/performance.md
bench: venv  ## queue-runner beside other queues, and beside the machine's limits; an hour
	@mkdir -p .cache/bench
	@scripts/with-bench $(BIN)/python benchmarks/bench.py --json .cache/bench/result.json $(BENCH)

guard: venv  ## whether throughput and start-up are where they should be; a minute
	@scripts/apt-install "the guard" redis-server
	@$(BIN)/python benchmarks/guard

clean:  ## removes .venv and .cache
	@scripts/engine stop
	@rm -rf .venv .cache
