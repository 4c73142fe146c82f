"""Time the dense CRF against pydensecrf alternately in one process, on one core and on two; and measure peak memory.

    python benchmarks/bench_crf.py [--images DIR] [--repeats N] [--profile | --calls | --against COMMIT]

By default, images are synthetic, of the sizes of GlaS (522 x 775) and of patches (224 x 224). Times are medians of the
repeats. Ratios are medians over neighbouring runs, which a noisy machine disturbs less. On two cores, two threads share
a large image, and two processes refine patches in parallel.

--profile prints the seconds of each phase on one thread and on two, the minimum of the repeats. For comparison, it
times a loop that only computes and one that only moves memory.

--calls times the example of pydensecrf's documentation (640 x 480, its settings) in both modules, from the image to
the probabilities.

--against times the windows of a slide (928 x 928, phantoms, their settings) by this code and by a commit's,
alternately, in processor seconds, which other processes disturb least.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import loky
import numpy as np
from measuring import REPOSITORY, clock, synthetic_image, synthetic_maps
from numba import njit
from rich.console import Console
from rich.table import Table

from hsn_v1.densecrf import BACKENDS, CRF, LARGE, lattice_filter, meanfield, permutohedral
from hsn_v1.densecrf import crf as densecrf
from hsn_v1.densecrf.kernels import in_threads, spans
from hsn_v1.io.images import read_image
from hsn_v1.parallel import SMALL_IMAGES
from hsn_v1.phantoms.phantom import patch

MORPH, FUNC = CRF(1, 20, 10, 40, 50), CRF(3, 40, 10, 4, 25)
CASES = (("large", 2, FUNC), ("patches", 4, FUNC), ("patches", 5, MORPH), ("patches", 12, MORPH))
#: Usual numbers of classes in a window, with the phantoms' CRF settings.
WINDOWS = ((11, CRF(5.86, 13.17, 26.51, 3.98, 26.22)), (5, CRF(4.49, 15.55, 19.81, 4.28, 21.6)))
SIDE = 928
MEGAPIXELS = (1000, 2000)  # rows and columns


def span(crf: CRF, pairs: list) -> tuple[float, float]:
    """Refine in a worker; return start and end, without the transfer of maps, which a real run does not need."""
    start = time.perf_counter()
    for pair in pairs:
        crf(*pair)
    return start, time.perf_counter()


def phases(crf: CRF, pair: tuple, threads: int) -> dict[str, float]:
    """Return the seconds of each phase of one refinement, of the rest, and of all."""
    seconds = Counter()

    def timed(threads, task, arguments):
        start = time.perf_counter()
        try:
            return in_threads(threads, task, arguments)
        finally:
            seconds[task.__name__.strip("_")] += time.perf_counter() - start

    with contextlib.ExitStack() as patches:
        for module in (permutohedral, lattice_filter, meanfield):
            patches.enter_context(mock.patch.object(module, "in_threads", timed))
        total = clock(lambda: crf(*pair, threads=threads))
    return {**seconds, "rest": total - sum(seconds.values()), "all": total}


@njit(nogil=True)
def compute(start, stop):
    """Only compute: a random walk of integers."""
    state = np.uint64(start + 1)
    for _ in range(100 * (stop - start)):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    return state


@njit(nogil=True)
def move(source, target, start, stop):
    """Only move memory."""
    for i in range(start, stop):
        target[i] = source[i]


def ceiling(threads: int) -> dict[str, float]:
    """Return the seconds of loops that only compute or only move memory, shared by some threads."""
    source, target = np.ones((2, 1 << 24), np.float32)
    parts = spans(len(source) // 16, threads), spans(len(source), threads)
    return {
        "only computing": clock(lambda: in_threads(threads, compute, parts[0])),
        "only moving": clock(lambda: in_threads(threads, move, [(source, target, *part) for part in parts[1]])),
    }


def profile(crf: CRF, pair: tuple, repeats: int) -> Table:
    """Return a table of the phases' milliseconds on one thread and on two, measured alternately."""
    runs = [[{**phases(crf, pair, n), **ceiling(n)} for n in (1, 2)] for _ in range(repeats + 1)][1:]
    table = Table("phase", "one thread", "two", "gain", title=f"ms, {' x '.join(map(str, pair[0].shape))}")
    for name in runs[0][0]:
        alone, together = (min(run[i][name] for run in runs) for i in (0, 1))
        table.add_row(name, f"{1e3 * alone:.1f}", f"{1e3 * together:.1f}", f"{alone / together:.2f}")
    return table


def timings(crf: CRF, pairs: list, repeats: int) -> tuple[np.ndarray, float]:
    """Return seconds, (repeats, 3), of pydensecrf and of this code on one core and on two, and their agreement.

    The agreement is the share of pixels with equal labels.
    """
    library = replace(crf, backend="pydensecrf")
    large = pairs[0][1].shape[0] * pairs[0][1].shape[1] >= LARGE

    def two_cores() -> float:
        if large:
            return clock(lambda: [crf(*pair, threads=2) for pair in pairs])
        pool = loky.get_reusable_executor(2, env=SMALL_IMAGES)
        starts, ends = zip(
            *(task.result() for task in [pool.submit(span, crf, pairs[i::2]) for i in (0, 1)]), strict=True
        )
        return max(ends) - min(starts)

    runs = (
        lambda: clock(lambda: [library(*pair) for pair in pairs]),
        lambda: clock(lambda: [crf(*pair) for pair in pairs]),
        two_cores,
    )
    equal = np.mean([(library(*pair).argmax(axis=0) == crf(*pair).argmax(axis=0)).mean() for pair in pairs])
    two_cores()
    return np.array([[run() for run in runs] for _ in range(repeats)]), float(equal)


def measure(crf: CRF, pairs: list, repeats: int) -> list[str]:
    """Return a row of the table: milliseconds per image, ratios, and the share of equal labels."""
    times, equal = timings(crf, pairs, repeats)
    times /= len(pairs)
    gains = np.median(times[:, :-1] / times[:, 1:], axis=0)
    return [*(f"{1e3 * t:.0f}" for t in np.median(times, axis=0)), *(f"{gain:.2f}" for gain in gains), f"{equal:.6f}"]


def calls(module, maps: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Run the example of pydensecrf's documentation with a module; return the probabilities."""
    crf = module.DenseCRF2D(image.shape[1], image.shape[0], len(maps))
    crf.setUnaryEnergy(-np.log(maps.clip(1e-5, 1)).reshape(len(maps), -1))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    return np.array(crf.inference(5))


def compare_calls(rng: np.random.Generator, repeats: int) -> Table:
    """Return a table of the processor milliseconds of the documented example in both modules."""
    theirs = importlib.import_module("pydensecrf.densecrf")
    table = Table("classes", "pydensecrf", "hsn_v1.densecrf", "gain", "same bits", title="ms of one core, 640 x 480")
    for classes in (2, 5, 21):
        maps, image = synthetic_maps(rng, 480, 640, classes), synthetic_image(rng, 480, 640)
        same = np.array_equal(calls(theirs, maps, image), calls(densecrf, maps, image))
        runs = [partial(calls, module, maps, image) for module in (theirs, densecrf)]
        times = np.array([[clock(run, time.process_time) for run in runs] for _ in range(repeats)])
        medians, gain = 1e3 * np.median(times, axis=0), np.median(times[:, 0] / times[:, 1])
        table.add_row(str(classes), *(f"{t:.0f}" for t in medians), f"{gain:.2f}", str(same))
    return table


def earlier(commit: str, folder: Path):
    """Import the module `densecrf` of a commit."""
    archive = subprocess.run(["git", "archive", commit, "hsn_v1"], cwd=REPOSITORY, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    (folder / "hsn_v1").rename(folder / "earlier")
    sys.path.insert(0, str(folder))
    return importlib.import_module("earlier.densecrf")


def compare_windows(rng: np.random.Generator, commit: str, repeats: int) -> Table:
    """Return a table of the processor seconds of a slide's windows by a commit's code and by this code."""
    table = Table("classes", commit, "this", "ratio", "same bits", title=f"s of one core, {SIDE} x {SIDE}")
    with tempfile.TemporaryDirectory() as folder:
        before = earlier(commit, Path(folder))
        image = np.ascontiguousarray(patch(0, size=(SIDE, SIDE)).image)
        for classes, crf in WINDOWS:
            settings = getattr(before, "CRF", None) or before.DenseCRF  # the class's name in 1.0
            old = settings(**{name: getattr(crf, name) for name in crf.__dataclass_fields__})
            maps = synthetic_maps(rng, SIDE, SIDE, classes)
            same = np.array_equal(old(maps, image), crf(maps, image))
            runs = [partial(refine, maps, image) for refine in (old, crf)]
            times = np.array([[clock(run, time.process_time) for run in runs] for _ in range(repeats)])
            ratio = np.median(times[:, 1] / times[:, 0])
            table.add_row(str(classes), *(f"{t:.2f}" for t in np.median(times, axis=0)), f"{ratio:.2f}", str(same))
    return table


def peak(backend: str) -> float:
    """Return the memory growth of a backend in MiB per megapixel, measured in a separate process."""
    command = [sys.executable, __file__, "--peak", backend]
    grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(grown) / (MEGAPIXELS[0] * MEGAPIXELS[1] / 1e6)


def print_peak(backend: str) -> None:
    """Print the growth of this process's peak memory in MiB."""
    rng, crf = np.random.default_rng(0), replace(FUNC, backend=backend)
    maps, image = synthetic_maps(rng, *MEGAPIXELS, 2), synthetic_image(rng, *MEGAPIXELS)
    crf(maps[:, :9, :9], image[:9, :9])  # loads the compiled code
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    crf(maps, image)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of images, in place of synthetic ones")
    parser.add_argument("--repeats", type=int, default=7)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--profile", action="store_true", help="where the time goes, in place of the comparison")
    modes.add_argument("--calls", action="store_true", help="the example of pydensecrf's documentation")
    modes.add_argument("--against", metavar="COMMIT", help="a slide's windows, by this code and by a commit's")
    parser.add_argument("--peak", choices=BACKENDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(arguments.peak)
        return

    rng = np.random.default_rng(0)
    if arguments.calls or arguments.against:
        table = compare_calls(rng, arguments.repeats) if arguments.calls else None
        Console().print(table or compare_windows(rng, arguments.against, arguments.repeats))
        return
    if arguments.images:
        images = [read_image(path)[0] for path in sorted(arguments.images.glob("*.png"))]
    else:
        images = [synthetic_image(rng, 522, 775), *(synthetic_image(rng, 224, 224) for _ in range(8))]
    groups = {"large": [], "patches": []}
    for image in images:
        groups["large" if image.shape[0] * image.shape[1] >= LARGE else "patches"].append(image)
    if arguments.profile:
        for group, classes, crf in CASES:
            for image in groups[group][:1]:
                pair = synthetic_maps(rng, *image.shape[:2], classes), image
                Console().print(profile(crf, pair, arguments.repeats))
        return
    table = Table("images", "classes", "pydensecrf", "one core", "two", "gain", "again", "equal", title="ms an image")
    for group, classes, crf in CASES:
        if chosen := groups[group][:8]:
            pairs = [(synthetic_maps(rng, *image.shape[:2], classes), image) for image in chosen]
            table.add_row(group, str(classes), *measure(crf, pairs, arguments.repeats))
    console = Console()
    console.print(table)
    for backend in BACKENDS:
        console.print(f"{backend}: peak memory {peak(backend):.0f} MiB per megapixel (2 classes, bilateral srgb 4)")


if __name__ == "__main__":
    main()
