"""Time a demo: as a user runs it, and stage by stage in one process.

    python benchmarks/bench_demo.py --root DIR [--demo 2] [--runs 3] [--json FILE]

The demo runs as a command, all outputs on, start-up included: median seconds, images per second, and the peak
of memory of all its processes together (a page that they share counts once, where the system tells). Then the
same images go through the same functions one after another in one process, for the seconds of each stage.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import pkgutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from unittest import mock

import psutil
from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).parents[1]
DEMOS = {1: "demo_01_segment_patches", 2: "demo_02_segment_glas_patches"}

#: What is timed in one process: the stage, and the functions that make it up.
STAGES = {
    "read": ("hsn_v1.sets.run.read_image", "hsn_v1.sets.measure.read_mask"),
    "classify": ("hsn_v1.histonet.HistoNet.__call__",),
    "localise": ("hsn_v1.hsn_v1.localise",),
    "adjust": ("hsn_v1.hsn_v1.unsubtracted_maps", "hsn_v1.hsn_v1.subtract"),
    "refine": ("hsn_v1.densecrf.CRF.__call__",),
    "evaluate": ("hsn_v1.evaluate.confusion_matrix", "hsn_v1.sets.run.summarise"),
    "write": (
        "hsn_v1.sets.run.write_image",
        "hsn_v1.sets.run.write_metrics",
        "hsn_v1.sets.run.write_scores",
        "hsn_v1.sets.run.write_confusions",
        "hsn_v1.sets.run.write_ious",
    ),
}


def memory(process: psutil.Process) -> int:
    """Return the bytes that a process and its children hold now."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            info = one.memory_full_info()
            total += getattr(info, "pss", info.rss)
    return total


def run_as_command(command: list[str], watch: bool = False) -> tuple[float, int]:
    """Run a command; return its seconds and, if watched, which slows it down, its peak of memory in bytes."""
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
    """Does what a pool of workers does, at once."""

    def submit(self, function, *arguments):
        """Call the function; return its result as a future."""
        future = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self, **_) -> None:
        """Do nothing."""


@contextlib.contextmanager
def stopwatches(stages: dict[str, tuple[str, ...]], seconds: Counter) -> Iterator[None]:
    """Add to the seconds of each stage what the functions take that make it up."""

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


def time_stages(params: dict, model_name: str, root: Path, out: Path) -> dict[str, float]:
    """Run a demo's images in one process; return the seconds of each stage."""
    start = time.perf_counter()
    published = importlib.import_module("hsn_v1.sets.published")
    run = importlib.import_module("hsn_v1.sets.run")
    hsn = published.HistoSegNetV1({**params, "verbosity": "QUIET"}, root, out)
    hsn.find_img()
    with mock.patch.object(published, "start_workers"):
        hsn.load_histonet({"model_name": model_name})
    seconds = Counter({"start-up": time.perf_counter() - start})

    with (
        mock.patch.object(run, "worker_pool", return_value=contextlib.nullcontext(SerialPool())),
        mock.patch("hsn_v1.sets.settings.available_cores", return_value=1),
        stopwatches(STAGES, seconds),
    ):
        hsn.run_batch()
    return dict(seconds)


def main() -> None:
    """Print the tables, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(), help="folder with data, img and gt")
    parser.add_argument("--demo", type=int, choices=DEMOS, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    demo = importlib.import_module(DEMOS[arguments.demo])
    root = arguments.root.resolve()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, f"{DEMOS[arguments.demo]}.py", "--root", str(root), "--out", folder]
        runs = [run_as_command(command)[0] for _ in range(arguments.runs)]
        _, peak = run_as_command(command, watch=True)
        stages = time_stages(demo.PARAMS, demo.MODEL_NAME, root, Path(folder))
    images = len(list((root / "img" / demo.PARAMS["input_name"]).glob("*.[pP][nN][gG]")))
    seconds = statistics.median(runs)
    figures = {
        "demo": DEMOS[arguments.demo],
        "images": images,
        "cores": len(psutil.Process().cpu_affinity()),
        "command": {
            "seconds": [round(one, 2) for one in runs],
            "median": round(seconds, 2),
            "images_per_second": round(images / seconds, 2),
            "peak_memory_mb": round(peak / 1e6),
        },
        "stages": {stage: round(value, 2) for stage, value in stages.items()},
    }
    table = Table("stage", "seconds", "per image", title=f"{images} images, one process")
    for stage, value in stages.items():
        table.add_row(stage, f"{value:.2f}", "" if stage == "start-up" else f"{value / images:.3f}")
    console = Console()
    console.print(table)
    console.print(
        f"as a command: {seconds:.2f} s (median of {arguments.runs}), {images / seconds:.2f} images per second, "
        f"peak memory {figures['command']['peak_memory_mb']} MB, {figures['cores']} cores"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
