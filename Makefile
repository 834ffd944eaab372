# `make demo` and `make test` create what they need in .venv and nothing outside it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-rest lint docs check clean

demo: $(VENV)/cli
	$(BIN)/spikewright train

test: $(VENV)/dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-rest: $(VENV)/dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --tier rest

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/docs
	OMP_NUM_THREADS=1 $(BIN)/python -m docs._tools

check: $(VENV)/dev
	PATH="$(CURDIR)/$(BIN):$$PATH" pre-commit run --all-files

$(VENV)/cli: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cli]'
	touch $@

$(VENV)/dev: $(VENV)/cli
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/docs: $(VENV)/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
