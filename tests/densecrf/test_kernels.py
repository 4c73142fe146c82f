"""Compiled code: kept where there is room, made anew where it is damaged; and what it needs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

REFINE = """
import hashlib, numpy as np
from hsn_v1.densecrf import CRF, is_compiled
image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
print(hashlib.sha256(CRF()(np.eye(3, 81, dtype=np.float32).reshape(3, 9, 9), image).tobytes()).hexdigest())
print(is_compiled())
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


def run(code, **environment):
    command = [sys.executable, "-c", code]
    environment = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


@pytest.mark.slow
def test_the_documented_example_runs_with_numpy_and_numba_alone():
    text = (REPOSITORY / "docs" / "densecrf.md").read_text(encoding="utf-8")
    example = text.partition("```python\n")[2].partition("```")[0]
    ours = "print(*(name for name in sys.modules if name.startswith('hsn_v1') and 'densecrf' not in name))"
    names, errors = run("\n".join([ALONE, EXAMPLE, example, "assert labels.shape == (480, 640)", ours]))
    assert (set(names), errors) == ({"hsn_v1", "hsn_v1.errors"}, "")


@pytest.mark.slow
def test_damaged_machine_code_is_compiled_again(tmp_path):
    (expected, _), _ = run(REFINE, NUMBA_CACHE_DIR=tmp_path)
    indices, codes = (sorted(tmp_path.rglob(f"*.{kind}")) for kind in ("nbi", "nbc"))
    assert len(codes) >= len(indices) > 5
    single = (code for code in codes if "_weighted_sum" not in code.name)  # which is compiled for several types
    smallest = sorted(single, key=lambda code: code.stat().st_size)[:4]
    for number, code in enumerate(smallest):  # half or all of it or of its index is lost
        damaged = (code.with_name(re.sub(r"\.\d+\.nbc$", ".nbi", code.name)), code)[number % 2]
        damaged.write_bytes(damaged.read_bytes()[: (damaged.stat().st_size // 2, 0)[number // 2]])
    assert run(REFINE, NUMBA_CACHE_DIR=tmp_path) == ([expected, "True"], "")
    assert all(path.stat().st_size > 100 for path in (*indices, *codes))
    times = {path: path.stat().st_mtime_ns for path in Path(tmp_path).rglob("*.nb?")}
    assert run(REFINE, NUMBA_CACHE_DIR=tmp_path)[0] == [expected, "True"]
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.slow
def test_where_nothing_can_be_kept_results_are_the_same_with_a_notice():
    (expected, _), errors = run(REFINE)
    assert errors == ""
    # The only place that is looked at is a zip archive, which the package is not in.
    (found, compiled), errors = run(REFINE, NUMBA_CACHE_LOCATOR_CLASSES="ZipCacheLocator")
    assert (found, compiled) == (expected, "False")
    assert errors.count("the CRF is compiled in each process") == 1 and "NUMBA_CACHE_DIR" in errors


@pytest.mark.slow
@pytest.mark.parametrize("use", ["densecrf.is_compiled()", "densecrf.CRF()(np.ones((2, 3, 3)), image)"])
def test_without_compilation_the_crf_is_refused_in_a_line(use):
    code = f"""
import numpy as np
from hsn_v1 import InputError, densecrf
image = np.zeros((3, 3, 3), np.uint8)
try:
    {use}
except InputError as error:
    print(error)
"""
    words, _ = run(code, NUMBA_DISABLE_JIT=1)
    assert " ".join(words) == "NUMBA_DISABLE_JIT is set, but the CRF has to be compiled: unset it"
