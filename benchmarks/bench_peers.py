"""Time installed peers and this package alternately in one run, and print ratios: the peer's time over ours.

    python benchmarks/bench_peers.py [--runs 5] [--tiatoolbox EXECUTABLE [--size 10000]]
                                     [--published DIR [--python EXECUTABLE] [--root DIR] [--demo 1]]

- **pydensecrf**, if it can be imported: the dense CRF on the same images and maps. It uses one core; ours one, and two.
- **TIAToolbox**, if this Python or that of --tiatoolbox can import it: seconds per tile of a phantom slide, from the
  file to the scores, without start-up, on all cores. Network (half-wide; in PyTorch there), tiles, stride and batch are
  the same. Each finds tissue in its own way. Ours also keeps the maps that Grad-CAM needs; neither runs a CRF.
- **the published code**, in the checkout --published, run by the Python of its own environment: a demo's images,
  start-up and all outputs included. Both run the same script of the four published calls, in a folder with the same
  data, images and CRF settings; by default, the phantoms.

Missing peers are named and left out. Each ratio is the median over pairs of neighbouring runs, which a busy machine
disturbs less; the least and the greatest are printed, too.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from bench_crf import CASES, timings
from bench_slide import load
from measuring import DEMOS, REPOSITORY, clock, make_slide, synthetic_image, synthetic_maps
from rich.console import Console
from rich.table import Table

from hsn_v1.histonet import HistoNet
from hsn_v1.sets.published import DemoData, choose_data
from hsn_v1.slide_io.slide import open_slide
from hsn_v1.slides import tiled
from hsn_v1.slides.job import SlideGrid, SlideJob
from hsn_v1.slides.plan import Method
from hsn_v1.slides.segment_slide import segment_slide

#: Images for comparing the CRF: rows, columns and number.
IMAGES = {"large": (522, 775, 1), "patches": (224, 224, 8)}

#: Script of the published calls, for both this code and the published one.
CALLS = """
import json, sys
import hsn_v1
params, model_name = json.loads(sys.argv[1])
hsn = hsn_v1.HistoSegNetV1(params=params)
hsn.find_img()
hsn.analyze_img()
hsn.load_histonet(params={"model_name": model_name})
hsn.run_batch()
"""

Row = tuple[str, np.ndarray]  #: title of a comparison, and the ratio of each pair of runs


def in_turn(theirs: Callable[[], float], ours: Callable[[], float], runs: int) -> np.ndarray:
    """Return their seconds over ours for each pair of runs, after an uncounted pair."""
    return np.array([theirs() / ours() for _ in range(runs + 1)])[1:]


def dense_crf(runs: int) -> Iterator[Row]:
    """Compare the dense CRF with pydensecrf."""
    rng = np.random.default_rng(0)
    for group, classes, crf in CASES:
        height, width, count = IMAGES[group]
        pairs = [
            (synthetic_maps(rng, height, width, classes), synthetic_image(rng, height, width)) for _ in range(count)
        ]
        times, equal = timings(crf, pairs, runs)
        title = f"CRF, {height} x {width}, {classes} classes, labels equal in {100 * equal:.2f} %"
        yield f"{title}: pydensecrf, one core each", times[:, 0] / times[:, 1]
        yield f"{title}: pydensecrf, ours on two", times[:, 0] / times[:, 2]


class ClassifiedError(Exception):
    """Raised when all tiles of a slide are classified, to skip the rest."""


def classify_here(slide: Path, histonet: HistoNet, method: Method) -> float:
    """Find the tissue of a slide, read its tiles and classify them, as `segment` does; return the seconds per tile."""
    segment_tiles = tiled.segment_tiles

    def tiles_alone(job: SlideJob, *arguments) -> None:
        with mock.patch.object(tiled, "side_by_side", lambda ready, *_, **__: (block for block in ready if False)):
            segment_tiles(job, *arguments)
        raise ClassifiedError(len(job.tissue))

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(tiled, "segment_tiles", tiles_alone):
        try:
            segment_slide(slide, histonet, method, folder)
        except ClassifiedError as done:
            return (time.perf_counter() - began) / done.args[0]
    raise SystemExit(f"{slide}: has no tiles")


def classify_there(python: str, slide: Path, histonet: HistoNet, method: Method, folder: Path) -> float:
    """Do the same with TIAToolbox in a separate process; return the seconds per tile."""
    weights, grid = folder / "weights.npz", SlideGrid(1, 1, histonet.tile)
    mean, std = np.float32(histonet.labels.mean), np.float32(np.add(histonet.labels.std, 1e-7))
    np.savez(weights, *histonet.model.get_weights(), mean=mean, std=std)
    with open_slide(slide) as opened:
        scales = opened.mpp, weights, histonet.mpp
    arguments = [slide, *scales, histonet.tile, grid.step, method.batch_size, folder / "out"]
    script = Path(__file__).with_name("peer_tiatoolbox.py")
    done = subprocess.run([python, script, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"TIAToolbox, by {python}: {' '.join(done.stderr.split()[-40:])}")
    measured = json.loads(done.stdout.splitlines()[-1])
    return measured["seconds"] / measured["tiles"]


def slide_tiles(runs: int, python: str, size: int) -> Iterator[Row]:
    """Compare the classification of a phantom slide's tiles with TIAToolbox."""
    with tempfile.TemporaryDirectory() as folder:
        slide, (histonet, method) = make_slide(Path(folder), size, 0.6), load()
        theirs = partial(classify_there, python, slide, histonet, method, Path(folder))
        ours = partial(classify_here, slide, histonet, method)
        yield f"tiles of a phantom slide, {size} x {size} px, no CRF: TIAToolbox", in_turn(theirs, ours, runs)


def published_demo(runs: int, checkout: Path, python: str, source: DemoData) -> Iterator[Row]:
    """Time a demo against the published code, as whole processes."""
    with tempfile.TemporaryDirectory() as folder:
        both = [link_data(Path(folder) / name, source) for name in ("theirs", "ours")]
        theirs, ours = (
            partial(clock, partial(call, command, place, code, source))
            for command, place, code in zip((python, sys.executable), both, (checkout, REPOSITORY), strict=True)
        )
        images = len([*(source.root / "img" / source.params["input_name"]).iterdir()])
        title = f"{source.params['input_name']}, {images} images, from start to end: published code"
        yield title, in_turn(theirs, ours, runs)


def link_data(folder: Path, source: DemoData) -> Path:
    """Fill a folder with links to data, images and truth, and to the model's CRF settings under the published names."""
    (folder / "data").mkdir(parents=True)
    for name in ("img", "gt"):
        (folder / name).symlink_to((source.root / name).resolve())
    for path in (source.root / "data").iterdir():
        (folder / "data" / path.name).symlink_to(path.resolve())
        plain = folder / "data" / path.name.removeprefix(f"{source.model_name}_")
        if path.suffix == ".npy" and not plain.exists():
            plain.symlink_to(path.resolve())
    return folder


def call(python: str, folder: Path, code: Path, source: DemoData) -> None:
    """Make the published calls in a separate process."""
    arguments = [python, "-c", CALLS, json.dumps([dict(source.params), source.model_name])]
    environment = {**os.environ, "PYTHONPATH": str(code.resolve())}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{code}, by {python}: {' '.join(done.stderr.split()[-40:])}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    has_it = sys.executable if importlib.util.find_spec("tiatoolbox") else None
    parser.add_argument("--tiatoolbox", metavar="EXECUTABLE", default=has_it, help="Python that has TIAToolbox")
    parser.add_argument("--size", type=int, default=10_000, help="side of the phantom slide, in px at 0.25 mpp")
    parser.add_argument("--published", type=Path, metavar="DIR", help="checkout of the published code")
    parser.add_argument("--python", default=sys.executable, help="that of its environment (default: this one)")
    parser.add_argument("--root", type=Path, help="folder with data, img and gt (default: this one, or else phantoms)")
    parser.add_argument("--demo", type=int, choices=DEMOS, default=1)
    arguments = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    demo = importlib.import_module(DEMOS[arguments.demo])
    source = choose_data(demo.PARAMS, demo.MODEL_NAME, demo.PHANTOM, arguments.root)
    peers = {
        "pydensecrf": importlib.util.find_spec("pydensecrf") and partial(dense_crf, arguments.runs),
        "TIAToolbox": arguments.tiatoolbox
        and partial(slide_tiles, arguments.runs, arguments.tiatoolbox, arguments.size),
        "the published code": arguments.published
        and partial(published_demo, arguments.runs, arguments.published, arguments.python, source),
    }
    console = Console(width=120)
    table = Table("compared", "peer over ours", "least", "most", title=f"medians of {arguments.runs}, in turn")
    for peer, compare in peers.items():
        if not compare:
            console.print(f"{peer}: not installed, or not given; left out")
            continue
        for title, ratios in compare():
            table.add_row(title, *(f"{value:.2f}" for value in (np.median(ratios), ratios.min(), ratios.max())))
    console.print(table)


if __name__ == "__main__":
    main()
