"""Find and read ground truth of slides and images, and score segmentations against it in annotated regions."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..evaluate import confusion_matrix, mean_iou_present, occurring_ious
from ..io.masks import BLACK_AND_WHITE, MASK_SUFFIXES, check_fit, decoder_of, read_mask
from ..io.reading import opened
from ..labels import LabelSet
from ..slide_io.annotations import GEOJSON_SUFFIXES, draw_labels, listed, read_regions
from ..slide_io.tiling import nearest
from ..tiles import Window
from .entries import Entry
from .library import Library
from .pyramids import TILE, Pyramid, build_pyramid, decode

SUFFIXES = (".geojson", ".geojson.gz", *MASK_SUFFIXES, ".json")  #: of ground truth; the first that exists is taken

#: Most pixels of a mask that is decoded whole; larger masks are read in strips, twice.
PLAIN_PIXELS = 50_000_000

#: GDAL's drivers of large masks, by the first bytes of a file.
DRIVERS = {b"\x89PNG": "PNG", b"II*\0": "GTiff", b"MM\0*": "GTiff", b"II+\0": "GTiff", b"MM\0+": "GTiff", b"BM": "BMP"}

#: GDAL's options: bytes of its block cache, and PNG read row by row, as reading it whole would hide damage.
GDAL = {"GDAL_CACHEMAX": 16 << 20, "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}


@dataclass(frozen=True)
class Frame:
    """Size of a slide in px at full resolution, and of its label map in rows and columns.

    With `stretches`, for images of a demo set, masks of another aspect are stretched, as published.
    """

    height: float
    width: float
    rows: int
    columns: int
    stretches: bool = False

    def check(self, path: Path, size: tuple[int, int]) -> None:
        """Raise InputError if a mask of this height and width does not fit the slide."""
        if not self.stretches:
            check_fit(path, size, (round(self.height), round(self.width)))

    @property
    def strips(self) -> list[Window]:
        """Windows of the label map's strips of `TILE` rows."""
        tops = range(0, self.rows, TILE)
        return [Window(top, 0, min(TILE, self.rows - top), self.columns) for top in tops]


@dataclass(frozen=True)
class GroundTruth:
    """Ground truth as a label map, and notes on reading it and on parts left out."""

    pyramid: Pyramid  #: class indices; the number of classes where nothing is annotated
    notes: tuple[str, ...] = ()


# --- Files ------------------------------------------------------------------------------------------------------------


def find_ground_truth(entry: Entry, label_set: str, folder: Path | None) -> Path | None:
    """Return the file of an entry's ground truth for a label set, or None.

    For a slide, it is ``<label set>/SLIDE``, ``SLIDE_<label set>`` or ``SLIDE`` with one of the `SUFFIXES` in `folder`,
    where SLIDE is the slide's file name with or without its ending. For a demo set's image, it is the mask that the run
    was scored against.
    """
    if entry.image:
        folder = Path(str(entry.record["truth"])) if entry.record.get("truth") else None
        names = [f"{label_set}/{entry.image}", *(f"{label_set}/{Path(entry.image).stem}{s}" for s in MASK_SUFFIXES)]
    else:
        stem = Path(entry.title).stem
        stems = dict.fromkeys((entry.title, stem, stem.removesuffix(".ome")))
        forms = [form for stem in stems for form in (f"{label_set}/{stem}", f"{stem}_{label_set}", stem)]
        names = [f"{form}{suffix}" for form in forms for suffix in SUFFIXES]
    if folder is None:
        return None
    for path in (folder / name for name in names):  # a link must not lead out of the folder
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            return path
    return None


def unused_files(library: Library, folder: Path) -> list[str]:
    """Return notes on the files of a ground truth folder that belong to no slide."""
    entries: list[Entry] = []
    for name in library.collections():
        with contextlib.suppress(InputError):  # a bad record, which the page reports
            entries += [entry for entry in library.entries(name) if not entry.image]
    pairs = [(entry, label_set.name) for entry in entries for label_set in entry.label_sets]
    used = {find_ground_truth(entry, name, folder) for entry, name in pairs}
    slides = {entry.source for entry in entries}
    folders = [folder, *(folder / name for name in dict.fromkeys(name for _, name in pairs))]
    files = [path for place in folders if place.is_dir() for path in sorted(place.iterdir()) if not path.is_dir()]
    files = [path for path in files if not path.name.startswith(".")]
    unused = [path.relative_to(folder).as_posix() for path in files if not {path, path.resolve()} & (used | slides)]
    notes = []
    if used <= {None} and entries:
        forms = f"{Path(entries[0].title).stem}.geojson, or a mask such as {Path(entries[0].title).stem}.png"
        notes = [f"{folder}: no ground truth of any slide; expected files named after the slides: {forms}"]
    if unused:
        hint = "; of annotations, only GeoJSON is read" if any(name.lower().endswith(".xml") for name in unused) else ""
        notes += [f"{folder}: passed over, as no slide's ground truth: {listed(unused)}{hint}"]
    return notes


def read_ground_truth(path: Path, label_set: LabelSet, frame: Frame) -> GroundTruth:
    """Read annotations or a mask at a label map's scale; raise InputError if unreadable or a mask does not fit."""
    notes: list[str] = []
    read = _drawn if path.name.lower().endswith(GEOJSON_SUFFIXES) else _mask_strips
    pyramid = build_pyramid(read(path, label_set, frame, notes), frame.rows, frame.columns)
    return GroundTruth(pyramid, tuple(note.replace(str(path), path.name) for note in notes))


def _drawn(path: Path, label_set: LabelSet, frame: Frame, notes: list[str]) -> Iterator[np.ndarray]:
    """Yield annotations as strips of class indices, (up to TILE, columns) uint8."""
    regions, odd = read_regions(path, label_set)
    notes += odd
    scale = frame.height / frame.rows, frame.width / frame.columns
    is_empty = True
    for window in frame.strips:
        strip = draw_labels(regions, window, scale, len(label_set))
        is_empty &= bool((strip == len(label_set)).all())
        yield strip
    if is_empty:
        size = f"{frame.width:.0f} x {frame.height:.0f} px"
        notes.append(f"{path}: no region of a class of {label_set.name} lies on the slide of {size}")


def _mask_strips(path: Path, label_set: LabelSet, frame: Frame, notes: list[str]) -> Iterator[np.ndarray]:
    """Yield a mask, resized to the label map by nearest pixels, as strips of class indices."""
    with _opened_if_large(path) as file:
        if file:
            frame.check(path, (file.height, file.width))
            yield from _large_mask_strips(file, path, label_set, frame, notes)
            return
    mask = read_mask(path, label_set)
    frame.check(path, mask.labels.shape)
    notes += mask.notes
    for window in frame.strips:
        yield nearest(mask.labels, window, Window(0, 0, frame.rows, frame.columns))


@contextlib.contextmanager
def _opened_if_large(path: Path) -> Iterator[Any]:
    """Open a mask of more than `PLAIN_PIXELS` with GDAL; yield None for any other file."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with opened(path) as file:
        begins = file.read(4)
    driver = DRIVERS.get(begins) or DRIVERS.get(begins[:2])
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # in all threads: masks have no coordinates
    try:
        with rasterio.Env(**GDAL), contextlib.ExitStack() as stack:
            file = stack.enter_context(rasterio.open(path, driver=driver)) if driver else None
            yield file if file and file.height * file.width > PLAIN_PIXELS else None
    except RasterioError as error:
        raise InputError(f"{path}: not a mask, or damaged ({error}); write it again") from error


def _large_mask_strips(
    file: Any, path: Path, label_set: LabelSet, frame: Frame, notes: list[str]
) -> Iterator[np.ndarray]:
    from rasterio.enums import Resampling
    from rasterio.windows import Window as Part

    bits, is_coloured = int(file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8)), file.colorinterp[0].name == "palette"
    if file.dtypes[0] != "uint8" or (1 < bits < 8 and not is_coloured):
        raise InputError(f"{path}: {file.height * file.width / 1e6:.0f} megapixels; save it with 8 bits per channel")
    bands = [1, 2, 3] if file.count >= 3 else 1
    palette = BLACK_AND_WHITE if bits == 1 else None
    if is_coloured:
        colours = file.colormap(1)
        palette = [colours[value][:3] for value in range(2**bits) if value in colours]

    def read(top: float, height: float, rows: int, columns: int) -> np.ndarray:
        shape = (rows, columns) if bands == 1 else (3, rows, columns)
        part = Part(0, top, file.width, height)
        values = file.read(bands, window=part, out_shape=shape, resampling=Resampling.nearest)
        return values if bands == 1 else np.ascontiguousarray(np.moveaxis(values, 0, -1))

    tops = range(0, file.height, TILE)
    whole = (read(top, min(TILE, file.height - top), min(TILE, file.height - top), file.width) for top in tops)
    decoder, down = decoder_of(path, label_set, whole, palette), file.height / frame.rows
    notes += [f"{path}: {decoder.note}"] if decoder.note else []
    for window in frame.strips:
        labels = decoder(read(window.top * down, window.height * down, window.height, window.width))
        yield np.minimum(labels, len(label_set))


# --- Scores -----------------------------------------------------------------------------------------------------------


def confusion(truth: Pyramid, prediction: Pyramid, label_set: LabelSet) -> np.ndarray:
    """Count the annotated pixels of each pair of true and predicted class in two label maps of one size.

    The result is that of `evaluate.confusion_matrix`, (C + 1, C + 1) int64, with two changes: unannotated pixels do not
    count, and a prediction of no tissue counts as the background class, if there is one.
    """
    classes, (height, width) = len(label_set), truth.size
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tiles = (decode(pyramid.tile(0, top // TILE, left // TILE)) for pyramid in (truth, prediction))
            true, predicted = (np.minimum(tile[: height - top, : width - left], classes) for tile in tiles)
            counts += confusion_matrix(true, predicted, classes)
    counts[-1] = 0
    if label_set.background:
        counts[:, label_set.codes.index(label_set.background)] += counts[:, -1]
        counts[:, -1] = 0
    return counts


def scores(counts: np.ndarray, label_set: LabelSet) -> dict[str, Any]:
    """Return IoU by class, annotated pixels by class, mean IoU of annotated classes, and share of correct pixels."""
    true = counts.sum(axis=1)
    return {
        "iou": {code: round(iou, 4) for code, iou in occurring_ious(counts, label_set).items()},
        "pixels": {code: int(true[c]) for c, code in enumerate(label_set.codes) if true[c]},
        "miou": round(mean_iou_present(counts), 4) if true.any() else None,
        "correct": round(float(np.trace(counts) / max(true.sum(), 1)), 4),
    }
