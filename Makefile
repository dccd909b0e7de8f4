# Two commands do everything: `make notebooks` and `make test`. `make` alone lists the rest.
# Settings: PYTHON chooses the Python that .venv is made from; pip reads its own settings.

PYTHON ?= python3
URL ?=

INSTALLED := .venv/installed
RUN := .venv/bin/python

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help notebooks test lab update test-documents test-mutants test-browser test-colab test-newest test-all bench repository lint corpus
unexport PYTHONPATH
unexport PYTHONHOME

ifeq ($(wildcard requirements.txt),)
$(error Run make in the folder of this Makefile, or name the folder: make -C FOLDER)
endif

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-24s %s\n", $$1, $$2}'

notebooks: corpus ## Execute every document into build/ (notebook or Markdown, and HTML)
	@$(RUN) tools/documents.py run

test: $(INSTALLED) lint ## Run the tests (at most 8 minutes)
	$(RUN) -m pytest

lab: export PYTHONWARNINGS = ignore:IProgress not found
lab: export TQDM_DISABLE = 1
lab: $(INSTALLED) ## Open the documents in JupyterLab
	$(RUN) -m jupyterlab

update: corpus ## Rewrite figures, tables and documents, and say which gates the pages fail
	$(RUN) -m experiments.tables
	$(RUN) -m experiments.task_3_figures
	$(RUN) -m cogapp -r README.md Task_3.md benchmarks/README.md
	$(RUN) tools/documents.py update

test-documents: corpus ## Execute documents and solutions, and compare with what is committed
	$(RUN) -m pytest -m documents

test-mutants: corpus ## Try deliberate faults: the test of each must fail (at most 15 minutes)
	$(RUN) tests/mutants.py

test-browser: .venv/browser ## Open every page in the system's Chromium, wide and narrow
	$(RUN) -m pytest -m browser tests/test_browser.py

test-colab: ## Run the tests and a document with the versions that Colab has
	$(call lane,.venv-colab,-c constraints-colab.txt)

test-newest: ## Run them with the newest versions that the bounds admit, and the torch that was tested
	$(call lane,.venv-newest,--upgrade $(shell grep '^torch==' constraints.txt))

test-all: .venv/browser lint corpus ## Run every test: documents, browser, long fault tests, mutants
	$(RUN) -m pytest -m ""
	$(RUN) tests/mutants.py

bench: $(INSTALLED) ## Time set-up, documents, and the rivals beside ours (long; rewrites records)
	@$(RUN) -m benchmarks

repository: $(INSTALLED) ## Set the public address, URL=https://github.com/OWNER/NAME or git's origin, in cells and badges
	@$(RUN) tools/documents.py repository "$(URL)"

# Tests in a virtual environment of their own: its folder, and the options of pip.
define lane
$(PYTHON) -m venv --clear $(1)
$(1)/bin/python -m pip install --disable-pip-version-check $(2) -e ".[dev]"
$(1)/bin/python -m pytest
$(1)/bin/python tools/documents.py run Task_1.ipynb
endef

# The documents that are compared or rewritten run without a network: the corpus must be there.
corpus: $(INSTALLED)
	@echo "Reading the corpus (the first time it is fetched)"
	@$(RUN) -c "from mtl_helpers import load_corpus; print(len(load_corpus()), 'sentences')"

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m mypy

# The last line runs only when everything before it worked, so an interrupted installation is
# begun again in an empty .venv, and a finished one is only brought up to date.
$(INSTALLED): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is not:" >&2; \
		$(PYTHON) --version >&2; \
		echo "Name another one, such as: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c "import venv, ensurepip" || { \
		echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@test -e $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	@echo "Installing into .venv: some minutes the first time"
	@$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

.venv/browser: $(INSTALLED)
	@$(RUN) -m pip install --disable-pip-version-check -c constraints.txt "playwright>=1.50"
	@touch $@
