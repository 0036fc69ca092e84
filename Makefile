# Every target makes what it needs: a virtual environment in .venv, the packages, then the job.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo article test lint fmt docs mutants jepsen worlds soak bench clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One stamp file for each set of extras: a target installs only what it needs, once.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mcpcore needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "No virtual environment could be made. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed-cli: pyproject.toml | $(BIN)/python
	@echo "Installing mcpcore into $(VENV) (once)..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cli,report]' && touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo "Installing mcpcore and its test tools into $(VENV) (once)..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cli,test,docs]' && touch $@ $(VENV)/.installed-cli

demo: $(VENV)/.installed-cli ## a real three-node cluster that loses a node and a link, and no data
	@$(BIN)/mcpctl demo $(DEMO_ARGS)

article: $(VENV)/.installed-test ## the articles' failure on real processes (namespaces, iptables if root), with a report: two minutes
	$(BIN)/mcpctl experiment run three-clouds-one-cut --world processes

test: $(VENV)/.installed-test lint ## everything that must be green: linters, types, floors, docs, tests
	$(BIN)/mkdocs build --strict --quiet
	$(BIN)/pytest -n $(JOBS) -m "not soak" $(PYTEST_ARGS) || { \
	  echo "Trying what failed once more, alone: tests over real sockets may starve beside others."; \
	  $(BIN)/pytest --last-failed --last-failed-no-failures none -m "not soak" $(PYTEST_ARGS); }

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(VENV)/.installed-test ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

docs: $(VENV)/.installed-test ## build the documentation site into site/, strictly
	$(BIN)/mkdocs build --strict

mutants: $(VENV)/.installed-test ## break the Raft core on purpose, and see that the tests notice
	$(BIN)/python -m tests.raft.mutants

jepsen: $(VENV)/.installed-test ## workloads against nemeses, a short matrix in the simulator
	$(BIN)/python jepsen-style/run.py matrix --time 15 --nemesis partition bridge flapping kill crash pause clock disk all

worlds: $(VENV)/.installed-test ## twenty schedules, simulated and on real processes: do they agree? (a quarter of an hour)
	$(BIN)/python -m tests.experiment.two_worlds --schedules 20

soak: $(VENV)/.installed-test ## the long campaigns (about an hour)
	HYPOTHESIS_PROFILE=search $(BIN)/pytest -n $(JOBS) -m soak --timeout 7200 $(PYTEST_ARGS)

$(VENV)/.installed-bench: pyproject.toml | $(BIN)/python
	@echo "Installing mcpcore and its benchmark tools into $(VENV) (once)..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' && touch $@

bench: $(VENV)/.installed-bench ## every benchmark against its peers (about 15 minutes on an idle machine); into bench/
	$(BIN)/python -m benchmarks $(or $(BENCH),all) --seconds 0.6 --rounds 3 --json bench/result.json \
	  --markdown bench/result.md --html bench/result.html $(BENCH_ARGS)

clean: ## remove what the targets made
	rm -rf $(VENV) site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
