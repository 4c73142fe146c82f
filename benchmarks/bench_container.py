"""Measure the best maps to average where tiles overlap: Grad-CAMs or adjusted maps, by scale and number of tiles.

    python benchmarks/bench_container.py slides [--size 14000] [--least 1] [--most 256]
    python benchmarks/bench_container.py images --images DIR --truth DIR --labels glas --model NAME [--root DIR] --mpp X

``slides`` segments crops of a phantom slide of 1, 4, 9, 16, 64 and 256 tiles, ``images`` a folder of images with ground
truth. Each is segmented in three ways, which average: Grad-CAMs at the image's own scale, as the demos do (up to 16
tiles); Grad-CAMs at the classifier's scale; adjusted maps at the classifier's scale, as the paper does on slides.
Prints the mIoU of the classes in the ground truth, over all images or crops together.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import tifffile
from measuring import REPOSITORY
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hsn_v1.adp import CLASSIFIER_MPP
from hsn_v1.commands.common import PHANTOM_MODEL
from hsn_v1.evaluate import confusion_matrix, mean_iou_present
from hsn_v1.io.masks import read_mask
from hsn_v1.io.model_files import find_model, read_crfs
from hsn_v1.io.models import load_histonet
from hsn_v1.io.writing import write_picture
from hsn_v1.phantoms.phantom_slide import write_slide
from hsn_v1.slide_io.slide import open_slide
from hsn_v1.slides.job import OVERLAP
from hsn_v1.slides.plan import OWN_SCALE_PIXELS, Method
from hsn_v1.slides.segment_slide import segment_slide
from hsn_v1.tiles import TILE, Window

#: Ways of averaging: the maps, and the most pixels of an image that is averaged at its own scale.
WAYS = {
    "Grad-CAMs, own scale": ("gradcam", OWN_SCALE_PIXELS),
    "Grad-CAMs, 1.2143 mpp": ("gradcam", 0),
    "adjusted, 1.2143 mpp": ("adjusted", 0),
}

#: Crops of a phantom slide, by the tiles along a side.
CROPS = {1: 8, 2: 4, 3: 2, 4: 2, 8: 2, 16: 1}


class Ways:
    """Confusion matrices of each way and label set, summed over images."""

    def __init__(self, model: str, root: Path, labels: str) -> None:
        folder = find_model(root, model)
        self.classifier = load_histonet(folder, model)
        self.label_sets = self.classifier.labels.group(labels)
        self.crfs = read_crfs(folder, model, self.label_sets)[0]
        self.sums = {}

    def add(self, group: str, path: Path, truths: dict[str, np.ndarray], mpp: float, own_scale: bool = True) -> None:
        """Segment an image in each way, at its own scale only if `own_scale`; score it against truths of any size."""
        for way, (maps, pixels) in WAYS.items():
            if pixels and not own_scale:
                continue
            method = Method(self.label_sets, self.crfs, maps=maps)
            with (
                mock.patch("hsn_v1.slides.plan.OWN_SCALE_PIXELS", pixels),
                tempfile.TemporaryDirectory() as out,
            ):
                done = segment_slide(path, self.classifier, method, out, mpp=mpp)
                for label_set in self.label_sets:
                    truth, classes = truths[label_set.name], len(label_set)
                    labels = tifffile.imread(done.folder / label_set.name / f"{path.stem}.ome.tif")
                    labels = cv2.resize(labels, truth.shape[::-1], interpolation=cv2.INTER_NEAREST)
                    confusion = confusion_matrix(truth, np.minimum(labels, classes - 1), classes)
                    key = group, label_set.name, way
                    self.sums[key] = self.sums.get(key, 0) + confusion

    def table(self) -> Table:
        """Return a table of the mIoU of each way."""
        table = Table("", "label set", *WAYS)
        for group, name in dict.fromkeys(key[:2] for key in self.sums):
            sums = [self.sums.get((group, name, way)) for way in WAYS]
            table.add_row(group, name, *("" if total is None else f"{mean_iou_present(total):.3f}" for total in sums))
        return table


def crops(slide: Path, tiles: int, count: int, folder: Path) -> Iterator[tuple[Path, dict[str, np.ndarray]]]:
    """Yield `count` crops of a phantom slide, `tiles` by `tiles` tiles large, and their ground truth."""
    truth = {name: cv2.imread(str(slide.with_name(f"{slide.stem}_{name}.png")), -1) for name in ("morph", "func")}
    side = TILE + (tiles - 1) * round(TILE * (1 - OVERLAP))
    rng, height = np.random.default_rng(tiles), len(truth["morph"])
    with open_slide(slide) as opened:
        zoom = CLASSIFIER_MPP / opened.mpp
        while count:
            top, left = rng.integers(0, height - side, 2).tolist()
            cut = np.s_[top : top + side, left : left + side]
            if truth["morph"][cut].astype(bool).mean() < 0.5:  # mostly glass
                continue
            count -= 1
            path = folder / f"{tiles}_{count}.png"
            window = Window(round(top * zoom), round(left * zoom), round(side * zoom), round(side * zoom))
            write_picture(path, opened.read(window, opened.mpp))
            yield path, {name: labels[cut] for name, labels in truth.items()}


def slides(arguments: argparse.Namespace, ways: Ways) -> None:
    """Measure crops of a phantom slide."""
    path = arguments.folder / f"phantom_{arguments.size}_60.tif"
    if not path.exists():
        write_slide(path, arguments.size, tissue=0.6)
    for tiles, count in CROPS.items():
        if arguments.least <= tiles**2 <= arguments.most:
            with tempfile.TemporaryDirectory() as folder:
                for crop, truths in track(crops(path, tiles, count, Path(folder)), f"{tiles**2} tiles", count):
                    ways.add(f"{count} crops of {tiles**2} tiles", crop, truths, 0.25, tiles**2 <= 16)


def images(arguments: argparse.Namespace, ways: Ways) -> None:
    """Measure a folder of images."""
    for path in sorted(arguments.images.glob("*.png")):
        image = cv2.imread(str(path))
        truths = {s.name: read_mask(arguments.truth / path.name, s, image.shape[:2]).labels for s in ways.label_sets}
        ways.add(str(arguments.images.name), path, truths, arguments.mpp)


def main(tasks: Iterable = (slides, images)) -> None:
    """Run the chosen benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[task.__name__ for task in tasks])
    parser.add_argument("--size", type=int, default=14_000, help="side of the phantom slide, in px at 0.25 mpp")
    parser.add_argument("--least", type=int, default=1, help="tiles of the smallest crop")
    parser.add_argument("--most", type=int, default=256, help="tiles of the largest crop")
    parser.add_argument("--images", type=Path, help="folder of PNG files")
    parser.add_argument("--truth", type=Path, help="folder of ground truth in the label set's colours")
    parser.add_argument("--mpp", type=float, help="scale of the images")
    parser.add_argument("--labels", default="both")
    parser.add_argument("--model", default=PHANTOM_MODEL)
    parser.add_argument("--root", type=Path, default=REPOSITORY)
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "out" / "bench_slide")
    arguments = parser.parse_args()
    ways = Ways(arguments.model, arguments.root, arguments.labels)
    {task.__name__: task for task in tasks}[arguments.what](arguments, ways)
    Console(width=120).print(ways.table())


if __name__ == "__main__":
    main()
