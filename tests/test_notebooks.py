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
from PIL import Image

import hsn_v1
from hsn_v1.sets.report import Report

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = ["demo_01_segment_patches.ipynb", "demo_02_segment_glas_patches.ipynb"]
DEMOS = [name.replace(".ipynb", ".py") for name in NOTEBOOKS]


#: Folders of the phantoms' images and ground truth, and as many of them as the notebooks need, which look at one by its
#: number; sizes, (width, height), of that one, and of the others.
FOLDERS = {
    "01_phantom_patch": (("img", "gt/*/morph", "gt/*/func"), 15, (224, 224), (56, 56)),
    "02_phantom_glas": (("img", "gt/*/glas", "gt/*/glas_multi_gland"), 5, (480, 270), (150, 100)),
}

#: Small pictures, drawn once, show what the notebooks' own would.
KERNEL = "c.InlineBackend.print_figure_kwargs = {'bbox_inches': None, 'dpi': 20}"


def read(path):
    """Return a notebook's code cells, their sources and outputs, and the sources of all cells."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        cell["source"] = "".join(cell["source"])
    return [cell for cell in cells if cell["cell_type"] == "code"], [cell["source"] for cell in cells]


def outputs(code):
    return [output for cell in code for output in cell["outputs"]]


@pytest.fixture
def repository(tmp_path):
    """Make a repository with few phantoms, cropped."""
    root = tmp_path / "repository"
    for name in ("hsn_v1", "data", "tests/execute_notebooks.py", *DEMOS, *NOTEBOOKS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(REPOSITORY / name)
    for name, (folders, count, size, others) in FOLDERS.items():
        for folder in (Path(folder.replace("*", name)) if "*" in folder else Path(folder, name) for folder in folders):
            (root / folder).mkdir(parents=True)
            for number, path in enumerate(sorted((REPOSITORY / folder).iterdir())[:count], 1):
                with Image.open(path) as image:
                    image.crop((0, 0, *(size if number == count else others))).save(root / folder / path.name)
    return root


def test_the_notebooks_execute_on_the_phantoms(repository, tmp_path):
    """Elsewhere than in the repository, so that they find no official data; and leave no process behind."""
    marker, kernel = str(tmp_path), tmp_path / "profile_default" / "ipython_kernel_config.py"
    kernel.parent.mkdir()
    kernel.write_text(KERNEL)
    workers = {"LOKY_MAX_CPU_COUNT": "1"}
    environment = {**os.environ, **workers, "HSN_TEST_MARKER": marker, "HSN_ROOT": "", "IPYTHONDIR": marker}
    notebooks = [repository / name for name in NOTEBOOKS]
    command = [sys.executable, repository / "tests" / "execute_notebooks.py", *notebooks, "--out", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    for name in NOTEBOOKS:
        executed, stored = (outputs(read(folder / name)[0]) for folder in (tmp_path, REPOSITORY))
        assert all(output["output_type"] != "stream" or output["name"] == "stdout" for output in executed)
        assert [output["output_type"] for output in executed] == [output["output_type"] for output in stored]
    deadline = time.monotonic() + 20
    while left_of(marker) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left_of(marker)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_needs_public_names_alone(name):
    code = "\n".join(cell["source"] for cell in read(REPOSITORY / name)[0])
    imported = set(re.findall(r"^(?:import|from) (\S+)", code, re.M))
    assert imported == {"os", "matplotlib.pyplot", "numpy", "PIL", "hsn_v1", Path(name).stem}
    assert set(re.findall(r"\bhsn_v1\.(\w+)", code)) <= {*hsn_v1.__all__}
    assert set(re.findall(r"\breport\.(\w+)", code)) <= {*dir(Report)}


def test_each_knob_changes_the_picture(tmp_path, monkeypatch):
    """Another value at the top of its cell, which alone is run again; another image, and all cells below."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HSN_ROOT", "")
    cells = [cell["source"] for cell in read(REPOSITORY / NOTEBOOKS[0])[0]]
    names, end = {}, next(i for i, cell in enumerate(cells) if "run_batch" in cell)

    def picture(cell):
        plt.close("all")
        exec(compile(cell, "cell", "exec"), names)
        if not plt.get_fignums():
            return b""
        figure = plt.gcf()
        figure.set_layout_engine("none")  # which takes most of the time
        figure.set_dpi(20)
        figure.canvas.draw()
        return figure.canvas.buffer_rgba().tobytes()

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
    code, texts = read(path)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert sum("image/png" in output.get("data", {}) for output in outputs(code)) > 8
    assert not [output for output in outputs(code) if output["output_type"] == "error"]
    assert not [cell for cell in code if "execution" in cell["metadata"]]
    assert path.stat().st_size < 1.5e6
    for output in outputs(code):
        data = output.get("data", {"text": output.get("text")})
        texts.append(json.dumps({kind: content for kind, content in data.items() if kind != "image/png"}))
    assert not [text for text in texts if re.search(r"(?<![\w.])/(?:work|home|tmp|root|Users|usr|opt|var)/", text)]
