"""Measure the segmentation of phantom slides: time, memory, and agreement with the ground truth.

    python benchmarks/bench_slide.py cost [--sizes 10000 20000 40000] [--tissue 0.6]
    python benchmarks/bench_slide.py stages [--size 20000]
    python benchmarks/bench_slide.py agreement [--size 20000]
    python benchmarks/bench_slide.py kills [--size 10000]
    python benchmarks/bench_slide.py forward [--size 20000] [--runs 3]

``cost`` runs the command on a slide of each size, and prints seconds, tiles per second and core, and the peak memory
of all its processes together (proportional shares). ``stages`` does the same work sequentially in one process, and
prints the time of each stage. ``agreement`` scores a slide's label maps, and single patches, against the ground truth.
``kills`` kills the command at random moments (kill -9), lets it finish, and compares its files with those of an
uninterrupted run. ``forward`` runs the command with a network of the published width, alternately with only the forward
pass of this network over the same tiles, on all cores. Slides are made once, in --folder.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import tifffile
from measuring import REPOSITORY, SerialPool, make_slide, run_as_command, stopwatches
from rich.console import Console
from rich.table import Table

from hsn_v1 import segment_image
from hsn_v1.adp import CLASSIFIER_MPP, HTT_MODES
from hsn_v1.commands.common import PHANTOM_MODEL
from hsn_v1.errors import InputError
from hsn_v1.evaluate import confusion_matrix, mean_iou_present
from hsn_v1.histonet import HistoNet, normalise, traced
from hsn_v1.io.model_files import read_crfs
from hsn_v1.io.models import load_histonet, save_histonet
from hsn_v1.parallel import available_cores
from hsn_v1.slide_io.slide import Slide, open_slide
from hsn_v1.slides import tiled
from hsn_v1.slides.job import SlideJob
from hsn_v1.slides.plan import Method
from hsn_v1.slides.segment_slide import segment_slide
from hsn_v1.tiles import TILE, Window
from hsn_v1.training.networks import build_histonet

LABEL_SETS = HTT_MODES["both"]

#: Stages to time in one process, and the functions of each.
STAGES = {
    "find tissue": ("hsn_v1.slides.segment_slide.find_tissue", "hsn_v1.slides.tiled.tiles_with_tissue"),
    "read": ("hsn_v1.slide_io.slide.Slide.read",),
    "classify": ("hsn_v1.slides.tiled.classify_batch",),
    "localise, adjust": ("hsn_v1.slides.tiled._averaged_maps",),
    "refine": ("hsn_v1.densecrf.CRF.__call__",),
    "write label maps": ("hsn_v1.slides.results.write_label_map",),
    "write polygons": ("hsn_v1.slides.results.write_polygons",),
}


def command(slide: Path, out: Path) -> list[str]:
    """Return the command that segments a slide."""
    return [
        sys.executable,
        "-m",
        "hsn_v1",
        "segment",
        str(slide),
        "--model",
        PHANTOM_MODEL,
        "--out",
        str(out),
        "--quiet",
    ]


def cost(arguments: argparse.Namespace, console: Console) -> None:
    """Print time and memory for slides of several sizes."""
    table = Table("px", "mm2 of tissue", "tiles", "seconds", "tiles/s/core", "s per mm2", "peak MB")
    for size in arguments.sizes:
        slide = make_slide(arguments.folder, size, arguments.tissue)
        out = arguments.folder / f"cost_{size}"
        subprocess.run(["rm", "-rf", str(out)], check=True)
        seconds, peak = run_as_command(command(slide, out), watch=True)
        with open(out / "segmented.csv", newline="") as file:
            (row,) = csv.DictReader(file)
        with open(out / slide.name / "morph" / "areas.csv", newline="") as file:
            area = sum(float(line["mm2"]) for line in csv.DictReader(file) if line["share_of_tissue"])
        tiles = int(row["tiles"])
        speed = tiles / seconds / available_cores()
        table.add_row(
            f"{size}^2",
            f"{area:.1f}",
            str(tiles),
            f"{seconds:.0f}",
            f"{speed:.2f}",
            f"{seconds / area:.1f}",
            f"{peak / 1e6:.0f}",
        )
    console.print(table)


def stages(arguments: argparse.Namespace, console: Console) -> None:
    """Print the time of each stage."""
    slide = make_slide(arguments.folder, arguments.size, arguments.tissue)
    out = arguments.folder / "stages"
    subprocess.run(["rm", "-rf", str(out)], check=True)
    seconds, start = Counter(), time.perf_counter()
    histonet, method = load()
    seconds["start-up"] = time.perf_counter() - start
    with (
        mock.patch("hsn_v1.slides.tiled.worker_pool", return_value=contextlib.nullcontext(SerialPool())),
        mock.patch("hsn_v1.slides.tiled.read_ahead", lambda reader, read, numbers: map(read, numbers)),
        mock.patch("hsn_v1.slides.tiled.side_by_side", in_turn),
        stopwatches(STAGES, seconds),
    ):
        done = segment_slide(slide, histonet, method, out, workers=1)
    seconds["rest"] = time.perf_counter() - start - seconds.total()
    title = f"{done.facts['tiles']} tiles, one process; the CRF on one core, the classifier on {available_cores()}"
    table = Table("stage", "seconds", "ms per tile", "share", title=title)
    for stage, value in seconds.items():
        share = f"{100 * value / seconds.total():.0f} %"
        table.add_row(stage, f"{value:.1f}", f"{1000 * value / done.facts['tiles']:.0f}", share)
    console.print(table)


def in_turn(classified: Iterable[int], submit: Callable[[int], Future], *_, **__) -> Iterator[tuple[int, Future]]:
    """Replace `side_by_side`: submit and yield one block after another."""
    return ((block, submit(block)) for block in classified)


def load() -> tuple[HistoNet, Method]:
    """Return the phantoms' classifier and method."""
    data = REPOSITORY / "data"
    method = Method(LABEL_SETS, read_crfs(data, PHANTOM_MODEL, LABEL_SETS)[0])
    return load_histonet(data, PHANTOM_MODEL), method


def agreement(arguments: argparse.Namespace, console: Console) -> None:
    """Print the mIoU of a slide's label maps, and of single patches."""
    path = make_slide(arguments.folder, arguments.size, arguments.tissue)
    histonet, method = load()
    done = segment_slide(path, histonet, method, arguments.folder / "plain")
    truth = {s.name: cv2.imread(str(path.with_name(f"{path.stem}_{s.name}.png")), -1) for s in LABEL_SETS}
    rng, confusions = np.random.default_rng(0), {s.name: 0 for s in LABEL_SETS}
    with open_slide(path) as slide:
        height, width = slide.size(CLASSIFIER_MPP)
        corners = rng.integers(0, (height - TILE, width - TILE), (4 * arguments.patches, 2)).tolist()
        tissue = [(y, x) for y, x in corners if truth["morph"][y : y + TILE, x : x + TILE].astype(bool).mean() > 0.5]
        for top, left in tissue[: arguments.patches]:
            image = slide.read(Window(top, left, TILE, TILE), CLASSIFIER_MPP)
            patch = segment_image(image, histonet, LABEL_SETS, method.crfs)
            for s in LABEL_SETS:
                part = truth[s.name][top : top + TILE, left : left + TILE]
                confusions[s.name] = confusions[s.name] + confusion_matrix(part, patch[s.name].masks["CRF"], len(s))
    table = Table("label set", "mIoU (present)", "of patches")
    for s in LABEL_SETS:
        labels = np.minimum(tifffile.imread(done.folder / s.name / f"{path.stem}.ome.tif"), len(s) - 1)
        figures = (
            mean_iou_present(confusion_matrix(truth[s.name], labels, len(s))),
            mean_iou_present(confusions[s.name]),
        )
        table.add_row(s.name, *(f"{figure:.4f}" for figure in figures))
    console.print(table)


def kills(arguments: argparse.Namespace, console: Console) -> None:
    """Kill the command five times at random moments, let it finish, and compare it with an uninterrupted run."""
    slide = make_slide(arguments.folder, arguments.size, arguments.tissue)
    whole, killed = arguments.folder / "whole", arguments.folder / "killed"
    subprocess.run(["rm", "-rf", str(whole), str(killed)], check=True)
    seconds, _ = run_as_command(command(slide, whole))
    rng = random.Random(arguments.seed)
    for moment in [5 + rng.uniform(0, 0.3) * seconds for _ in range(5)]:  # start-up takes some 5 s
        process = subprocess.Popen(command(slide, killed), cwd=REPOSITORY, start_new_session=True)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        tiles = len(list(killed.rglob("tiles/[0-9]*")))
        blocks = len(list(killed.rglob("labels/*/[0-9]*")))
        console.print(
            f"killed after {moment:.0f} s: exit status {process.wait()}, {tiles} batches and {blocks} blocks done"
        )
    run_as_command(command(slide, killed))
    files = {path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.parent != whole}
    others = {path.relative_to(killed) for path in killed.rglob("*") if path.is_file() and path.parent != killed}
    equal = [path for path in files & others if (whole / path).read_bytes() == (killed / path).read_bytes()]
    console.print(f"{len(equal)} of {len(files | others)} files are byte for byte those of an uninterrupted run")


def forward(arguments: argparse.Namespace, console: Console) -> None:
    """Print the time of a slide over that of only the forward pass on its tiles, for a network of published width."""
    slide, root = make_slide(arguments.folder, arguments.size, arguments.tissue), arguments.folder / "published width"
    model, (_, method) = widened(root / "data"), load()
    tiles: list[np.ndarray] = []

    def read_tiles(job: SlideJob, opened: Slide, *_) -> None:
        tiles.extend(tiled._read_batch(opened, job, number).astype(np.float32) for number in range(job.batches))
        raise InputError("all tiles are read")

    with mock.patch.object(tiled, "segment_tiles", read_tiles), contextlib.suppress(InputError):
        segment_slide(slide, model, method, arguments.folder / "tiles")
    forward = traced(model.network)
    run, times = [*command(slide, arguments.folder / "wide"), "--root", str(root), "--force"], []
    for _ in range(1 + arguments.runs):
        seconds, _ = run_as_command(run)
        start = time.perf_counter()
        for batch in tiles:
            forward(normalise(batch, model.labels))
        times.append((seconds, time.perf_counter() - start))
    whole, bare = np.median(times[1:], axis=0)
    ratio = np.median(np.divide(*np.transpose(times[1:])))
    count = sum(map(len, tiles))
    console.print(f"{count} tiles: {whole:.1f} s, start-up included; bare forward pass {bare:.1f} s; ratio {ratio:.2f}")


def widened(folder: Path) -> HistoNet:
    """Double each channel of the phantoms' classifier, for the published width; write and return the classifier.

    It gives the same scores, up to rounding, for four times the work.
    """
    data = REPOSITORY / "data"
    half = load_histonet(data, PHANTOM_MODEL)
    wide = build_histonet(len(half.labels.outputs), half.tile)
    for layer in wide.layers:
        if layer.weights:
            first, *rest = half.model.get_layer(layer.name).get_weights()
            copies = [1 if old == new else 2 for old, new in zip(first.shape, layer.weights[0].shape, strict=True)]
            inputs = copies[-2] if first.ndim > 1 else 1
            layer.set_weights([np.tile(first, copies) / inputs, *(np.tile(vector, copies[-1]) for vector in rest)])
    text = (data / f"{PHANTOM_MODEL}.toml").read_text(encoding="utf-8")
    save_histonet(folder, PHANTOM_MODEL, wide, half.thresholds, half.labels.codes, text)
    for path in data.glob(f"{PHANTOM_MODEL}_*.npy"):
        shutil.copy(path, folder)
    return load_histonet(folder, PHANTOM_MODEL)


def main() -> None:
    """Run the chosen benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = {"cost": cost, "stages": stages, "agreement": agreement, "kills": kills, "forward": forward}
    parser.add_argument("what", choices=tasks)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10_000, 20_000, 40_000], help="sides, in px at 0.25 mpp"
    )
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--tissue", type=float, default=0.6, help="share of the slide")
    parser.add_argument("--patches", type=int, default=60, help="single patches to compare with")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills")
    parser.add_argument("--runs", type=int, default=3, help="of forward, after one that does not count")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "out" / "bench_slide")
    arguments = parser.parse_args()
    tasks[arguments.what](arguments, Console(width=120))


if __name__ == "__main__":
    main()
