"""Shared parts of the benchmarks: clocks, memory, synthetic images and phantom slides."""

from __future__ import annotations

import contextlib
import os
import pkgutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
DEMOS = {1: "demo_01_segment_patches", 2: "demo_02_segment_glas_patches"}
MARK = "HSN_BENCHMARK"  # environment variable that marks our processes


def clock(run: Callable, now: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that a call takes."""
    start = now()
    run()
    return now() - start


def environment(mark: str = "") -> dict[str, str]:
    """Return an environment for a process that imports this repository and that :func:`marked` finds."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), MARK: mark}


def marked(mark: str) -> list[psutil.Process]:
    """Return all running processes with a mark."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # ended meanwhile, or another user's
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return processes


def memory(process: psutil.Process) -> int:
    """Return the memory, in bytes, that a process and its descendants use now."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            info = member.memory_full_info()
            total += getattr(info, "pss", info.rss)
    return total


def run_as_command(command: list[str], watch: bool = False) -> tuple[float, int]:
    """Run a command; return its seconds and, with `watch`, which slows it down, its peak memory in bytes."""
    start, peak = time.perf_counter(), 0
    process = psutil.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    while watch and process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            peak = max(peak, memory(process))
        time.sleep(0.1)
    if process.wait():
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return time.perf_counter() - start, peak


class SerialPool:
    """A pool without workers: calls run at once, in this process."""

    def submit(self, function, *arguments):
        """Call the function; return its result as a future."""
        future = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self, **_) -> None:
        """Do nothing."""


@contextlib.contextmanager
def stopwatches(stages: dict[str, tuple[str, ...]], seconds: Counter) -> Iterator[None]:
    """Add the time of each stage's functions to its `seconds`."""

    def timed(stage, function):
        def call(*args, **kwargs):
            before = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[stage] += time.perf_counter() - before

        return call

    with contextlib.ExitStack() as stack:
        for stage, names in stages.items():
            for name in names:
                stack.enter_context(mock.patch(name, timed(stage, pkgutil.resolve_name(name))))
        yield


def smooth(rng: np.random.Generator, height: int, width: int, planes: int, sigma: float) -> np.ndarray:
    """Return smooth noise of shape (planes, height, width)."""
    return np.stack([cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), sigma) for _ in range(planes)])


def synthetic_image(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return an image with soft shapes and some grain, similar to tissue, (height, width, 3) uint8."""
    tissue = 190 + 900 * smooth(rng, height, width, 3, 8) + 12 * rng.standard_normal((3, height, width))
    return np.ascontiguousarray(tissue.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def synthetic_maps(rng: np.random.Generator, height: int, width: int, classes: int) -> np.ndarray:
    """Return smooth maps of competing classes, (classes, height, width) float32, which sum to 1 at each pixel."""
    maps = np.exp(60 * smooth(rng, height, width, classes, 15))
    return (maps / maps.sum(axis=0)).astype(np.float32)


def make_slide(folder: Path, size: int, tissue: float) -> Path:
    """Return the path of a phantom slide; write it if it is missing."""
    path = folder / f"phantom_{size}_{100 * tissue:.0f}.tif"
    from hsn_v1.phantoms.phantom_slide import write_slide

    if not path.exists():
        write_slide(path, size, tissue=tissue)
    return path
