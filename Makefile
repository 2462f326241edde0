# G-RMI in JAX. `make train` and `make test` need nothing but Python 3.11-3.13 and make.
#
#   make train                         both embedded stages, detector first
#   make train CONFIG=pose_resnet101 [DATA="DIR ..."] [WORKDIR=DIR] [ARGS="--steps 100 ..."]
#   make evaluate WORKDIR=DIR [DATA=DIR] [ARGS="--flip-test ..."]
#   make predict INPUT="PICTURE FOLDER VIDEO ..." [DETECTOR=DIR] [POSE=DIR] [OUT=DIR] [ARGS="..."]
#   make sweep CONFIG=oks_threshold [DATA=DIR] [OUT=DIR] [ARGS="--base pose_synthetic ..."]
#   ACCEL=cpu|cuda12|cuda13|tpu picks the jax that is installed into .venv.

# The newest Python that fits: on 3.11 jax ends at 0.10, where bfloat16 on CPUs is slow.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(or $(shell for p in python3.13 python3.12 python3.11; do $$p -c 'import ensurepip' 2>/dev/null && echo $$p && break; done),python3)
endif
ACCEL ?= cpu
CONFIG ?=
WORKDIR ?= runs/$(CONFIG)
DATA ?=
ARGS ?=
DETECTOR ?=
POSE ?=
INPUT ?=
OUT ?=

BIN := .venv/bin
JAX_cpu := jax
JAX_cuda12 := jax[cuda12]
JAX_cuda13 := jax[cuda13]
JAX_tpu := jax[tpu]
DATA_FLAG = $(if $(DATA),--data $(DATA))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup train evaluate predict demo sweep bench doctor check-data test test-slow test-kill docs lint format types lock ci clean

help: ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/.runtime-$(ACCEL): requirements.txt pyproject.toml
	@$(if $(JAX_$(ACCEL)),true,echo "error: ACCEL = $(ACCEL): must be cpu, cuda12, cuda13 or tpu" >&2; exit 2)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"error: Python {v[0]}.{v[1]} found, 3.11 to 3.13 needed: make PYTHON=python3.12")'
	@echo "setting up .venv for $(ACCEL) (once; a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) '$(JAX_$(ACCEL))' --editable .
	@rm -f .venv/.runtime-*; touch $@
	@echo "ready: \`source .venv/bin/activate\`, then \`g-rmi --help\` or \`python -m experiments.predict --help\`"

.venv/.dev: requirements-dev.txt .venv/.runtime-$(ACCEL)
	@$(PIP) -r requirements-dev.txt
	@touch $@

setup: .venv/.runtime-$(ACCEL) ## Create .venv with this package in it

ifeq ($(CONFIG),)
train: setup ## Train, evaluate, draw: CONFIG, or without it both stages on the embedded set
	@test -z '$(DATA)$(ARGS)' || { echo "error: DATA and ARGS need CONFIG=NAME with a name of experiments/configs" >&2; exit 2; }
	@$(BIN)/python -m experiments.train --config detector_synthetic --workdir runs/detector_synthetic
	@$(BIN)/python -m experiments.evaluate --workdir runs/detector_synthetic
	@$(BIN)/python -m experiments.train --config pose_synthetic --workdir runs/pose_synthetic
	@$(BIN)/python -m experiments.evaluate --workdir runs/pose_synthetic
	@$(BIN)/python -m experiments.evaluate --workdir runs/pose_synthetic --out runs/pose_synthetic/with_detector --boxes runs/detector_synthetic/evaluation/boxes.json
else
train: setup
	@$(BIN)/python -m experiments.train --config $(CONFIG) --workdir $(WORKDIR) $(DATA_FLAG) $(ARGS)
	@$(BIN)/python -m experiments.evaluate --workdir $(WORKDIR) $(DATA_FLAG)
endif

evaluate: setup ## Evaluate WORKDIR's newest checkpoint
	@$(BIN)/python -m experiments.evaluate --workdir $(WORKDIR) $(DATA_FLAG) $(ARGS)

predict: setup ## Find the people of INPUT: pictures, folders, videos
	@$(BIN)/python -m experiments.predict $(if $(DETECTOR),--detector $(DETECTOR)) $(if $(POSE),--pose $(POSE)) $(INPUT) --out $(or $(OUT),runs/predict) $(ARGS)

demo: setup ## Try the weights that come with the package
	@$(PIP) --no-deps 'sports2d>=0.8.34,<0.9'  # for its video; nothing of it is imported
	@$(BIN)/python -m experiments.demo $(ARGS)

sweep: setup ## Run the ablation CONFIG of experiments/parts/ablations.py
	@$(BIN)/python -m experiments.sweep --config $(CONFIG) --out $(or $(OUT),runs/ablations) $(DATA_FLAG) $(ARGS)

bench: setup ## Time what this machine can run, against what is installed
	@$(BIN)/python -m experiments.bench $(ARGS)

doctor: setup ## Versions, devices, memory, cache, disk, data
	@$(BIN)/python -m experiments.doctor $(DATA_FLAG)

check-data: setup ## Lint the data directory DATA
	@$(BIN)/python -m data_pipeline.check $(DATA) $(ARGS)

test: .venv/.dev ## The fast tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-slow: .venv/.dev ## The slow tests, against other frameworks where they are installed
	@XLA_FLAGS="$$XLA_FLAGS" $(BIN)/python -m pytest -m slow $(ARGS)

docs: .venv/.dev ## Build the documentation into site/
	@$(PIP) -r requirements-docs.txt
	@$(BIN)/python -m mkdocs build

test-kill: .venv/.dev ## Kill a training twenty times; its end must have the bits of one that never was
	@XLA_FLAGS="$$XLA_FLAGS" $(BIN)/python -m pytest -q -s -m slow tests/experiments/test_kill.py $(ARGS)

lint: .venv/.dev ## Lint and check the format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: .venv/.dev ## Format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: .venv/.dev ## Check the types
	@$(BIN)/pyrefly check

lock: .venv/.dev ## Write requirements.lock, the exact versions for reproducible installs
	@$(PIP) uv
	@$(BIN)/python -m uv pip compile requirements.txt --universal --python-version 3.11 --no-header --no-annotate --quiet --upgrade --output-file requirements.lock

ci: lint types test ## What must pass before a change lands

clean: ## Remove .venv and caches (never runs/)
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
