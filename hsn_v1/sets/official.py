"""The authors' download: whether what is in place, and what it gives, is what the paper reports.

All numbers to compare with are in this file, except for the results, which the demos hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adp import CLASSIFIER_CODES, LABEL_SETS
from ..errors import InputError
from .unpack import Track, untracked

if TYPE_CHECKING:
    import numpy as np

    from .report import Report

MODEL = "histonet_X1.7_clrdecay_5"
PARAMETERS = 1_753_203
THRESHOLDS = {"G.O": 0.777848, "T": 0.553801, "E": 0.720844}

#: Settings of the dense CRF by label set, in the order of the fields of `CRF`.
CRFS = {"morph": (1, 20, 10, 40, 50), "func": (3, 40, 10, 4, 25), "glas": (3, 40, 10, 4, 25)}

#: Weights in fIoU, as far as they were published. They follow from all the ground truth, and from nothing less.
FIOU_WEIGHTS = {
    "morph": {"Background": 0.028387, "E.M.S": 0.037301, "N.G.M": 0.044829, "N.G.W": 0.052202},
    "func": {"Background": 0.200454, "Other": 0.180285, "G.O": 0.196248, "G.N": 0.211562, "T": 0.211451},
    "glas": {"Other": 0.500444, "G.O": 0.499556},
}

#: Largest difference to the published metrics that counts as reproduced.
TOLERANCE = 1e-4


EVERY_IMAGE = "one for every image"


@dataclass(frozen=True)
class ImageSet:
    """A published set: its number of images, its label sets, and its folder of one bitmap per image, if any."""

    images: int
    label_sets: tuple[str, ...]
    bitmaps: str | None = None


IMAGE_SETS = {
    "01_tuning_patch": ImageSet(50, ("morph", "func")),
    "02_glas_full": ImageSet(165, ("glas",), "glas_multi_gland"),
}


@dataclass(frozen=True)
class Finding:
    """What was checked, what was found, and what the paper used, both to the digits that were published."""

    what: str
    found: str
    expected: str

    @property
    def ok(self) -> bool:
        """Whether it is what the paper used."""
        return self.found == self.expected


def inspect(root: Path, track: Track = untracked) -> list[Finding]:
    """Hold what is in ROOT against what the paper used.

    Parameters
    ----------
    root : Path
        Folder that has ``data``, ``gt`` and ``img``.
    track : callable
        See `unpack.Track`.

    Returns
    -------
    list of Finding

    Raises
    ------
    InputError
        If there is no such folder; a missing or broken file is a finding.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected the one that has data, gt and img")
    sets = [finding for name in IMAGE_SETS for finding in _inspect_set(root, name, track)]
    return [*sets, *_inspect_model(root / "data")]


def _inspect_set(root: Path, name: str, track: Track) -> Iterator[Finding]:
    from ..evaluate import frequency_weights
    from ..io.images import read_image
    from ..io.masks import read_mask

    published = IMAGE_SETS[name]
    folder = root / "img" / name
    images = _files(folder, ".png")
    _, broken = _read_all(read_image, track([folder / file for file in images], f"img/{name}"))
    yield Finding(f"img/{name}", "\n".join([f"{len(images)} images", *broken]), f"{published.images} images")
    for label_set in published.label_sets:
        place = f"gt/{name}/{label_set}"
        truths = _files(root / place, ".png")
        both = [root / place / file for file in images if file in truths]
        read = partial(read_mask, label_set=LABEL_SETS[label_set])
        read_truths, broken = _read_all(read, track(both, place))
        yield _pairs(place, images, truths, broken)
        pixels = sum(truth.pixels for truth in read_truths)
        weights = _published_weights(label_set, frequency_weights(pixels)) if read_truths else "none"
        yield Finding(f"{place}: weights in fIoU", weights, _lines(FIOU_WEIGHTS[label_set]))
    if published.bitmaps:
        place = f"gt/{name}/{published.bitmaps}"
        yield _pairs(place, [f"{Path(file).stem}.bmp" for file in images], _files(root / place, ".bmp"))


def _inspect_model(data: Path) -> Iterator[Finding]:
    from ..densecrf import CRF
    from ..io.keras_json import read_architecture
    from ..io.models import read_thresholds, read_weights

    def parameters(path: Path) -> str:
        return f"{sum(values.size for arrays in read_weights(path).values() for values in arrays.values()):,}"

    def thresholds(path: Path) -> str:
        values = read_thresholds(path, len(CLASSIFIER_CODES))
        return _lines({code: values[CLASSIFIER_CODES.index(code)] for code in THRESHOLDS})

    def crf(path: Path) -> str:
        return _numbers(astuple(CRF.from_file(path))[:5])

    yield _compare(data / f"{MODEL}.json", "architecture", lambda path: read_architecture(path) and "Keras", "Keras")
    yield _compare(data / f"{MODEL}.h5", "parameters", parameters, f"{PARAMETERS:,}")
    yield _compare(data / f"{MODEL}.mat", "thresholds", thresholds, _lines(THRESHOLDS))
    for name, settings in CRFS.items():
        yield _compare(data / f"{name}_optimal_pcc.npy", "CRF settings", crf, _numbers(settings))


def _compare(path: Path, what: str, read: Callable[[Path], str], expected: str) -> Finding:
    try:
        found = read(path) if path.exists() else "no such file"
    except InputError as error:
        found = str(error)
    return Finding(f"data/{path.name}: {what}", found, expected)


def _files(folder: Path, suffix: str) -> list[str]:
    return sorted(p.name for p in folder.glob("*") if p.suffix.lower() == suffix and not p.name.startswith("."))


def _read_all(read: Callable[[Path], Any], paths: Iterable[Path]) -> tuple[list, list[str]]:
    """Return what can be read, and why the rest cannot."""
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


def _published_weights(name: str, weights: np.ndarray) -> str:
    """Return the weights whose published values are known, in words."""
    codes = LABEL_SETS[name].codes
    return _lines({code: weights[codes.index(code)] for code in FIOU_WEIGHTS[name]})


def _lines(values: Mapping[str, float]) -> str:
    return "\n".join(f"{code} {value:.6f}" for code, value in values.items())


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def is_complete(report: Report, root: Path, input_name: str, model_name: str) -> bool:
    """Return whether a run was over a complete official set, with the official classifier and settings.

    Parameters
    ----------
    report : Report
        Its fIoU weights tell whether the ground truth is the official one.
    root : Path
        Folder that has ``data``.
    input_name, model_name : str
        The set's and the classifier's names.
    """
    return (
        model_name == MODEL
        and input_name in IMAGE_SETS
        and len(report.files) == IMAGE_SETS[input_name].images
        and not report.failures
        and all(_published_weights(name, w) == _lines(FIOU_WEIGHTS[name]) for name, w in report.weights.items())
        and all(finding.ok for finding in _inspect_model(root / "data"))
    )


def reproduced(report: Report, published: Mapping[str, Mapping[str, float]], complete: bool) -> list[str]:
    """Say of each label set whether its published metrics after the CRF were reproduced.

    Parameters
    ----------
    report : Report
    published : mapping of str to mapping of str to float
        Published metrics, by the label set's name.
    complete : bool
        See `is_complete`; metrics of anything else compare with nothing.

    Returns
    -------
    list of str
        One line per label set.
    """
    from ..hsn_v1 import STAGES

    lines = []
    for name in report.weights if complete else ():
        found, known = report.metrics(name, STAGES[-1]), published.get(name, {})
        off = {metric: found[metric] - known[metric] for metric in known}
        numbers = ", ".join(f"{m} {found[m]:.6f} (published {known[m]:.6f}, difference {off[m]:+.6f})" for m in off)
        verdict = "reproduced" if all(abs(value) <= TOLERANCE for value in off.values()) else "not reproduced"
        lines.extend([f"{name}: {numbers}: {verdict} within 1e-4"] if off else [])
    return lines
