# make                  set everything up in .venv and run both demos (make demo ROOT=DIR: on the data there)
# make data             fetch both papers' data and check them (make data ROOT=DIR)
# make paper            print the papers' numbers beside those measured here (make paper ROOT=DIR: on the data there)
# make quick            the fast tests, 35 s: no notebooks, browser, kills or reference masks
# make test             all tests
# make lab              open the notebooks in JupyterLab (make lab ROOT=DIR: on the data there; as root in a container:
#                       make lab LAB="--allow-root --no-browser")
# make lowest           test with the oldest libraries that requirements.txt allows (Python 3.11 or 3.12)
# make notebooks        execute both notebooks, and store them with their outputs
# make screenshot       take the README's picture of `hsn-v1 view`, in Chromium
# make lint             check style
# make wheel            build the wheel, in dist
# make clean            remove the environment, results and built files

PYTHON ?= python3
ROOT ?=
BIN = .venv/bin
READY = .venv/ready
LOWEST = .venv/lowest

demo: $(READY)
	@$(BIN)/python demo_01_segment_patches.py $(if $(ROOT),--root "$(ROOT)")
	@$(BIN)/python demo_02_segment_glas_patches.py $(if $(ROOT),--root "$(ROOT)")

data: $(READY)
	@$(BIN)/hsn-v1 data --fetch $(if $(ROOT),--root "$(ROOT)")

paper: $(READY)
	@$(BIN)/hsn-v1 reproduce $(if $(ROOT),--root "$(ROOT)")

quick: $(READY)
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal

lab: $(READY)
	HSN_ROOT="$(ROOT)" $(BIN)/python -m jupyterlab $(LAB) .

# What loads models, as files from elsewhere meet the libraries there. `==2.18.*` is the lower bound, with its patches.
lowest:
	$(PYTHON) -m venv $(LOWEST)
	sed -n 's/^\([a-z0-9-]*\)>=\([0-9.]*\).*/\1==\2.*/p' requirements.txt > $(LOWEST)/wanted
	$(LOWEST)/bin/python -m pip install --quiet --requirement $(LOWEST)/wanted hypothesis psutil pytest
	$(LOWEST)/bin/python -m pytest tests/io/test_keras_json.py tests/io/test_weights.py tests/io/test_models.py \
	  tests/test_histonet.py tests/test_gradcam.py

notebooks: $(READY)
	$(BIN)/python tests/execute_notebooks.py demo_01_segment_patches.ipynb demo_02_segment_glas_patches.ipynb

screenshot: $(READY)
	$(BIN)/python benchmarks/screenshot.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wheel: $(READY)
	$(BIN)/python -m build --wheel --outdir dist .

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and \
	  f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@command -v g++ >/dev/null || echo "no g++: going without pydensecrf2, which only the tests compare with"
	if command -v g++ >/dev/null; then cat requirements.txt; else grep -v '^pydensecrf2' requirements.txt; fi > .venv/wanted
	$(BIN)/python -m pip install --quiet --requirement .venv/wanted --group dev
	$(BIN)/python -m pip install -qq --editable . --no-deps
	@touch $@

clean:
	rm -rf .venv out build dist hsn_v1.egg-info

.PHONY: demo data paper quick test lowest lab notebooks screenshot lint wheel clean
