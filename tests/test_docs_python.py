"""docs/python.md: its lines run, each task in at most four, by public names alone; its pictures are there."""

import ast
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import blocks_of

import hsn_v1

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "python.md"
FIRST, *TASKS, TORCH = blocks_of(PAGE, "python")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python")
    for part in ("data", "img", "gt"):
        (folder / part).symlink_to(REPOSITORY / part)
    return folder


@pytest.fixture(scope="module")
def names(folder):
    """Run the first block; return what it defines."""
    names, patch = {}, pytest.MonkeyPatch()
    patch.chdir(folder)
    exec(compile(FIRST, "docs/python.md", "exec"), names)
    patch.undo()
    return names


def test_each_task_has_at_most_four_lines_and_imports_nothing_deeper():
    assert len(TASKS) >= 10
    for task in TASKS:
        assert 1 <= len(task.splitlines()) <= 4, task
        assert "import" not in task
    assert set(re.findall(r"^(?:import|from) (\S+)", FIRST, re.M)) == {"hsn_v1", "numpy", "matplotlib.pyplot", "PIL"}
    used = {
        node.attr
        for block in (FIRST, *TASKS, TORCH)
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hsn_v1"
    }
    assert used <= {*hsn_v1.__all__}


def test_pictures_are_small_and_shown():
    pictures = {path.name for path in (REPOSITORY / "img").glob("python_*.png")}
    assert pictures == {*re.findall(r"img/(python_\w+\.png)", PAGE.read_text("utf-8"))}
    assert max((REPOSITORY / "img" / name).stat().st_size for name in pictures) < 60_000


@pytest.mark.slow
def test_the_tasks_run_one_after_the_other(folder, names, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(plt, "imshow", lambda shown: np.testing.assert_equal(shown.shape[2:], (3,)))
    for task in TASKS:
        exec(compile(task, "docs/python.md", "exec"), names)
    plt.close("all")
    assert names["raw"].shape == (56, 56) and names["maps"].shape == (29, 224, 224)
    assert 0.9 < names["ious"]["Background"] <= 1
    assert [*names["result"].masks] == ["GradCAM", "Adjust", "CRF"]
    assert len(list((folder / "out" / "masks").glob("*.png"))) == 3
    assert names["outcome"].status == "done"
    assert (names["labels"] == names["mask"]).all()


@pytest.mark.slow
def test_a_network_of_pytorch_is_a_classifier(folder, names, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(folder)
    exec(compile(TORCH, "docs/python.md", "exec"), names)
    assert names["mask"].shape == (224, 224)
