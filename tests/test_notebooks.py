"""The notebooks run as they are stored, and are stored as they should be."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from helpers import left_of

import hsn_v1
from hsn_v1.sets.report import Report

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = ["demo_01_segment_patches.ipynb", "demo_02_segment_glas_patches.ipynb"]
DEMOS = [name.replace(".ipynb", ".py") for name in NOTEBOOKS]


def read(path):
    import nbformat  # which takes longer than all other libraries that tests need

    return nbformat.read(path, as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.fixture
def repository(tmp_path):
    """Make a repository with few phantoms: as many as the notebooks need, which look at one by its number."""
    root = tmp_path / "repository"
    for name in ("hsn_v1", "data", "gt", "tests/execute_notebooks.py", *DEMOS, *NOTEBOOKS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(REPOSITORY / name)
    for folder, count in (("img/01_phantom_patch", 15), ("img/02_phantom_glas", 5)):
        (root / folder).mkdir(parents=True)
        for path in sorted((REPOSITORY / folder).iterdir())[:count]:
            (root / folder / path.name).symlink_to(path)
    return root


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_executes_on_the_phantoms(name, repository, tmp_path):
    """Elsewhere than in the repository, so that it finds no official data; and leaves no process behind."""
    marker = str(tmp_path)
    environment = {**os.environ, "HSN_TEST_MARKER": marker, "HSN_ROOT": ""}
    command = [sys.executable, repository / "tests" / "execute_notebooks.py", repository / name, "--out", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    notebook = read(tmp_path / name)
    assert all(output.output_type != "stream" or output.name == "stdout" for output in outputs(notebook))
    stored = read(REPOSITORY / name)
    assert [output.output_type for output in outputs(notebook)] == [output.output_type for output in outputs(stored)]
    deadline = time.monotonic() + 20
    while left_of(marker) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left_of(marker)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_needs_public_names_alone(name):
    code = "\n".join(cell.source for cell in read(REPOSITORY / name).cells if cell.cell_type == "code")
    imported = set(re.findall(r"^(?:import|from) (\S+)", code, re.M))
    assert imported == {"os", "matplotlib.pyplot", "numpy", "PIL", "hsn_v1", Path(name).stem}
    assert set(re.findall(r"\bhsn_v1\.(\w+)", code)) <= {*hsn_v1.__all__}
    assert set(re.findall(r"\breport\.(\w+)", code)) <= {*dir(Report)}


def test_each_knob_changes_the_picture(tmp_path, monkeypatch):
    """Another value at the top of its cell, which alone is run again; another image, and all cells below."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HSN_ROOT", "")
    cells = [c.source for c in read(REPOSITORY / NOTEBOOKS[0]).cells if c.cell_type == "code"]
    names, end = {}, next(i for i, cell in enumerate(cells) if "run_batch" in cell)

    def picture(cell):
        plt.close("all")
        exec(compile(cell, "cell", "exec"), names)
        return plt.gcf().canvas.buffer_rgba().tobytes() if plt.get_fignums() and not plt.gcf().canvas.draw() else b""

    with plt.rc_context({"backend": "agg"}):
        before = [picture(cell) for cell in cells[:end]]
        knobs = {
            "THRESHOLD = .*": "THRESHOLD = 0.5",
            r"CRF = hsn_v1.CRF\(.*\)": "CRF = hsn_v1.CRF()",
            "ORDER = .*": "ORDER = [*range(29)]",
        }
        for knob, value in knobs.items():
            (i,) = (i for i, cell in enumerate(cells[:end]) if re.match(knob, cell))
            assert picture(cells[i]) == before[i]
            assert picture(re.sub(knob, value, cells[i])) != before[i]
        (i,) = (i for i, cell in enumerate(cells[:end]) if cell.startswith("NUMBER = 14"))
        after = [picture(cell.replace("NUMBER = 14", "NUMBER = 3")) for cell in cells[i:end]]
        changed = [one != other for one, other in zip(before[i:], after, strict=True) if one]
        assert sum(changed) >= len(changed) - 1  # but for the weights, if the class is the same
        plt.close("all")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stored_with_outputs_and_nothing_of_the_machine(name):
    path = REPOSITORY / name
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) > 8
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert not [cell for cell in code if "execution" in cell.metadata]
    assert path.stat().st_size < 1.5e6
    texts = [cell.source for cell in notebook.cells] + [
        json.dumps(
            {
                kind: data
                for kind, data in output.get("data", {"text": output.get("text")}).items()
                if kind != "image/png"
            }
        )
        for output in outputs(notebook)
    ]
    assert not [text for text in texts if re.search(r"(?<![\w.])/(?:work|home|tmp|root|Users|usr|opt|var)/", text)]
