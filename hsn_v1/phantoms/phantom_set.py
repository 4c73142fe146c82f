"""A set of phantoms, laid out and coloured as the published sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..adp import LABEL_SETS
from ..io.writing import write_picture, write_table
from ..show.figures import colourise
from . import phantom

#: Columns of the published table of patch labels, and the types it could not tell apart, which no phantom has.
COLUMNS = (
    *("E.M.S", "E.M.U", "E.M.O", "E.T.S", "E.T.U", "E.T.O", "E.T.X", "E.P", "C.D.I", "C.D.R", "C.L", "C.X"),
    *("H.E", "H.K", "H.Y", "H.X", "S.M.C", "S.M.S", "S.E", "S.C.H", "S.C.X", "S.R", "A.W", "A.B", "A.M"),
    *("M.M", "M.K", "N.P", "N.R.B", "N.R.A", "N.G.M", "N.G.W", "N.G.X", "G.O", "G.N", "G.X", "T"),
)

KINDS = {"patch": phantom.patch, "glas": phantom.glas}


def write_set(kind: str, count: int, seed: int, out: Path, name: str) -> None:
    """Write phantoms of one of the `KINDS` into ``img/<name>`` of a folder, and their ground truth into ``gt/<name>``.

    `seed` is that of the first; the others follow.
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
