"""Memory: how much there is, and what a process keeps."""

import os
import platform
import subprocess
import sys

import pytest

FREED = """
import resource
import numpy as np
from hsn_v1.io.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(1 << 22, np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc")
def test_freed_memory_is_used_again_though_dask_has_it_given_back():
    # In huge pages there are few faults either way.
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536", "NUMPY_MADVISE_HUGEPAGE": "0"}
    faults = [
        int(subprocess.check_output([sys.executable, "-c", FREED.format(keep=keep)], env=environment, text=True))
        for keep in (False, True)
    ]
    assert faults[1] < faults[0] / 4
