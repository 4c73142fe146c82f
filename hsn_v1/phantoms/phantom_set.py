"""Make sets of phantoms for training and tuning, with the published sets' file layout and colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..adp import ADP, CLASS_FILE, CLASSIFIER_MPP, LABEL_SETS
from ..io.writing import write_picture, write_table
from ..labels import LabelSet
from ..parallel import in_parallel
from ..show.figures import colourise
from . import phantom

#: Columns of the published table of patch labels, with its undifferentiated types, which no phantom has.
COLUMNS = (
    *("E.M.S", "E.M.U", "E.M.O", "E.T.S", "E.T.U", "E.T.O", "E.T.X", "E.P", "C.D.I", "C.D.R", "C.L", "C.X"),
    *("H.E", "H.K", "H.Y", "H.X", "S.M.C", "S.M.S", "S.E", "S.C.H", "S.C.X", "S.R", "A.W", "A.B", "A.M"),
    *("M.M", "M.K", "N.P", "N.R.B", "N.R.A", "N.G.M", "N.G.W", "N.G.X", "G.O", "G.N", "G.X", "T"),
)

KINDS = {"patch": phantom.patch, "glas": phantom.glas}
MPP = {"patch": CLASSIFIER_MPP, "glas": 0.620}  #: scale of the `KINDS`, in microns per pixel


def write_set(kind: str, count: int, seed: int, out: Path, name: str) -> None:
    """Write phantoms of one of the `KINDS` into ``img/<name>`` of a folder, and their ground truth into ``gt/<name>``.

    Their seeds are `seed` and the numbers after it.
    """
    images, truth = out / "img" / name, out / "gt" / name
    rows = [["Patch Names", *COLUMNS]]
    for number in range(seed, seed + count):
        made, file = KINDS[kind](number), f"phantom_{number:06d}.png"
        write_picture(images / file, made.image)
        for label_set, labels in made.labels.items():
            write_picture(truth / label_set / file, colourise(labels, LABEL_SETS[label_set]))
        if made.instances is not None:
            glands = np.unique(made.instances, return_inverse=True)[1].reshape(made.instances.shape)
            write_picture(truth / "glas_multi_gland" / file.replace(".png", ".bmp"), glands.astype(np.uint8))
        present = phantom.present(made)
        rows.append([file, *(int(code in present) for code in COLUMNS)])
    write_table(truth / "gt_labels.csv", rows)


#: Caveat shown with all results of a classifier that was trained on phantoms.
CAVEAT = "Segmented by a classifier that was trained on phantoms and knows no real tissue: not a medical result."


def class_file() -> str:
    """Return the class file of a classifier that is trained on phantoms: ADP's text, with the caveat."""
    head, _, tail = CLASS_FILE.partition("\n[outputs]")
    return f'{head.rstrip()}\ncaveat = "{CAVEAT}"\n\n[outputs]{tail}'


def patches(purpose: str, count: int, tile: int, quiet: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Make phantom patches in parallel from the first `phantom.SEEDS` of a purpose, with labels but no masks.

    Returns images, (count, tile, tile, 3) uint8, and targets, (count, 51) float32, 1 where one of ADP's classes is
    present, parents included, else 0.
    """
    jobs = [(seed, tile) for seed in phantom.SEEDS[purpose][:count]]
    images = np.empty((count, tile, tile, 3), np.uint8)
    targets = np.zeros((count, len(ADP.outputs)), np.float32)
    made = in_parallel(_patch, jobs, f"making {count} phantoms for {purpose}", quiet)
    for i, (image, present) in enumerate(made):
        images[i] = image
        targets[i, present] = 1
    return images, targets


def _patch(seed: int, tile: int) -> tuple[np.ndarray, list[int]]:
    made = phantom.patch(seed, size=(tile, tile))
    return made.image, ADP.with_parents(phantom.present(made))


def tuning_set(label_set: LabelSet, count: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
    """Return images with label maps of phantoms from the seeds for tuning, and their scale in mpp."""
    kind = "glas" if label_set.name == "glas" else "patch"
    phantoms = [KINDS[kind](seed) for seed in phantom.SEEDS["tuning"][:count]]
    return [(made.image, made.labels[label_set.name]) for made in phantoms], MPP[kind]
