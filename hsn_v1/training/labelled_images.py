"""Find the classes in each patch of images with masks and of slides with annotations.

Masks and annotations stay in this module: training only gets the classes of each patch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, product
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError, merge_notes
from ..io.images import find_images, read_image
from ..io.masks import Mask, check_any_class, find_mask, read_mask
from ..labels import LabelSet
from ..parallel import in_parallel
from ..slide_io import annotations as drawn
from ..slide_io.slide import Slide, open_slide
from ..tiles import Window

BLOCK = 2048  #: patches that start in a block of this side, in px, are labelled from one read of the label map

#: Which of C classes are in patches, (C,) bool, by row and column of a patch's upper left pixel.
Places = dict[tuple[int, int], np.ndarray]


@dataclass(frozen=True)
class Cut:
    """Settings of cutting patches; lengths are in px at the patches' scale."""

    size: int  #: side of a patch
    stride: int  #: from one patch to the next
    share: float = 0.05  #: a class that covers at least this share of a patch is present in it
    validation: float = 0.0  #: share of the images or slides whose patches are kept for validation; 0 for none
    seed: int = 0  #: of the random choice of these images, and of patches
    context: int = 0  #: width of a margin around each patch, which is cut with it, but not labelled
    most: int | None = None  #: most patches to draw for a class, in each part; None for all


@dataclass(frozen=True)
class LabelMap:
    """A label map at the patches' scale, read in windows, and points with a class."""

    read: Callable[[Window], np.ndarray]  #: returns class indices of a window, uint8; C where a pixel is unlabelled
    height: int
    width: int
    classes: int  #: number C of classes
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), int))  #: (P, 3): row, column and class of each

    def present(self, labels: np.ndarray, top: int, left: int, share: float) -> tuple[np.ndarray, bool]:
        """Return which classes are in a patch, (C,) bool, and whether at least half of its pixels are labelled."""
        area = np.bincount(labels.ravel(), minlength=self.classes + 1) / labels.size
        present = area[: self.classes] >= share
        inside = ((self.points[:, :2] >= (top, left)) & (self.points[:, :2] < np.add((top, left), labels.shape))).all(1)
        present[self.points[inside, 2]] = True
        return present, bool(area[self.classes] <= 0.5)

    def around(self, row: float, column: float, size: int) -> Window:
        """Return the window of a patch around a place, moved inside the map."""
        top = max(0, min(round(row - size / 2), self.height - size))
        left = max(0, min(round(column - size / 2), self.width - size))
        return Window(top, left, size, size)


def patch_starts(length: int, size: int, stride: int) -> list[int]:
    """Return the starts of patches along an axis: every `stride` px, and one flush with the far edge."""
    if length < size:
        return []
    return sorted({*range(0, length - size + 1, stride), length - size})


def label_patches(labels: LabelMap, cut: Cut, centres: Iterable[tuple[float, float]] = ()) -> Places:
    """Return the classes of each patch of an image or slide.

    Patches lie on a grid, around points, and around `centres`, (row, column). Patches without a class are left out, as
    are those with more than half of their pixels unlabelled, except around points.
    """
    places: Places = {}
    sides = (patch_starts(side, cut.size, cut.stride) for side in (labels.height, labels.width))
    blocks = ([[*starts] for _, starts in groupby(side, lambda start: start // BLOCK)] for side in sides)
    for rows, columns in product(*blocks):
        top, left = rows[0], columns[0]
        block = labels.read(Window(top, left, rows[-1] - top + cut.size, columns[-1] - left + cut.size))
        for y, x in product(rows, columns) if (block < labels.classes).any() else ():
            patch = block[y - top : y - top + cut.size, x - left : x - left + cut.size]
            present, is_labelled = labels.present(patch, y, x, cut.share)
            if present.any() and is_labelled:
                places[y, x] = present
    marked = [(place, True) for place in labels.points[:, :2].tolist()]
    fits = min(labels.height, labels.width) >= cut.size
    for (row, column), is_point in [*marked, *((place, False) for place in centres)] if fits else ():
        window = labels.around(row, column, cut.size)
        present, is_labelled = labels.present(labels.read(window), window.top, window.left, cut.share)
        if present.any() and (is_labelled or is_point):
            places[window.top, window.left] = present
    return places


@dataclass(frozen=True)
class ImageWithMask:
    """An image with its mask, to cut patches from."""

    path: Path
    truth: Path  #: path of the mask
    label_set: LabelSet  #: classes and colours of the mask
    factor: float = 1.0  #: the image's mpp over the patches'
    resize: str = "noted"  #: how to treat a mask of another size than the image; see `read_mask`

    def open(self) -> tuple[np.ndarray, Mask]:
        """Return the image, (H, W, 3) uint8, and its mask; raise InputError if one is unreadable or does not fit."""
        image, _ = read_image(self.path)
        return image, read_mask(self.truth, self.label_set, image.shape[:2], self.resize)

    def label(self, cut: Cut) -> tuple[Places, Sequence[str]]:
        """Return the patches' classes, and notes; raise InputError if a file is unreadable or there is no patch."""
        image, mask = self.open()
        height, width = self._size(image)
        labels = cv2.resize(mask.labels, (width, height), interpolation=cv2.INTER_NEAREST)
        frame = Window(0, 0, height, width)
        read = LabelMap(lambda window: labels[window.within(frame)], height, width, len(self.label_set))
        places = label_patches(read, cut)
        if not places:
            problem = f"{self.path}: {width} x {height} px give no patch of {cut.size} px with a class"
            raise InputError("; ".join([problem, *mask.notes]))
        return places, mask.notes

    def read(self, places: Iterable[tuple[int, int]], cut: Cut) -> Iterator[np.ndarray]:
        """Yield the patches at some places, with their margin; the image is mirrored at its edges."""
        image, side = read_image(self.path)[0], cut.size + 2 * cut.context
        if self.factor != 1:
            how = cv2.INTER_AREA if self.factor < 1 else cv2.INTER_LINEAR
            image = cv2.resize(image, self._size(image)[::-1], interpolation=how)
        image = cv2.copyMakeBorder(image, *[cut.context] * 4, cv2.BORDER_REFLECT)
        for y, x in places:
            yield image[y : y + side, x : x + side]

    def _size(self, image: np.ndarray) -> tuple[int, int]:
        return tuple(max(round(side * self.factor), 1) for side in image.shape[:2])


def images_with_masks(
    images: Path, truth: Path, label_set: LabelSet, factor: float = 1.0, resize: str = "noted"
) -> list[ImageWithMask]:
    """Return the images of a folder, each with the mask of the same name in the folder `truth`."""
    paths = find_images(images, "any")
    return [ImageWithMask(path, find_mask(truth, path.name), label_set, factor, resize) for path in paths]


def truth_folder(truth: Path, label_set: LabelSet, label_sets: Sequence[LabelSet]) -> Path | None:
    """Return the folder of a label set's masks, or None.

    It is the subfolder of `truth` with the label set's name, or `truth` itself if there is only one label set.
    """
    if (truth / label_set.name).is_dir():
        return truth / label_set.name
    return truth if len(label_sets) == 1 and truth.is_dir() else None


def read_tuning_set(
    images: Path, truth: Path, label_set: LabelSet, resize: str = "noted"
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[str], list[str]]:
    """Read a folder of images with masks of the same names; see `read_mask` for `resize`.

    Returns the images, (H, W, 3) uint8, each with its class indices, (H, W) uint8; notes on the masks; and errors of
    the images that were left out. Raises InputError if none can be read, or no pixel of any mask has a class.
    """
    pairs, notes, failures, pixels = [], [], [], {}
    for source in images_with_masks(images, truth, label_set, resize=resize):
        try:
            image, mask = source.open()
        except InputError as error:
            failures.append(str(error))
            continue
        pairs.append((image, mask.labels))
        notes += mask.notes
        pixels[source.truth] = mask.pixels
    if not pairs:
        raise InputError(failures[0])
    check_any_class(pixels, label_set)
    return pairs, merge_notes(notes), failures


@dataclass(frozen=True)
class AnnotatedSlide:
    """A slide with a file of annotations, to cut patches from."""

    path: Path
    truth: Path  #: path of the annotations
    label_set: LabelSet
    patch_mpp: float  #: scale of the patches, in microns per pixel
    mpp: float | None = None  #: microns per pixel at full resolution, if the slide's file does not state it

    def label(self, cut: Cut) -> tuple[Places, Sequence[str]]:
        """Return the patches' classes, and notes; raise InputError if a file is unreadable or there is no patch.

        Beside those of the grid, there is a patch around each point and around each region that fits into a patch.
        """
        regions, left_out = drawn.read_regions(self.truth, self.label_set, with_points=True)
        with open_slide(self.path, self.mpp) as slide:
            notes = [*slide.notes, *left_out, *self._notes(slide, regions)]
            frame = slide.frame(self.patch_mpp)
        scale = slide.height / frame.height, slide.width / frame.width
        points = np.column_stack([regions.points[:, 1::-1] // np.array(scale), regions.points[:, 2]]).astype(int)
        points = points[(points[:, :2] >= 0).all(1) & (points[:, :2] < (frame.height, frame.width)).all(1)]
        centres = []
        for left, top, right, bottom in (geometry.bounds for geometry in regions.geometries):
            if (bottom - top) <= cut.size * scale[0] and (right - left) <= cut.size * scale[1]:
                centres.append(((top + bottom) / 2 / scale[0], (left + right) / 2 / scale[1]))
        read = partial(drawn.draw_labels, regions, scale=scale, unlabelled=len(self.label_set))
        labels = LabelMap(read, frame.height, frame.width, len(self.label_set), points)
        places = label_patches(labels, cut, centres)
        if not places:
            raise InputError(
                f"{self.truth}: no patch of {cut.size} px at {self.patch_mpp:g} mpp has a class; cut smaller ones, or "
                "annotate larger regions"
            )
        return places, notes

    def read(self, places: Iterable[tuple[int, int]], cut: Cut) -> Iterator[np.ndarray]:
        """Yield the patches at some places, with their margin; the slide is mirrored at its edges."""
        with open_slide(self.path, self.mpp) as slide:
            for y, x in places:
                yield slide.read(Window(y, x, cut.size, cut.size).grown(cut.context), self.patch_mpp)

    def _notes(self, slide: Slide, regions: drawn.Regions) -> list[str]:
        """Return notes on annotations outside the slide, and on partly overlapping regions of two classes."""
        notes, names = [], {drawn.NO_INDEX: drawn.IGNORE, **dict(enumerate(self.label_set.codes))}
        boxes = [shape.bounds for shape in regions.geometries] + [(x, y, x, y) for x, y, _ in regions.points.tolist()]
        if outside := sum(not drawn.lies_on(slide, *box) for box in boxes):
            notes.append(f"{self.truth}: {outside} annotation{'s' * (outside > 1)} outside the slide")
        if pairs := regions.overlaps():
            i, j = (names[regions.classes[number]] for number in pairs[0])
            x, y = regions.geometries[pairs[0][1]].representative_point().coords[0]
            notes.append(
                f"{self.truth}: {len(pairs)} partial overlap{'s' * (len(pairs) > 1)} of two classes, where the smaller "
                f"region counts, such as {i} and {j} near x = {x:.0f}, y = {y:.0f}"
            )
        return notes


#: An image or slide to cut patches from, with its ground truth.
Source = ImageWithMask | AnnotatedSlide


def classes_of(files: Sequence[Path], quiet: bool = False) -> list[str]:
    """Return the sorted class names in files of annotations; names that differ only in case count as one.

    Unreadable files are skipped: their error is raised when they are used.
    """
    names: dict[str, str] = {}
    for names_in_file in in_parallel(_names_in, [(file,) for file in files], f"reading {len(files)} files", quiet):
        for name in names_in_file:
            names.setdefault(drawn.folded(name), name)
    return sorted(name for form, name in names.items() if form not in (drawn.IGNORE, drawn.LIMIT, drawn.NO_CLASS))


def _names_in(file: Path) -> list[str]:
    try:
        return [*dict.fromkeys(annotation.name for annotation in drawn.read_annotations(file, with_points=True)[0])]
    except InputError:
        return []
