"""``hsn-v1 tune-crf``: search the CRF's settings for a classifier, on images with ground truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..adp import LABEL_SETS
from ..errors import InputError


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
    import numpy as np

    from ..classify import classify
    from ..evaluate import mean_iou_present
    from ..files.models import load_histonet
    from ..hsn_v1 import segment
    from ..training.tune_crf import read_tuning_set, search, tuning_phantoms, write_results

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
            (dict(segment(image, tiles, [label_set], {}))[label_set.name].maps, image, truth)
            for truth, image, tiles in classify(stream, histonet, downsample)
        ]
        tried = search(tuning, arguments.trials, arguments.seed)
        path = arguments.data / f"{arguments.name}_{label_set.name}_optimal_pcc.npy"
        write_results(path, (arguments.out or Path("out") / arguments.name) / f"crf_{label_set.name}.csv", tried)
        best, confusion = tried[0]
        print(f"{path}: {best}, mIoU of the present classes {mean_iou_present(confusion):.4f}")
    return 0
