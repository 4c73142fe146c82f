"""Time a demo: as a user runs it, and stage by stage in one process.

    python benchmarks/bench_demo.py --root DIR [--demo 2] [--runs 3] [--json FILE]

The demo runs as a command with all outputs, start-up included. Prints median seconds, images per second, and the peak
memory of all its processes together (shared pages count once, if the system can tell). Then the same functions process
the same images in sequence in one process, for the seconds of each stage.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from unittest import mock

import psutil
from measuring import DEMOS, REPOSITORY, SerialPool, run_as_command, stopwatches
from rich.console import Console
from rich.table import Table

#: Stages to time in one process, and the functions of each.
STAGES = {
    "read": ("hsn_v1.sets.run.read_image", "hsn_v1.sets.measure.read_mask"),
    "classify": ("hsn_v1.histonet.HistoNet.__call__",),
    "localise": ("hsn_v1.hsn_v1.localise",),
    "adjust": ("hsn_v1.hsn_v1.unsubtracted_maps", "hsn_v1.hsn_v1.subtract"),
    "refine": ("hsn_v1.densecrf.CRF.__call__",),
    "evaluate": ("hsn_v1.evaluate.confusion_matrix", "hsn_v1.sets.run.summarise"),
    "write": (
        "hsn_v1.sets.run.write_image",
        "hsn_v1.sets.run.write_tables",
        "hsn_v1.sets.run.write_confusions",
        "hsn_v1.sets.run.write_ious",
    ),
}


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
    """Print the tables, and write them as JSON with ``--json``."""
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
            "seconds": [round(run, 2) for run in runs],
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
