"""Killed at any moment, a command leaves no process, and the same command finishes with the same bytes.

`benchmarks/kills.py` does the same with all commands, more often.
"""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from helpers import contents, left_of

from hsn_v1.io.writing import write_picture

pytestmark = pytest.mark.slow


@pytest.fixture
def command(tmp_path):
    """Give the command that cuts images of which one half is red and one green into many patches."""
    rng = np.random.default_rng(0)
    left = np.arange(64)[np.newaxis, :, np.newaxis].repeat(48, axis=0) < 32  # (48, 64, 1)
    for i in range(4):
        image = np.where(left, (200, 60, 60), (60, 200, 60)) + rng.integers(-20, 20, (48, 64, 3))
        write_picture(tmp_path / "img" / f"{i}.png", np.uint8(image))
        write_picture(tmp_path / "gt" / f"{i}.png", np.uint8(np.where(left, (0, 0, 128), (3, 155, 229))))
    arguments = ["--images", tmp_path / "img", "--truth", tmp_path / "gt", "--size", "16", "--stride", "3"]
    arguments += ["--mpp", "1", "--classes", "red=#000080", "green=#039be5", "--quiet", "--out"]

    def into(folder):
        environment = {**os.environ, "HSN_TEST_MARKER": str(folder)}
        return subprocess.Popen(
            [sys.executable, "-m", "hsn_v1", "patches", *arguments, folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    return into


def kill_worker(process):
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in children if "LokyProcess" in " ".join(child.cmdline())]
    for worker in workers[:1]:
        worker.kill()


#: The victim, what it gets, the exit statuses and the lines that may follow: all may be done before, too.
KILLS = {
    "main -9": (lambda process: process.kill(), {-9}, {""}),
    "SIGTERM": (lambda process: process.send_signal(signal.SIGTERM), {143, -15}, {"", "terminated\n"}),
    "SIGINT": (lambda process: process.send_signal(signal.SIGINT), {130, -2}, {"", "interrupted\n"}),
    "worker -9": (kill_worker, {2}, {"", "error: a worker process died"}),
}


def test_patches_survive_kills(tmp_path, command):
    began, clean = time.monotonic(), command(tmp_path / "clean")
    assert clean.communicate(timeout=60) == (None, "")
    seconds, out, rng = time.monotonic() - began, tmp_path / "out", random.Random(0)
    for kill, statuses, lines in KILLS.values():
        process = command(out)
        time.sleep(rng.uniform(0.3, 1) * seconds)
        if process.poll() is None:
            kill(process)
        _, error = process.communicate(timeout=30)
        assert process.returncode in {*statuses, 0}
        assert any(error == line or (line and error.startswith(line)) for line in lines) and error.count("\n") <= 1
        deadline = time.monotonic() + 10
        while left_of(str(out)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left_of(str(out))
    process = command(out)
    assert process.communicate(timeout=60) == (None, "") and process.returncode == 0
    assert contents(out) == contents(tmp_path / "clean")
