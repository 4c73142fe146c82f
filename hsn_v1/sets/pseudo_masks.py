"""Write pseudo-masks, for training a segmentation network, of patches whose classes are known, but not their places."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..classify import ClassifiedTiles, Classifier
from ..densecrf import CRF
from ..errors import InputError
from ..hsn_v1 import localise_and_adjust, winners
from ..io import tree
from ..io.locks import alone_in
from ..io.masks import mask_name, write_mask
from ..io.reading import has_content
from ..io.records import facts_of, forget_others
from ..io.writing import write_bytes
from ..labels import LabelSet
from ..parallel import SMALL_IMAGES, worker_pool
from .run import ClassifiedImage, collect, finish_images
from .settings import Settings

MASKS = "masks"  #: folder of the final masks
MAPS = ("gradcam", "adjusted", "crf")  #: folders of the maps after each stage


def write_pseudo_masks(
    settings: Settings,
    classifier: Classifier,
    known: Mapping[str, Collection[str]],
    folders: Collection[str],
    on_image: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Write pseudo-masks of a set of patches, and return the reasons of failures, by file name.

    The settings have one label set, and its CRF; with `resume`, files made with the same settings are kept. `known`
    has the codes of the classes that each image contains, by file name. `folders` names the files to write: `MASKS`,
    palette PNG files of class indices, and some of `MAPS`, NumPy files of shape (C, H, W), float16, in 0..1.
    `on_image` is called after each image, also after a failed one.

    Raises InputError if results cannot be written, another run writes there, every image failed, or two images would
    be written under one name.
    """
    results = {path: [file_of(settings.out, folder, path.name) for folder in folders] for path in settings.images}
    tree.check_stems(settings.images)
    made_with = settings.out / tree.MADE_WITH
    with alone_in(settings.out):
        is_new = not made_with.exists()
        if not settings.resume:
            made_with.unlink(missing_ok=True)
        labels = json.dumps({file: sorted(codes) for file, codes in sorted(known.items())})
        more = {"known classes": hashlib.sha256(labels.encode()).hexdigest(), "downsample": settings.downsample}
        facts = facts_of(classifier, settings.crfs, **more, **{"label sets": repr(settings.label_sets)})
        others = (file_of(settings.out, folder, path.name) for folder in (MASKS, *MAPS) for path in settings.images)
        forget_others(made_with, facts, others)
        failures = {
            path.name: f"{path}: no labels of it; add them, or take the image away"
            for path in settings.images
            if path.name not in known
        }
        todo = [path for path in settings.images if path.name in known and not all(map(has_content, results[path]))]
        for _ in range(len(settings.images) - len(todo)):
            on_image()
        with worker_pool(settings.workers, settings.out, SMALL_IMAGES) as pool:

            def submit(item: ClassifiedImage) -> Future:
                return pool.submit(finish_image, settings, known[item.path.name], tuple(folders), item)

            failures |= collect(finish_images(settings, classifier, todo, submit), on_image)[1]
        if is_new and len(failures) == len(settings.images):
            made_with.unlink()
    if len(failures) == len(settings.images):
        raise InputError(failures[min(failures)])
    return failures


def file_of(out: Path, folder: str, image: str) -> Path:
    """Return the file of an image's mask or maps; it has the image's name, as a network is trained on both."""
    return out / folder / (mask_name(image) if folder == MASKS else f"{Path(image).stem}.npy")


def finish_image(
    settings: Settings, known: Collection[str], folders: Collection[str], classified: ClassifiedImage
) -> None:
    """Write the pseudo-mask and maps of one classified image; for the parameters, see `write_pseudo_masks`."""
    path, (label_set,) = classified.path, settings.label_sets
    mask, maps = pseudo_mask(classified.image, classified.tiles, label_set, settings.crfs[label_set.name], known)
    if mask is None:
        raise InputError(f"{path}: none of its labels is a class of {label_set.name}; give it one, or take it away")
    for folder in folders:
        file = file_of(settings.out, folder, path.name)
        if folder == MASKS:
            write_mask(file, mask, label_set)
        else:
            content = io.BytesIO()
            np.save(content, maps[folder].astype(np.float16))
            write_bytes(file, content.getvalue())


def pseudo_mask(
    image: np.ndarray, tiles: ClassifiedTiles, label_set: LabelSet, crf: CRF, known: Collection[str]
) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    """Segment an image, (H, W, 3) uint8, with known classes, given by code: no other classes compete.

    A class competes in the tiles in which its score reaches the threshold, or else in the one with its highest score.
    Background and other tissue always compete.

    Returns
    -------
    mask : ndarray of shape (H, W), uint8, or None
        Class indices; None if no class competes.
    maps : dict of str to ndarray of shape (C, H, W), float32, in 0..1
        Maps after each stage, by name in `MAPS`.
    """
    codes = [code for code in label_set.codes if code in known or code in (label_set.background, label_set.other)]
    allowed = label_set.indices(codes)
    outputs = label_set.outputs(i for i in allowed if i in label_set.classified)
    thresholds = np.full(len(tiles.thresholds), np.inf)
    thresholds[outputs] = np.minimum(tiles.thresholds, tiles.scores.max(axis=0))[outputs]
    present = replace(tiles, thresholds=thresholds)
    ((_, cams, maps),) = localise_and_adjust(image, present, [replace(label_set, always_present=())])
    maps[[i for i in range(len(label_set)) if i not in allowed]] = 0
    refined = crf(maps, image)
    mask = winners(refined, allowed) if allowed else None
    return mask, dict(zip(MAPS, (cams, maps, refined), strict=True))
