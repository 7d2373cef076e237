# make demo    predictions of the example model, then the whole pipeline on a synthetic cohort: scores, pictures
#              and a page in demo/
# make test    all tests
# make test-fast   the tests that take less than a quarter of a second each
# make check   the checks of continuous integration: lint, types, generated documents, tests
# make fuzz    fuzz the readers of files, guided by coverage: a minute for each of 16 targets, FUZZ_SECONDS=600 for ten
# make check-words   words and docstrings that the rules of docs/words.toml do not allow
# make site    the documentation as a website in build/site
# make ablation   ablations of AGP, ASG and GK-MVLP on the demo's cohort (docs/ablations.md); for one of them:
#                 make ablation-agp, ablation-asg or ablation-gk
# make weights    train the example models from scratch (hours: examples/weights.mk)
# make workbench   six tiny models of other makers on synthetic images, side by side (examples/workbench.mk)
# make downstream   five downstream tasks after pre-training with each method (examples/downstream.mk)
# make slurm-demo   examples/slurm with the installed SLURM and without it, and compare the scores
# make requirements   write requirements.txt: all published dependencies, with hashes of their files
# make release-image BASE=python:3.11-slim@sha256:...   the container image, only from a base with a digest
# make wheelhouse   wheels of all dependencies, for machines without internet (docs/cluster.md)
#
# Each target first makes a virtual environment in $(VENV). Choose a build of torch with
#   make demo PIP_INDEX=--index-url=https://download.pytorch.org/whl/cpu   (only torch is taken from this index)
SHELL := bash
.SHELLFLAGS := -eo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH := torch==2.13.0
WORKERS ?= 2

.DEFAULT_GOAL := help

.PHONY: help demo test test-fast fuzz check check-words lint docs site clean slurm-demo wheelhouse requirements release-image

help:
	@sed -n 's/^# \{0,1\}//p;/^SHELL/q' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo 'no venv module: apt-get install python3-venv' >&2; exit 1; }

# torch is in the same command as the packages that depend on it, so that pip does not replace it by a newer one.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(if $(PIP_INDEX),$(PIP) $(PIP_INDEX) $(TORCH))
	$(PIP) $(TORCH) --editable .
	@touch $@

# ultralytics (AGPL-3.0) is only tested here, without torchvision: see tests/support/stand_ins.
$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) $(TORCH) --editable '.[dev,dicom]' matplotlib opencv-python-headless polars psutil pyyaml requests
	$(PIP) --no-deps ultralytics==8.4.190
	@touch $@

# Tests run in two processes of one thread each (tests/conftest.py). A process takes whole files, so that what
# the tests of a file share is made once. `slow` marks what trains a model, starts processes or takes more than
# a quarter of a second.
PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed-dev
	$(PYTEST)

test-fast: $(VENV)/installed-dev
	$(PYTEST) -m 'not slow'

# In no run of continuous integration. A finding is a file in tests/attack/seeds: fix its cause and commit the file.
FUZZ_SECONDS ?= 60
fuzz: $(VENV)/installed-dev
	$(PIP) atheris==3.0.0
	$(BIN)/python tools/fuzz --seconds $(FUZZ_SECONDS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/gen_docs --check
	$(BIN)/python tools/model_card --check
	$(BIN)/python tools/check_words

check-words: $(VENV)/installed-dev
	$(BIN)/python tools/check_words

docs: $(VENV)/installed-dev
	$(BIN)/python tools/gen_docs
	$(BIN)/python tools/model_card

$(VENV)/installed-docs: $(VENV)/installed
	$(PIP) $(TORCH) --editable '.[docs]'
	@touch $@

# -W: a link to a page or heading that does not exist is an error.
site: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/site

check: lint test

slurm-demo: $(VENV)/installed
	$(BIN)/python tools/slurm_demo $(DEMO)/slurm

# torch is the installed build, or one from PIP_INDEX: choose the build that the cluster's GPUs need.
wheelhouse: $(BIN)/python
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --wheel-dir $@ --constraint constraints.txt \
	  $(PIP_INDEX) $(if $(PIP_INDEX),--extra-index-url=https://pypi.org/simple) $(TORCH) '.[dicom]'

requirements: $(BIN)/python
	$(PIP) uv
	$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 --extra dicom --constraint constraints.txt pyproject.toml \
	  --output-file requirements.txt

release-image:
	@[[ '$(BASE)' =~ @sha256:[0-9a-f]{64}$$ ]] || { echo 'a release needs a base with a digest:' \
	  'make release-image BASE=python:3.11-slim@sha256:DIGEST' >&2; exit 1; }
	docker build -f containers/Dockerfile --build-arg BASE=$(BASE) --build-arg RELEASE=1 -t medground .

include examples/demo.mk
include examples/ablation.mk
include examples/weights.mk
include examples/workbench.mk
include examples/downstream.mk

clean:
	rm -rf $(DEMO)
