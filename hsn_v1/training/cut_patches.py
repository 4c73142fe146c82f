"""Cut patches from images with masks or slides with annotations, and write a table of their labels.

The labels say which classes are in a patch, never where. All patches are labelled before the chosen ones are read and
cut. A killed run resumes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .. import __version__
from ..errors import InputError, merge_notes
from ..file_names import file_name
from ..io.images import read_image
from ..io.reading import has_content, read_json, read_object
from ..io.records import check_same, difference, forget_others
from ..io.tree import check_stems
from ..io.writing import write_bytes, write_picture, write_table
from ..labels import LabelSet
from ..parallel import in_parallel
from .labelled_images import Cut, Places, Source

CONTEXT = "context.json"  #: file beside patches with a margin: side of their labelled centre, and width of the margin
MADE_WITH = "patches.json"  #: file with the sources and settings that the patches were cut with
TABLE = "labels.csv"
PARTS = ("", "train", "validation")  #: folders of patches: all in one, or two
SHEETS = "sheets"  #: folder of contact sheets, one for each class
ON_SHEET = 24  #: most patches on a sheet
TOLD_FROM = 8  #: most images or slides that `size_that_helps` looks at
AT_ONCE = 64  #: most patches in a worker's job


@dataclass(frozen=True)
class _Patch:
    """A patch: its source, its row and column there, its file, and which of K classes are present, (K,) bool."""

    source: Source
    place: tuple[int, int]
    path: Path
    present: np.ndarray


def cut_patches(
    sources: Sequence[Source], label_set: LabelSet, cut: Cut, out: Path, quiet: bool = False, force: bool = False
) -> tuple[dict[Path, np.ndarray], list[str], list[str]]:
    """Cut patches; write them, a table of their labels, and a contact sheet of each class.

    Parameters
    ----------
    sources : sequence of Source
        Images or slides.
    label_set : LabelSet
        Classes of the sources; its K classified ones become labels.
    cut : Cut
        Size, stride and choice of the patches.
    out : Path
        Folder to write into; with validation, its subfolders ``train`` and ``validation``.
    quiet : bool
        Show no progress.
    force : bool
        Cut anew, and replace patches of another run.

    Returns
    -------
    labels : dict of Path to ndarray of shape (N, K), bool
        Labels of the patches in each folder that was written.
    notes, failures : list of str
        Notes on masks or annotations; reasons why sources were left out.

    Raises
    ------
    InputError
        If nothing can be cut, or, without `force`, if the folder holds other patches.
    """
    check_stems(source.path for source in sources)
    facts = _facts(sources, label_set, cut)
    if not force:
        _check_folder(out, facts)
    folders, codes = _folders(len(sources), cut, out), [label_set.codes[i] for i in label_set.classified]
    patches: dict[Path, list[_Patch]] = {folder: [] for folder in dict.fromkeys(folders)}
    notes, failures = [], []
    done = in_parallel(_label, [(source, cut) for source in sources], f"labelling {len(sources)} images", quiet)
    for source, folder, (places, said, failure) in zip(sources, folders, done, strict=True):
        for (y, x), present in places.items():
            path = folder / f"{source.path.stem}_{y}_{x}.png"
            patches[folder].append(_Patch(source, (y, x), path, present[label_set.classified]))
        notes += said
        failures += [failure] if failure else []
    if not any(patches.values()):
        raise InputError(f"{failures[0]}; no patch was cut")
    goes_on = not force and not difference(read_object(out / MADE_WITH), facts)
    forget_others(out / MADE_WITH, facts, _files_of_run(out))
    for folder, candidates in patches.items():
        chosen = balanced(np.array([patch.present for patch in candidates]), cut)
        patches[folder], damaged = _write([candidates[i] for i in chosen], cut, goes_on, quiet)
        failures += damaged
        if cut.context:
            write_bytes(folder / CONTEXT, json.dumps({"size": cut.size, "context": cut.context}).encode())
        rows = [[patch.path.name, *patch.present.astype(int).tolist()] for patch in patches[folder]]
        write_table(folder / TABLE, [["patch", *codes], *rows])
    _write_sheets([patch for part in patches.values() for patch in part], codes, cut, out / SHEETS)
    labels = {
        folder: np.array([patch.present for patch in part], bool).reshape(-1, len(codes))
        for folder, part in patches.items()
    }
    return labels, merge_notes(notes), failures


def _label(source: Source, cut: Cut) -> tuple[Places, Sequence[str], str]:
    """Return the classes of a source's patches, notes, and the error that leaves it out, or ""."""
    try:
        return *source.label(cut), ""
    except InputError as error:
        return {}, [], str(error)


def size_that_helps(sources: Sequence[Source], label_set: LabelSet, cut: Cut) -> int:
    """Return a smaller size at which at most a third of the patches has every class, by up to `TOLD_FROM` sources."""
    for part in (3 / 4, 1 / 2, 3 / 8, 1 / 4, 1 / 8):
        size = max(round(cut.size * part), 8)
        smaller = replace(cut, size=size, stride=size)
        places = (_label(source, smaller)[0] for source in sources[:: -(-len(sources) // TOLD_FROM)])
        present = np.array([row[label_set.classified] for patches in places for row in patches.values()])
        if len(present) and present[:, present.any(axis=0)].all(axis=1).mean() <= 1 / 3:
            break
    return size


def balanced(present: np.ndarray, cut: Cut) -> list[int]:
    """Draw up to `cut.most` patches of each class, the rarest class first, and return their indices.

    `present`, (N, K) bool, are the classes of N patches. A class that comes with rarer ones may get more patches.
    """
    if cut.most is None or not len(present):
        return [*range(len(present))]
    order, chosen = np.random.default_rng(cut.seed).permutation(len(present)), ~present.any(axis=1)
    for index in np.argsort(present.sum(axis=0), kind="stable"):
        having = order[present[order, index]]
        lacking = max(0, cut.most - int(chosen[having].sum()))
        chosen[having[~chosen[having]][:lacking]] = True
    return np.flatnonzero(chosen).tolist()


def _folders(count: int, cut: Cut, out: Path) -> list[Path]:
    """Return the output folder of each source: all its patches go into the same part."""
    kept = set(np.random.default_rng(cut.seed).permutation(count)[: round(cut.validation * count)].tolist())
    if cut.validation and not 0 < len(kept) < count:
        raise InputError(
            f"`validation` {cut.validation:g}: of {count} images; expected a share that leaves some for both"
        )
    return [out / ("validation" if i in kept else "train") if cut.validation else out for i in range(count)]


def _facts(sources: Sequence[Source], label_set: LabelSet, cut: Cut) -> dict[str, Any]:
    """Return the facts that patches depend on, as JSON values."""
    files = [path.stat() for source in sources for path in (source.path, source.truth) if path.is_file()]
    versions = [(file.st_size, file.st_mtime_ns) for file in files]
    digest = hashlib.sha256(repr((sources, label_set.codes, versions)).encode(errors="backslashreplace")).hexdigest()
    return {**asdict(cut), "classes": label_set.colours, "digest of sources": digest[:16], "version": __version__}


def _files_of_run(out: Path) -> list[Path]:
    """Return the files that an earlier run may have written to a folder: none if it has no record of a run."""
    if not (out / MADE_WITH).exists():
        return []
    files = [*(out / SHEETS).glob("*.png")]
    for folder in (out / part for part in PARTS):
        files += [path for path in folder.glob("*.png") if re.search(r"_\d+_\d+\.png$", path.name)]
        files += [folder / name for name in (TABLE, CONTEXT)]
    return files


def _check_folder(out: Path, facts: Mapping[str, Any]) -> None:
    """Raise InputError if a folder holds patches of a run with other facts, or a table that no run has written."""
    if any(path.exists() for path in _files_of_run(out)):
        check_same(out, read_object(out / MADE_WITH), facts, "patches")
    elif tables := [out / part / TABLE for part in PARTS if (out / part / TABLE).exists()]:
        raise InputError(f"{tables[0]}: written by no run into {out}; replace it by `force`, or choose another folder")


def _write(patches: Sequence[_Patch], cut: Cut, goes_on: bool, quiet: bool) -> tuple[list[_Patch], list[str]]:
    """Write patches; return those that are written, and the errors of the others."""
    parts: list[list[_Patch]] = []
    for _, members in groupby(patches, lambda patch: patch.source.path):
        of_source = [*members]
        parts += [of_source[i : i + AT_ONCE] for i in range(0, len(of_source), AT_ONCE)]
    jobs = [(part[0].source, {patch.place: patch.path for patch in part}, cut, goes_on) for part in parts]
    written, failures = [], {}
    for part, (done, failure) in zip(
        parts, in_parallel(_cut, jobs, f"cutting {len(patches)} patches", quiet), strict=True
    ):
        written += [patch for patch in part if patch.place in done]
        failures |= {failure: None} if failure else {}
    return written, [*failures]


def _cut(source: Source, paths: dict[tuple[int, int], Path], cut: Cut, goes_on: bool) -> tuple[set, str]:
    """Write some patches of a source; return the places of those that are written, and the error of the others."""
    done = {place for place, path in paths.items() if goes_on and has_content(path)}
    missing = [place for place in paths if place not in done]
    try:
        for place, pixels in zip(missing, source.read(missing, cut) if missing else (), strict=True):
            write_picture(paths[place], pixels, flush=False)
            done.add(place)
    except InputError as error:
        return done, str(error)
    return done, ""


def _write_sheets(patches: Sequence[_Patch], codes: Sequence[str], cut: Cut, folder: Path) -> None:
    """Write a contact sheet of each class; a frame marks the labelled centre of patches with a margin."""
    from ..show.sheets import Row, sheet

    for index, code in enumerate(codes):
        having = [patch for patch in patches if patch.present[index]]
        drawn = np.random.default_rng(cut.seed).permutation(len(having))[:ON_SHEET]
        panels = []
        for patch in (having[i] for i in sorted(drawn)):
            others = [name for name, is_there in zip(codes, patch.present, strict=True) if is_there and name != code]
            image, inner = read_image(patch.path)[0], cut.context + cut.size - 1
            if cut.context:
                cv2.rectangle(image, (cut.context, cut.context), (inner, inner), (0, 0, 0), 1)
            panels.append((" + ".join([patch.path.stem, *others]), image))
        if panels:
            write_bytes(folder / f"{file_name(code, tuple(codes))}.png", sheet([Row(panels, label=code)], 6))


def read_context(folder: Path) -> tuple[int, int] | None:
    """Return the side of the labelled centre of a folder's patches, and the width of their margin, in px.

    None if the folder has no ``context.json``: its patches have no margin.
    """
    path = folder / CONTEXT
    if not path.exists():
        return None
    try:
        content = read_json(path)
        size, context = content["size"], content["context"]
    except (InputError, KeyError, TypeError):
        size = context = None
    if not all(type(value) is int and 0 < value <= 4096 for value in (size, context)):
        raise InputError(f'{path}: cannot be read; expected {{"size": 48, "context": 32}}, in px')
    return size, context
