"""Scores as tables: of a set, its groups, other masks and their difference, with intervals; and of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..evaluate import PROTOCOLS, PUBLISHED, all_metrics
from ..intervals import DRAWS, FEW, LEVEL, draw_weights
from .score import OBJECT, Score, Table

DIFFERENCE = "difference"


@dataclass(frozen=True)
class Pooling:
    """How images are put together.

    Attributes
    ----------
    protocols : tuple of str
        Of `evaluate.PROTOCOLS`.
    groups : mapping of str to str
        Group of each image, by its name; empty if there are none.
    interval : {"images", "groups", "none"}
        What is drawn for the intervals.
    seed : int
        Of the draws.
    """

    protocols: tuple[str, ...] = PROTOCOLS
    groups: Mapping[str, str] = field(default_factory=dict)
    interval: str = "images"
    seed: int = 0

    def units(self, score: Score) -> list[str]:
        """Return what each image is drawn with: itself, or its group."""
        return [self.groups[name] for name in score.names] if self.interval == "groups" else score.names

    def table(self, score: Score, minus: Score | None = None) -> Table:
        """Return a score's metrics, or their differences to another's of the same images, with intervals."""
        units = self.units(score)
        draws = DRAWS if self.interval != "none" and len({*units}) > 1 else 0
        return score.table(self.protocols, draw_weights(units, draws, self.seed), minus)

    def describe(self, score: Score) -> str:
        """Return what the intervals are, in one line; empty if there are none."""
        count = len({*self.units(score)})
        if self.interval == "none" or count < 2:
            return ""
        caution = "; of so few, they say little" if count < FEW else ""
        return f"{LEVEL} % percentile bootstrap over {count} {self.interval}, {DRAWS} draws, seed {self.seed}{caution}"


@dataclass(frozen=True)
class Result:
    """Metrics of some masks: the prediction's ("") or others', or their `DIFFERENCE`; of a group, or of all ("")."""

    masks: str
    group: str
    images: int
    table: Table


def results_of(score: Score, others: Mapping[str, Score], pooling: Pooling, against: str = "") -> list[Result]:
    """Return the results of a prediction, of its groups and of other masks, and the difference to one of these.

    Parameters
    ----------
    score : Score
        Of the prediction.
    others : mapping of str to Score
        Of other masks, by what they are called.
    pooling : Pooling
    against : str
        The one of the others that the difference is taken to; it has the prediction's images. Empty for none.
    """
    results = [Result("", "", len(score.images), pooling.table(score))]
    for group in sorted({*pooling.groups.values()}):
        members = score.of(name for name, its in pooling.groups.items() if its == group)
        if members.images:
            results.append(Result("", group, len(members.images), pooling.table(members)))
    for masks, other in others.items():
        results.append(Result(masks, "", len(other.images), pooling.table(other)))
    if against:
        results.append(Result(DIFFERENCE, "", len(score.images), pooling.table(score, others[against])))
    return results


def value_rows(results: Sequence[Result]) -> list[tuple]:
    """Return all values as rows of a table, after its header; empty where a class does not occur."""
    rows = [("protocol", "metric", "class", "value", "low", "high", "group", "masks", "images")]
    for result in results:
        for (metric, code), values in result.table.items():
            for protocol, estimate in values.items():
                numbers = ("" if np.isnan(v) else v for v in (estimate.value, estimate.low, estimate.high))
                rows.append((protocol, metric, code, *numbers, result.group, result.masks, result.images))
    return rows


def image_rows(score: Score, pooling: Pooling) -> list[list]:
    """Return a row for each image after the header, the worst mIoU first: group, metrics, confusion matrix.

    The matrix's columns (of those pairs of classes that occur) and ``pixels of`` add up to what is pooled.
    """
    label_set, codes = score.label_set, [*score.label_set.codes, "none"]
    pairs = [tuple(pair) for pair in np.argwhere(score.confusion).tolist()]
    tables = {
        image.name: all_metrics(image.confusion, image.pixels, label_set, pooling.protocols) for image in score.images
    }
    columns = [(key, protocol) for key, values in next(iter(tables.values())).items() for protocol in values]
    header = [f"{metric}{code and ' '}{code} ({protocol})" for (metric, code), protocol in columns]
    rows = []
    ranks = {image.name: float(tables[image.name]["mIoU", ""][pooling.protocols[0]]) for image in score.images}
    for image in sorted(score.images, key=lambda image: np.nan_to_num(ranks[image.name], nan=np.inf)):
        values = [float(tables[image.name][key][protocol]) for key, protocol in columns]
        counts = [int(image.confusion[pair]) for pair in pairs]
        group = pooling.groups.get(image.name, "")
        rows.append([image.name, group, *("" if np.isnan(v) else v for v in values), *counts, *image.pixels.tolist()])
    header += [f"{codes[true]} as {codes[predicted]}" for true, predicted in pairs]
    return [["image", "group", *header, *(f"pixels of {code}" for code in label_set.codes)], *rows]


def column_names(pooling: Pooling) -> tuple[str, ...]:
    """Return the names under which the values of the metrics stand, but for those of objects."""
    return (*pooling.protocols, PUBLISHED)


def cells_of(table: Table, key: tuple[str, str], columns: Sequence[str]) -> list[str]:
    """Return a metric's values for people to read, empty where there is none."""
    return [str(table[key][column]) if column in table[key] else "" for column in columns]


def object_keys(table: Table) -> list[tuple[str, str]]:
    """Return the metrics of objects."""
    return [key for key, values in table.items() if OBJECT in values]
