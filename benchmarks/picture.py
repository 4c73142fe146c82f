"""Draw the README's figure: a good, a typical and a failed case of the shipped phantoms."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import REPOSITORY

from hsn_v1.adp import CLASSIFIER_MPP
from hsn_v1.commands.common import PHANTOM_GLAND_MODEL, PHANTOM_MODEL, PHANTOM_SETS, exit_status

if TYPE_CHECKING:
    from hsn_v1.show.sheets import Row

#: Parameters of the segmentation of each kind of phantom.
PARAMS = {
    "patch": {"input_name": PHANTOM_SETS["patch"], "htt_mode": "morph"},
    "glas": {"input_name": PHANTOM_SETS["glas"], "htt_mode": "glas", "down_fac": CLASSIFIER_MPP / 0.620},
}
MODELS = {"patch": PHANTOM_MODEL, "glas": PHANTOM_GLAND_MODEL}

#: Cases to draw of each kind: the case's name, and the share of images with a better score.
CASES = {"patch": {"good": 0.1, "typical": 0.5, "failed": 1.0}, "glas": {"typical": 0.5}}


def draw(root: Path) -> bytes:
    """Segment all phantoms, and draw the `CASES` as rows: image, ground truth, before and after the CRF.

    Cases are chosen only by the mIoU of the classes that the image has.

    Parameters
    ----------
    root : Path
        Folder with ``data``, ``img`` and ``gt``.

    Returns
    -------
    bytes
        A PNG file.

    Raises
    ------
    InputError
        If a file is missing.
    """
    from hsn_v1.show.sheets import sheet

    return sheet([row for kind, cases in CASES.items() for row in _rows(root, kind, cases)])


def _rows(root: Path, kind: str, cases: Mapping[str, float]) -> list[Row]:
    from hsn_v1.evaluate import confusion_matrix, mean_iou_present
    from hsn_v1.hsn_v1 import segment_image
    from hsn_v1.io.images import read_image
    from hsn_v1.io.models import load_histonet
    from hsn_v1.sets.measure import read_truths
    from hsn_v1.sets.settings import check_params, settings_from_params, with_crfs
    from hsn_v1.show.sheets import case

    histonet = load_histonet(root / "data", MODELS[kind])
    settings = with_crfs(settings_from_params(check_params(PARAMS[kind]), root=root), root / "data", MODELS[kind])
    (label_set,) = settings.label_sets
    scored = []
    for path in settings.images:
        image, _ = read_image(path)
        truth = read_truths(settings, path, image.shape[:2])[label_set.name].labels
        segmented = segment_image(image, histonet, [label_set], settings.crfs, settings.downsample)
        masks = segmented[label_set.name].masks
        scored.append((mean_iou_present(confusion_matrix(truth, masks["CRF"], len(label_set))), image, truth, masks))
    scored.sort(key=lambda entry: -entry[0])
    rows = []
    for name, better in cases.items():
        place = round(better * (len(scored) - 1))
        miou, image, truth, masks = scored[place]
        shown = {stage: masks[stage] for stage in ("Adjust", "CRF")}
        label = f"{name}: rank {place + 1} of {len(scored)}\nmIoU {miou:.2f}"
        rows.append(case(image, truth, shown, label_set, label))
    return rows


def main() -> int:
    """Write the figure."""
    from hsn_v1.io.writing import remove_leftovers, write_bytes

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="folder with data, img and gt (default: here)")
    parser.add_argument("--out", type=Path, help="file to write (default: ROOT/img/phantoms.png)")
    arguments = parser.parse_args()
    out = arguments.out or arguments.root / "img" / "phantoms.png"
    remove_leftovers(out.parent, out.name)
    write_bytes(out, draw(arguments.root))
    print(f"figure in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
