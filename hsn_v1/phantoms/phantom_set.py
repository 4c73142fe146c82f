"""``python -m hsn_v1 phantom``: write a set of phantoms, laid out and coloured as the published sets, or slides."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..adp import LABEL_SETS
from ..errors import InputError
from ..files.images import colourise, write_picture, write_table
from . import phantom
from .phantom_slide import write_slide

#: Columns of the published table of patch labels, and the types it could not tell apart, which no phantom has.
COLUMNS = (
    *("E.M.S", "E.M.U", "E.M.O", "E.T.S", "E.T.U", "E.T.O", "E.T.X", "E.P", "C.D.I", "C.D.R", "C.L", "C.X"),
    *("H.E", "H.K", "H.Y", "H.X", "S.M.C", "S.M.S", "S.E", "S.C.H", "S.C.X", "S.R", "A.W", "A.B", "A.M"),
    *("M.M", "M.K", "N.P", "N.R.B", "N.R.A", "N.G.M", "N.G.W", "N.G.X", "G.O", "G.N", "G.X", "T"),
)

KINDS = {"patch": phantom.patch, "glas": phantom.glas}
NAMES = {"patch": "01_phantom_patch", "glas": "02_phantom_glas"}


def write_set(kind: str, count: int, seed: int, out: Path, name: str) -> None:
    """Write phantoms with their ground truth.

    Parameters
    ----------
    kind : {"patch", "glas"}
    count : int
    seed : int
        Seed of the first; the others follow.
    out : Path
        Folder to write ``img/<name>`` and ``gt/<name>`` into.
    name : str
        Name of the set.
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


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``phantom``."""
    parser = subparsers.add_parser("phantom", help="write phantoms with their ground truth")
    parser.add_argument("--kind", choices=[*KINDS, "slide"], required=True)
    parser.add_argument("--count", type=int, default=1, help="number of images (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first image (default: 0)")
    parser.add_argument("--out", type=Path, default=Path(), help="folder to write img and gt, or slides, into")
    parser.add_argument("--name", help=f"name of the set (default: {' or '.join(NAMES.values())})")
    parser.add_argument("--size", type=int, default=10_000, help="side of a slide, in px (default: 10000)")
    parser.add_argument("--mpp", type=float, default=0.25, help="microns per pixel of a slide (default: 0.25)")
    parser.add_argument("--tissue", type=float, default=0.6, help="share of a slide that is tissue (default: 0.6)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.count < 1 or arguments.seed < 0:
        raise InputError(f"--count {arguments.count} --seed {arguments.seed}: expected at least 1 and at least 0")
    if arguments.kind == "slide":
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            path = arguments.out / f"phantom_slide_{seed:06d}.tif"
            write_slide(path, arguments.size, arguments.mpp, arguments.tissue, seed)
            print(f"{path}, ground truth in {path.stem}_morph.png and {path.stem}_func.png")
        return 0
    name = arguments.name or NAMES[arguments.kind]
    write_set(arguments.kind, arguments.count, arguments.seed, arguments.out, name)
    print(f"{arguments.count} images in {arguments.out / 'img' / name}, ground truth in {arguments.out / 'gt' / name}")
    return 0
