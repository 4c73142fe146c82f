"""The results page of a run: one HTML file that opens from disk, and links the files that the run wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ..evaluate import iou, mean_iou_present, occurring
from ..files.writing import write_bytes
from ..hsn_v1 import STAGES
from ..labels import LabelSet
from ..object_metrics import METRICS
from ..show.html import PAGE, Table, crf_facts, link_to, render, versions
from .outputs import mask_name
from .report import ImageResult, Report, stages_of
from .settings import Settings


@dataclass(frozen=True)
class Entry:
    """A class in a legend: its name in words, its colour as CSS writes it, and the number of images that have it."""

    code: str
    name: str
    colour: str
    images: int = 0


@dataclass(frozen=True)
class Layer:
    """A picture that lies over an image: where it is, and its mIoU over the classes present, or None."""

    title: str
    link: str
    miou: float | None = None


@dataclass(frozen=True)
class Card:
    """An image of a gallery.

    Attributes
    ----------
    file, link : str
    height, width : int
        Of the image, in px.
    layers : sequence of Layer
    values : sequence of (str, bool, sequence of str)
        Of each class that occurs: code, whether the ground truth has it, and its IoU after each stage; without
        ground truth, its share of the pixels.
    final : dict of str to float or None
        IoU after the last stage, by the class's code, of each class in the ground truth or in that stage's mask; as
        ``""`` mIoU over the classes of the ground truth. None without ground truth.
    """

    file: str
    link: str
    height: int
    width: int
    layers: Sequence[Layer]
    values: Sequence[tuple[str, bool, Sequence[str]]]
    final: Mapping[str, float | None]


@dataclass(frozen=True)
class Gallery:
    """Images of a run with one label set's masks; `unlabelled` are colours that the ground truth alone may have."""

    name: str
    measure: str
    stages: Sequence[str]
    legend: Mapping[str, Entry]
    unlabelled: Sequence[Entry]
    cards: Sequence[Card]


def write_page(settings: Settings, report: Report) -> None:
    """Write a run's page into its folder: what the run wrote, and nothing else.

    Parameters
    ----------
    settings : Settings
    report : Report
    """
    name = settings.images[0].parent.name
    page = render(
        "run.html",
        title=name,
        facts=facts(settings, report),
        tables=[*metric_tables(settings, report), *object_tables(report)],
        figures={s.name: figures(s, report) for s in settings.label_sets if s.name in report.weights},
        galleries=[gallery for s in settings.label_sets if (gallery := gallery_of(settings, report, s))],
        failures=report.failures,
        notes=report.notes,
    )
    write_bytes(settings.out / PAGE, page.encode(errors="replace"))


def facts(settings: Settings, report: Report) -> dict[str, str]:
    """Return settings and versions, by what they are called."""
    return {
        "images": f"{settings.images[0].parent}: {len(report.files)} of {len(settings.images)} segmented",
        "ground truth": str(settings.truth or "none"),
        "classifier": settings.model,
        "label sets": ", ".join(f"{s.name} ({len(s)} classes)" for s in settings.label_sets),
        "scale": f"{settings.mpp / settings.downsample:.4g} microns per pixel (down_fac {settings.downsample:.6g})",
        "run level": str(settings.run_level),
        **(crf_facts(settings.crfs) if settings.run_level >= 3 else {}),
        **versions(),
    }


def metric_tables(settings: Settings, report: Report) -> list[Table]:
    """Return the table of fIoU and mIoU, if there is ground truth."""
    if not report.weights:
        return []
    header = ["label set", "metric", *(f"after {stage}" for stage in STAGES), "published"]
    note = (
        "fIoU and mIoU as published: absent classes count as 0. mIoU (present): over the classes of the ground truth."
    )
    if settings.published:
        note += " Published numbers: after the CRF, official weights, all images of the set."
    return [Table("Metrics", header, report.metric_rows(settings.published), 2, note)]


def object_tables(report: Report) -> list[Table]:
    """Return a table of the object metrics of each label set that was compared with true objects."""
    header = ["objects", "of", "images", *METRICS]
    note = "As the GlaS challenge defines them, pooled over the images; of each image in NAME_object_metrics.csv."
    return [
        Table(f"Objects after CRF ({name})", header, report.object_rows(name), 2, note.replace("NAME", name))
        for name in report.objects
    ]


def figures(label_set: LabelSet, report: Report) -> dict[str, str]:
    """Return the files of a label set's figures, the most telling first, by what they show."""
    name, stages = label_set.name, [*report.stages(label_set.name)][::-1]
    found = {"IoU of each class": f"IoU_{name}.png"}
    for title, prefix in (
        ("", ""),
        (f" without {' and '.join(map(label_set.describe, label_set.set_aside))}", "fore_"),
    ):
        if not prefix or label_set.set_aside:
            found |= {f"Confusion after {s}{title}": f"confusion_matrix_{prefix}{name}_{s}.png" for s in stages}
    return {title: quote(file) for title, file in found.items()}


def gallery_of(settings: Settings, report: Report, label_set: LabelSet) -> Gallery | None:
    """Return a label set's gallery, or None if the run has no masks of it and no ground truth to show."""
    paths = {path.name: path for path in settings.images}
    cards = [_card(settings, paths[result.file], result, label_set) for result in report.results]
    if not any(card.layers for card in cards):
        return None
    has_truth = label_set.name in report.weights
    counts = Counter(code for card in cards for code in card.final)
    occur = {code for card in cards for code, *_ in card.values}
    legend = {
        code: _entry(label_set, code, label_set.colours[code], counts[code])
        for code in label_set.codes
        if code in occur
    }
    unlabelled = has_truth and any(confusion[-1].any() for confusion in report.stages(label_set.name).values())
    return Gallery(
        label_set.name,
        "IoU" if has_truth else "share of the pixels",
        list(stages_of(report.results[0].areas, label_set.name)),
        legend,
        [
            _entry(label_set, code, colour)
            for code, colour in label_set.unlabelled.items()
            if unlabelled and isinstance(colour, tuple)
        ],
        cards,
    )


def _entry(label_set: LabelSet, code: str, colour: tuple[int, int, int], images: int = 0) -> Entry:
    return Entry(code, label_set.describe(code), f"rgb({', '.join(map(str, colour))})", images)


def _card(settings: Settings, path: Path, result: ImageResult, label_set: LabelSet) -> Card:
    out, name, codes = settings.out, label_set.name, label_set.codes
    areas, confusions = stages_of(result.areas, name), stages_of(result.confusions, name)
    mious = {stage: round(mean_iou_present(confusion), 4) for stage, confusion in confusions.items()}
    layers = [Layer("ground truth", link_to(settings.truth / name / path.name, out))] if confusions else []
    for stage in areas if settings.save.masks else ():
        link = link_to(out / name / f"ablative_{stage}" / mask_name(path.name), out)
        layers.append(Layer(f"after {stage}", link, mious.get(stage)))
    if confusions:
        values = {stage: iou(confusion).round(4).tolist() for stage, confusion in confusions.items()}
        shown, present = occurring(sum(confusions.values())), confusions[STAGES[-1]][:-1].any(axis=1)
        final = {codes[c]: values[STAGES[-1]][c] for c in occurring(confusions[STAGES[-1]])}
    else:
        values = {stage: (counts / counts.sum()).tolist() for stage, counts in areas.items()}
        shown, present = np.flatnonzero(sum(areas.values())) if areas else (), np.ones(len(label_set), bool)
        final = {codes[c]: None for counts in [*areas.values()][-1:] for c in np.flatnonzero(counts)}
    return Card(
        path.name,
        link_to(path, out),
        *result.size,
        layers,
        [(codes[c], bool(present[c]), [f"{value[c]:.2f}" for value in values.values()]) for c in shown],
        {"": mious.get(STAGES[-1]), **final},
    )
