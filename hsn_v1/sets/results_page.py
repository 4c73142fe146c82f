"""The results page of a run: one HTML file that opens from disk, and links to the run's files, or contains them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..evaluate import class_ious, mean_iou_present, occurring
from ..io import tree
from ..io.images import embedded, embedded_thumbnail
from ..io.model_files import copy_card
from ..io.writing import write_bytes
from ..labels import STAGES, LabelSet
from ..show.figures import STAGE_TITLES
from ..show.gallery import Card, Gallery, Layer, Legend, View, entry_of
from ..show.html import PAGE, card_fact, crf_facts, link_to, render, versions
from .outputs import rounded_ious
from .report import ImageResult, Report, interval_tables, stages_of, tables_of
from .settings import Settings


def write_page(settings: Settings, report: Report) -> None:
    """Write a run's page into its folder. It shows this run's files only; a self-contained page links to none."""
    page = render(
        "run.html",
        title=settings.images[0].parent.name,
        caveat=settings.caveat,
        facts=facts(settings, report, copy_card(settings.card, settings.out)),
        tables=[*tables_of(report), *interval_tables(report)],
        charts={s.name: charts(settings, report, s) for s in settings.label_sets if s.name in report.weights},
        gallery=gallery_of(settings, report),
        failures=report.failures,
        notes=report.notes,
    )
    write_bytes(settings.out / PAGE, page.encode(errors="replace"))


def facts(settings: Settings, report: Report, card: str = "") -> dict[str, str]:
    """Return settings and versions, by name."""
    return {
        "images": f"{settings.images[0].parent}: {len(report.files)} of {len(settings.images)} segmented",
        "ground truth": str(settings.truth or "none"),
        "classifier": settings.model,
        **({} if settings.self_contained else card_fact(card)),
        "label sets": ", ".join(f"{s.name} ({len(s)} classes)" for s in settings.label_sets),
        "scale": f"{settings.mpp / settings.downsample:.4g} microns per pixel (down_fac {settings.downsample:.6g})",
        "run level": str(settings.run_level),
        **(crf_facts(settings.crfs) if settings.run_level >= 3 else {}),
        **versions(),
    }


def charts(settings: Settings, report: Report, label_set: LabelSet) -> dict[str, str]:
    """Return the addresses of a label set's charts by title, the most telling first."""
    name, out, last_first = label_set.name, settings.out, list(report.stages(label_set.name))[::-1]
    confusions = {f"Confusion, {STAGE_TITLES[s]}": tree.confusion_chart(out, name, s) for s in last_first}
    (final, chart), *earlier = confusions.items()
    files = {"IoU of each class": tree.iou_chart(out, name), final: chart}
    files |= {"mIoU of each image": tree.image_chart(out, name), **dict(earlier)}
    if label_set.set_aside:
        without = f" without {' and '.join(map(label_set.describe, label_set.set_aside))}"
        fore = {s: tree.confusion_chart(out, name, s, foreground=True) for s in last_first}
        files |= {f"Confusion, {STAGE_TITLES[s]}{without}": file for s, file in fore.items()}
    return {title: _address(settings, file) for title, file in files.items()}


def gallery_of(settings: Settings, report: Report) -> Gallery | None:
    """Return the run's gallery, or None if it has no masks and no ground truth to show."""
    paths = {path.name: path for path in settings.images}
    cards = [_card(settings, paths[result.file], result) for result in report.results]
    if not any(card.most_layers for card in cards):
        return None
    has_truth, stages = bool(report.weights), {stage for result in report.results for _, stage in result.areas}
    columns = [STAGE_TITLES[stage] for stage in STAGES if stage in stages]
    note = (
        "Numbers below the masks: mIoU over the classes of this image's ground truth. Sorting goes by this number or, "
        "with a class chosen, by the IoU of that class. Images with a class have it in the ground truth or in the mask "
        "after the CRF. "
    )
    return Gallery(
        [_legend(label_set, report, cards) for label_set in settings.label_sets],
        cards,
        "IoU after CRF" if has_truth else "share of the pixels",
        "IoU" if has_truth else "share of the pixels",
        columns,
        has_totals=has_truth,
        note=(note if has_truth else "") + "Hatched classes have a colour that another class nearly has.",
    )


def _legend(label_set: LabelSet, report: Report, cards: Sequence[Card]) -> Legend:
    views = [card.views[label_set.name] for card in cards]
    counts = Counter(code for view in views for code in view.ranks)
    occur = {code for view in views for code, *_ in view.rows}
    unlabelled = any(confusion[-1].any() for confusion in report.stages(label_set.name).values())
    return Legend(
        label_set.name,
        {code: entry_of(label_set, code, counts[code]) for code in label_set.codes if code in occur},
        [
            entry_of(label_set, code)
            for code, colour in label_set.unlabelled.items()
            if unlabelled and isinstance(colour, tuple)
        ],
    )


def _card(settings: Settings, path: Path, result: ImageResult) -> Card:
    views = {label_set.name: _view(settings, path, result, label_set) for label_set in settings.label_sets}
    return Card(path.name, _address(settings, path, is_mask=False), *result.size, views)


def _view(settings: Settings, path: Path, result: ImageResult, label_set: LabelSet) -> View:
    name, areas = label_set.name, stages_of(result.areas, label_set.name)
    confusions = stages_of(result.confusions, name)
    layers = []
    if confusions:
        layers.append(Layer("ground truth", _address(settings, settings.truth_file(path, label_set), is_mask=True)))
    for stage in areas if settings.save.masks else ():
        file = tree.stage_mask(settings.out, name, stage, path.name)
        remark = f"mIoU {mean_iou_present(confusions[stage]):.2f}" if confusions else ""
        layers.append(Layer(STAGE_TITLES[stage], _address(settings, file, is_mask=True), remark))
    ranks, rows = _numbers(confusions, areas, label_set)
    return View(layers, ranks, rows, _unresponsive(result.unresponsive.get(name, 0), label_set) if layers else "")


def _numbers(
    confusions: Mapping[str, np.ndarray], areas: Mapping[str, np.ndarray], label_set: LabelSet
) -> tuple[dict[str, float], list[tuple[str, bool, list[str]]]]:
    """Return ranks and rows for `View`: the IoU of each class or, without ground truth, its share of the pixels."""
    if not areas:
        return {}, []
    if confusions:
        final, shown = confusions[STAGES[-1]], occurring(sum(confusions.values()))
        values = [class_ious(confusion) for confusion in confusions.values()]
        ranks, is_true = rounded_ious(final, label_set), final[:-1].any(axis=1)
    else:
        values = [(pixels / pixels.sum()).round(4) for pixels in areas.values()]
        shown, is_true = np.flatnonzero(sum(areas.values())), np.ones(len(label_set), bool)
        ranks = {label_set.codes[c]: values[-1][c].item() for c in np.flatnonzero([*areas.values()][-1])}
    return ranks, [(label_set.codes[c], bool(is_true[c]), [f"{value[c]:.2f}" for value in values]) for c in shown]


def _unresponsive(share: float, label_set: LabelSet) -> str:
    """Return a sentence on the pixels of a Grad-CAM mask where no class responded."""
    if share < 0.0005:
        return ""
    first = label_set.describe(label_set.codes[label_set.foreground[0]])
    pixels = "all pixels" if share >= 0.9995 else f"{100 * share:.1f} % of the pixels"
    return f"Grad-CAM: no class responded in {pixels}; there its mask shows the first class, {first}."


def _address(settings: Settings, path: Path, is_mask: bool | None = None) -> str:
    """Return a link to a file or, for a self-contained page, its content, of an image or a mask as a thumbnail."""
    if not settings.self_contained:
        return link_to(path, settings.out)
    return embedded(path) if is_mask is None else embedded_thumbnail(path, is_mask)
