"""Results of a run: measured on each image, summed over the set, and as tables for the page and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .. import evaluate
from ..errors import merge_notes
from ..intervals import DRAWS, LEVEL, SEED, Estimate, draw_weights, weighted_sums
from ..labels import LabelSet
from ..object_metrics import METRICS as OBJECT_METRICS
from ..object_metrics import ObjectSums, object_metrics, pool_groups
from ..show.figures import STAGE_TITLES
from ..show.html import Table

#: Metrics of a label set, with descriptions: {0} of its {1} classes are in the ground truth.
METRICS = {
    "fIoU": "IoU, weighted by 1 / ln pixels",
    "mIoU": "IoU, mean of {1}: at most {0}/{1}",
    "mIoU (present)": "IoU, mean of the {0} that occur",
}

NOTE = "fIoU and mIoU are those of the paper. A class that is not in the ground truth counts as 0 in mIoU."
PROTOCOLS_NOTE = "As benchmarks score: without what is background in the ground truth, or with it (docs/benchmarks.md)."
OBJECTS_NOTE = (
    "As the GlaS challenge defines them, pooled over the images; of each image in NAME_object_metrics.csv. Expect low "
    "numbers: the method labels pixels, and does not part objects that touch."
)
INTERVALS_NOTE = (
    f"In brackets: {LEVEL} % percentile bootstrap over the images, {DRAWS} draws, seed {SEED}. Of fewer than ten "
    "images they say little; images of one case are alike: hsn-v1 evaluate draws cases (--interval groups)."
)


@dataclass(frozen=True)
class ImageResult:
    """Results of one image; a pair as key is a label set's name and a stage, or a kind of objects."""

    file: str  #: the image's file name
    size: tuple[int, int]  #: the image's height and width, in px
    areas: dict[tuple[str, str], np.ndarray]  #: pixels of each class in the mask, (C,), after each stage
    confusions: dict[tuple[str, str], np.ndarray]  #: (C + 1, C + 1), after each stage; see `evaluate`
    objects: dict[tuple[str, str], ObjectSums]  #: comparison with the true objects; see `measure.separations`
    pixels: dict[str, np.ndarray]  #: pixels of each class in the ground-truth file, (C,), by label set name
    #: Score of the class that is always present, averaged over the tiles, by label set name.
    scores: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  #: notes on this image for the user
    #: Share of the pixels where no class responded, and the Grad-CAM mask shows the first class, by label set name.
    unresponsive: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Outcome of a run; see `summarise`."""

    results: tuple[ImageResult, ...]  #: results of all segmented images, sorted by name
    failures: dict[str, str]  #: reasons of failures, by file name
    notes: tuple[str, ...]  #: further notes for the user
    label_sets: tuple[LabelSet, ...] = ()
    #: Published metrics after the CRF, by label set name, if these compare.
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    comparison: str = ""  #: sentence on whether published metrics compare; empty if there are none

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the images that were segmented."""
        return tuple(result.file for result in self.results)

    @cached_property
    def confusions(self) -> dict[tuple[str, str], np.ndarray]:
        """Confusion matrices (C + 1, C + 1) by label set name and stage; empty without ground truth."""
        return _sums(result.confusions for result in self.results)

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """FIoU weights (C,) by label set name; empty without ground truth."""
        pixels = _sums(result.pixels for result in self.results)
        return {name: evaluate.frequency_weights(counts) for name, counts in pixels.items()}

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Mean score of each image, by name of the label sets that have a class that is always present."""
        names = dict.fromkeys(name for result in self.results for name in result.scores)
        return {name: {result.file: result.scores[name] for result in self.results} for name in names}

    @cached_property
    def objects(self) -> dict[str, dict[str, dict[str, ObjectSums]]]:
        """Comparisons with true objects, by label set name, kind of objects and file name of the image."""
        objects: dict[str, dict[str, dict[str, ObjectSums]]] = {}
        for result in self.results:
            for (name, kind), sums in result.objects.items():
                objects.setdefault(name, {}).setdefault(kind, {})[result.file] = sums
        return objects

    def stages(self, name: str) -> dict[str, np.ndarray]:
        """Return a label set's confusion matrix after each stage."""
        return stages_of(self.confusions, name)

    def stacks(self, name: str) -> dict[str, np.ndarray]:
        """Return a label set's confusion matrices of all images (N, C + 1, C + 1) after each stage."""
        return {stage: np.stack([r.confusions[name, stage] for r in self.results]) for stage in self.stages(name)}

    def metrics(self, name: str, stage: str) -> dict[str, float]:
        """Return `METRICS` of a label set after a stage."""
        confusion = self.confusions[name, stage]
        return {
            "fIoU": evaluate.frequency_weighted_iou(confusion, self.weights[name]),
            "mIoU": evaluate.mean_iou(confusion),
            "mIoU (present)": evaluate.mean_iou_present(confusion),
        }

    def ranking(self, name: str, stage: str = "CRF") -> list[tuple[str, float]]:
        """Return each image's file name and mIoU (present), best first."""
        mious = [(result.file, evaluate.mean_iou_present(result.confusions[name, stage])) for result in self.results]
        return sorted(mious, key=lambda entry: -entry[1])

    def metric_rows(self) -> list[list[str]]:
        """Return rows of label set, metric, value after each stage, published value, and description of the metric."""
        rows = []
        for name, weights in self.weights.items():
            stages, published = [self.metrics(name, stage) for stage in self.stages(name)], self.published.get(name, {})
            occur, classes = np.count_nonzero(weights), len(weights)
            for metric, description in METRICS.items():
                values = [metrics[metric] for metrics in stages] + [published.get(metric, np.nan)]
                description = description.format(occur, classes).removesuffix(f": at most {classes}/{classes}")
                rows.append([name, metric, *map(str, map(Estimate, values)), description])
        return rows

    def object_rows(self, name: str) -> list[list[str]]:
        """Return rows of a label set: kind of objects, group of images, their number, `object_metrics.METRICS`."""
        return [
            [kind, group, str(sums.images), *(f"{value:.4f}" for value in object_metrics(sums).values())]
            for kind, images in self.objects[name].items()
            for group, sums in pool_groups(images).items()
        ]

    @property
    def with_excluded(self) -> list[LabelSet]:
        """The label sets whose ground truth may have excluded pixels, so that the benchmarks' protocols differ."""
        return [s for s in self.label_sets if s.name in self.weights and (s.background or s.unlabelled)]


def stages_of(values: Mapping[tuple[str, str], np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Return one label set's values by stage, from values by label set name and stage."""
    return {stage: value for (owner, stage), value in values.items() if owner == name}


def _sums(parts: Iterable[Mapping[Any, np.ndarray]]) -> dict[Any, np.ndarray]:
    """Return the sums of arrays with the same key."""
    sums: dict[Any, np.ndarray] = {}
    for part in parts:
        for key, values in part.items():
            sums[key] = sums.get(key, 0) + values
    return sums


def summarise(
    results: Iterable[ImageResult],
    failures: Mapping[str, str],
    notes: Iterable[str],
    label_sets: tuple[LabelSet, ...] = (),
) -> Report:
    """Return the report on a set's images, sorted by name; a note that many images share appears once."""
    results = tuple(sorted(results, key=lambda result: result.file))
    notes = (*notes, *(note for result in results for note in result.notes))
    return Report(results, dict(sorted(failures.items())), tuple(merge_notes(notes)), label_sets)


# --- For people to read ----------------------------------------------------------------------------------------------


def tables_of(report: Report) -> list[Table]:
    """Return the tables of metrics, of each label set's objects, and of protocols; none without ground truth."""
    tables = [_metric_table(report)] if report.weights else []
    tables += [_object_table(report, name) for name in report.objects]
    return tables + ([_protocol_table(report)] if report.with_excluded else [])


def _metric_table(report: Report) -> Table:
    header = ["label set", "metric", *STAGE_TITLES.values(), "published", "what it is"]
    note = f"{NOTE} {report.comparison}".rstrip()
    return Table("Metrics", header, report.metric_rows(), 2, note).without_empty_columns()


def _object_table(report: Report, name: str) -> Table:
    header, note = ["objects", "of", "images", *OBJECT_METRICS], OBJECTS_NOTE.replace("NAME", name)
    return Table(f"Objects after CRF ({name})", header, report.object_rows(name), 2, note)


def _protocol_table(report: Report) -> Table:
    rows = []
    for label_set in report.with_excluded:
        stages = np.stack([*report.stages(label_set.name).values()])  # (stages, C + 1, C + 1)
        for protocol in evaluate.PROTOCOLS:
            for metric, code, values in evaluate.named_metrics(stages, label_set, protocol):
                if not code:
                    rows.append([label_set.name, f"{metric} ({protocol})", *map(str, map(Estimate, values))])
    header = ["label set", "metric", *STAGE_TITLES.values()]
    return Table("Benchmarks' protocols", header, rows, 2, PROTOCOLS_NOTE, folded=True)


def interval_tables(report: Report) -> list[Table]:
    """Return a table of mIoU (present) with intervals, if at least two images have ground truth."""
    if len(report.files) < 2 or not report.weights:
        return []
    weights, rows = draw_weights(report.files, DRAWS), []
    for name in report.weights:
        drawn = [evaluate.mean_iou_present(weighted_sums(s, weights)) for s in report.stacks(name).values()]
        rows.append([name, "mIoU (present)", *(str(Estimate.of(values)) for values in drawn)])
    return [Table("Intervals", ["label set", "metric", *STAGE_TITLES.values()], rows, 2, INTERVALS_NOTE)]
