"""Compare masks in one folder, made by any program, with ground truth in another folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from ..errors import InputError, merge_notes
from ..evaluate import all_metrics, confusion_matrix, occurring
from ..intervals import Estimate, weighted_sums
from ..io import tree
from ..io.masks import MASK_SUFFIXES, Mask, check_any_class, check_fit, read_mask, read_objects
from ..io.reading import no_folder
from ..io.records import RECORD, label_set_of, read_record
from ..labels import LabelSet
from ..object_metrics import ObjectSums, object_metrics, pool
from ..slide_io.annotations import draw_labels, read_regions
from ..slide_io.formats import SLIDE_ENDINGS
from ..slide_io.label_maps import label_map_size, read_thumbnail
from ..tiles import Window
from .measure import connected_components, object_mask, object_sums_of

LABEL_MAP, GEOJSON = ".ome.tif", (".geojson", ".geojson.gz")

#: Endings that a mask's name may have: those of the image, and its own.
ENDINGS = (*MASK_SUFFIXES, ".ome", ".jpg", ".jpeg", ".geojson", ".gz", *SLIDE_ENDINGS)

OBJECT = "objects"  #: used as the protocol of object metrics

#: Values by metric and class (or "", or kind of objects, see `measure.separations`), and then by protocol.
Table = dict[tuple[str, str], dict[str, Estimate]]


@dataclass(frozen=True)
class ImageScore:
    """Comparison of an image's mask with its ground truth; sizes are height and width, in px."""

    name: str  #: the image's name, without endings
    confusion: np.ndarray  #: (C + 1, C + 1)
    pixels: np.ndarray  #: pixels of each class in the ground-truth file, (C,)
    #: By kind of objects, a key of `measure.separations`; empty if the label set has no objects.
    objects: Mapping[str, ObjectSums] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)  #: size of the mask
    true_size: tuple[int, int] | None = None  #: size of the ground truth before resizing; None for annotations


@dataclass(frozen=True)
class Score:
    """Comparison of a set's masks with their ground truth."""

    label_set: LabelSet
    images: tuple[ImageScore, ...]  #: the images that were compared
    failures: tuple[str, ...] = ()  #: reasons why others could not be compared
    notes: tuple[str, ...] = ()  #: further notes for the user

    @cached_property
    def confusion(self) -> np.ndarray:
        """Confusion matrix (C + 1, C + 1) over all images."""
        return sum(image.confusion for image in self.images)

    @property
    def names(self) -> list[str]:
        """Names of the images that were compared."""
        return [image.name for image in self.images]

    def of(self, names: Iterable[str]) -> Score:
        """Return the score of some of the images."""
        wanted = {*names}
        return replace(self, images=tuple(image for image in self.images if image.name in wanted))

    def absent(self) -> list[int]:
        """Return the classes that are neither in the ground truth nor predicted."""
        return sorted({*range(len(self.label_set))} - {*occurring(self.confusion)})

    def table(self, protocols: Iterable[str], weights: np.ndarray | None = None, minus: Score | None = None) -> Table:
        """Return all metrics, pooled over the images.

        `protocols` are some of `evaluate.PROTOCOLS`. The paper's metrics are added as `evaluate.PUBLISHED`, those of
        objects as `OBJECT`. `weights` (1 + D, N) come from `intervals.draw_weights`; without them, there are no
        intervals. With `minus`, the score of other masks of the same images, differences to it are returned.
        """
        weights = np.ones((1, len(self.images))) if weights is None else weights
        values, others = (score and score._values(protocols, weights) for score in (self, minus))
        return {
            key: {
                protocol: Estimate.of(drawn - others[key][protocol] if others else drawn)
                for protocol, drawn in by_protocol.items()
            }
            for key, by_protocol in values.items()
        }

    def _values(self, protocols: Iterable[str], weights: np.ndarray) -> dict[tuple[str, str], dict[str, np.ndarray]]:
        confusions, pixels = ([getattr(image, name) for image in self.images] for name in ("confusion", "pixels"))
        sums = weighted_sums(confusions, weights), weighted_sums(pixels, weights)
        rows = all_metrics(*sums, self.label_set, protocols)
        for kind in self.images[0].objects:
            pooled = pool((image.objects[kind] for image in self.images), weights)
            rows |= {(metric, kind): {OBJECT: values} for metric, values in object_metrics(pooled).items()}
        return rows

    def comparison(self) -> str:
        """Describe the compared masks in one line: number, sizes, and shares of pixels without a class."""
        sizes = Counter(f"{width} x {height}" for height, width in (image.size for image in self.images))
        (size, _), others = sizes.most_common(1)[0], len(sizes) - 1
        resized = sum(image.true_size not in (None, image.size) for image in self.images)
        total, left_out = int(self.confusion.sum()), int(self.confusion[-1].sum())
        missed = int(self.confusion[:-1, -1].sum())
        return (
            f"{len(self.images)} masks, {size} px{f' and {others} other sizes' if others else ''}; {resized} files of "
            f"ground truth resized to them; of {total:,} px, {100 * left_out / max(total, 1):.1f} % have no class in "
            f"the ground truth and {100 * missed / max(total, 1):.1f} % have one there and none in the mask"
        )


def score_folder(
    prediction: Path,
    truth: Path,
    label_set: LabelSet,
    resize: bool = False,
    track: Callable[[list], Iterable] = iter,
    on_truth: Callable[[str, Mask], None] = lambda name, mask: None,
) -> Score:
    """Compare the masks in a folder with the ground truth in another one.

    Masks are matched by their names without endings. Both may be in the label set's colours or hold class indices; see
    `read_mask`. Masks that this package wrote have the classes of their record, in its order and colours. Raises
    InputError if a folder is missing or has no masks, if no masks could be compared, or if no pixel of the ground truth
    has a class.

    Parameters
    ----------
    prediction, truth : Path
        Folders of masks, or of a folder of masks for each label set's name; `prediction` may also be the folder of a
        run or of ``hsn-v1 segment``. Label maps of ``segment`` may have the classifier's scale, and are resized to the
        truth. Ground truth may also be annotations in GeoJSON: pixels in none of them do not count.
    label_set : LabelSet
        Label set of the masks.
    resize : bool
        Resize ground truth of another size, as published, and label maps of another aspect; otherwise it is an error.
    track : callable
        Iterates over the files of ground truth, and may show progress.
    on_truth : callable
        Called with each image's name and its ground truth, at the size at which it is compared.
    """
    predictions = _predictions(prediction, label_set)
    truths = _masks(truth, [truth / label_set.name, truth], (*MASK_SUFFIXES, *GEOJSON))
    read = cache(read_record)  # one for all masks of a run
    images, failures, notes = [], [], []
    for name, path in track(list(truths.items())):
        try:
            if name not in predictions:
                raise InputError(f"{path}: {prediction} has no mask of this name; predict it, or take the truth away")
            written = _recorded(predictions[name], label_set, read)
            predicted, true = _read_pair(predictions[name], path, label_set, written, "silently" if resize else "never")
            predicted = _recoded(predictions[name], predicted, written, label_set)
            on_truth(name, true)
            images.append(_compare(name, predicted, true, label_set, _object_file(truth, path, label_set)))
        except InputError as error:
            failures.append(str(error))
            continue
        notes += [*true.notes, *predicted.notes]
    if not images:
        raise InputError(failures[0])
    check_any_class({truths[image.name]: image.pixels for image in images}, label_set)
    if surplus := sorted(predictions.keys() - truths.keys()):
        notes.append(f"{predictions[surplus[0]]}: no ground truth of this name; {len(surplus)} such masks do not count")
    return Score(label_set, tuple(images), tuple(failures), tuple(merge_notes(notes)))


def _predictions(folder: Path, label_set: LabelSet) -> dict[str, Path]:
    """Return the masks in a folder by name without endings: label maps, a run's final masks, or any program's masks."""
    try:
        return _label_maps(folder, label_set) or _masks(
            folder, [tree.final_masks(folder, label_set.name), folder / label_set.name, folder]
        )
    except InputError:
        records = [read_record(path.parent) for path in (folder / RECORD, *sorted(folder.glob(f"*/{RECORD}")))]
        names = dict.fromkeys(name for record in records for name in record.get("classes", {}))
        if not names or label_set.name in names:
            raise
        raise InputError(
            f"{folder}: no masks of {label_set.name}; these results have {', '.join(names)}: give one of these as "
            "`labels`, or segment the input again"
        ) from None


def _label_maps(folder: Path, label_set: LabelSet) -> dict[str, Path]:
    """Return the label maps that ``hsn-v1 segment`` wrote into a folder, by input name without endings."""
    found = sorted(folder.glob(f"*/{label_set.name}/*{LABEL_MAP}"))
    return {name_of(path.parents[1].name): path for path in found if (path.parents[1] / RECORD).exists()}


def _recorded(path: Path, label_set: LabelSet, read: Callable[[Path], dict]) -> LabelSet:
    """Return the label set that a mask was written with, from the record of its results, if any; `read` reads these.

    Raises InputError if the record of a label map is damaged: a label map alone does not tell its classes.
    """
    is_map, place = path.name.endswith(LABEL_MAP), path.resolve().parent
    of_set = place if is_map else place.parent  # a stage's masks have a folder, and show their classes by colours
    record = read(of_set.parent)
    if is_map and not record and (of_set.parent / RECORD).exists():
        raise InputError(f"{of_set.parent / RECORD}: cannot be read, but has the classes; segment the input again")
    classes = record.get("classes", {})
    if of_set.name in classes and (is_map or of_set.name == label_set.name):
        return label_set_of(of_set.name, classes[of_set.name])
    return label_set


def _recoded(path: Path, mask: Mask, written: LabelSet, label_set: LabelSet) -> Mask:
    """Return a mask of one label set with the class indices of another one; raise InputError if this lacks a class."""
    if lacking := [code for code in written.codes if code not in label_set.codes]:
        raise InputError(
            f"{path}: written with the class {lacking[0]} of {written.name}, expected {', '.join(label_set.codes[:6])} "
            f"of {label_set.name}; segment the input again, or give `labels` or a file of classes with this class"
        )
    indices = label_set.indices(written.codes)
    pixels = np.zeros(len(label_set), np.int64)
    pixels[indices] = mask.pixels
    return replace(mask, labels=np.array([*indices, len(label_set)], np.uint8)[mask.labels], pixels=pixels)


def _read_pair(path: Path, truth: Path, label_set: LabelSet, written: LabelSet, resize: str) -> tuple[Mask, Mask]:
    """Return prediction, which has the classes of `written`, and ground truth, of the same size.

    Pixels without tissue in a label map have no class.
    """
    is_map = path.name.endswith(LABEL_MAP)
    if truth.name.lower().endswith(GEOJSON):
        predicted = _read_label_map(path, written, label_map_size(path)) if is_map else read_mask(path, written)
        full = read_record(path.parents[1]) if is_map else {}
        return predicted, _draw_truth(truth, label_set, predicted.labels.shape, (full.get("height"), full.get("width")))
    if not is_map:
        predicted = read_mask(path, written)
        return predicted, read_mask(truth, label_set, predicted.labels.shape, resize)
    true, size = read_mask(truth, label_set), label_map_size(path)
    predicted = _read_label_map(path, written, true.labels.shape)
    if size != true.labels.shape:
        if resize != "silently":
            check_fit(truth, true.labels.shape, size)
        height, width = true.labels.shape
        note = f"{path}: {size[1]} x {size[0]} px, resized to its ground truth's {width} x {height} px"
        predicted = replace(predicted, notes=(note,))
    return predicted, true


def _read_label_map(path: Path, label_set: LabelSet, size: tuple[int, int]) -> Mask:
    labels = np.minimum(read_thumbnail(path, *size), len(label_set))
    return Mask(labels, np.bincount(labels.ravel(), minlength=len(label_set))[: len(label_set)])


def _draw_truth(path: Path, label_set: LabelSet, size: tuple[int, int], full: tuple[int | None, int | None]) -> Mask:
    """Draw annotations, given in px of an image's full resolution, at a mask's size."""
    regions, notes = read_regions(path, label_set)
    scale = tuple((whole or side) / side for whole, side in zip(full, size, strict=True))
    labels = draw_labels(regions, Window(0, 0, *size), scale, len(label_set))
    if (labels == len(label_set)).all():
        expected = ", ".join(label_set.codes[:6])
        raise InputError(f"{path}: no region of a class of {label_set.name} lies on the image; expected {expected}")
    return Mask(labels, np.bincount(labels.ravel(), minlength=len(label_set))[: len(label_set)], tuple(notes))


def _compare(name: str, predicted: Mask, true: Mask, label_set: LabelSet, file: Path) -> ImageScore:
    """Compare a mask with its ground truth; true objects come from `file`, if it exists, or else from the truth."""
    confusion = confusion_matrix(true.labels, predicted.labels, len(label_set))
    if true.size is None:  # annotations: pixels in none of them were not looked at
        confusion[-1] = 0
    objects = {}
    if label_set.objects:
        drawn = object_mask(true.labels, label_set)
        truth = read_objects(file, *drawn.shape) if file.exists() else connected_components(drawn)
        objects = object_sums_of(predicted.labels, truth, label_set)
    return ImageScore(name, confusion, true.pixels, objects, predicted.labels.shape, true.size)


def _object_file(truth: Path, path: Path, label_set: LabelSet) -> Path:
    """Return the path of the file with a label for each true object: in the folder of truth, or in its parent."""
    name = f"{label_set.true_objects}/{path.stem}.bmp"
    return next((file for file in (truth / name, truth.parent / name) if file.exists()), truth / name)


def name_of(file: str) -> str:
    """Return an image's name without the endings that it or its mask may have."""
    name = Path(file).stem
    while Path(name).suffix.lower() in ENDINGS:
        name = Path(name).stem
    return name


def _masks(given: Path, places: list[Path], endings: Sequence[str] = MASK_SUFFIXES) -> dict[str, Path]:
    """Return the masks in the first folder of `places` that exists, by name without endings."""
    folder = next((place for place in places if place.is_dir()), None)
    if not folder:
        raise InputError(f"{given}: {no_folder(given)}; it should hold masks")
    masks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.lower().endswith(tuple(endings)) and not path.name.startswith(".") and path.is_file():
            name = name_of(path.name)
            if name in masks:
                raise InputError(f"{path} and {masks[name]} have the same name; keep one of them")
            masks[name] = path
    if not masks:
        raise InputError(f"{folder}: no masks; expected {', '.join(endings)} files")
    return masks
