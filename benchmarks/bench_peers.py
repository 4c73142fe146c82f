"""Compare with the peers that are installed, in turn in one run: prints ratios only, the peer's time over ours.

    python benchmarks/bench_peers.py [--runs 5] [--published DIR [--python EXECUTABLE] [--root DIR] [--demo 1]]

- **pydensecrf**, if it can be imported: the dense CRF on the same images and maps. It uses one core; ours one, and two.
- **the published code**, of which --published is a checkout, by the Python of its own environment: a demo's images,
  start-up and all outputs included. Both get the same script of the four published calls, and a folder with the same
  data, images and CRF settings; by default, the phantoms.

What is not installed is named and left out. Ratios are medians of those of neighbouring runs, which a busy machine
disturbs less, with the smallest and the largest.
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
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from bench_crf import CASES, clock, synthetic_image, synthetic_maps, timings
from bench_demo import DEMOS, REPOSITORY
from rich.console import Console
from rich.table import Table

from hsn_v1.commands.defaults import Source, official_or_phantoms

#: Images of the CRF's comparison: rows, columns and how many.
IMAGES = {"large": (522, 775, 1), "patches": (224, 224, 8)}

#: The published calls, for this code as for the published one.
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

Row = tuple[str, np.ndarray]  #: what was compared, and the ratio of each pair of runs


def in_turn(theirs: Callable[[], float], ours: Callable[[], float], runs: int) -> np.ndarray:
    """Return their seconds over ours of each pair of runs, after one that does not count."""
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
        title = f"dense CRF, {height} x {width}, {classes} classes ({100 * equal:.2f} % of the labels equal)"
        yield f"{title}: pydensecrf, one core each", times[:, 0] / times[:, 1]
        yield f"{title}: pydensecrf, ours on two", times[:, 0] / times[:, 2]


def published_demo(runs: int, checkout: Path, python: str, source: Source) -> Iterator[Row]:
    """Compare a demo's images with the published code, as whole processes."""
    with tempfile.TemporaryDirectory() as folder:
        both = [link_data(Path(folder) / name, source) for name in ("theirs", "ours")]
        theirs, ours = (
            partial(clock, partial(call, command, place, code, source))
            for command, place, code in zip((python, sys.executable), both, (checkout, REPOSITORY), strict=True)
        )
        images = len([*(source.root / "img" / source.params["input_name"]).iterdir()])
        yield (
            f"{source.params['input_name']}, {images} images, from start to end: published code",
            in_turn(theirs, ours, runs),
        )


def link_data(folder: Path, source: Source) -> Path:
    """Return a folder with links to data, images and truth, and the model's CRF settings by the published names."""
    (folder / "data").mkdir(parents=True)
    for name in ("img", "gt"):
        (folder / name).symlink_to((source.root / name).resolve())
    for path in (source.root / "data").iterdir():
        (folder / "data" / path.name).symlink_to(path.resolve())
        plain = folder / "data" / path.name.removeprefix(f"{source.model_name}_")
        if path.suffix == ".npy" and not plain.exists():
            plain.symlink_to(path.resolve())
    return folder


def call(python: str, folder: Path, code: Path, source: Source) -> None:
    """Make the published calls in a process of its own."""
    arguments = [python, "-c", CALLS, json.dumps([dict(source.params), source.model_name])]
    environment = {**os.environ, "PYTHONPATH": str(code.resolve())}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{code}, by {python}: {' '.join(done.stderr.split()[-40:])}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--published", type=Path, metavar="DIR", help="checkout of the published code")
    parser.add_argument("--python", default=sys.executable, help="that of its environment (default: this one)")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="folder with data, img and gt")
    parser.add_argument("--demo", type=int, choices=DEMOS, default=1)
    arguments = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    demo = importlib.import_module(DEMOS[arguments.demo])
    source = official_or_phantoms(arguments.root, demo.PARAMS, demo.MODEL_NAME, {}, demo.PHANTOM)
    peers = {
        "pydensecrf": importlib.util.find_spec("pydensecrf") and partial(dense_crf, arguments.runs),
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
