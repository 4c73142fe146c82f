"""Write the files of a run, for each image and for the set; `io.tree` has their names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..classify import ClassifiedTiles
from ..evaluate import PROTOCOLS, class_ious, mean_iou_present, named_metrics, occurring, occurring_ious
from ..gradcam import localise
from ..hsn_v1 import Segmentation
from ..intervals import DRAWS, LEVEL, Estimate, draw_weights, weighted_sums
from ..io import tree, writing
from ..io.masks import Mask, mask_name
from ..io.records import RECORD, record_of_label_set
from ..io.writing import write_bytes, write_row, write_table
from ..labels import STAGES, LabelSet
from ..object_metrics import object_metrics, pool_groups
from ..show.charts import confusion_figure, iou_figure
from ..show.figures import LINE, STAGE_TITLES, blend, colourise, continuous_map, legend, overlay, summary
from ..show.hatching import PERIOD
from .measure import object_mask, separations
from .report import ImageResult, Report, stages_of
from .settings import Settings

MOST_BARS = 40  #: largest number of images in the chart of their mIoU
PANEL = 448  #: longest side of a panel in a summary, in px

#: Does not wait for the disk: there are hundreds of pictures, and a set is soon segmented again after a power cut.
write_picture = partial(writing.write_picture, flush=False)


def write_image(
    settings: Settings,
    path: Path,
    image: np.ndarray,
    tiles: ClassifiedTiles,
    segmentations: Mapping[str, Segmentation],
    truths: Mapping[str, Mask],
) -> None:
    """Write the files of one image, (H, W, 3) uint8: those that the settings ask for, up to its last stage.

    `segmentations`, empty at run level 1, and `truths`, empty without ground truth, are by label set name.
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
        cams = localise(tiles, label_set) if settings.grad_cams else np.empty((0, 1, 1))  # removes earlier ones
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
    """Write the score of each present class, the highest of all tiles, as an image of one grey."""
    scores = tiles.present_scores(label_set)
    pictures = {c: np.full((*size, 3), round(255 * score), np.uint8) for c, score in scores.items()}
    _write_per_class(tree.class_pictures(out, label_set, "patchconfidence", file), pictures)


def write_maps(out: Path, kind: str, file: str, maps: np.ndarray, label_set: LabelSet) -> None:
    """Write the map of each class that is not 0 everywhere: adjusted maps, or Grad-CAMs before the adjustment."""
    pictures = {c: np.rint(255 * maps[c]).astype(np.uint8) for c in np.flatnonzero(maps.any(axis=(1, 2)))}
    _write_per_class(tree.class_pictures(out, label_set, kind, file), pictures)


def _write_per_class(paths: Iterable[Path], pictures: dict[int, np.ndarray]) -> None:
    """Write one picture per class, and remove an earlier run's pictures of classes that have none now."""
    for c, path in enumerate(paths):
        if c in pictures:
            write_picture(path, pictures[c])
        else:
            path.unlink(missing_ok=True)


def write_masks(out: Path, file: str, image: np.ndarray, masks: Mapping[str, np.ndarray], label_set: LabelSet) -> None:
    """Write each stage's mask in the label set's colours, and a copy of the final mask and its overlay on the image."""
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
    fy, fx = (max(scale, 1 / side) for side in image.shape[:2])  # keeps each side at 1 px or more
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
    """Write the mask of the class that comes in objects, and a map with one label per object, as bitmaps."""
    objects = object_mask(mask, label_set)
    *_, separate = separations(label_set).values()
    write_picture(tree.object_bitmap(out, label_set.name, "single_gland", file), objects)
    labels = np.minimum(separate(objects), 255).astype(np.uint8)
    write_picture(tree.object_bitmap(out, label_set.name, "multi_gland", file), labels)


def write_tables(settings: Settings, report: Report) -> None:
    """Write scores, metrics after each stage, the benchmarks' metrics and object metrics, if there are any."""
    for name in report.scores if settings.save.confidences else ():
        write_row(settings.out / f"{name}_confscores.csv", report.scores[name])
    if report.confusions:
        _write_metrics(settings.out, report, settings.label_sets)
    for label_set in report.with_excluded:
        _write_protocol_metrics(settings.out, report, label_set)
    for name in report.objects:
        _write_object_metrics(settings.out, report, name)


def _write_metrics(folder: Path, report: Report, label_sets: Iterable[LabelSet]) -> None:
    """Write fIoU and mIoU after each stage, and each class's IoU after the CRF."""
    for stage in STAGES:
        metrics = {s.name: report.metrics(s.name, stage) for s in label_sets}
        row = {f"{name}_{metric}": values[metric] for name, values in metrics.items() for metric in ("fIoU", "mIoU")}
        write_row(folder / f"metric_results_{stage}.csv", row)
    for label_set in label_sets:
        per_class = class_ious(report.confusions[label_set.name, "CRF"]).tolist()
        row = dict(zip(label_set.codes, per_class, strict=True))
        write_row(folder / f"{label_set.name}_IoU_metric_results.csv", row)


def _write_protocol_metrics(folder: Path, report: Report, label_set: LabelSet) -> None:
    """Write the benchmarks' metrics after each stage."""
    rows = [
        (stage, protocol, metric, code, "" if np.isnan(value) else value)
        for stage, confusion in report.stages(label_set.name).items()
        for protocol in PROTOCOLS
        for metric, code, value in named_metrics(confusion, label_set, protocol)
    ]
    header = ("stage", "protocol", "metric", "class", "value")
    write_table(folder / f"{label_set.name}_protocol_metrics.csv", [header, *rows])


def _write_object_metrics(folder: Path, report: Report, name: str) -> None:
    """Write object metrics of each image, and pooled over groups of images."""
    rows = [
        {
            "image": image,
            "objects": kind,
            "images": sums.images,
            **dict(zip(("predicted", "true"), sums.objects.tolist(), strict=True)),
            "true positives": sums.found,
            **object_metrics(sums),
        }
        for kind, images in report.objects[name].items()
        for image, sums in (*images.items(), *pool_groups(images).items())
    ]
    write_table(folder / f"{name}_object_metrics.csv", [list(rows[0]), *(row.values() for row in rows)])


def write_confusions(folder: Path, confusion: np.ndarray, label_set: LabelSet, stage: str) -> None:
    """Draw a stage's confusion matrix of the classes that occur: once all, once the foreground's alone ("fore")."""
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
        ious[STAGE_TITLES[stage]] = np.nan_to_num([estimate.value for estimate in estimates])
        intervals[STAGE_TITLES[stage]] = np.array([(estimate.low, estimate.high) for estimate in estimates])
    title = f"{label_set.name}: IoU of each class, with {LEVEL} % intervals over {count} images"
    write_bytes(tree.iou_chart(folder, label_set.name), iou_figure(ious, names, title, intervals))


def write_image_ious(folder: Path, stacks: Mapping[str, np.ndarray], images: Sequence[str], name: str) -> None:
    """Draw mIoU (present) of each image after each stage, the worst first; at most `MOST_BARS` images."""
    values = {STAGE_TITLES[stage]: mean_iou_present(stack) for stage, stack in stacks.items()}
    worst = np.argsort([*values.values()][-1], kind="stable")[:MOST_BARS]
    of_all = f"of the {len(worst)} worst of {len(images)} images" if len(worst) < len(images) else "of each image"
    bars = {stage: ious[worst] for stage, ious in values.items()}
    figure = iou_figure(bars, [images[i] for i in worst], f"{name}: mIoU (present) {of_all}", axis="mIoU")
    write_bytes(tree.image_chart(folder, name), figure)


# --- For `hsn-v1 view` -----------------------------------------------------------------------------------------------


def write_record(settings: Settings, report: Report | None = None) -> None:
    """Write the run's record for the viewer: its settings when it begins, its results, too, when it has finished."""
    record = {
        "kind": "set",
        "finished": report is not None,
        "images": str(settings.images[0].parent.resolve()),
        "truth": str(settings.truth.resolve()) if settings.truth else None,
        "model": settings.model,
        "mpp": settings.mpp / settings.downsample,
        "classes": {label_set.name: record_of_label_set(label_set) for label_set in settings.label_sets},
        "files": [path.name for path in settings.images],
        "results": {result.file: _facts(result, settings.label_sets) for result in report.results} if report else {},
        "failures": report.failures if report else {},
        "caveat": settings.caveat,
        "notes": list(report.notes if report else settings.notes),
    }
    write_bytes(settings.out / RECORD, json.dumps(record, indent=1).encode())


def _facts(result: ImageResult, label_sets: Iterable[LabelSet]) -> dict[str, Any]:
    """Return an image's size, pixels of each class in its final mask, and IoU after each stage; "" is their mean."""
    facts: dict[str, Any] = {"height": result.size[0], "width": result.size[1], "notes": list(result.notes)}
    facts |= {"pixels": {}, "iou": {}}
    for label_set in label_sets:
        if areas := [*stages_of(result.areas, label_set.name).values()]:
            facts["pixels"][label_set.name] = areas[-1].tolist()
        facts["iou"][label_set.name] = {
            stage: rounded_ious(confusion, label_set)
            for stage, confusion in stages_of(result.confusions, label_set.name).items()
        }
    return facts


def rounded_ious(confusion: np.ndarray, label_set: LabelSet) -> dict[str, float]:
    """Return mIoU (present) as "", and the IoU of each class that occurs by its code, to four digits."""
    ious = {"": mean_iou_present(confusion), **occurring_ious(confusion, label_set)}
    return {code: round(iou, 4) for code, iou in ious.items()}
