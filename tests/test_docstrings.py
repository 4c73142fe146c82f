"""The examples in docstrings run, and give what they say."""

import doctest
from importlib import import_module

import pytest

MODULES = ("densecrf.crf", "densecrf.features", "densecrf.pydensecrf_api", "io.model_files", "stages")


@pytest.mark.parametrize("module", MODULES)
def test_examples(module):
    results = doctest.testmod(import_module(f"hsn_v1.{module}"))
    assert results.attempted and not results.failed
