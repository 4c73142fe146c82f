"""The files that a run writes, of each image and of the set; their names are those of `io.tree`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..classify import ClassifiedTiles
from ..evaluate import PROTOCOLS, class_ious, mean_iou_present, named_metrics, occurring
from ..gradcam import localise
from ..hsn_v1 import STAGES, Segmentation
from ..intervals import DRAWS, LEVEL, Estimate, draw_weights, weighted_sums
from ..io import tree, writing
from ..io.masks import Mask, mask_name
from ..io.writing import write_bytes, write_row, write_table
from ..labels import LabelSet
from ..object_metrics import object_metrics, pool_groups
from ..show.charts import confusion_figure, iou_figure
from ..show.figures import LINE, STAGE_TITLES, blend, colourise, continuous_map, legend, overlay, summary
from ..show.hatching import PERIOD
from .report import Report
from .settings import SaveTypes, Settings

MOST_BARS = 40  #: images that the chart of their mIoU has
PANEL = 448  #: longest side of a panel in a summary, in px

#: There are hundreds, and a set is soon segmented again, should a power cut take some: waiting for the disk costs more.
write_picture = partial(writing.write_picture, flush=False)


def write_image(
    settings: Settings,
    path: Path,
    image: np.ndarray,
    tiles: ClassifiedTiles,
    segmentations: Mapping[str, Segmentation],
    truths: Mapping[str, Mask],
) -> None:
    """Write all files of one image: those that were asked for, as far as it was segmented.

    Parameters
    ----------
    settings : Settings
    path : Path
        The image's file, whose name the files bear.
    image : ndarray of shape (H, W, 3), uint8
    tiles : ClassifiedTiles
    segmentations : mapping of str to Segmentation
        By the label set's name; empty at run level 1.
    truths : mapping of str to Mask
        By the label set's name; empty without ground truth.
    """
    out, save, file = settings.out, settings.save, path.name
    for label_set in settings.label_sets:
        if save.confidences and label_set.confidence_images:
            write_confidences(out, file, tiles, label_set, settings.input_size)
        if label_set.name not in segmentations:
            continue
        segmentation = segmentations[label_set.name]
        if save.maps:
            write_maps(out, "gradcam", file, segmentation.maps, label_set)
        cams = localise(tiles, label_set) if settings.grad_cams else np.empty((0, 1, 1))  # an earlier run's go
        write_maps(out, "gradcam_unadjusted", file, cams, label_set)
        if save.masks:
            write_masks(out, file, image, segmentation.masks, label_set)
        if "CRF" not in segmentation.masks:
            continue
        if save.summaries:
            truth = truths[label_set.name].labels if truths else None
            panels = summary_panels(image, truth, segmentation, label_set)
            for direction in ("horizontal", "vertical"):
                figure = summary(panels, vertical=direction == "vertical")
                write_picture(tree.summary(out, label_set.name, direction, file), figure)
        if label_set.objects:
            write_objects(out, file, segmentation.masks["CRF"], label_set)


def write_confidences(out: Path, file: str, tiles: ClassifiedTiles, label_set: LabelSet, size: tuple[int, int]) -> None:
    """Write the score of each present class as an image of one grey; of several tiles, the highest score."""
    scores = tiles.present_scores(label_set)
    pictures = {c: np.full((*size, 3), round(255 * score), np.uint8) for c, score in scores.items()}
    _write_per_class(tree.class_pictures(out, label_set, "patchconfidence", file), pictures)


def write_maps(out: Path, kind: str, file: str, maps: np.ndarray, label_set: LabelSet) -> None:
    """Write the map of each class that has any mass: adjusted maps, or Grad-CAMs as they were before."""
    pictures = {c: np.rint(255 * maps[c]).astype(np.uint8) for c in np.flatnonzero(maps.any(axis=(1, 2)))}
    _write_per_class(tree.class_pictures(out, label_set, kind, file), pictures)


def _write_per_class(paths: Iterable[Path], pictures: dict[int, np.ndarray]) -> None:
    """Write one picture per class, and remove those that an earlier run left of classes that have none now."""
    for c, path in enumerate(paths):
        if c in pictures:
            write_picture(path, pictures[c])
        else:
            path.unlink(missing_ok=True)


def write_masks(out: Path, file: str, image: np.ndarray, masks: Mapping[str, np.ndarray], label_set: LabelSet) -> None:
    """Write each stage's mask in the set's colours; of the final one also a copy and its overlay on the image."""
    painted = {stage: colourise(mask, label_set) for stage, mask in masks.items()}
    for stage, picture in painted.items():
        write_picture(tree.stage_mask(out, label_set.name, stage, file), picture)
    if "CRF" in painted:
        write_picture(tree.final_masks(out, label_set.name) / mask_name(file), painted["CRF"])
        write_picture(tree.overlay(out, label_set.name, file), blend(painted["CRF"], image, 0.75))


def summary_panels(
    image: np.ndarray, truth: np.ndarray | None, segmentation: Segmentation, label_set: LabelSet
) -> list[tuple[str, np.ndarray | Image.Image]]:
    """Return the titles and panels of a summary, in the order of the stages."""
    scale = min(1, PANEL / max(image.shape[:2]))
    fy, fx = (max(scale, 1 / side) for side in image.shape[:2])  # so that no side vanishes
    rows, period = round(scale * image.shape[0]) // LINE, round(PERIOD / scale)
    maps, masks = segmentation.maps, segmentation.masks

    def shrunk(panel: np.ndarray) -> np.ndarray:
        return cv2.resize(panel, None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA) if scale < 1 else panel

    def mask(labels: np.ndarray) -> np.ndarray:
        return shrunk(overlay(labels, image, label_set, period))

    empty = np.full_like(shrunk(image), 255)
    present = [c for c in range(len(label_set)) if truth is not None and (truth == c).any()]
    predicted = np.flatnonzero(maps.any(axis=(1, 2))).tolist()
    return [
        ("image", shrunk(image)),
        ("classes in ground truth", legend(present, label_set, rows) if truth is not None else empty),
        ("ground truth", mask(truth) if truth is not None else empty),
        ("classes predicted", legend(predicted, label_set, rows)),
        ("adjusted maps", shrunk(blend(continuous_map(maps, label_set), image, 0.75))),
        ("before CRF", mask(masks["Adjust"])),
        ("segmentation after CRF", mask(masks["CRF"])),
    ]


def write_objects(out: Path, file: str, mask: np.ndarray, label_set: LabelSet) -> None:
    """Write the mask of the class that comes in objects, and one label per object, as bitmaps."""
    objects = object_mask(mask, label_set)
    separate = [*separations(label_set).values()][-1]
    labels = np.minimum(separate(objects), 255).astype(np.uint8)
    for kind, bitmap in (("single_gland", objects), ("multi_gland", labels)):
        write_picture(tree.object_bitmap(out, label_set.name, kind, file), bitmap)


def object_mask(mask: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Return 1 where a label map has the class that comes in objects, else 0, as uint8."""
    return (mask == label_set.codes.index(label_set.objects)).astype(np.uint8)


def connected_components(mask: np.ndarray) -> np.ndarray:
    """Label the objects of a mask as they are, 8-connected: (H, W) of int, 0 outside all."""
    from skimage.measure import label  # a tenth of a second, and few masks have objects

    return label(mask, connectivity=2)


def separate_objects(mask: np.ndarray) -> np.ndarray:
    """Label the objects of a mask as the published code does: smoothed, cut at the mean, 8-connected.

    Parameters
    ----------
    mask : ndarray of shape (H, W), uint8, 0 or 1

    Returns
    -------
    ndarray of shape (H, W), int
        0 outside all objects.
    """
    from skimage.filters import gaussian

    smooth = gaussian(mask.astype(float), sigma=0.5, mode="nearest")
    return connected_components(smooth > smooth.mean())


def split_objects(mask: np.ndarray, distance: int) -> np.ndarray:
    """Label the objects of a mask, and cut those that touch where they are narrowest: a watershed from their middles.

    Parameters
    ----------
    mask : ndarray of shape (H, W), uint8, 0 or 1
    distance : int
        Least distance between the middles of two objects that touch, in px. What is smaller than a square of half of
        it is no object.

    Returns
    -------
    ndarray of shape (H, W), int
        0 outside all objects.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.feature import peak_local_max
    from skimage.filters import gaussian
    from skimage.segmentation import relabel_sequential, watershed

    parts = connected_components(mask)
    depth = gaussian(distance_transform_edt(mask), sigma=distance / 8)  # without the peaks of a ragged edge
    middles = peak_local_max(depth, min_distance=distance, labels=parts, exclude_border=False)
    markers = np.zeros_like(parts)
    markers[tuple(middles.T)] = np.arange(1, len(middles) + 1)
    objects = watershed(-depth, markers, mask=mask > 0)
    objects[np.bincount(objects.ravel())[objects] < (distance / 2) ** 2] = 0
    return relabel_sequential(objects)[0]


#: How the objects of a mask are told apart: as it is, and after the published code's post-processing.
OBJECTS = {"connected components": connected_components, "published post-processing": separate_objects}


def separations(label_set: LabelSet) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return how the objects of a label set's masks are told apart: `OBJECTS`, and by watershed if asked for."""
    split = {"watershed": partial(split_objects, distance=label_set.split_objects)} if label_set.split_objects else {}
    return OBJECTS | split


def write_scores(folder: Path, scores: Mapping[str, Mapping[str, float]], save: SaveTypes) -> None:
    """Write the mean score of each image, for label sets with a class that is always present."""
    for name in scores if save.confidences else ():
        write_row(folder / f"{name}_confscores.csv", scores[name])


def write_metrics(folder: Path, report: Report, label_sets: tuple[LabelSet, ...]) -> None:
    """Write fIoU and mIoU after each stage, and each class's IoU after the CRF; nothing without ground truth."""
    if not report.confusions:
        return
    for stage in STAGES:
        row = {
            f"{label_set.name}_{metric}": report.metrics(label_set.name, stage)[metric]
            for label_set in label_sets
            for metric in ("fIoU", "mIoU")
        }
        write_row(folder / f"metric_results_{stage}.csv", row)
    for label_set in label_sets:
        per_class = class_ious(report.confusions[label_set.name, "CRF"]).tolist()
        row = dict(zip(label_set.codes, per_class, strict=True))
        write_row(folder / f"{label_set.name}_IoU_metric_results.csv", row)


def write_protocol_metrics(folder: Path, report: Report) -> None:
    """Write the benchmarks' metrics after each stage, where a part of the ground truth may not count."""
    for label_set in report.with_excluded:
        rows = [
            (stage, protocol, metric, code, "" if np.isnan(value) else value)
            for stage, confusion in report.stages(label_set.name).items()
            for protocol in PROTOCOLS
            for metric, code, value in named_metrics(confusion, label_set, protocol)
        ]
        header = ("stage", "protocol", "metric", "class", "value")
        write_table(folder / f"{label_set.name}_protocol_metrics.csv", [header, *rows])


def write_object_metrics(folder: Path, report: Report) -> None:
    """Write the object metrics of each image, and pooled over groups of images; nothing without true objects."""
    for name, kinds in report.objects.items():
        rows = [
            {
                "image": image,
                "objects": kind,
                "images": sums.images,
                **dict(zip(("predicted", "true"), sums.objects.tolist(), strict=True)),
                "true positives": sums.found,
                **object_metrics(sums),
            }
            for kind, images in kinds.items()
            for image, sums in (*images.items(), *pool_groups(images).items())
        ]
        write_table(folder / f"{name}_object_metrics.csv", [list(rows[0]), *(row.values() for row in rows)])


def write_confusions(folder: Path, confusion: np.ndarray, label_set: LabelSet, stage: str) -> None:
    """Draw a stage's confusion matrix of the classes that occur, with all and with the foreground's ("fore")."""
    for foreground, shown in ((False, range(len(label_set))), (True, label_set.foreground)):
        keep = [c for c in occurring(confusion) if c in shown]
        names = [label_set.describe(label_set.codes[c]) for c in keep]
        figure = confusion_figure(confusion, keep, names, f"{label_set.name}, {STAGE_TITLES[stage]}")
        write_bytes(tree.confusion_chart(folder, label_set.name, stage, foreground), figure)


def write_ious(folder: Path, stacks: Mapping[str, np.ndarray], label_set: LabelSet) -> None:
    """Draw the IoU after each stage of the classes that occur, with intervals, from the images' confusion matrices."""
    keep = occurring(sum(stack.sum(axis=0) for stack in stacks.values()))
    names = [label_set.describe(label_set.codes[c]) for c in keep]
    count = len(next(iter(stacks.values())))
    weights, ious, intervals = draw_weights(range(count), DRAWS if count > 1 else 0), {}, {}
    for stage, stack in stacks.items():
        sums = weighted_sums(stack, weights)  # (1 + D, C + 1, C + 1)
        occurs = sums[:, :-1].any(axis=-1) | sums[..., :-1].any(axis=-2)
        estimates = [Estimate.of(values) for values in np.where(occurs, class_ious(sums), np.nan).T[keep]]
        ious[STAGE_TITLES[stage]] = np.nan_to_num([one.value for one in estimates])
        intervals[STAGE_TITLES[stage]] = np.array([(one.low, one.high) for one in estimates])
    title = f"{label_set.name}: IoU of each class, with {LEVEL} % intervals over {count} images"
    write_bytes(tree.iou_chart(folder, label_set.name), iou_figure(ious, names, title, intervals))


def write_image_ious(folder: Path, stacks: Mapping[str, np.ndarray], images: Sequence[str], name: str) -> None:
    """Draw mIoU (present) of each image after each stage, the worst first; of many images, the worst `MOST_BARS`."""
    values = {STAGE_TITLES[stage]: mean_iou_present(stack) for stage, stack in stacks.items()}
    worst = np.argsort([*values.values()][-1], kind="stable")[:MOST_BARS]
    of_all = f"of the {len(worst)} worst of {len(images)} images" if len(worst) < len(images) else "of each image"
    bars = {stage: ious[worst] for stage, ious in values.items()}
    figure = iou_figure(bars, [images[i] for i in worst], f"{name}: mIoU (present) {of_all}", axis="mIoU")
    write_bytes(tree.image_chart(folder, name), figure)
