"""Figures of a guided tour: rows of titled pictures, a class's map over its image, scores. No display is needed."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: needs no display, keeps no state
from matplotlib.patches import Patch, Rectangle
from matplotlib.textpath import TextPath
from PIL import Image, ImageColor
from scipy.spatial import KDTree

from ..labels import LabelSet
from ..tiles import TileGrid
from .figures import blend, colourise

WIDTH, DPI = 8, 120  #: of a figure, in inches and px per inch
POINTS = 8  #: size of the letters
LINE, GAP = 0.16, 0.1  #: height of a line and distance of panels, in inches
HEAT = colormaps["inferno"]  #: brighter is more, in print, too
STRONG, WEAK = "#1f4e8c", "#c9d3df"  #: of bars

#: What the stages' masks are called in words.
STAGE_TITLES = {"GradCAM": "Grad-CAM", "Adjust": "adjusted", "CRF": "after CRF"}


@dataclass(frozen=True)
class Row:
    """Pictures side by side.

    Attributes
    ----------
    panels : sequence of (str, ndarray of shape (H, W, 3), uint8)
        Titles and pictures.
    swatches : mapping of str to (int, int, int)
        What the pictures' colours mean.
    label : str
        What stands at the left of the row.
    """

    panels: Sequence[tuple[str, np.ndarray]]
    swatches: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    label: str = ""


def sheet(rows: Sequence[Row], columns: int = 0, scale: str = "") -> bytes:
    """Lay out rows of pictures, each with its colour key below.

    Parameters
    ----------
    rows : sequence of Row
    columns : int
        Panels that have room side by side, a longer row goes on below; as many as the longest has, if left out.
    scale : str
        What the colours of `heat` show; empty if there are none.

    Returns
    -------
    bytes
        A PNG file.
    """
    columns = columns or max(len(row.panels) for row in rows)
    rows = [part for row in rows for part in _split(row, columns)]
    left = 3 * LINE if any(row.label for row in rows) else 0
    side = (WIDTH - left - (columns + 1) * GAP) / columns
    titles = [[_wrapped(title, side) for title, _ in row.panels] for row in rows]
    heads = [max(map(len, lines)) * LINE for lines in titles]
    bodies = [max(side * picture.shape[0] / picture.shape[1] for _, picture in row.panels) for row in rows]
    abreast = [_abreast(row.swatches) for row in rows]
    feet = [-(-len(row.swatches) // n) * 1.25 * LINE + GAP for row, n in zip(rows, abreast, strict=True)]
    height = GAP + sum(heads) + sum(bodies) + sum(feet) + 3 * LINE * bool(scale)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    y = height - GAP
    for row, lines, head, body, foot, n in zip(rows, titles, heads, bodies, feet, abreast, strict=True):
        y -= head + body
        if row.label:
            place = (GAP + LINE) / WIDTH, (y + body / 2) / height
            figure.text(*place, row.label, fontsize=POINTS, rotation=90, ha="center", va="center")
        for column, (_, picture) in enumerate(row.panels):
            x, tall = left + GAP + column * (side + GAP), side * picture.shape[0] / picture.shape[1]
            axes = figure.add_axes((x / WIDTH, (y + body - tall) / height, side / WIDTH, tall / height))
            axes.imshow(picture, aspect="auto")
            axes.set_title("\n".join(lines[column]), fontsize=POINTS, loc="left", pad=3)
            _frame(axes)
        if row.swatches:
            patches = [
                Patch(facecolor=np.divide(colour, 255), edgecolor="black", linewidth=0.5, label=name)
                for name, colour in row.swatches.items()
            ]
            place = (left + GAP) / WIDTH, (y - GAP) / height
            figure.legend(handles=patches, ncols=n, **_KEY, loc="upper left", bbox_to_anchor=place, borderaxespad=0)
        y -= foot
    colours = [colour for row in rows for colour in row.swatches.values()]
    if scale:
        shades = heat(np.linspace(0, 1, 64)[np.newaxis], np.full((1, 64, 3), 150, np.uint8))  # over a medium grey
        colours += shades[0].tolist()
        bar = figure.add_axes(((left + GAP) / WIDTH, (y - LINE) / height, 2 / WIDTH, LINE / height))
        bar.imshow(shades, aspect="auto", extent=(0, 1, 0, 1))
        bar.set(yticks=[])
        bar.tick_params(labelsize=POINTS, length=2)
        bar.text(1.05, 0.5, scale, fontsize=POINTS, va="center")
    return _png(figure, colours)


_KEY = {
    "fontsize": POINTS,
    "frameon": False,
    "borderpad": 0,
    "handlelength": 1.2,
    "handleheight": 1.0,
    "labelspacing": 0.4,
}


def _split(row: Row, columns: int) -> list[Row]:
    parts = [row.panels[i : i + columns] for i in range(0, len(row.panels), columns)]
    return [Row(part, row.swatches if part is parts[-1] else {}, row.label) for part in parts]


def _wrapped(title: str, width: float) -> list[str]:
    lines = title.splitlines()
    return [part for line in lines for part in textwrap.wrap(line, int(len(line) * min(width / _width(line), 1)))]


def _width(text: str) -> float:
    return TextPath((0, 0), text, size=POINTS).get_extents().width / 72


def _abreast(swatches: Mapping[str, tuple[int, int, int]]) -> int:
    return int((WIDTH - 4 * LINE) / (max(map(_width, swatches), default=0) + 5 * GAP))


def _frame(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.5, color="grey")


def _png(figure: Figure, exact: Sequence[Sequence[int]] = ()) -> bytes:
    """Return a PNG file of 256 colours, those of `exact` among them: a third of the bytes, and nobody sees it."""
    content = io.BytesIO()
    figure.savefig(content)
    pixels = np.asarray(Image.open(content).convert("RGB"))
    packed, places = np.unique(pixels @ np.array((1 << 16, 1 << 8, 1)), return_inverse=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.uint8)
    greys = ((grey, grey, grey) for grey in range(0, 256, 5))
    exact = [*greys, *map(ImageColor.getrgb, (STRONG, WEAK)), *exact]
    adaptive = Image.fromarray(colours[np.newaxis]).quantize(256 - len(exact), Image.Quantize.MEDIANCUT).getpalette()
    palette = np.array([*exact, *np.reshape(adaptive, (-1, 3))], np.uint8)
    nearest = KDTree(palette).query(colours)[1].astype(np.uint8)
    picture = Image.fromarray(nearest[places].reshape(pixels.shape[:2]))
    picture.putpalette(palette.tobytes())
    content = io.BytesIO()
    picture.save(content, "png", optimize=True)
    return content.getvalue()


def swatches(label_maps: Sequence[np.ndarray], label_set: LabelSet) -> dict[str, tuple[int, int, int]]:
    """Return the name in words and the colour of each class that occurs, and black for unlabelled pixels."""
    present = np.unique(np.concatenate([np.unique(labels) for labels in label_maps]))
    key = {label_set.describe(code): label_set.colours[code] for c, code in enumerate(label_set.codes) if c in present}
    return {**key, "unlabelled": (0, 0, 0)} if len(label_set) in present else key


def case(
    image: np.ndarray, truth: np.ndarray, masks: Mapping[str, np.ndarray], label_set: LabelSet, label: str = ""
) -> Row:
    """Return a row of an image, its ground truth and its masks, in the published colours.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    truth : ndarray of shape (H, W), uint8
        Class indices; the number of classes where the pixel is unlabelled.
    masks : mapping of str to ndarray of shape (H, W), uint8
        Class indices after each stage that is shown.
    label_set : LabelSet
    label : str
        What stands at the left of the row.
    """
    shown = {"ground truth": truth, **{STAGE_TITLES[stage]: mask for stage, mask in masks.items()}}
    panels = [("image", image), *((title, colourise(labels, label_set)) for title, labels in shown.items())]
    return Row(panels, swatches([*shown.values()], label_set), label)


def contact_sheet(examples: Sequence[tuple[str, np.ndarray, np.ndarray]], label_set: LabelSet) -> bytes:
    """Draw images above their ground truth.

    Parameters
    ----------
    examples : sequence of (str, ndarray of shape (H, W, 3), uint8, ndarray of shape (H, W), uint8)
        Name, image and class indices.
    label_set : LabelSet

    Returns
    -------
    bytes
        A PNG file.
    """
    images = Row([(name, image) for name, image, _ in examples], label="image")
    truths = [labels for *_, labels in examples]
    painted = [("", colourise(labels, label_set)) for labels in truths]
    return sheet([images, Row(painted, swatches(truths, label_set), "ground truth")])


def heat(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Lay a class's map over the image in grey, as a heat map.

    Parameters
    ----------
    values : ndarray of shape (H, W), float32, in 0..1
    image : ndarray of shape (H, W, 3), uint8

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
    """
    grey = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
    return blend(HEAT(values, bytes=True)[..., :3], grey, 0.65)


def class_maps(
    image: np.ndarray,
    maps: np.ndarray,
    label_set: LabelSet,
    scale: str,
    scores: Mapping[int, float] | None = None,
    columns: int = 4,
) -> bytes:
    """Draw an image, and over it the maps of classes.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    maps : ndarray of shape (C, H, W), float32, in 0..1
    label_set : LabelSet
    scale : str
        What the maps hold.
    scores : mapping of int to float, optional
        Score of each class to draw, by its index. If left out, all maps with any mass are drawn, and their highest
        value is told.
    columns : int
        Panels that have room side by side.

    Returns
    -------
    bytes
        A PNG file.
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
    """Draw the highest scores as bars, against their thresholds.

    Parameters
    ----------
    scores, thresholds : ndarray of shape (C,), in 0..1
    names : sequence of C str
    at_most : int
        Number of classes to show; all present ones are shown.

    Returns
    -------
    bytes
        A PNG file.
    """
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
    figure.legend(handles, ["present", "absent", "threshold"], ncols=3, loc="outside upper right", **_KEY)
    return _png(figure)


def tile_scores(image: np.ndarray, grid: TileGrid, scores: np.ndarray) -> bytes:
    """Draw where an image's tiles lie, with the score of each.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    grid : TileGrid
    scores : ndarray of shape (T,), in 0..1

    Returns
    -------
    bytes
        A PNG file.
    """
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
    _frame(axes)
    return _png(figure, colours)


def before_after(before: np.ndarray, after: np.ndarray, names: Sequence[str]) -> bytes:
    """Draw what maps hold at one pixel, before and after, as bars.

    Parameters
    ----------
    before, after : ndarray of shape (C,), in 0..1
    names : sequence of C str

    Returns
    -------
    bytes
        A PNG file.
    """
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
    figure.legend(ncols=2, loc="outside upper right", **_KEY)
    return _png(figure)
