# The first call of any target makes .venv; later ones reuse it until the pins change.
PYTHON ?= python3
BIN := .venv/bin
# A process a core, of one thread each: on two cores two thirds of the time of one process with both.
SPREAD := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile

.PHONY: setup demo test test-fast test-all test-gpu torture lab docs lint clean
setup: .venv/ready

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed; name one by PYTHON=' if sys.version_info < (3, 11) else 0)"
	@echo "Installing into .venv: takes minutes, with PyTorch's GPU build a few GB"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: setup  ## Train the tiny teacher on the demo set; print the run and its figures
	$(BIN)/python -m dpiqa_lab demo

test-fast: setup  ## The tests for the edit loop, under 90 seconds on 2 cores
	$(SPREAD) --maxprocesses 4 -m "not medium and not slow and not gpu"

test: setup  ## The tests that take under 12 minutes on 2 cores
	$(SPREAD) --maxprocesses 4 -m "not slow and not gpu"

test-all: test  ## The slow tests too; some want gigabytes
	$(SPREAD) --maxprocesses 2 -m slow

test-gpu: setup  ## Notebooks at full size on a GPU: random weights, generated photographs
	$(BIN)/python -m pytest -m gpu

torture: setup  ## Kill every long work 20 times, at random and while it writes
	DPIQA_KILLS=20 $(BIN)/python -m pytest -m slow tests/torture

lab: setup  ## Open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks

docs: setup  ## Build the documentation into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lint: setup docs  ## Style, English and types; which rooms import which; the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m mypy
	$(BIN)/python -m tools.check_english

clean:  ## Remove the environment, keep data, runs and cache
	rm -rf .venv
