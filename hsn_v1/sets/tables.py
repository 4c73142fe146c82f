"""Tables of a run's metrics, for its page and for the terminal."""

from __future__ import annotations

from ..intervals import DRAWS, LEVEL, SEED
from ..object_metrics import METRICS
from ..show.figures import STAGE_TITLES
from ..show.html import Table
from .report import Report

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


def interval_table(report: Report) -> list[Table]:
    """Return the table of mIoU (present) with intervals, if there is ground truth of two images or more."""
    rows = report.interval_rows() if len(report.files) > 1 else []
    header = ["label set", "metric", *STAGE_TITLES.values()]
    return [Table("Intervals", header, rows, 2, INTERVALS_NOTE)] if rows else []


def tables_of(report: Report) -> list[Table]:
    """Return the table of metrics and that of protocols, if there is ground truth, and that of each set's objects."""
    stages, tables = [*STAGE_TITLES.values()], []
    if rows := report.metric_rows():
        header, note = ["label set", "metric", *stages, "published", "what it is"], f"{NOTE} {report.comparison}"
        tables.append(Table("Metrics", header, rows, 2, note.rstrip()).without_empty_columns())
    for name in report.objects:
        header, note = ["objects", "of", "images", *METRICS], OBJECTS_NOTE.replace("NAME", name)
        tables.append(Table(f"Objects after CRF ({name})", header, report.object_rows(name), 2, note))
    if rows := report.protocol_rows():
        header = ["label set", "metric", *stages]
        tables.append(Table("Benchmarks' protocols", header, rows, 2, PROTOCOLS_NOTE, folded=True))
    return tables
