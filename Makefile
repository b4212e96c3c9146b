# make bench: everything from a fresh clone to the figures and the report.   make test: the fast test suite.
# make lint: ruff, its formatter and mypy.   make test-all: slow tests, data and GPU tests too, where these are at hand.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: install bench test test-all lint clean

# numpy first: pyldpc's setup.py imports it, so it cannot be built in isolation. Its absence is not a failure: the link
# of that name then says what is missing.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11; use make PYTHON=python3.11"; exit 2; }
	@echo "installing into $(VENV): torch alone is some gigabytes, this takes minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test]" setuptools wheel cython
	$(BIN)/python -m pip install --quiet --no-build-isolation pyldpc \
		|| echo "pyldpc could not be installed: --link pyldpc will not be available, everything else is"
	touch $@

install: $(VENV)/.installed

bench: install
	$(BIN)/python -m bench run --systems all --snr 0:20:2
	$(BIN)/python -m bench plot
	$(BIN)/python -m bench report

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# loadfile: the tests of one file share what their fixtures make, so they stay in one process. tests/conftest.py puts
# the longest files first; without the second option, those of most tests would come first.
test: install
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations 15 \
		-m "not slow and not gpu and not data"

test-all: install
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) build *.egg-info
