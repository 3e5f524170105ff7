# make demo: an environment, the package in it, and vectors of the sample images in ./output.
# make test: an environment with what the tests need, and the tests.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format memory clean

demo: $(VENV)/demo
	$(BIN)/python run_pipeline.py

test: $(VENV)/test
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

memory: $(VENV)/demo
	$(BIN)/python -m benchmarks.memory

clean:
	rm -rf $(VENV) build dist output *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# Editable: what runs is what lies here.
$(VENV)/demo: $(VENV)/bin/python setup.py pyproject.toml
	$(BIN)/python -m pip install -qq --editable .
	@touch $@

$(VENV)/test: $(VENV)/demo
	$(BIN)/python -m pip install -qq --editable '.[test]'
	@touch $@
