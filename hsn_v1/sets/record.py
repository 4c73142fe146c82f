"""What a run over a set says of itself in ``run.json``, for `hsn-v1 view`: sources, classes, scores of images."""

from __future__ import annotations

import json
from typing import Any

from ..evaluate import class_ious, mean_iou_present, occurring
from ..io.records import RECORD, record_of_label_set
from ..io.writing import write_bytes
from ..labels import LabelSet
from .report import ImageResult, Report, stages_of
from .settings import Settings


def write_record(settings: Settings, report: Report | None = None) -> None:
    """Write a run's record into its folder: where it begins, and with its report when it is finished."""
    label_sets = {label_set.name: label_set for label_set in settings.label_sets}
    record = {
        "kind": "set",
        "finished": report is not None,
        "images": str(settings.images[0].parent.resolve()),
        "truth": str(settings.truth.resolve()) if settings.truth else None,
        "model": settings.model,
        "mpp": settings.mpp / settings.downsample,
        "classes": {name: record_of_label_set(label_set) for name, label_set in label_sets.items()},
        "files": [path.name for path in settings.images],
        "results": {result.file: _facts(result, label_sets) for result in report.results} if report else {},
        "failures": report.failures if report else {},
        "caveat": settings.caveat,
        "notes": list(report.notes if report else settings.notes),
    }
    write_bytes(settings.out / RECORD, json.dumps(record, indent=1).encode())


def _facts(result: ImageResult, label_sets: dict[str, LabelSet]) -> dict[str, Any]:
    """Return an image's size, pixels of each class in its final mask, and IoU after each stage."""
    facts: dict[str, Any] = {"height": result.size[0], "width": result.size[1], "notes": list(result.notes)}
    facts["pixels"] = {
        name: [*areas.values()][-1].tolist() for name in label_sets if (areas := stages_of(result.areas, name))
    }
    facts["iou"] = {
        name: {
            stage: {
                "": round(mean_iou_present(confusion), 4),
                **{label_set.codes[c]: round(float(class_ious(confusion)[c]), 4) for c in occurring(confusion)},
            }
            for stage, confusion in stages_of(result.confusions, name).items()
        }
        for name, label_set in label_sets.items()
    }
    return facts
