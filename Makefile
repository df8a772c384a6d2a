# Both commands work on a machine with nothing but Python 3.11 and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check format install clean

demo: $(VENV)/.installed-demo
	$(BIN)/twonines demo --out demo-report

test: $(VENV)/.installed-dev
	$(MAKE) check
# Workers share the cores: with threads of their own PyTorch's would wait for each other. One more than
# two cores, because many tests wait.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/.installed-dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo-report
