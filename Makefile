# demo: the whole job, small, on real input      test: the tests       lint: ruff and mypy
# docs: the site, into docs/_build/html          speed: the benchmarks of speed
# gpu: all that a GPU is wanted for              carry: packages for a machine without a network
# clean: remove what these made

VENV := .venv
BIN := $(VENV)/bin
# Of `make gpu`: minutes in all, the folder, the device, and words such as --peer FOLDER.
MINUTES ?= 25
OUT ?= gpu
DEVICE ?= cuda
GPU_OPTIONS ?=
# Of `make carry`: the Python and the platforms of the other machine.
CARRIED_PYTHON ?= 3.12
CARRIED_PLATFORMS ?= manylinux_2_28_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64
# `make gpu PYTHON=python3` takes that interpreter as it is: nothing is installed.
GPU_PYTHON := $(if $(filter undefined default,$(origin PYTHON)),$(BIN)/python,$(PYTHON))
PYTHON ?= python3
TEST_PROCESSES ?= 2
DEMO_MODEL := model:mini/contrast/aae
POVRAY := $(or $(SHAPESHD_POVRAY),povray)

# Trust what the system trusts: behind a company's proxy uv's own certificates are not enough.
export UV_SYSTEM_CERTS ?= 1
export UV_NATIVE_TLS ?= 1
# Tests start a hundred processes: what the first one compiles is kept for the others.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint docs speed gpu carry povray clean

demo: $(VENV)/.installed povray
	$(BIN)/shapeshd render demo/data --count 400 --size 256 --seed 0 --shard-size 100
	$(BIN)/shapeshd verify demo/data --rerender 8
	$(BIN)/shapeshd verify demo/data --rerender 100 --engine torch
	$(BIN)/shapeshd info demo/data
	$(BIN)/shapeshd preview demo/data demo/sheet.png --count 48
	$(BIN)/shapeshd preview --sweep demo/sweep.png
	$(BIN)/shapeshd render demo/true --count 6000 --size 64 --seed 2
	$(BIN)/python -m tests.experiments.truth.table demo 6000 demo/biased.csv
	$(BIN)/shapeshd render demo/biased --sampling table --factors demo/biased.csv --size 64
	$(BIN)/shapeshd score demo/true --fidelity 200 --out demo/score-true
	$(BIN)/shapeshd score demo/biased --fidelity 200 --out demo/score-biased
	$(BIN)/shapeshd sample $(DEMO_MODEL) demo/generator.png
	$(BIN)/shapeshd score $(DEMO_MODEL) --samples 6000 --fidelity 200 --out demo/score-generator
	$(BIN)/shapeshd compare demo/score-true demo/score-biased demo/score-generator \
		--out demo/compare.html
	@echo
	@$(BIN)/python -m tests.experiments.demo_summary demo/score-true demo/score-biased \
		demo/score-generator
	@echo
	@echo "Open demo/score-generator/report.html, then demo/compare.html, and look at"
	@echo "  demo/generator.png, demo/sheet.png, demo/sweep.png"

test: $(VENV)/.installed-dev povray
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

docs: $(VENV)/.installed-dev
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "The site is in docs/_build/html/index.html"

speed: $(VENV)/.installed-dev povray
	$(BIN)/python -m tests.experiments.speed.rendering
	$(BIN)/python -m tests.experiments.speed.tracing
	$(BIN)/python -m tests.experiments.speed.reading
	$(BIN)/python -m tests.experiments.speed.memory
	$(BIN)/python -m tests.experiments.speed.scoring
	$(BIN)/python -m tests.experiments.speed.precision
	$(BIN)/python -m tests.experiments.speed.models --sizes 64
	$(BIN)/python -m tests.experiments.speed.caching

gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(VENV)/.installed-dev)
	$(GPU_PYTHON) -m tests.experiments.gpu --minutes $(MINUTES) --out $(OUT) --device $(DEVICE) \
		$(GPU_OPTIONS)

# What GPU machines' images lack beside PyTorch; the folder goes into PYTHONPATH there.
carry:
	$(carry) pydantic
	$(carry) --no-deps lazy-loader vapory
	@echo "There: PYTHONPATH=carried make gpu PYTHON=python3"

carry = $(PYTHON) -m pip install --quiet --target carried --upgrade --only-binary=:all: \
	--python-version $(CARRIED_PYTHON) $(addprefix --platform ,$(CARRIED_PLATFORMS))

# uv where it is present, else where pip can install it, else pip.
$(VENV)/bin/python:
	@if command -v uv >/dev/null; then uv venv --quiet $(VENV); \
	else $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv || true; fi

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(call install,.)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(call install,.[dev])
	@touch $@ $(VENV)/.installed

define install
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python --editable '$(1)'; \
	elif [ -x $(BIN)/uv ]; then $(BIN)/uv pip install --quiet --python $(BIN)/python --editable '$(1)'; \
	else $(BIN)/python -m pip install --quiet --editable '$(1)'; fi
endef

# POV-Ray is no Python package: from Debian's, Homebrew's or conda-forge's.
povray:
	@command -v $(POVRAY) >/dev/null && exit 0; \
	if command -v apt-get >/dev/null; then \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq povray >/dev/null; \
	elif command -v brew >/dev/null; then brew install povray; \
	elif command -v conda >/dev/null; then conda install -y -c conda-forge povray; \
	fi; \
	command -v $(POVRAY) >/dev/null || { \
	  echo "POV-Ray is missing: install it (apt-get install povray, brew install povray," \
	       "or conda install -c conda-forge povray)"; exit 1; }

clean:
	rm -rf $(VENV) demo carried build dist docs/_build *.egg-info
