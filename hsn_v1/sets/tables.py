"""Tables of a run's metrics, for its page and for the terminal."""

from __future__ import annotations

from ..object_metrics import METRICS
from ..show.figures import STAGE_TITLES
from ..show.html import Table
from .report import Report

NOTE = "fIoU and mIoU as published: absent classes count as 0. mIoU (present): over the classes of the ground truth."
PROTOCOLS_NOTE = " (excluded), (background): as benchmarks score, without or with background (docs/benchmarks.md)."
OBJECTS_NOTE = "As the GlaS challenge defines them, pooled over the images; of each image in NAME_object_metrics.csv."


def tables_of(report: Report) -> list[Table]:
    """Return the table of metrics, if there is ground truth, and that of each label set's objects, if it has any."""
    rows = report.metric_rows()
    note = NOTE + (PROTOCOLS_NOTE if report.with_excluded else "") + f" {report.comparison}".rstrip()
    header = ["label set", "metric", *STAGE_TITLES.values(), "published"]
    metrics = [Table("Metrics", header, rows, 2, note).without_empty_columns()] if rows else []
    return metrics + [
        Table(
            f"Objects after CRF ({name})",
            ["objects", "of", "images", *METRICS],
            report.object_rows(name),
            2,
            OBJECTS_NOTE.replace("NAME", name),
        )
        for name in report.objects
    ]
