"""``python -m hsn_v1 picture``: draw the README's picture, some of the shipped phantoms and their segmentation."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..adp import CLASSIFIER_MPP
from ..errors import InputError
from .defaults import PHANTOM_GLAND_MODEL, PHANTOM_MODEL, PHANTOM_SETS, REPOSITORY

#: How each kind of phantom is segmented.
PARAMS = {
    "patch": {"input_name": PHANTOM_SETS["patch"], "htt_mode": "morph"},
    "glas": {"input_name": PHANTOM_SETS["glas"], "htt_mode": "glas", "down_fac": CLASSIFIER_MPP / 0.620},
}


def draw(root: Path, numbers: dict[str, list[int]]) -> bytes:
    """Segment phantoms, and draw each as a row: image, ground truth, before and after the CRF.

    Parameters
    ----------
    root : Path
        Folder that has ``data``, ``img`` and ``gt``.
    numbers : dict of str to list of int
        Numbers of the images to draw, counted from 0 in the order of their names, by their kind.

    Returns
    -------
    bytes
        A PNG file.

    Raises
    ------
    InputError
        If a file is missing, or if there is no image of such a number.
    """
    from ..evaluate import confusion_matrix, mean_iou_present
    from ..files.models import load_histonet
    from ..hsn_v1 import segment_image
    from ..sets.settings import settings_from_params, with_crfs
    from ..sets.tour import read_example
    from ..show.panels import case, sheet

    rows = []
    for kind, wanted in numbers.items():
        model_name = {"patch": PHANTOM_MODEL, "glas": PHANTOM_GLAND_MODEL}[kind]
        histonet = load_histonet(root / "data", model_name)
        settings = with_crfs(settings_from_params(PARAMS[kind], root=root), root / "data", model_name)
        (label_set,) = settings.label_sets
        for number in wanted:
            if not 0 <= number < len(settings.images):
                raise InputError(f"no image {number} of {PHANTOM_SETS[kind]}: expected 0 to {len(settings.images) - 1}")
            path = settings.images[number]
            example = read_example(settings, path)
            segmentations = segment_image(example.image, histonet, [label_set], settings.crfs, settings.downsample)
            masks, truth = segmentations[label_set.name].masks, example.truths[label_set.name]
            miou = mean_iou_present(confusion_matrix(truth, masks["CRF"], len(label_set)))
            shown = {stage: masks[stage] for stage in ("Adjust", "CRF")}
            rows.append(case(example.image, truth, shown, label_set, f"{path.stem}\nmIoU {miou:.2f}"))
    return sheet(rows)


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``picture``."""
    parser = subparsers.add_parser("picture", help="draw the README's picture from the phantoms")
    parser.add_argument("--patches", type=int, nargs="+", default=[14, 24], help="numbers of patches (default: 14 24)")
    parser.add_argument("--glands", type=int, nargs="+", default=[5], help="numbers of gland images (default: 5)")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="folder with data, img and gt (default: here)")
    parser.add_argument("--out", type=Path, help="file to write (default: ROOT/img/phantoms.png)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from ..files.writing import write_bytes

    out = arguments.out or arguments.root / "img" / "phantoms.png"
    write_bytes(out, draw(arguments.root, {"patch": arguments.patches, "glas": arguments.glands}))
    print(f"picture in {out}")
    return 0
