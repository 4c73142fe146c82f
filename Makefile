# make demo             set everything up and run both demos (make demo ROOT=DIR: on the data there)
# make test             set everything up and run the tests
# make notebooks        execute both notebooks, and store them with their outputs
# make screenshot       take the README's picture of `hsn-v1 view`, in Chromium
# make lint             check style
# make clean            remove the environment and the results

PYTHON ?= python3
ROOT ?= .
BIN = .venv/bin
READY = .venv/ready

demo: $(READY)
	@$(BIN)/python demo_01_segment_patches.py --root "$(ROOT)"
	@$(BIN)/python demo_02_segment_glas_patches.py --root "$(ROOT)"

test: $(READY)
	$(BIN)/python -m pytest

notebooks: $(READY)
	$(BIN)/python tests/execute_notebooks.py demo_01_segment_patches.ipynb demo_02_segment_glas_patches.ipynb

screenshot: $(READY)
	$(BIN)/python benchmarks/screenshot.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(READY): requirements.txt requirements-view.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 10) and \
	  f"Python 3.10 or newer is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@command -v g++ >/dev/null || echo "no g++: going without pydensecrf2, which only the tests compare with"
	if command -v g++ >/dev/null; then cat requirements.txt; else grep -v '^pydensecrf2' requirements.txt; fi > .venv/wanted
	$(BIN)/python -m pip install --quiet --requirement .venv/wanted --requirement requirements-view.txt --group dev
	$(BIN)/python -m pip install -qq --editable . --no-deps
	@touch $@

clean:
	rm -rf .venv out

.PHONY: demo test notebooks screenshot lint clean
