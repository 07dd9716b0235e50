# make train | test | slow | portable | lint | bench | docs: each sets up .venv first, where it is missing or out of date.
# `make train` installs the package, the others the tools of developers, too.
#
#   make train                                              associative retrieval with STPN
#   make train CONFIG=tuned_examples/pong_stpn.yaml STOP='{"num_env_steps_sampled_lifetime": 200000}'
#   make train ARGS='--seed 1 --storage-path /tmp/results'  any option of `rllib train`

PYTHON ?= python3
CONFIG ?= tuned_examples/art_stpn.yaml
STOP ?=
ARGS ?=

VENV := .venv
READY := $(VENV)/.ready
TOOLS := $(VENV)/.ready-tools
PIP := $(VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt

# On Linux without a GPU the CPU build of torch, a tenth in size; `make TORCH_INDEX=` takes what PyPI has.
ifeq ($(shell uname -s),Linux)
ifeq ($(wildcard /dev/nvidia0 /dev/dxg),)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
endif
endif

.PHONY: train test slow portable lint bench docs clean

train: $(READY)
	$(VENV)/bin/rllib train -f $(CONFIG) $(if $(STOP),--stop '$(STOP)') $(ARGS)

# In three processes, since many tests wait for Ray's; one that is done takes tests from the others.
test: $(TOOLS)
	@$(VENV)/bin/pytest -q -n 3 --dist worksteal $(ARGS)

slow: $(TOOLS)
	@$(VENV)/bin/pytest -q -m slow $(ARGS)

portable: $(TOOLS)
	@tests/portable.sh $(ARGS)

lint: $(TOOLS)
	@$(VENV)/bin/ruff check --output-format concise .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo --no-cache

# What takes hours and times nothing.
NO_TIMINGS := benchmarks/fault_matrix.py benchmarks/what_works.py
bench: $(TOOLS)
	@set -e; for script in $(filter-out $(NO_TIMINGS),$(wildcard benchmarks/*.py)); do echo "== $$script"; $(VENV)/bin/python $$script $(ARGS); done

# The site of the documentation, in build/site.
docs: $(TOOLS)
	@$(PIP) -e '.[docs]'
	@$(VENV)/bin/python docs/build_site.py

clean:
	rm -rf $(VENV)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer, please: make PYTHON=python3.12")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV), once: torch (1 of 2)"
	$(if $(TORCH_INDEX),@$(PIP) --index-url $(TORCH_INDEX) --retries 0 --timeout 15 torch 2>/dev/null || \
	  echo "$(TORCH_INDEX) is out of reach: pip takes torch from elsewhere (on PyPI with CUDA)")
	@echo "setting up $(VENV), once: Ray, MuJoCo and the rest (2 of 2); a few minutes in all"
	@$(PIP) -e .
	@touch $@

$(TOOLS): $(READY)
	@echo "setting up $(VENV), once: tools for tests"
	@$(PIP) -e '.[dev]'
	@touch $@
