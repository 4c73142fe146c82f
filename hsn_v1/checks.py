"""Checks of arguments from Python. Each error names the argument given, the one expected, and the call that converts.

No argument is converted by a guess. An image in 0..1 is refused: it could also be a dark image in 0..255.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError
from .labels import LabelSet

if TYPE_CHECKING:
    from .classify import Classifier

FACTORS = 0.01, 100.0  #: range of the factor between the scales of two microscopes

IMAGE = "uint8 of shape (height, width, 3), RGB in 0 to 255"

#: Attributes of a classifier; see `classify.Classifier`.
CLASSIFIER = ("tile", "mpp", "labels", "thresholds", "identity")


def check_segmentation(
    image: Any, classifier: Any, label_sets: Any, crfs: Any, downsample: Any, threads: Any = 1
) -> tuple[LabelSet, ...]:
    """Return the label sets to segment, or raise InputError if an argument of `segment_image` is invalid."""
    check_image(image)
    check_classifier(classifier)
    check_downsample(downsample, classifier)
    if not isinstance(threads, Integral) or threads < 1:
        raise InputError(f"threads is {threads!r}; expected a whole number from 1 on")
    label_sets = checked_label_sets(label_sets, classifier)
    check_crfs(crfs, label_sets, classifier)
    return label_sets


def check_image(image: Any, name: str = "image") -> None:
    """Raise InputError if an image is not an 8-bit RGB array: uint8 of shape (H, W, 3)."""
    if isinstance(image, (str, PathLike)):
        raise InputError(f"{name} is a path, {str(image)!r}; expected {IMAGE}: pass hsn_v1.imread({str(image)!r})")
    if not isinstance(image, np.ndarray):
        kind = f"{type(image).__module__}.{type(image).__name__}"
        how = f"{name}.convert('RGB')" if hasattr(image, "convert") else name
        raise InputError(f"{name} is of type {kind}; expected an array, {IMAGE}: pass np.asarray({how})")
    came = f"{name} is {image.dtype} of shape {image.shape}"
    call = _to_uint8(image, _to_rgb(image, name, came), came)
    if call != name:
        values = "" if image.dtype == np.uint8 else f", values {image.min():.4g} to {image.max():.4g}"
        raise InputError(f"{came}{values}; expected {IMAGE}: pass {call}")


def _to_rgb(image: np.ndarray, name: str, came: str) -> str:
    """Return the call that gives an array the shape (H, W, 3); just its name if it has that shape."""
    if image.ndim == 4:
        raise InputError(f"{came}, a batch; expected {IMAGE}: pass one image at a time, {name}[0]")
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise InputError(f"{came}; expected {IMAGE}, and at least one pixel")
    if image.ndim == 2:
        return f"np.stack([{name}] * 3, axis=-1)"
    channels = {1: f"np.repeat({name}, 3, axis=2)", 3: name, 4: f"{name}[..., :3]"}
    if image.shape[2] in channels:
        return channels[image.shape[2]]
    if image.shape[0] in (3, 4):
        return f"np.ascontiguousarray({name}[:3].transpose(1, 2, 0))"
    raise InputError(f"{came}, which has {image.shape[2]} channels; expected {IMAGE}: choose three of them")


def _to_uint8(image: np.ndarray, call: str, came: str) -> str:
    """Return the call that converts an array's values to 8 bits, around `call`, which makes it RGB."""
    if image.dtype == np.uint8:
        return call
    if image.dtype.kind == "b":
        return f"{call}.astype(np.uint8) * 255"
    if image.dtype.kind not in "iuf":
        raise InputError(f"{came}; expected {IMAGE}")
    least, most = float(image.min()), float(image.max())
    if not 0 <= least <= most <= 65535:  # nan included
        values = f"values {least:.4g} to {most:.4g}"
        raise InputError(f"{came}, {values}; expected {IMAGE}: undo its normalisation, or read the image again")
    if most > 255:
        return f"({call} / 257).round().astype(np.uint8)"
    if image.dtype.kind == "f":
        return f"({call} * 255).round().astype(np.uint8)" if most <= 1 else f"{call}.round().astype(np.uint8)"
    return f"{call}.astype(np.uint8)"


def check_classifier(classifier: Any) -> None:
    """Raise InputError for anything but a `classify.Classifier` with one threshold in 0..1 for each output."""
    if isinstance(classifier, (str, PathLike)):
        name = str(classifier)
        raise InputError(f"classifier is {name!r}; expected a classifier: pass hsn_v1.load_histonet({name!r})")
    missing = [name for name in CLASSIFIER if not hasattr(classifier, name)]
    if missing or not callable(classifier):
        kind, how = f"{type(classifier).__module__}.{type(classifier).__name__}", "hsn_v1.FunctionClassifier"
        how = "hsn_v1.HistoNet.of(model, thresholds, labels)" if hasattr(classifier, "layers") else how
        raise InputError(
            f"classifier is of type {kind}, without {', '.join(missing) or 'a call'}; expected what "
            f"hsn_v1.load_histonet returns: see {how}"
        )
    outputs, thresholds = len(classifier.labels.outputs), np.asarray(classifier.thresholds)
    if thresholds.shape != (outputs,):
        raise InputError(
            f"classifier.thresholds has shape {thresholds.shape}; expected ({outputs},), one number for each output: "
            f"{', '.join(classifier.labels.codes[:6])}{', ...' if outputs > 6 else ''}"
        )
    if not ((thresholds >= 0) & (thresholds <= 1)).all():
        raise InputError(f"classifier.thresholds are {thresholds.min():g} to {thresholds.max():g}; expected 0 to 1")


def check_downsample(downsample: Any, classifier: Classifier) -> None:
    """Raise InputError if the factor between two scales is not a number in the range `FACTORS`."""
    least, most = FACTORS
    if not isinstance(downsample, Real) or isinstance(downsample, bool) or not least <= downsample <= most:
        raise InputError(
            f"downsample is {downsample!r}; expected {least:g} to {most:g}, the classifier's microns per pixel over "
            f"the image's: of an image at 0.5, {classifier.mpp:.4g} / 0.5"
        )


def checked_label_sets(label_sets: Any, classifier: Classifier) -> tuple[LabelSet, ...]:
    """Return label sets as a tuple; raise InputError for none, or for one that needs outputs the classifier lacks."""
    available, sets = classifier.labels.label_sets, "classifier.labels.label_sets"
    expected = f"expected a list of label sets of the classifier, which has {', '.join(available)}"
    if isinstance(label_sets, LabelSet):
        raise InputError(f"label_sets is a single one, {label_sets.name!r}; {expected}: pass it in a list")
    if isinstance(label_sets, Mapping) or not isinstance(label_sets, Iterable):
        came = "a mapping" if isinstance(label_sets, Mapping) else repr(label_sets)
        raise InputError(f"label_sets is {came}; {expected}: pass {sets}.values()")
    label_sets = (label_sets,) if isinstance(label_sets, str) else tuple(label_sets)
    if not label_sets:
        raise InputError(f"label_sets is empty; {expected}: pass {sets}.values()")
    for label_set in label_sets:
        if isinstance(label_set, str):
            named = ", ".join(f"{sets}[{_nearest(str(name), available)!r}]" for name in label_sets)
            raise InputError(f"label_sets has the name {label_set!r}; {expected}: pass [{named}]")
        check_label_set(label_set)
        if max(label_set.outputs_of.values(), default=-1) >= len(classifier.labels.outputs):
            raise InputError(f"label_sets has {label_set.name!r}, which is of another classifier; {expected}")
    return label_sets


def check_label_set(label_set: Any) -> None:
    """Raise InputError for anything but a `LabelSet`."""
    if not isinstance(label_set, LabelSet):
        shown = repr(label_set) if isinstance(label_set, str) else f"of type {type(label_set).__name__}"
        name = label_set if isinstance(label_set, str) else "NAME"
        raise InputError(f"label set is {shown}; expected a LabelSet: pass classifier.labels.label_sets[{name!r}]")


def _nearest(name: str, names: Iterable[str]) -> str:
    names = list(names)
    return next(iter(get_close_matches(name, names, 1)), names[0])


def check_crfs(crfs: Any, label_sets: tuple[LabelSet, ...], classifier: Classifier) -> None:
    """Raise InputError unless `crfs` maps every label set's name to a valid CRF, or is empty."""
    from .densecrf import CRF  # its compiler takes a second to load, which reading a mask does not need

    wanted = [label_set.name for label_set in label_sets]
    available = [*dict.fromkeys([*wanted, *classifier.labels.label_sets])]
    example = f"{{{', '.join(f'{name!r}: hsn_v1.CRF()' for name in wanted)}}}"
    expected = f"expected a CRF by each label set's name, such as {example}, or {{}} to stop before the CRF"
    if not isinstance(crfs, Mapping):
        came = "a CRF" if isinstance(crfs, CRF) else repr(crfs)
        raise InputError(f"crfs is {came}; {expected}")
    for name, crf in crfs.items():
        if name not in available:
            raise InputError(f"crfs has the key {name!r}; {expected}")
        if not isinstance(crf, CRF):
            raise InputError(f"crfs[{name!r}] is {crf!r}; {expected}; the parameters of hsn_v1.CRF are the widths")
        crf.check(f"crfs[{name!r}]")
    for name in wanted if crfs else ():
        if name not in crfs:
            raise InputError(f"crfs has no {name!r}; {expected}")


def checked_output(code: Any, classifier: Classifier) -> int:
    """Return the index of a classifier's output by its code, or raise InputError."""
    codes = classifier.labels.codes
    if code not in codes:
        by_name = [output for output, name in classifier.labels.outputs.items() if name == code]
        hint = by_name[0] if by_name else _nearest(str(code), codes)
        raise InputError(
            f"class {code!r} is no output of the classifier; expected one of classifier.labels.codes, such as {hint!r}"
        )
    return codes.index(code)


def check_labels(labels: Any, label_set: LabelSet, shape: tuple[int, ...] | None = None, name: str = "labels") -> None:
    """Raise InputError for anything but a label map of a label set: integers of shape (H, W), or of `shape`."""
    if not isinstance(labels, np.ndarray):
        is_path = isinstance(labels, (str, PathLike))
        shown = f"a path, {str(labels)!r}" if is_path else f"of type {type(labels).__name__}"
        how = "pass hsn_v1.read_mask(path, label_set).labels"
        raise InputError(f"{name} is {shown}; expected class indices, an array of shape (height, width): {how}")
    came = f"{name} is {labels.dtype} of shape {labels.shape}"
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        is_maps = labels.ndim == 3 and labels.dtype.kind == "f"
        how = f": pass {name}.argmax(axis=0).astype(np.uint8)" if is_maps else ""
        raise InputError(f"{came}; expected class indices, integers of shape (height, width){how}")
    if shape and labels.shape != shape:
        raise InputError(f"{came}; expected {shape}, the size of what it is laid on or compared with")
    if labels.size and not 0 <= labels.min() <= labels.max() <= len(label_set):
        raise InputError(
            f"{came}, values {labels.min()} to {labels.max()}; expected 0 to {len(label_set) - 1}, the classes of "
            f"{label_set.name}, or {len(label_set)} where a pixel is unlabelled"
        )
