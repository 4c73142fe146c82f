"""What the classifier learns from: images and patch labels, nothing else. No mask ever leaves this file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import cv2
import numpy as np

from ..adp import ADP, CLASSIFIER_CODES
from ..errors import InputError
from ..files.images import read_image
from ..phantoms import phantom
from ..tiles import TILE
from ..workers import available_cores, pool_of

UNDIFFERENTIATED = frozenset(ADP.vague)


@dataclass(frozen=True)
class LabelledPatches:
    """Patches and what is in them, but not where.

    Attributes
    ----------
    images : ndarray of shape (N, tile, tile, 3), uint8
    targets : ndarray of shape (N, 51), float32, 0 or 1
        Which of `adp.CLASSIFIER_CODES` are present, parents included.
    """

    images: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def split(self, count: int, seed: int) -> tuple[LabelledPatches, LabelledPatches]:
        """Return all but `count` of the patches, and these `count`, drawn at random."""
        order = np.random.default_rng(seed).permutation(len(self))
        return tuple(LabelledPatches(self.images[i], self.targets[i]) for i in (order[count:], order[:count]))


def phantom_patches(purpose: str, count: int, tile: int = TILE) -> LabelledPatches:
    """Make phantom patches with their labels, in parallel.

    Parameters
    ----------
    purpose : {"training", "validation"}
        Which of `phantom.SEEDS` to use, from the first one on.
    count : int
    tile : int
        Side, in px.
    """
    seeds = phantom.SEEDS[purpose][:count]
    return _collect(_phantom_patch, [(seed, tile) for seed in seeds], f"making {count} phantoms for {purpose}")


def _phantom_patch(seed: int, tile: int) -> tuple[np.ndarray, np.ndarray]:
    made = phantom.patch(seed, size=(tile, tile))
    return made.image, targets_of(phantom.present(made))


def targets_of(codes: tuple[str, ...]) -> np.ndarray:
    """Return 1 for the outputs of the given codes and of their parents, else 0, as float32."""
    targets = np.zeros(len(CLASSIFIER_CODES), np.float32)
    targets[ADP.with_parents(codes)] = 1
    return targets


def read_patches(folder: Path, table: Path, tile: int = TILE) -> tuple[LabelledPatches, list[str]]:
    """Read images with their labels, in the published format.

    Parameters
    ----------
    folder : Path
        Folder of the images, which are square; those of another size than `tile` are resized.
    table : Path
        CSV with a file name in its first column, and a column of 0 and 1 for each class code.
    tile : int
        Side, in px.

    Returns
    -------
    patches : LabelledPatches
    notes : list of str
        Which columns mean what the user may not expect.

    Raises
    ------
    InputError
        If the table or an image cannot be read, or they do not fit together.
    """
    names, labels, notes = read_labels(table)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; it should hold the images that {table.name} names")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder / missing[0]}: no such file, like {len(missing)} of the {len(names)} images that {table} names; "
            "add them, or remove their rows"
        )
    jobs = [(folder / name, targets, tile) for name, targets in zip(names, labels, strict=True)]
    return _collect(_read_patch, jobs, f"reading {len(jobs)} images"), notes


def read_labels(table: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """Read a table of patch labels.

    Returns
    -------
    names : list of str
        File names, of N images.
    targets : ndarray of shape (N, 51), float32, 0 or 1
        With parents implied.
    notes : list of str

    Raises
    ------
    InputError
        If the table cannot be read, names no class or an image twice, or has a cell that is neither 0 nor 1.
    """
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            header, *rows = [(line, row) for line, row in enumerate(csv.reader(file), 1) if any(row)] or [(1, [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read ({error}); expected a CSV of patch labels") from error
    codes = [code.strip() for code in header[1][1:]]
    if not set(codes) & set(CLASSIFIER_CODES):
        raise InputError(f"{table}: no column is a class; the first row should read: file name, E.M.S, E.M.U, ...")
    if not rows:
        raise InputError(f"{table}: no rows below the header; expected one for each image")
    twice = [code for i, code in enumerate(codes) if code in codes[:i]]
    if twice:
        raise InputError(f"{table}: column {twice[0]!r} comes twice; keep one")
    known = [i for i, code in enumerate(codes) if code in UNDIFFERENTIATED or code in CLASSIFIER_CODES]
    names, targets = {}, []
    for line, row in rows:
        name, cells = row[0].strip(), [cell.strip() for cell in row[1:]]
        where = f"{table}, line {line}"
        if len(cells) != len(codes):
            raise InputError(f"{where}: {len(cells)} labels for {len(codes)} columns; fill the row up, or remove it")
        if name in names:
            raise InputError(f"{where}: {name!r} is on line {names[name]} already; keep one of the rows")
        odd = [i for i in known if cells[i] not in _BINARY]
        if odd:
            raise InputError(f"{where}: {cells[odd[0]]!r} in column {codes[odd[0]]!r}; expected 0 or 1")
        names[name] = line
        targets.append(targets_of(tuple(codes[i] for i in known if _BINARY[cells[i]])))
    return list(names), np.stack(targets), _notes(table, codes)


_BINARY = {"0": False, "0.0": False, "1": True, "1.0": True}


def _notes(table: Path, codes: Sequence[str]) -> list[str]:
    notes = []
    vague = [code for code in codes if code in UNDIFFERENTIATED]
    if vague:
        notes.append(f"{table}: {', '.join(vague)} have no output of their own; they count for their parents")
    for code in codes:
        if code not in UNDIFFERENTIATED and code not in CLASSIFIER_CODES:
            close = get_close_matches(code, CLASSIFIER_CODES, 1)
            hint = f"; do you mean {close[0]}?" if close else ""
            notes.append(f"{table}: column {code!r} is no class and is left out{hint}")
    return notes


def _read_patch(path: Path, targets: np.ndarray, tile: int) -> tuple[np.ndarray, np.ndarray]:
    image, _ = read_image(path)
    height, width = image.shape[:2]
    if height != width:
        raise InputError(f"{path}: {width} x {height} px; patches must be square, best of {tile} x {tile} px")
    if height != tile:
        image = cv2.resize(image, (tile, tile), interpolation=cv2.INTER_AREA if height > tile else cv2.INTER_LINEAR)
    return image, targets


def _collect(make: Callable, jobs: Sequence[tuple], what: str) -> LabelledPatches:
    from rich.progress import track

    pool = pool_of(available_cores())
    made = pool.map(make, *zip(*jobs, strict=True), chunksize=max(1, min(16, len(jobs) // 8)))
    tile = jobs[0][-1]
    images = np.empty((len(jobs), tile, tile, 3), np.uint8)
    targets = np.empty((len(jobs), len(CLASSIFIER_CODES)), np.float32)
    for i, (image, labels) in enumerate(track(made, what, len(jobs))):
        images[i], targets[i] = image, labels
    return LabelledPatches(images, targets)
