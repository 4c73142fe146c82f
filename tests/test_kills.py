"""Killed at any moment, a command leaves no process, and the same command finishes with the same bytes.

`benchmarks/kills.py` does the same with all commands, more often; signals are in `commands.test_common`.
"""

import os
import random
import subprocess
import sys
import time

import psutil
import pytest
from helpers import contents, left_of, write_halves

pytestmark = pytest.mark.slow


@pytest.fixture
def command(tmp_path):
    """Give the command that cuts images into many patches, by one worker."""
    write_halves(tmp_path)
    arguments = ["--images", tmp_path / "img", "--truth", tmp_path / "mask", "--size", "16", "--stride", "3"]
    arguments += ["--mpp", "1", "--classes", "red=#c80000", "green=#00c800", "--quiet", "--out"]

    def into(folder):
        environment = {**os.environ, "HSN_TEST_MARKER": str(folder), "LOKY_MAX_CPU_COUNT": "1"}
        command = [sys.executable, "-m", "hsn_v1", "patches", *arguments, folder]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)

    return into


def kill_worker(process):
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in children if "LokyProcess" in " ".join(child.cmdline())]
    for worker in workers[:1]:
        worker.kill()


#: The victim, and the exit status and the line that follow: all may be done before, too.
KILLS = {
    "main": (lambda process: process.kill(), -9, ""),
    "worker": (kill_worker, 2, "error: a worker process died"),
}


def test_patches_survive_kills(tmp_path, command):
    began, clean = time.monotonic(), command(tmp_path / "clean")
    assert clean.communicate(timeout=60) == (None, "")
    seconds, out, rng = time.monotonic() - began, tmp_path / "out", random.Random(0)
    for kill, status, line in KILLS.values():
        process = command(out)
        time.sleep(rng.uniform(0.3, 1) * seconds)
        if process.poll() is None:
            kill(process)
        _, error = process.communicate(timeout=30)
        assert process.returncode in (status, 0)
        expected = line if process.returncode else ""
        assert error.startswith(expected) and bool(error) == bool(expected) and error.count("\n") <= 1
        deadline = time.monotonic() + 10
        while left_of(str(out)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left_of(str(out))
    process = command(out)
    assert process.communicate(timeout=60) == (None, "") and process.returncode == 0
    assert contents(out) == contents(tmp_path / "clean")
