"""Figures of a guided tour: images with their masks, a class's map over its image, scores. No display is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..labels import LabelSet
from ..tiles import TileGrid
from .figures import STAGE_TITLES, colourise, overlay
from .hatching import PERIOD, hatch, hatches
from .sheets import DPI, KEY, POINTS, STRONG, WEAK, WIDTH, Row, Swatch, frame, heat, key_of, png, sheet

PANEL = 224  #: side of a panel, in px, about


def swatches(label_maps: Sequence[np.ndarray], label_set: LabelSet) -> list[Swatch]:
    """Return the swatch of each class that occurs, and black for unlabelled pixels."""
    present, kinds = set(np.unique(np.concatenate([np.unique(labels) for labels in label_maps]))), hatches(label_set)
    key = [
        Swatch(label_set.describe(code), label_set.colours[code], kinds[code])
        for c, code in enumerate(label_set.codes)
        if c in present
    ]
    return [*key, Swatch("unlabelled", (0, 0, 0))] if len(label_set) in present else key


def case(
    image: np.ndarray, truth: np.ndarray, masks: Mapping[str, np.ndarray], label_set: LabelSet, label: str = ""
) -> Row:
    """Return a row of an image, its ground truth and its masks after some stages, in the published colours.

    The image is (H, W, 3) uint8, the masks are class indices, (H, W) uint8; `label` stands at the left of the row.
    """
    shown = {"ground truth": truth, **{STAGE_TITLES[stage]: mask for stage, mask in masks.items()}}
    panels = [("image", image), *((title, painted(labels, label_set)) for title, labels in shown.items())]
    return Row(panels, swatches([*shown.values()], label_set), label)


def plot(labels: np.ndarray, image: np.ndarray, label_set: LabelSet, axes: Axes) -> None:
    """Show a label map over its image on Matplotlib's axes, with its classes as the legend, to the right.

    Parameters
    ----------
    labels : ndarray of shape (H, W), uint8
        Class indices; the number of classes where the pixel is unlabelled.
    image : ndarray of shape (H, W, 3), uint8
    label_set : LabelSet
    axes : matplotlib.axes.Axes
        Such as ``plt.gca()``.

    Raises
    ------
    InputError
        If an argument is of no use, or the sizes differ.
    """
    axes.imshow(overlay(labels, image, label_set, period_of(labels)))
    frame(axes)
    key = swatches([labels], label_set)
    place = {"loc": "upper left", "bbox_to_anchor": (1.02, 1)}
    axes.legend([key_of(swatch) for swatch in key], [swatch.name for swatch in key], **KEY, **place)


def painted(labels: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Paint class indices in the published colours, with hatching where these look alike."""
    return hatch(colourise(labels, label_set), labels, label_set, period_of(labels))


def period_of(labels: np.ndarray) -> int:
    """Return the distance of the hatching's lines in a label map's px, so that a panel shows them apart."""
    return round(PERIOD * max(1, max(labels.shape) / PANEL))


def contact_sheet(examples: Sequence[tuple[str, np.ndarray, np.ndarray]], label_set: LabelSet) -> bytes:
    """Draw images above their ground truth, given as name, image and class indices; return a PNG file."""
    images = Row([(name, image) for name, image, _ in examples], label="image")
    truths = [labels for *_, labels in examples]
    masks = [("", painted(labels, label_set)) for labels in truths]
    return sheet([images, Row(masks, swatches(truths, label_set), "ground truth")])


def class_maps(
    image: np.ndarray,
    maps: np.ndarray,
    label_set: LabelSet,
    scale: str,
    scores: Mapping[int, float] | None = None,
    columns: int = 4,
) -> bytes:
    """Draw an image, (H, W, 3) uint8, and over it the maps of classes, (C, H, W) float32 in 0..1; return a PNG file.

    `scale` says what the maps hold. Classes are drawn that have a score, by their index, or all whose maps have any
    mass, with their highest value; `columns` of them side by side.
    """
    peaks = {c: maps[c].max() for c in np.flatnonzero(maps.any(axis=(1, 2)))}
    numbers = {c: f"up to {peak:.2f}" for c, peak in peaks.items()}
    if scores is not None:
        numbers = {c: f"score {score:.2f}{'' if c in peaks else ', empty map'}" for c, score in scores.items()}
    panels = [
        (f"{label_set.describe(label_set.codes[c])}\n{number}", heat(maps[c], image)) for c, number in numbers.items()
    ]
    return sheet([Row([("image", image), *panels])], columns, scale)


def score_bars(scores: np.ndarray, thresholds: np.ndarray, names: Sequence[str], at_most: int = 12) -> bytes:
    """Draw the highest scores, (C,) in 0..1, and all of present classes, as bars against their thresholds, as a PNG."""
    present = scores >= thresholds
    order = np.lexsort((-scores, ~present))[: max(at_most, present.sum())][::-1]
    figure = Figure(figsize=(WIDTH, 0.24 * len(order) + 0.8), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(order)), scores[order], color=np.where(present[order], STRONG, WEAK), height=0.7)
    marks = axes.scatter(thresholds[order], range(len(order)), marker="|", s=130, color="black", linewidth=1.8)
    for i, c in enumerate(order):
        axes.text(1.025, i, f"{scores[c]:.2f}", fontsize=POINTS, va="center")
    axes.set_yticks(range(len(order)), [names[c] for c in order], fontsize=POINTS)
    axes.set(xlim=(0, 1.08), ylim=(-0.6, len(order) - 0.4))
    axes.set_xlabel("score", fontsize=POINTS)
    axes.tick_params(labelsize=POINTS)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Patch(color=STRONG, label="present"), Patch(color=WEAK, label="absent"), marks]
    figure.legend(handles, ["present", "absent", "threshold"], ncols=3, loc="outside upper right", **KEY)
    return png(figure)


def tile_scores(image: np.ndarray, grid: TileGrid, scores: np.ndarray) -> bytes:
    """Draw where an image's tiles lie, with the score of each, (T,) in 0..1; return a PNG file."""
    height, width = image.shape[:2]
    figure = Figure(figsize=(WIDTH / 2, WIDTH / 2 * height / width), dpi=DPI)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.imshow(image, aspect="auto")
    (rows, columns), inset = grid.axes, width / 200
    colours = colormaps["tab10"](range(10), bytes=True)[:, :3].tolist()
    places = [(*row, *column) for row in enumerate(rows.stitch_starts) for column in enumerate(columns.stitch_starts)]
    for tile, ((i, y, j, x), score) in enumerate(zip(places, scores, strict=True)):
        corner, colour = np.add((x - columns.pad, y - rows.pad), inset), np.divide(colours[tile % 10], 255)
        size = np.subtract((columns.footprint, rows.footprint), 2 * inset)
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=2))
        middle = np.add(corner, np.multiply(size, ((j + 0.5) / columns.count, (i + 0.5) / rows.count)))
        box = {"facecolor": "white", "edgecolor": colour, "linewidth": 1.5}
        axes.text(*middle, f"{score:.2f}", fontsize=POINTS, ha="center", va="center", bbox=box)
    axes.set(xlim=(0, width), ylim=(height, 0))
    frame(axes)
    return png(figure, colours)


def before_after(before: np.ndarray, after: np.ndarray, names: Sequence[str]) -> bytes:
    """Draw what maps hold at one pixel, (C,) in 0..1, before and after, as bars; return a PNG file."""
    figure = Figure(figsize=(WIDTH / 2, 1.8), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    x = np.arange(len(names))
    for shift, values, colour, label in ((-0.2, before, WEAK, "before"), (0.2, after, STRONG, "after")):
        bars = axes.bar(x + shift, values, width=0.36, color=colour, label=label)
        axes.bar_label(bars, fmt="%.2g", fontsize=POINTS)
    axes.set_xticks(x, names, fontsize=POINTS)
    axes.set(ylim=(0, 1.1), yticks=(0, 0.5, 1))
    axes.tick_params(labelsize=POINTS)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(ncols=2, loc="outside upper right", **KEY)
    return png(figure)
