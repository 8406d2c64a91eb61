# Every target runs in the active Python environment. `make help` lists them.
PYTHON ?= python
# One thread: the machine's cores belong to worker processes, and timings compare only at the same count.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install test lint format perf ci coverage nightly gpu docs runs reproduction figures

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install:  ## editable install with what the tests need, and the pre-commit hooks
	$(PYTHON) -m pip install -e '.[test]'
	pre-commit install

test:  ## the fast tests
	$(PYTHON) -m pytest -m "not slow and not nightly"

lint:  ## ruff, mypy, the import contracts and spelling
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	codespell

format:  ## let ruff rewrite what it can
	ruff check --fix .
	ruff format .

perf:  ## speed comparisons on a quiet machine; fails where ours is slower than the plain reference of its group
	@mkdir -p .benchmarks
	$(PYTHON) -m pytest tests/perf --benchmark-json=.benchmarks/perf.json
	$(PYTHON) tests/perf/ratios.py .benchmarks/perf.json

ci:  ## what CI runs: a fresh environment, lint, every test but the nightly ones, a small real run
	.ci/run

coverage:  ## which lines the fast tests reach
	$(PYTHON) -m pytest -m "not slow and not nightly" --cov

nightly:  ## tests too long for CI; those of the page need a browser (Debian: chromium, chromium-driver)
	$(PYTHON) -m pytest -m nightly

docs:  ## the documentation as a site in site/, strictly: every link and every name of the reference
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

RUN_SAMPLES ?= 1000
runs:  ## the run behind README's table and figures, sampled anew and stored: an hour or more on a quiet machine
	rm -rf runs/readme
	$(PYTHON) -m bench run --models crysldm,diffcsp,diffcsp@100,cdvae --dataset perov5 --num-samples $(RUN_SAMPLES) --device cpu --seed 0 --out runs/readme
	PYTHONPATH=. $(PYTHON) docs/make_figures.py store runs/readme

gpu:  ## on a machine with a GPU: tests on CUDA, the main job, speed and memory, in gpu-report.md; skips elsewhere
	$(PYTHON) -m tests.perf.gpu gpu-report.md

reproduction:  ## docs/reproduction.md, docs/measurements and the training curves from the stored runs
	$(PYTHON) -m reports.reproduction examples/reproduction/runs/*.zip --timing examples/reproduction/timing/*.zip --docs docs/reproduction.md docs/measurements/*.md
	PYTHONPATH=. $(PYTHON) docs/training_curves.py

figures:  ## README's table and figures from the stored run
	PYTHONPATH=. $(PYTHON) docs/make_figures.py
