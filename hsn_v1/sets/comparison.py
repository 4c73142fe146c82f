"""Tables of scores, with intervals: of a set, its groups, other masks and the difference to these, and each image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..evaluate import PROTOCOLS, PUBLISHED, all_metrics
from ..intervals import DRAWS, FEW, LEVEL, Estimate, draw_weights
from ..io.tables import find_files, read_rows
from ..labels import LabelSet
from ..show import html
from .score import OBJECT, Score, Table

DIFFERENCE = "difference"

NO_GROUP = "no group"


@dataclass(frozen=True)
class Pooling:
    """How to pool images: protocols, groups and bootstrap intervals."""

    protocols: tuple[str, ...] = PROTOCOLS
    groups: Mapping[str, str] = field(default_factory=dict)  #: group of each image, by image name; empty for no groups
    interval: str = "images"  #: units drawn for the intervals: ``images``, ``groups`` or ``none``
    seed: int = 0  #: seed of the draws

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the metrics' values, except the metrics of objects."""
        return (*self.protocols, PUBLISHED)

    def units(self, score: Score) -> list[str]:
        """Return each image's unit for the draws: its own name, or its group."""
        return [self.groups[name] for name in score.names] if self.interval == "groups" else score.names

    def table(self, score: Score, minus: Score | None = None) -> Table:
        """Return a score's metrics with intervals, or their differences to another score of the same images."""
        units = self.units(score)
        draws = DRAWS if self.interval != "none" and len({*units}) > 1 else 0
        return score.table(self.protocols, draw_weights(units, draws, self.seed), minus)

    def describe(self, score: Score) -> str:
        """Describe the intervals in one line; empty if there are none."""
        count = len({*self.units(score)})
        if self.interval == "none" or count < 2:
            return ""
        caution = "; of so few, they say little" if count < FEW else ""
        return f"{LEVEL} % percentile bootstrap over {count} {self.interval}, {DRAWS} draws, seed {self.seed}{caution}"


@dataclass(frozen=True)
class Result:
    """Metrics of masks: the prediction's (""), other ones', or their `DIFFERENCE`; of a group, or of all ("")."""

    masks: str
    group: str
    images: int
    table: Table


def results_of(score: Score, others: Mapping[str, Score], pooling: Pooling, against: str = "") -> list[Result]:
    """Return the results of a prediction, of its groups and of other masks, and the difference to one of these.

    `others` are scores of other masks, by the masks' name. `against` is the name of the masks to compare with, which
    must have the prediction's images; without it, there is no difference.
    """
    results = [Result("", "", len(score.images), pooling.table(score))]
    for group in sorted({*pooling.groups.values()}):
        members = score.of(name for name, of_image in pooling.groups.items() if of_image == group)
        if members.images:
            results.append(Result("", group, len(members.images), pooling.table(members)))
    for masks, other in others.items():
        results.append(Result(masks, "", len(other.images), pooling.table(other)))
    if against:
        results.append(Result(DIFFERENCE, "", len(score.images), pooling.table(score, others[against])))
    return results


# --- Rows and tables -------------------------------------------------------------------------------------------------


def value_rows(results: Sequence[Result]) -> list[tuple]:
    """Return the header and rows of all values; a value is empty if its class does not occur."""
    rows = [("protocol", "metric", "class", "value", "low", "high", "group", "masks", "images")]
    for result in results:
        for (metric, code), values in result.table.items():
            for protocol, estimate in values.items():
                numbers = ("" if np.isnan(v) else v for v in (estimate.value, estimate.low, estimate.high))
                rows.append((protocol, metric, code, *numbers, result.group, result.masks, result.images))
    return rows


def image_rows(score: Score, pooling: Pooling) -> list[list]:
    """Return the header and a row for each image, the worst mIoU first: group, metrics, confusion matrix, pixels.

    The matrix has columns for the pairs of classes that occur. They and ``pixels of`` add up to the pooled counts.
    """
    label_set, codes = score.label_set, [*score.label_set.codes, "none"]
    pairs = [tuple(pair) for pair in np.argwhere(score.confusion).tolist()]
    rows, header, mious = [], [], []
    for image in score.images:
        table = all_metrics(image.confusion, image.pixels, label_set, pooling.protocols)
        values = {
            f"{metric}{code and ' '}{code} ({protocol})": float(value)
            for (metric, code), by_protocol in table.items()
            for protocol, value in by_protocol.items()
        }
        header = [*values]
        numbers = ("" if np.isnan(value) else value for value in values.values())
        counts = [int(image.confusion[pair]) for pair in pairs]
        rows.append([image.name, pooling.groups.get(image.name, ""), *numbers, *counts, *image.pixels.tolist()])
        mious.append(float(table["mIoU", ""][pooling.protocols[0]]))
    header = ["image", "group", *header, *(f"{codes[true]} as {codes[predicted]}" for true, predicted in pairs)]
    worst_first = np.argsort(mious, kind="stable")  # nan, where no class occurs, is last
    return [[*header, *(f"pixels of {code}" for code in label_set.codes)], *(rows[i] for i in worst_first)]


def tables_of(results: Sequence[Result], label_set: LabelSet, pooling: Pooling) -> Iterator[html.Table]:
    """Yield tables of all metrics, for the first result and the difference, and a table of the others' mIoU."""
    columns, (first, *others) = pooling.columns, results
    for result in (first, *(other for other in others if other.masks == DIFFERENCE)):
        of_objects = {key: values for key, values in result.table.items() if OBJECT in values}
        rows = [
            (metric, label_set.describe(code) if code else "", *_cells(values, columns))
            for (metric, code), values in result.table.items()
            if OBJECT not in values
        ]
        title = f"{result.images} images, label set {label_set.name}{result.masks and ': '}{result.masks}"
        yield html.Table(title, ("metric", "class", *columns), rows, words=2)
        if of_objects:
            rows = [(*key, *_cells(values, [OBJECT])) for key, values in of_objects.items()]
            yield html.Table(f"objects: {label_set.objects}", ("metric", "told apart by", "pooled"), rows, words=2)
    rows = [
        (other.group or other.masks, str(other.images), *_cells(other.table["mIoU", ""], columns))
        for other in others
        if other.masks != DIFFERENCE
    ]
    if rows:
        yield html.Table("mIoU of groups and of other masks", ("masks", "images", *columns), rows)


def _cells(values: Mapping[str, Estimate], columns: Iterable[str]) -> list[str]:
    return [str(values.get(column, "")) for column in columns]


def paper_table(rows: Mapping[str, Table], protocol: str) -> str:
    """Return a table as in a paper, in Markdown: IoU of each class, and metrics of all classes; a row for each key."""
    first = next(iter(rows.values()))
    wanted = [key for key in first if protocol in first[key] and (key[0] == "IoU" or not key[1])]
    lines = [[protocol, *(code or metric for metric, code in wanted)], ["---"] * (len(wanted) + 1)]
    lines += [[method, *(str(table[key][protocol]) for key in wanted)] for method, table in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- Groups of images ------------------------------------------------------------------------------------------------


def image_groups(names: Sequence[str], group: str, table: Path | None = None) -> dict[str, str]:
    """Return each image's group (case, patient, part of a test), or `NO_GROUP`, by image name without endings.

    `group` is a column of the table, which also has a column of the images' names. Without a table, it is a regular
    expression to search for in a name: its first part in brackets, or else its match, is the group. Raises InputError
    if there is no such column, the expression is not valid, or no image is in any group.
    """
    groups = _by_table(names, group, table) if table else _by_name(names, group)
    if not any(groups.values()):
        raise InputError(f"{table or group}: puts no image in a group; expected names such as {names[0]}")
    return {name: groups.get(name) or NO_GROUP for name in names}


def _by_name(names: Sequence[str], group: str) -> dict[str, str]:
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise InputError(
            f"`group` {group}: no regular expression ({error}); expected one such as '^test[AB]'"
        ) from error
    return {name: match[min(pattern.groups, 1)] or "" for name in names if (match := pattern.search(name))}


def _by_table(names: Sequence[str], group: str, table: Path) -> dict[str, str]:
    (_, header), *rows = read_rows(table) or [(0, [])]
    if group not in header:
        raise InputError(f"{table}: no column {group}; expected one of {', '.join(header)}")
    cells = [dict(zip(header, row, strict=False)) for _, row in rows]
    files = [Path(name) for name in names]
    named = [find_files([row.get(column, "") for row in cells], files) for column in header]
    column, matches = max(zip(header, named, strict=True), key=lambda pair: len(pair[1]))
    return {matches[row[column]].name: row.get(group, "") for row in cells if row.get(column) in matches}
