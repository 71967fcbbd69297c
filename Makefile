# Every command of the project. `make` alone lists them.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
PAGE := _build/html/index.html
BUILT := _build/built

# What a page of the book is made from. A change in any of these builds the book anew.
SOURCES := $(shell find book lscgan -type f -not -path '*/__pycache__/*' -not -path '*/.ipynb_checkpoints/*' -not -name '* *')
CONFIGURATION := _config.yml _toc.yml

# Threads that wait for one another sleep instead of spinning: on a busy machine spinning costs
# several times the work itself.
export OMP_WAIT_POLICY := passive

# Tests run on every core, four at most, one thread each: small networks gain little from a second.
SHARED := OMP_NUM_THREADS=1
AT_ONCE := --numprocesses auto --maxprocesses 4

.DEFAULT_GOAL := help
.PHONY: help book test lint wheel colab notebooks coursework picture benchmarks address clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

book: $(BUILT) ## install what is needed, run every chapter, build the pages
	@echo "The book is built. Open $(PAGE)"

test: $(BUILT) ## install what is needed, build the book, run every test
	$(SHARED) $(BIN)/python -m pytest $(AT_ONCE) --dist worksteal
	$(SHARED) $(BIN)/python -m pytest $(AT_ONCE) --dist loadfile --nbval-lax \
		book/index.ipynb book/part1 book/part2 book/part3 book/part4

lint: $(INSTALLED) ## check style and types of code and notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m lscgan.coursework make --check

# What was deleted since an earlier build would come back from build/.
wheel: $(INSTALLED) ## build the library as a file that pip installs, into dist/
	rm -rf build
	$(BIN)/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist .

colab: wheel ## run a chapter and a run in the versions that Colab has: 5 GB in .colab/
	$(BIN)/python .ci/colab.py

notebooks: $(INSTALLED) ## run the chapters again and store what their checked cells print
	$(BIN)/python .ci/notebooks.py --execute

coursework: $(INSTALLED) ## run the masters and derive the students' notebooks from them
	$(BIN)/python -m lscgan.coursework make

picture: $(INSTALLED) ## draw the README's picture with the shipped model
	$(BIN)/python .ci/picture.py

benchmarks: $(INSTALLED) ## measure speed and memory, each against an alternative
	$(BIN)/python tests/benchmarks.py

address: $(INSTALLED) ## carry the repository's address from _config.yml to every copy of it
	$(BIN)/python .ci/address.py

clean: ## remove what was built; .venv stays
	rm -rf _build build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache

# The environment is made anew only when what it should hold has changed.
$(INSTALLED): requirements.txt pyproject.toml
	@command -v $(PYTHON) > /dev/null || \
		{ echo "$(PYTHON) was not found: install Python 3.11 or newer, or name it: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: name a newer one: make PYTHON=python3.12"; exit 1; }
	@echo "Installing into .venv: about 3 minutes and 6 GB, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Always from nothing: a page that is only brought up to date hides its warnings, and keeps the
# figures of an older library.
$(BUILT): $(INSTALLED) $(SOURCES) $(CONFIGURATION)
	rm -rf _build
	CUDA_VISIBLE_DEVICES= $(BIN)/jupyter-book build --warningiserror --keep-going .
	@touch $@
