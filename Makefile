# Two commands set everything up: `make demo` (the runtime alone) and `make test` (all of it).
PYTHON ?= python3
# Interpreters that `make installs` installs the wheel into, where they are found.
PYTHONS ?= python3.10 python3.11 python3.12 python3.13 python3.14
DEMO := .venv-demo
TEST := .venv-test
NEIGHBOURS := .venv-neighbours
STAND_INS := .venv-stand-ins
# TensorRT for RTX parses and builds without a GPU; not every machine has wheels of it.
RTX := tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings cuda-bindings
CUDA_HEADERS := nvidia-cuda-runtime==13.5.37 nvidia-cuda-crt==13.5.37
PIP_INSTALL := -m pip install --no-compile --quiet --disable-pip-version-check --constraint constraints.txt
# Modules are compiled when they are first imported, and that once, not by each of some hundred processes.
unexport PYTHONDONTWRITEBYTECODE
# Make 3.81, that of macOS, has no --output-sync.
TWO_AT_A_TIME = $(MAKE) --no-print-directory --jobs 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync)

.PHONY: demo test test-training test-neighbours stand-ins lint docs dist installs audit clean python

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "laglite needs Python 3.10 or newer: make $(MAKECMDGOALS) PYTHON=python3.x" >&2; exit 1; }

$(DEMO)/installed: pyproject.toml constraints.txt $(shell find runtime -type f -not -name '*.pyc')
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python $(PIP_INSTALL) '.[cpu,plot]'
	@touch $@

$(TEST)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/python $(PIP_INSTALL) --editable '.[cpu,tables,plot,mqtt,ray,serve,train,export,docs,dev]'
	@$(TEST)/bin/python $(PIP_INSTALL) --only-binary :all: $(RTX) || \
	  echo "no wheels of TensorRT for RTX for this machine: tests of its parser are skipped" >&2
	@touch $@

# GluonTS needs pandas 2: an environment of its own above the other one, whose packages it sees.
$(NEIGHBOURS)/installed: $(TEST)/installed
	$(PYTHON) -m venv --without-pip $(NEIGHBOURS)
	site=$$($(TEST)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	  echo "import site; site.addsitedir('$$site')" > \
	  $$($(NEIGHBOURS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/test.pth
	$(NEIGHBOURS)/bin/python $(PIP_INSTALL) --editable '.[gluonts,sktime,fev]' darts
	@touch $@

# onnxruntime-gpu replaces onnxruntime. Of CUDA's runtime only the headers are read: its library, in
# a folder where onnxruntime would find it, would be taken instead of the stand-in.
$(STAND_INS)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(STAND_INS)
	@$(STAND_INS)/bin/python $(PIP_INSTALL) --only-binary :all: --editable . onnxruntime-gpu pytest || \
	  { echo "the stand-ins need a wheel of onnxruntime-gpu for this machine and Python" >&2; exit 1; }
	$(STAND_INS)/bin/python $(PIP_INSTALL) --no-deps --upgrade --target $(STAND_INS)/cuda $(CUDA_HEADERS)
	@touch $@

demo: python $(DEMO)/installed
	$(DEMO)/bin/laglite forecast examples/us_births_daily.csv --horizon 28 --seed 1 \
	  --quantiles 0.1,0.5,0.9 --plot demo-forecast.png
	@echo "fan chart: demo-forecast.png" >&2

lint: python $(TEST)/installed
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/mypy

docs: python $(TEST)/installed
	NO_MKDOCS_2_WARNING=1 $(TEST)/bin/mkdocs build --strict

dist: python $(TEST)/installed
	rm -rf dist
	$(TEST)/bin/python -m build --no-isolation
	$(TEST)/bin/twine check --strict dist/*

installs: dist
	tools/clean_installs.sh dist/*.whl $(PYTHONS)

audit: python $(DEMO)/installed $(TEST)/installed
	$(TEST)/bin/pip-audit --strict --path $$($(DEMO)/bin/python -c 'import site; print(site.getsitepackages()[0])')

# Threads of PyTorch's beside two workers would only wait for one another. NumPy keeps
# its own, which one test wants to see put aside.
test: python $(TEST)/installed
	@$(TWO_AT_A_TIME) lint docs $(NEIGHBOURS)/installed
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=2 \
	  $(TEST)/bin/python -m pytest --numprocesses 2 --dist loadfile --ignore tests/train
	@$(TWO_AT_A_TIME) test-training test-neighbours

test-training: $(TEST)/installed
	$(TEST)/bin/python -m pytest tests/train

test-neighbours: $(NEIGHBOURS)/installed
	$(NEIGHBOURS)/bin/python -m pytest tests/neighbours

# Apart from `make test`: it fetches 300 MB, and wants gcc.
stand-ins: python $(STAND_INS)/installed
	$(STAND_INS)/bin/python -m pytest --confcutdir tests/cuda_stand_ins tests/cuda_stand_ins

clean:
	rm -rf $(DEMO) $(TEST) $(NEIGHBOURS) $(STAND_INS) demo-forecast.png dist site
