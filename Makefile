# make demo             set everything up and run both demos (make demo ROOT=DIR: on the data there)
# make test             set everything up and run the tests
# make lowest           test with the oldest libraries that requirements.txt allows (Python 3.10 to 3.12)
# make notebooks        execute both notebooks, and store them with their outputs
# make lint             check style
# make clean            remove the environment and the results

PYTHON ?= python3
ROOT ?= .
BIN = .venv/bin
READY = .venv/ready
LOWEST = .venv/lowest

demo: $(READY)
	@$(BIN)/python demo_01_segment_patches.py --root "$(ROOT)"
	@$(BIN)/python demo_02_segment_glas_patches.py --root "$(ROOT)"

test: $(READY)
	$(BIN)/python -m pytest

# What loads models, as files from elsewhere meet the libraries there. `==2.18.*` is the lower bound, with its patches.
lowest:
	$(PYTHON) -m venv $(LOWEST)
	sed -n 's/^\([a-z0-9-]*\)>=\([0-9.]*\).*/\1==\2.*/p' requirements.txt > $(LOWEST)/wanted
	$(LOWEST)/bin/python -m pip install --quiet --requirement $(LOWEST)/wanted hypothesis psutil pytest
	$(LOWEST)/bin/python -m pytest tests/test_architecture.py tests/test_weights.py tests/test_models.py \
	  tests/test_histonet.py tests/test_gradcam.py

notebooks: $(READY)
	$(BIN)/python tests/execute_notebooks.py demo_01_segment_patches.ipynb demo_02_segment_glas_patches.ipynb

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 10) and \
	  f"Python 3.10 or newer is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@command -v g++ >/dev/null || echo "no g++: going without pydensecrf2, which only the tests compare with"
	if command -v g++ >/dev/null; then cat requirements.txt; else grep -v '^pydensecrf2' requirements.txt; fi > .venv/wanted
	$(BIN)/python -m pip install --quiet --requirement .venv/wanted --group dev
	$(BIN)/python -m pip install -qq --editable . --no-deps
	@touch $@

clean:
	rm -rf .venv out

.PHONY: demo test lowest notebooks lint clean
