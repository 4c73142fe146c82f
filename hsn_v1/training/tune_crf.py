"""``python -m hsn_v1 tune-crf``: search the CRF's settings for a classifier, on images with ground truth."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import loky
import numpy as np

from ..adp import CLASSIFIER_MPP, LABEL_SETS, LabelSet
from ..densecrf import DenseCRF
from ..errors import InputError
from ..evaluate import confusion_matrix, mean_iou, mean_iou_present
from ..files.images import read_image, read_truth, write_bytes, write_table
from ..histonet import load_histonet
from ..hsn_v1 import classify, segment, winners
from ..phantoms import phantom
from ..sets.settings import find_images
from ..tiles import downsample_factor
from ..workers import available_cores
from .patches import SEEDS

#: Least and greatest value that is tried of each setting; values are spread evenly over the logarithm.
RANGES = {
    "gauss_sxy": (0.7, 10),
    "gauss_compat": (0.5, 60),
    "bilat_sxy": (3, 30),
    "bilat_srgb": (3, 150),
    "bilat_compat": (0.5, 60),
}

#: Phantoms that have a label set's ground truth, and their scale in mpp.
PHANTOMS = {
    "morph": (phantom.patch, CLASSIFIER_MPP),
    "func": (phantom.patch, CLASSIFIER_MPP),
    "glas": (phantom.glas, 0.620),
}


def tuning_phantoms(label_set: LabelSet, count: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
    """Return images and label maps of phantoms that are kept for tuning, and the factor to the classifier's scale."""
    make, mpp = PHANTOMS[label_set.name]
    made = [make(seed) for seed in SEEDS["tuning"][:count]]
    return [(one.image, one.labels[label_set.name]) for one in made], downsample_factor(mpp)


def values(crf: DenseCRF) -> list[float]:
    """Return the settings that are searched, in the order of the published files."""
    return [getattr(crf, name) for name in RANGES]


def read_tuning_set(images: Path, truth: Path, label_set: LabelSet) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return images and label maps of a folder with ground truth, which has one folder for each label set's name."""
    pairs = []
    for path in find_images(images, "patch"):
        image, _ = read_image(path)
        pairs.append((image, read_truth(truth / label_set.name / path.name, label_set, *image.shape[:2]).labels))
    return pairs


def draw_settings(count: int, rng: np.random.Generator, around: DenseCRF | None = None) -> Iterator[DenseCRF]:
    """Draw CRF settings: anywhere in `RANGES`, or within about a fifth of given ones."""
    low, high = np.log(np.array(list(RANGES.values()))).T
    for _ in range(count):
        logs = rng.uniform(low, high)
        if around is not None:
            logs = np.clip(np.log(values(around)) + rng.normal(0, 0.2, len(logs)), low, high)
        yield DenseCRF(*np.exp(logs).round(2).tolist())


def try_settings(maps: np.ndarray, image: np.ndarray, truth: np.ndarray, crfs: list[DenseCRF]) -> np.ndarray:
    """Return the confusion matrix that each of some settings gives on an image, as (len(crfs), C + 1, C)."""
    return np.stack([confusion_matrix(truth, winners(crf(maps, image)), len(maps)) for crf in crfs])


def search(
    tuning: list[tuple[np.ndarray, np.ndarray, np.ndarray]], trials: int, seed: int
) -> list[tuple[DenseCRF, np.ndarray]]:
    """Try settings at random, the second half of them around the best of the first; in parallel.

    Parameters
    ----------
    tuning : list of (maps, image, truth)
        Adjusted maps (C, H, W), image (H, W, 3) and class indices (H, W) of each image.
    trials : int
    seed : int

    Returns
    -------
    list of (DenseCRF, ndarray of shape (C + 1, C))
        All settings with their confusion matrix over all images, best mIoU of the present classes first.
    """
    from rich.progress import track

    rng = np.random.default_rng(seed)
    pool = loky.get_reusable_executor(available_cores(), timeout=300)
    tried: list[tuple[DenseCRF, np.ndarray]] = []
    first = [DenseCRF(), *draw_settings((trials + 1) // 2 - 1, rng)]
    for what in ("wide search", "narrow search"):
        crfs = list(draw_settings(trials // 2, rng, tried[0][0])) if tried else first
        if not crfs:  # a single trial
            continue
        jobs = zip(*((*one, crfs) for one in tuning), strict=True)
        done = track(pool.map(try_settings, *jobs), f"{what}, {len(crfs)} settings", len(tuning))
        tried += zip(crfs, sum(done), strict=True)
        tried.sort(key=lambda pair: -mean_iou_present(pair[1]))
    return tried


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``tune-crf``."""
    parser = subparsers.add_parser("tune-crf", help="search the CRF settings for a classifier")
    parser.add_argument("--name", required=True, help="name of the model")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of models (default: data)")
    parser.add_argument("--out", type=Path, help="folder of the tables of all trials (default: out/NAME)")
    parser.add_argument("--label-sets", nargs="+", choices=LABEL_SETS, default=list(LABEL_SETS), metavar="SET")
    parser.add_argument("--images", type=Path, metavar="DIR", help="images to tune on (default: phantoms)")
    parser.add_argument("--truth", type=Path, metavar="DIR", help="their ground truth: a folder with one for each SET")
    parser.add_argument("--down-fac", type=float, default=1.0, help="their scale, as in params (default: 1)")
    parser.add_argument("--count", type=int, default=16, help="phantoms to tune on (default: 16)")
    parser.add_argument("--trials", type=int, default=40, help="settings to try (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the settings (default: 0)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if min(arguments.count, arguments.trials) < 1 or arguments.seed < 0 or not 0 < arguments.down_fac < np.inf:
        raise InputError("--count, --trials and --down-fac: expected positive numbers; --seed: one from 0 on")
    if bool(arguments.images) != bool(arguments.truth):
        raise InputError("--images and --truth go together: a folder of images, and one of their ground truth")
    histonet = load_histonet(arguments.data, arguments.name)
    for label_set in map(LABEL_SETS.get, arguments.label_sets):
        if arguments.images:
            pairs = read_tuning_set(arguments.images, arguments.truth, label_set)
            downsample = arguments.down_fac
        else:
            pairs, downsample = tuning_phantoms(label_set, arguments.count)
        stream = ((truth, image) for image, truth in pairs)
        tuning = [
            (segment(image, tiles, [label_set], {})[label_set.name].maps, image, truth)
            for truth, image, tiles in classify(stream, histonet, downsample)
        ]
        tried = search(tuning, arguments.trials, arguments.seed)
        path = arguments.data / f"{arguments.name}_{label_set.name}_optimal_pcc.npy"
        write_results(path, (arguments.out or Path("out") / arguments.name) / f"crf_{label_set.name}.csv", tried)
        best, confusion = tried[0]
        print(f"{path}: {best}, mIoU of the present classes {mean_iou_present(confusion):.4f}")
    return 0


def write_results(path: Path, table: Path, tried: list[tuple[DenseCRF, np.ndarray]]) -> None:
    """Write the best settings as the published file (1, 6), and all of them as a CSV, best first."""
    settings = io.BytesIO()
    np.save(settings, np.array([[*values(tried[0][0]), tried[0][0].iterations]]))
    write_bytes(path, settings.getvalue())
    rows = [
        [*values(crf), f"{mean_iou_present(confusion):.5f}", f"{mean_iou(confusion):.5f}"] for crf, confusion in tried
    ]
    write_table(table, [[*RANGES, "mIoU of present classes", "mIoU"], *rows])
