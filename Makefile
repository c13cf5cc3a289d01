# Two commands set everything up: `make demo` (the runtime alone) and `make test` (all of it).
PYTHON ?= python3
DEMO := .venv-demo
TEST := .venv-test
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint clean python

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "laglite needs Python 3.10 or newer: make $(MAKECMDGOALS) PYTHON=python3.x" >&2; exit 1; }

$(DEMO)/installed: pyproject.toml constraints.txt $(shell find runtime -type f -not -name '*.pyc')
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python $(PIP_INSTALL) '.[cpu,plot]'
	@touch $@

$(TEST)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/python $(PIP_INSTALL) --editable '.[cpu,tables,plot,mqtt,ray,serve,train,export,dev]'
	@touch $@

demo: python $(DEMO)/installed
	$(DEMO)/bin/laglite forecast examples/us_births_daily.csv --horizon 28 --seed 1 \
	  --quantiles 0.1,0.5,0.9 --plot demo-forecast.png
	@echo "fan chart: demo-forecast.png" >&2

lint: python $(TEST)/installed
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/mypy

test: lint
	$(TEST)/bin/python -m pytest

clean:
	rm -rf $(DEMO) $(TEST) demo-forecast.png
