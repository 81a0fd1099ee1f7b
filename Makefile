# make sweep: set up .venv and run the embedded sweep. make test: add what the tests need and run all checks.
# make chaos: sweeps among drawn faults, and rows of single ones: over an hour on two cores; writes reports/reliability/.
# make cluster-test: the long tests on several hosts (network namespaces; needs root).
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: sweep test test-slow chaos cluster-test check clean

sweep: $(VENV)/.installed
	$(RUN) -m msd_sweeps.run --space scales.yaml

test: $(VENV)/.installed-test check
	$(RUN) -m pytest

test-slow: $(VENV)/.installed-test
	$(RUN) -m pytest -m slow

chaos: $(VENV)/.installed-test
	$(RUN) -m pytest -m chaos tests/sweep/test_faults.py
	$(RUN) -m tests.chaos.command

cluster-test: $(VENV)/.installed-test
	$(RUN) -m pytest -m cluster -s tests/cluster

check: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# pip compiles one file after another; compileall uses all cores. A few templates in packages are no Python: no error.
INSTALL = $(VENV)/bin/pip install --quiet --no-compile -c constraints.txt
COMPILE = $(RUN) -m compileall -q -q -j 0 -x "/tests/" $(VENV)/lib || true

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	$(COMPILE)
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV)
