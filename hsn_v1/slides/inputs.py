"""The slides and images to segment, from paths, folders or the rows of a list, each with its problem, if any."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import InputError
from ..io.reading import no_folder
from ..io.tables import find_files, read_rows
from ..labels import PLAUSIBLE_MPP
from ..slide_io.annotations import find_annotations
from ..slide_io.formats import SLIDE_ENDINGS
from ..slide_io.multi_file import is_dicom, parts_of_slides
from ..slide_io.scale import is_plausible

#: Endings of the files that count as inputs in a folder.
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".jp2", ".webp", *SLIDE_ENDINGS)

#: Endings of tables, which may be lists, but are no inputs themselves.
TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".xlsx")

#: Columns of a list that are used here; all others belong to the user, and come back in the results.
COLUMNS = ("path", "name", "mpp", "labels", "model")


@dataclass(frozen=True)
class Input:
    """A slide or image to segment."""

    path: Path
    name: str  #: name of its results folder
    mpp: float | None = None  #: microns per pixel at full resolution, if the file does not state it
    labels: str | None = None  #: label set, if not the run's
    model: str | None = None  #: classifier, if not the run's
    columns: Mapping[str, str] = field(default_factory=dict)  #: the list's other columns, such as patient and site
    problem: str = ""  #: reason why it cannot be segmented; empty if none is known
    regions: Path | None = None  #: annotations that limit its segmentation; see `regions.read_regions`


# --- Files and folders ------------------------------------------------------------------------------------------------


def inputs_of(paths: Iterable[Path]) -> tuple[list[Input], list[str]]:
    """Return the inputs that paths name, each once, and a line with the reason for each path that is left out.

    A folder stands for its images and slides, sorted by name. Of several files of a slide, one stands for all. An
    input that cannot be segmented is returned with its problem, so that the others are still segmented.
    """
    problems, notes = {}, []
    for path in map(Path, paths):
        files, passed, problem = [path], [], problem_of(path)
        if not problem and path.is_dir():
            files, passed, problem = _in_folder(path)
        elif not problem and path.suffix.lower() in TABLE_ENDINGS:
            problem = f"{path}: a table by its ending, expected a slide or an image; give a list of slides by `list`"
        problems |= dict.fromkeys(files, "") | ({path: problem} if problem else {})
        notes += passed
    parts = parts_of_slides(path for path, problem in problems.items() if not problem)
    if len(parts) == len(problems):  # a slide's label by itself
        problems, parts = {path: f"{path}: {why}, and there is no slide with it" for path, why in parts.items()}, {}
    inputs = [Input(path, path.name, problem=problem) for path, problem in problems.items() if path not in parts]
    return inputs, [*notes, *(f"{path}: {why}" for path, why in parts.items())]


def problem_of(path: Path) -> str:
    """Return the reason why a path leads to no file or folder, or "" if it leads to one."""
    try:
        path.stat()
    except FileNotFoundError:
        return f"{path}: no such file"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f"{_shortened(path)}: cannot be reached ({reason}); expected a slide, an image, or a folder of such"
    return ""


def _shortened(path: Path, length: int = 200) -> str:
    text = str(path).replace("\0", "\\0")
    return text if len(text) <= length else f"{text[: length // 2]}...{text[-length // 2 :]}"


def _in_folder(folder: Path) -> tuple[list[Path], list[str], str]:
    """Return a folder's images and slides, notes on its other files and folders, and its problem, or ""."""
    if why := _why_not_searched(folder):
        return [], [], f"{folder}: {why}"
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        return [], [], f"{folder}: cannot be read ({error.strerror}); expected a folder of slides or images"
    files, notes = [], []
    for path in paths:
        if os.path.isdir(path):  # False, not an error, where access is denied
            why = _why_not_searched(path)
            if not why and not os.path.exists(f"{path}.mrxs"):  # MIRAX keeps a slide's pixels in such a folder
                why = "a folder in a folder, which is not searched; name it to segment what it holds"
            notes += [f"{path}: {why}"] if why else []
        elif path.suffix.lower() in ENDINGS or is_dicom(path):
            files.append(path)
        elif path.suffix.lower() != ".geojson":  # annotations of the slide beside it
            notes.append(f"{path}: no image or slide by its ending")
    problem = "" if files else f"{folder}: no images or slides in this folder; expected {', '.join(ENDINGS)}"
    return files, notes, problem


def _why_not_searched(folder: Path) -> str:
    marks = (folder / name for name in (".zattrs", "zarr.json"))
    is_zarr = folder.suffix.lower() == ".zarr" or any(map(os.path.exists, marks))  # False where access is denied
    return "an OME-Zarr folder, which is not read; export it as OME-TIFF" if is_zarr else ""


def limited_to_regions(inputs: Sequence[Input], folder: Path) -> list[Input]:
    """Return inputs with their annotations from a folder; an input without annotations gets a problem."""
    if not folder.is_dir():
        raise InputError(f"{folder}: {no_folder(folder)}; it should hold annotations, as GeoJSON")
    limited, files = [], find_annotations(folder, [item.path for item in inputs])
    for item in inputs:
        lacking = f"{item.path}: no annotations in {folder}; expected {item.path.stem}.geojson"
        problem = item.problem or ("" if item.path in files else lacking)
        limited.append(replace(item, regions=files.get(item.path), problem=problem))
    return limited


# --- Lists ------------------------------------------------------------------------------------------------------------


def read_list(table: Path) -> tuple[list[Input], list[str]]:
    """Read a list of slides: return the inputs of its usable rows, and a line on the problem of each other row.

    The list is a table that `io.tables.read_rows` can read. Its column ``path`` is required, and relative to the
    list's folder; the other `COLUMNS` are optional. Raises InputError if it is no such table, or has no rows.
    """
    (_, names), *rows = read_rows(table) or [(1, [])]
    header = [name.lower() if name.lower() in COLUMNS else name for name in names]
    if "path" not in header:
        raise InputError(f"{table}: no column 'path'; its columns are {', '.join(header) or 'none'}")
    if not rows:
        raise InputError(f"{table}: no rows below the header; expected one for each slide")
    inputs, problems, lines = [], [], {}
    for line, row in rows:
        item = _input_of(Path(table).parent, header, row)
        if not item.problem and item.name in lines:
            clash = f"the name {item.name!r} is on line {lines[item.name]} already; give one of them another name"
            item = replace(item, problem=clash)
        if item.problem:
            problems.append(f"{table}, line {line}: {item.problem}")
        else:
            lines[item.name] = line
            inputs.append(item)
    return inputs, problems


def _input_of(folder: Path, header: list[str], row: list[str]) -> Input:
    """Return the input that a row describes, with its problem, if any."""
    if len(row) != len(header):
        return Input(folder, "", problem="more or fewer cells than the header has columns")
    columns = dict(zip(header, row, strict=True))
    cells = {column: columns.get(column, "") for column in COLUMNS}
    path, mpp = _as_on_disk((folder / cells["path"]).absolute()), None
    name = cells["name"] or path.name
    problem = problem_of(path) if cells["path"] else "no path"
    if not problem and path.is_dir():
        problem = f"{path}: a folder; expected a slide or an image, each on a line of its own"
    if not problem and (Path(name).name != name or name in (".", "..")):
        problem = f"the name {name!r} is not that of a folder"
    if cells["mpp"] and not problem:
        with contextlib.suppress(ValueError):
            mpp = float(cells["mpp"].replace(",", "."))
        if mpp is None or not is_plausible(mpp):
            problem = (
                f"mpp is {cells['mpp']!r}; expected microns per pixel, {PLAUSIBLE_MPP[0]:g} to {PLAUSIBLE_MPP[1]:g}, "
                "such as 0.25 for a 40x objective"
            )
    others = {column: cell for column, cell in columns.items() if column not in COLUMNS}
    return Input(path, name, mpp, cells["labels"] or None, cells["model"] or None, others, problem)


def _as_on_disk(path: Path) -> Path:
    """Return a path as the disk spells it (accents, case, separators), or unchanged if it does not exist."""
    if os.path.lexists(path):
        return path
    spelled = Path(path.anchor)
    for part in Path(str(path).replace("\\", "/")).parts[1:]:
        folder, spelled = spelled, spelled / part
        with contextlib.suppress(OSError, ValueError):
            similar = None if os.path.lexists(spelled) else find_files([part], folder.iterdir()).get(part)
            spelled = similar if similar and similar.suffix.lower() == spelled.suffix.lower() else spelled
    return spelled if os.path.lexists(spelled) else path


def shard(inputs: list[Input], number: int, count: int) -> list[Input]:
    """Return job `number`'s part of a list, from 1 to `count`: every `count`-th input, so that parts are alike."""
    return inputs[number - 1 :: count]
