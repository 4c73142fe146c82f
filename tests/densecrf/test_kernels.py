"""A damaged cache of compiled code is made anew, and changes no result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REFINE = """
import hashlib, numpy as np
from hsn_v1.densecrf import CRF
image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
print(hashlib.sha256(CRF()(np.eye(3, 81, dtype=np.float32).reshape(3, 9, 9), image).tobytes()).hexdigest())
"""


def test_damaged_machine_code_is_compiled_again(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def refine():
        command = [sys.executable, "-c", REFINE]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    expected = refine()
    indices, codes = (sorted(tmp_path.rglob(f"*.{kind}")) for kind in ("nbi", "nbc"))
    assert len(indices) == len(codes) > 5
    half = [path.stat().st_size // 2 for path in (*indices, *codes)]
    for number, (index, code) in enumerate(zip(indices, codes, strict=True)):
        damaged = (index, code)[number % 2]
        damaged.write_bytes(damaged.read_bytes()[: (half[number], 0)[number // 2 % 2]])
    assert refine() == expected
    assert all(path.stat().st_size > 100 for path in (*indices, *codes))
    times = {path: path.stat().st_mtime_ns for path in Path(tmp_path).rglob("*.nb?")}
    assert refine() == expected
    assert {path: path.stat().st_mtime_ns for path in times} == times
