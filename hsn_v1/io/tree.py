"""Paths in the published file trees: a set's images and ground truth, and a run's results.

A root has ``data``, ``img`` and ``gt``, like the paper's archive, and may have ``database``, the later paper's record.
`out` is a run's folder, `name` a label set's name, and `image` an image's file name, which also names its results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import InputError
from ..file_names import file_name
from ..labels import STAGES, LabelSet
from .masks import mask_name
from .reading import read_text

CARD = "model_card.md"  #: in a results folder: a copy of the classifier's card
MADE_WITH = "settings.json"  #: in a run's folder: the settings of its masks

#: A root's folders of images, ground truth and results, with a folder per set; ground truth also one per label set.
IMAGES, TRUTH, RESULTS = "img", "gt", "out"

#: A root's folder of the later paper's record, with classifiers, CRF settings, and ADP's truth for each label set.
LATER = "database"
LATER_CLASSIFIERS, LATER_CRFS = Path(LATER, "models_cnn"), Path(LATER, "models_wsss")
LATER_TRUTH = Path(LATER, "ADPdevkit", "ADPRelease1", "SegmentationClassAug")

#: Top folders of the authors' data in a root, and in their archives, which may have one more folder around them.
TOPS = {"data", "gt", "img", LATER}
DOWNLOADED = {"data", "gt", "img", "models_cnn", "models_wsss", "ADPdevkit"}

#: Needed parts of the later paper's record: classifiers, CRF settings, and images, ground truth and lists of ADP.
LATER_MODELS = ("ADP_X1.7", "ADP_VGG16")
NEEDED_LATER = (
    *(("models_cnn", name) for name in LATER_MODELS),
    *(("models_wsss", f"{name}_optimal_pcc.npy") for name in ("morph", "func")),
    *(("ADPdevkit", "ADPRelease1", name) for name in ("PNGImagesSubset", "SegmentationClassAug", "ImageSets")),
)


def place_of(parts: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the path below a root for a file of the authors' archives; None if the file is not needed."""
    if parts[0] in TOPS - {LATER}:
        return parts
    return (LATER, *parts) if any(parts[: len(needed)] == needed for needed in NEEDED_LATER) else None


def later_images(root: Path, part: str) -> tuple[Path, ...]:
    """Return the images of a part of the later paper's ADP, ``tuning`` or ``segtest``, in the order of their list.

    Raises InputError if the list cannot be read, is empty, or has an invalid file name.
    """
    folder = (root / LATER_TRUTH).parent
    path = folder / "ImageSets" / "Segmentation" / f"{part}.txt"
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names or any(file_name(name) != name for name in names):
        raise InputError(f"{path}: expected a list of the names of images, one in each line; get the file again")
    return tuple(folder / "PNGImagesSubset" / f"{name}.png" for name in names)


def truth_of(folder: Path, name: str) -> Path:
    """Return a label set's folder in a set's ground truth, named as in either paper; if there is none, `folder`."""
    return next((path for path in (folder / name, folder / f"ADP-{name}") if path.is_dir()), folder)


def stage_mask(out: Path, name: str, stage: str, image: str) -> Path:
    """Return the file of an image's mask after a stage."""
    return out / name / f"ablative_{stage}" / mask_name(image)


def stage_masks(out: Path, name: str, image: str) -> dict[str, Path]:
    """Return the existing masks of an image by stage, the last stage first."""
    paths = {stage: stage_mask(out, name, stage, image) for stage in reversed(STAGES)}
    return {stage: path for stage, path in paths.items() if path.is_file()}


def final_masks(out: Path, name: str) -> Path:
    """Return the folder of the final masks, which are named by `mask_name`."""
    return out / name / "patch"


def overlay(out: Path, name: str, image: str) -> Path:
    """Return the file of an image's final mask over the image."""
    return out / name / "overlay" / mask_name(image)


def summary(out: Path, name: str, direction: str, image: str) -> Path:
    """Return the file of an image's summary, horizontal or vertical."""
    return out / name / direction / f"{image}.png"


def class_pictures(out: Path, label_set: LabelSet, kind: str, image: str) -> Iterator[Path]:
    """Yield the file of each class's picture of an image; `kind` is the folder of confidences or of maps."""
    for code in label_set.codes:
        name = f"{Path(image).stem}_h{file_name(code, label_set.codes)}.png"
        yield out / label_set.name / kind / name


def object_bitmap(out: Path, name: str, kind: str, image: str) -> Path:
    """Return the file of an image's bitmap of objects in the folder `kind`."""
    return out / name / kind / f"{Path(image).stem}.bmp"


def confusion_chart(out: Path, name: str, stage: str, foreground: bool = False) -> Path:
    """Return the file of a stage's confusion matrix, over all classes or the foreground's."""
    return out / f"confusion_matrix_{'fore_' * foreground}{name}_{stage}.png"


def iou_chart(out: Path, name: str) -> Path:
    """Return the file of the classes' IoU after each stage."""
    return out / f"IoU_{name}.png"


def image_chart(out: Path, name: str) -> Path:
    """Return the file of the images' mIoU after each stage."""
    return out / f"mIoU_{name}.png"


def image_record(out: Path, image: str) -> Path:
    """Return an image's record for resuming a run, which is written after all its masks."""
    return out / "work" / f"{image}.json"


def check_stems(images: Iterable[Path]) -> None:
    """Raise InputError if two images' names differ only in their endings, which some results' names lack."""
    stems: dict[str, Path] = {}
    for path in images:
        if stems.setdefault(path.stem, path) != path:
            raise InputError(f"{path} and {stems[path.stem].name}: their results would have the same name; rename one")
