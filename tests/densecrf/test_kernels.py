"""Compiled code: kept where there is room, made anew where it is damaged; and what it needs."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from hsn_v1.densecrf import is_compiled, load_compiled

REPOSITORY = Path(__file__).parents[2]

DOUBLE = """
from hsn_v1.densecrf.kernels import kernel

@kernel
def double(values):
    for i in range(len(values)):
        values[i] *= 2
"""

#: Hides all libraries but two.
ALONE = """
import sys
known = {*sys.stdlib_module_names, "numpy", "numba", "llvmlite", "hsn_v1"}
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in known:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hide())
"""

EXAMPLE = """
import numpy as np
import hsn_v1.densecrf as dcrf
from hsn_v1.densecrf import unary_from_softmax
rng = np.random.default_rng(0)
probabilities, image = rng.random((5, 480, 640)), rng.integers(0, 256, (480, 640, 3), np.uint8)
"""

#: Prints what is said where nothing may be compiled.
REFUSED = """
import numpy as np
from hsn_v1 import InputError, densecrf
for use in (densecrf.is_compiled, lambda: densecrf.CRF()(np.ones((2, 3, 3)), np.zeros((3, 3, 3), np.uint8))):
    try:
        use()
    except InputError as error:
        print(error)
"""


def run(code, **environment):
    command, environment = [sys.executable, "-c", code], {**os.environ, **environment}
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.slow
def test_the_documented_example_runs_with_numpy_and_numba_alone():
    text = (REPOSITORY / "docs" / "densecrf.md").read_text(encoding="utf-8")
    example = text.partition("```python\n")[2].partition("```")[0]
    ours = "print(*(name for name in sys.modules if name.startswith('hsn_v1') and 'densecrf' not in name))"
    names, errors = run("\n".join([ALONE, EXAMPLE, example, "assert labels.shape == (480, 640)", ours]))
    assert ({*names.split()}, errors) == ({"hsn_v1", "hsn_v1.errors"}, "")


@pytest.fixture
def double(tmp_path):
    """Return what loads a kernel anew, doubles by it, and returns how often its machine code was found."""
    path = tmp_path / "double.py"
    path.write_text(DOUBLE)

    def load():
        spec = importlib.util.spec_from_file_location("double", path)
        module, values = importlib.util.module_from_spec(spec), np.arange(3)
        spec.loader.exec_module(module)
        module.double(values)
        assert values.tolist() == [0, 2, 4]
        return sum(module.double.stats.cache_hits.values())

    return load


@pytest.mark.slow
@pytest.mark.parametrize("share", [0, 0.5])
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_damaged_machine_code_is_compiled_again(double, tmp_path, kind, share):
    assert (double(), double()) == (0, 1)
    (damaged,) = tmp_path.rglob(f"*.{kind}")
    damaged.write_bytes(damaged.read_bytes()[: int(share * damaged.stat().st_size)])
    assert (double(), double()) == (0, 1)


def test_where_nothing_can_be_kept_results_are_the_same(double, tmp_path, monkeypatch):
    # The only place that is looked at is a zip archive, which the code is not in.
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "ZipCacheLocator")
    assert (double(), double()) == (0, 0)
    assert not [*tmp_path.rglob("*.nb?")]


def test_what_is_compiled_is_there_for_the_next_process():
    load_compiled()
    assert is_compiled()


@pytest.mark.slow
def test_where_nothing_can_be_kept_a_notice_says_so():
    code = "from hsn_v1.densecrf import is_compiled; print(is_compiled())"
    compiled, errors = run(code, NUMBA_CACHE_LOCATOR_CLASSES="ZipCacheLocator")
    assert compiled == "False\n"
    assert errors.count("the CRF is compiled in each process") == 1 and "NUMBA_CACHE_DIR" in errors


@pytest.mark.slow
def test_without_compilation_the_crf_is_refused_in_a_line():
    said, _ = run(REFUSED, NUMBA_DISABLE_JIT="1")
    assert said.splitlines() == ["NUMBA_DISABLE_JIT is set, but the CRF has to be compiled: unset it"] * 2
