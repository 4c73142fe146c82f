"""The examples in docstrings run, and give what they say; the functions that people call from Python have one."""

import doctest
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import hsn_v1
from hsn_v1.io import models

PACKAGE = Path(hsn_v1.__file__).parent
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text("utf-8")]
CLASSIFYING = [path for path in MODULES if re.search(r">>> .*load_histonet\(", path.read_text("utf-8"))]

#: Public functions with an example, besides those of `densecrf`.
CALLED = [
    *("HistoSegNetV1", "segment_image", "load_histonet", "load_crfs", "find_images", "read_mask", "TileGrid", "scores"),
    *("classify_image", "grad_cam", "adjusted_maps", "background_map", "subtract_classes", "CRF", "iou"),
    *("separate_objects", "overlay"),
]


def module_name(path):
    return ".".join(("hsn_v1", *path.relative_to(PACKAGE).with_suffix("").parts))


def run_examples(path, monkeypatch):
    monkeypatch.chdir(PACKAGE.parent)
    results = doctest.testmod(import_module(module_name(path)))
    assert results.attempted and not results.failed


@pytest.mark.parametrize("path", [path for path in MODULES if path not in CLASSIFYING], ids=module_name)
def test_examples(path, monkeypatch):
    run_examples(path, monkeypatch)


@pytest.mark.slow
def test_examples_that_load_a_classifier(monkeypatch):
    monkeypatch.setattr(models, "load_histonet", cache(models.load_histonet))
    for path in CLASSIFYING:
        run_examples(path, monkeypatch)


@pytest.mark.parametrize("name", CALLED)
def test_what_people_call_has_an_example(name):
    assert "\n    Examples\n    --------\n    >>> " in getattr(hsn_v1, name).__doc__
