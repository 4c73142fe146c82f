"""Compare a folder or a run with the papers' data, classifiers and settings.

All published numbers are here, except the results, which the demos hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import astuple, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adp import CLASSIFIER_CODES, LABEL_SETS
from ..class_file import parse_taxonomy
from ..errors import InputError
from ..io import tree
from ..labels import STAGES, Taxonomy
from .unpack import Track, untracked

if TYPE_CHECKING:
    import numpy as np

    from .report import Report
    from .settings import Settings

MODEL = "histonet_X1.7_clrdecay_5"
PARAMETERS = 1_753_203
THRESHOLDS = {"G.O": 0.777848, "T": 0.553801, "E": 0.720844}

#: Digest of the weights' file, unknown as yet: other weights may have as many parameters.
WEIGHTS_SHA256: str | None = None
UNTOLD = "whether they are the authors' cannot be told"

#: Settings of the dense CRF by label set, in the order of the fields of `CRF`.
CRFS = {"morph": (1, 20, 10, 40, 50), "func": (3, 40, 10, 4, 25), "glas": (3, 40, 10, 4, 25)}

#: Weights in fIoU, as far as they were published. They depend on the complete ground truth.
FIOU_WEIGHTS = {
    "morph": {"Background": 0.028387, "E.M.S": 0.037301, "N.G.M": 0.044829, "N.G.W": 0.052202},
    "func": {"Background": 0.200454, "Other": 0.180285, "G.O": 0.196248, "G.N": 0.211562, "T": 0.211451},
    "glas": {"Other": 0.500444, "G.O": 0.499556},
}

#: Largest difference to published metrics that counts as reproduced.
TOLERANCE = 1e-4

EVERY_IMAGE, EVERY_NAME = "one for every image", "one for every name"

#: Parts of the later paper's set, and the class file of each of its classifiers.
LATER_PARTS = ("tuning", "segtest")
LATER_CLASSES = dict(zip(tree.LATER_MODELS, ("adp_ijcv2020", "adp_ijcv2020_vgg16"), strict=True))


@dataclass(frozen=True)
class PublishedSet:
    """A published set of images."""

    images: int  #: number of its images
    label_sets: tuple[str, ...]
    bitmaps: str | None = None  #: folder of one bitmap per image, if any


SETS = {
    "01_tuning_patch": PublishedSet(50, ("morph", "func")),
    "02_glas_full": PublishedSet(165, ("glas",), "glas_multi_gland"),
}


@dataclass(frozen=True)
class Finding:
    """A check: the value found and the paper's value, to the published digits."""

    subject: str
    found: str
    expected: str
    doubt: str = ""  #: limit of the check

    @property
    def ok(self) -> bool:
        """Whether the value found is the paper's, as far as the check can tell."""
        return self.found == self.expected


def later_taxonomy(model: str) -> Taxonomy:
    """Return the taxonomy of one of the later paper's classifiers, which comes with this package."""
    return parse_taxonomy(f'extends = "{LATER_CLASSES[model]}"', f"{model}.toml")


def inspect(root: Path, track: Track = untracked) -> list[Finding]:
    """Compare a root's ``data``, ``gt`` and ``img``, and ``database`` if it exists, with the papers' data.

    A root with nothing but ``database`` is checked for that alone. A missing or broken file is a finding. Raises
    InputError if there is no such root.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected the one that has data, gt and img")
    later = [*_inspect_later(root, track)] if (root / tree.LATER).is_dir() else []
    if later and not any((root / name).is_dir() for name in ("data", "gt", "img")):
        return later
    sets = (finding for name in SETS for finding in _inspect_set(root, name, track))
    return [*sets, *_inspect_model(root / "data"), *later]


def _inspect_set(root: Path, name: str, track: Track) -> Iterator[Finding]:
    from ..evaluate import frequency_weights
    from ..io.images import read_image
    from ..io.masks import read_mask

    published = SETS[name]
    folder = root / tree.IMAGES / name
    images = _files(folder, ".png")
    _, broken = _read_all(read_image, track([folder / file for file in images], f"img/{name}"))
    yield Finding(f"img/{name}", "\n".join([f"{len(images)} images", *broken]), f"{published.images} images")
    for label_set in published.label_sets:
        place = f"gt/{name}/{label_set}"
        truths = _files(root / place, ".png")
        with_truth = [root / place / file for file in images if file in truths]
        masks, broken = _read_all(partial(read_mask, label_set=LABEL_SETS[label_set]), track(with_truth, place))
        yield _pairs(place, images, truths, broken)
        pixels = sum(mask.pixels for mask in masks)
        weights = _known_weights(label_set, frequency_weights(pixels)) if masks else "none"
        yield Finding(f"{place}: weights in fIoU", weights, _lines(FIOU_WEIGHTS[label_set]))
    if published.bitmaps:
        place = f"gt/{name}/{published.bitmaps}"
        yield _pairs(place, [f"{Path(file).stem}.bmp" for file in images], _files(root / place, ".bmp"))


def _inspect_model(data: Path) -> Iterator[Finding]:
    from ..densecrf import CRF
    from ..io.models import read_thresholds, read_weights

    def parameters(path: Path) -> str:
        count = f"{sum(values.size for arrays in read_weights(path).values() for values in arrays.values()):,}"
        differs = WEIGHTS_SHA256 and sha256(path.read_bytes()).hexdigest() != WEIGHTS_SHA256
        return f"{count} of other values" if differs else count

    def thresholds(path: Path) -> str:
        values = read_thresholds(path, len(CLASSIFIER_CODES))
        return _lines({code: values[CLASSIFIER_CODES.index(code)] for code in THRESHOLDS})

    def crf(path: Path) -> str:
        return _numbers(astuple(CRF.from_file(path))[:5])

    compare = partial(_compare, "data")
    yield compare(data / f"{MODEL}.json", "architecture", _architecture, "Keras")
    doubt = "" if WEIGHTS_SHA256 else UNTOLD
    yield compare(data / f"{MODEL}.h5", "parameters", parameters, f"{PARAMETERS:,}", doubt)
    yield compare(data / f"{MODEL}.mat", "thresholds", thresholds, _lines(THRESHOLDS))
    for name, settings in CRFS.items():
        yield compare(data / f"{name}_optimal_pcc.npy", "CRF settings", crf, _numbers(settings))


def _inspect_later(root: Path, track: Track) -> Iterator[Finding]:
    """Look for the files in the later paper's lists; nothing but their names is known."""
    from ..densecrf import CRF
    from ..io.images import read_image
    from ..io.masks import find_mask, read_mask
    from ..io.models import read_thresholds

    for part in LATER_PARTS:
        try:
            images = tree.later_images(root, part)
        except InputError as error:
            yield Finding(f"{tree.LATER}: images of {part}", str(error), EVERY_NAME)
            continue
        _, broken = _read_all(read_image, track(list(images), part))
        yield Finding(f"{tree.LATER}: images of {part}", "\n".join(broken) or EVERY_NAME, EVERY_NAME)
        for name in ("morph", "func"):
            folder = tree.truth_of(root / tree.LATER_TRUTH, name)
            truths = [find_mask(folder, path.name) for path in images]
            read = partial(read_mask, label_set=LABEL_SETS[name])
            _, broken = _read_all(read, track(truths, f"{part}, {folder.name}"))
            yield Finding(f"{tree.LATER}: {folder.name} of {part}", "\n".join(broken) or EVERY_IMAGE, EVERY_IMAGE)
    for model in LATER_CLASSES:
        path, outputs = root / tree.LATER_CLASSIFIERS / model / model, len(later_taxonomy(model).outputs)
        yield _compare(tree.LATER, path.with_name(f"{model}.json"), "architecture", _architecture, "Keras", UNTOLD)
        count = _count_of(partial(read_thresholds, outputs=outputs))
        yield _compare(tree.LATER, path.with_name(f"{model}.mat"), "thresholds", count, f"{outputs} numbers")
    six = _count_of(lambda path: astuple(CRF.from_file(path, file_iterations=True))[:6])
    for name in ("morph", "func"):
        path = root / tree.LATER_CRFS / f"{name}_optimal_pcc.npy"
        yield _compare(tree.LATER, path, "CRF settings", six, "6 numbers")


def _compare(
    folder: str, path: Path, subject: str, read: Callable[[Path], str], expected: str, doubt: str = ""
) -> Finding:
    try:
        found = read(path) if path.exists() else "no such file"
    except InputError as error:
        found = str(error)
    return Finding(f"{folder}/{path.name}: {subject}", found, expected, doubt if found == expected else "")


def _count_of(read: Callable[[Path], Sized]) -> Callable[[Path], str]:
    return lambda path: f"{len(read(path))} numbers"


def _architecture(path: Path) -> str:
    from ..io.keras_json import read_architecture

    return read_architecture(path) and "Keras"


def _files(folder: Path, suffix: str) -> list[str]:
    return sorted(p.name for p in folder.glob("*") if p.suffix.lower() == suffix and not p.name.startswith("."))


def _read_all(read: Callable[[Path], Any], paths: Iterable[Path]) -> tuple[list, list[str]]:
    """Return the contents of readable files, and the reasons why the others cannot be read."""
    contents, broken = [], []
    for path in paths:
        try:
            contents.append(read(path))
        except InputError as error:
            broken.append(str(error))
    return contents, broken


def _pairs(place: str, wanted: list[str], found: list[str], broken: Iterable[str] = ()) -> Finding:
    missing = [f"{file} is missing" for file in wanted if file not in found]
    surplus = [f"{file} belongs to no image" for file in found if file not in wanted]
    differences = [*missing, *surplus, *broken] if found else ["no files"]
    return Finding(place, "\n".join(differences) or EVERY_IMAGE, EVERY_IMAGE)


def _known_weights(name: str, weights: np.ndarray) -> str:
    """Return the weights in fIoU whose published values are known, as text."""
    codes = LABEL_SETS[name].codes
    return _lines({code: weights[codes.index(code)] for code in FIOU_WEIGHTS[name]})


def _lines(values: Mapping[str, float]) -> str:
    return "\n".join(f"{code} {value:.6f}" for code, value in values.items())


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


# --- A run -----------------------------------------------------------------------------------------------------------


def obstacle(settings: Settings, report: Report) -> str:
    """Return the reason why a run's numbers do not compare with the published ones; empty if they do.

    They compare if the run was over a complete official set, with the official classifier and settings.
    """
    folder = settings.images[0].parent
    if folder.name not in SETS:
        return f"{folder.name} is not the authors' set"
    if len(report.files) != SETS[folder.name].images:
        return f"{len(report.files)} of {SETS[folder.name].images} images"
    if settings.model != MODEL:
        return f"{settings.model} is not the authors' classifier"
    for name, weights in report.weights.items():
        if _known_weights(name, weights) != _lines(FIOU_WEIGHTS[name]):
            return f"the ground truth of {name} is not the authors'"
    different = [finding.subject for finding in _inspect_model(folder.parents[1] / "data") if not finding.ok]
    return f"{different[0]} are not the authors'" if different else ""


def verdicts(report: Report) -> list[str]:
    """Return a line for each label set with published metrics that compare: whether they were reproduced."""
    lines = []
    for name, published in report.published.items():
        measured = report.metrics(name, STAGES[-1])
        differences = {metric: measured[metric] - published[metric] for metric in published}
        numbers = ", ".join(
            f"{m} {measured[m]:.6f} (published {published[m]:.6f}, difference {differences[m]:+.6f})" for m in published
        )
        verdict = "reproduced" if all(abs(value) <= TOLERANCE for value in differences.values()) else "not reproduced"
        lines.append(f"{name}: {numbers}: {verdict} within 1e-4")
    return lines
