"""The notebooks run as they are stored, and are stored as they should be."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = ["demo_01_segment_patches.ipynb", "demo_02_segment_glas_patches.ipynb"]


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def left_running(marker):
    running = []
    for process in psutil.process_iter():
        try:
            running += [process] if process.environ().get("HSN_TEST_MARKER") == marker else []
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    return running


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_executes_on_the_phantoms(name, tmp_path):
    """Elsewhere than in the repository, so that it finds no official data; and leaves no process behind."""
    marker = str(tmp_path)
    environment = {**os.environ, "HSN_TEST_MARKER": marker, "HSN_ROOT": ""}
    command = [sys.executable, REPOSITORY / "tests" / "execute_notebooks.py", REPOSITORY / name, "--out", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(tmp_path / name, as_version=4)
    assert all(output.output_type != "stream" or output.name == "stdout" for output in outputs(notebook))
    stored = nbformat.read(REPOSITORY / name, as_version=4)
    assert [output.output_type for output in outputs(notebook)] == [output.output_type for output in outputs(stored)]
    deadline = time.monotonic() + 20
    while left_running(marker) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left_running(marker)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stored_with_outputs_and_nothing_of_the_machine(name):
    path = REPOSITORY / name
    notebook = nbformat.read(path, as_version=4)
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
