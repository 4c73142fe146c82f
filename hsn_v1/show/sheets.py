"""Draw sheets, rows of panels with colour keys, as small PNG files, and panels of label maps in their colours."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure  # without pyplot: needs no display, keeps no state
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch, Rectangle
from matplotlib.textpath import text_to_path
from PIL import Image
from scipy.spatial import KDTree

from ..labels import Colour, LabelSet
from .figures import STAGE_TITLES, blend, colourise, overlay
from .hatching import PERIOD, hatch, hatches, ink_on

WIDTH, DPI = 8, 120  #: of a figure, in inches and px per inch
POINTS = 8  #: size of the letters
LETTERS = FontProperties(size=POINTS)
LINE, GAP = 0.16, 0.1  #: height of a line and distance of panels, in inches
PANEL = 224  #: approximate side of a panel, in px
MOST_COLOURS = 20_000  #: of a figure that its palette is chosen from
HEAT = colormaps["inferno"]  #: brighter is more, in print, too


@dataclass(frozen=True)
class Swatch:
    """A colour and its name in a key; `hatching` is an index into `hatching.LINES`."""

    name: str
    colour: Colour
    hatching: int = 0


@dataclass(frozen=True)
class Row:
    """A row of panels."""

    panels: Sequence[tuple[str, np.ndarray]]  #: titles and images, (H, W, 3) uint8
    swatches: Sequence[Swatch] = ()  #: key of the panels' colours
    label: str = ""  #: at the left of the row


def sheet(rows: Sequence[Row], columns: int = 0) -> bytes:
    """Lay out rows of panels, each with its colour key below; return a PNG file.

    A row of more than `columns` panels is wrapped; without `columns`, none is.
    """
    columns = columns or max(len(row.panels) for row in rows)
    left = GAP + (3 * LINE if any(row.label for row in rows) else 0)
    side = (WIDTH - left - columns * GAP) / columns
    bands = [_Band(part, left, side) for row in rows for part in _split(row, columns)]
    height = GAP + sum(band.height for band in bands)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, height))  # one for all, in inches: each takes time
    axes.set_axis_off()
    y = height - GAP
    with rc_context({"text.parse_math": False}):  # a name may have any characters
        for band in bands:
            band.draw(axes, y)
            y -= band.height
    return png(figure, [swatch.colour for row in rows for swatch in row.swatches])


@dataclass(frozen=True)
class _Band:
    """Layout of a row: panels are `side` inches wide, the first at `left` inches."""

    row: Row
    left: float
    side: float

    @cached_property
    def titles(self) -> list[list[str]]:
        return [_wrapped(title, self.side) for title, _ in self.row.panels]

    @cached_property
    def body(self) -> float:
        """Height of the highest panel."""
        return max(self._panel_height(panel) for _, panel in self.row.panels)

    @cached_property
    def head(self) -> float:
        """Height of the titles."""
        return max(map(len, self.titles)) * LINE

    @cached_property
    def key_columns(self) -> int:
        widest = max((_width(swatch.name) for swatch in self.row.swatches), default=0)
        return max(1, int((WIDTH - 4 * LINE) / (widest + 5 * GAP)))

    @property
    def height(self) -> float:
        key_lines = math.ceil(len(self.row.swatches) / self.key_columns)
        return self.head + self.body + key_lines * 1.25 * LINE + GAP

    def draw(self, axes: Axes, top: float) -> None:
        """Draw titles, panels and key below `top`, in inches from the bottom of the figure."""
        bottom = top - self.head - self.body
        if self.row.label:
            place = GAP + LINE, bottom + self.body / 2
            axes.text(*place, self.row.label, fontsize=POINTS, rotation=90, ha="center", va="center")
        for column, (_, panel) in enumerate(self.row.panels):
            x, tall = self.left + column * (self.side + GAP), self._panel_height(panel)
            y = bottom + self.body - tall
            axes.imshow(panel, aspect="auto", extent=(x, x + self.side, y, y + tall))
            axes.text(x, y + tall + 3 / 72, "\n".join(self.titles[column]), fontsize=POINTS)
            axes.add_patch(Rectangle((x, y), self.side, tall, fill=False, linewidth=0.5, edgecolor="grey"))
        if self.row.swatches:
            place = self.left / WIDTH, (bottom - GAP) / axes.figure.get_figheight()
            axes.figure.legend(**key_of(self.row.swatches, place), ncols=self.key_columns, borderaxespad=0)

    def _panel_height(self, panel: np.ndarray) -> float:
        return self.side * panel.shape[0] / panel.shape[1]


#: Style of a legend.
KEY = {
    "fontsize": POINTS,
    "frameon": False,
    "borderpad": 0,
    "labelspacing": 0.4,
    "handlelength": 1.2,
    "handleheight": 1.0,
}

#: Matplotlib's codes for the kinds of `hatching.LINES`.
HATCHES = ("", "////", "\\\\\\\\", "xxxx")


def key_of(swatches: Sequence[Swatch], place: tuple[float, float]) -> dict[str, Any]:
    """Return arguments for Matplotlib's ``legend``, with its upper left corner at `place`."""
    handles = []
    for swatch in swatches:
        fill, ink = np.divide(swatch.colour, 255), np.divide(ink_on(swatch.colour), 255)
        hatched = Patch(facecolor=fill, edgecolor=ink, linewidth=0, hatch=HATCHES[swatch.hatching])
        # a second patch for the frame, as hatching takes the edge colour of its patch
        handles.append((hatched, Patch(fill=False, edgecolor="black", linewidth=0.5)))
    labels = [swatch.name for swatch in swatches]
    return {"handles": handles, "labels": labels, "loc": "upper left", "bbox_to_anchor": place, **KEY}


def _split(row: Row, columns: int) -> list[Row]:
    parts = [row.panels[i : i + columns] for i in range(0, len(row.panels), columns)]
    return [Row(part, row.swatches if part is parts[-1] else (), row.label) for part in parts]


def _wrapped(title: str, width: float) -> list[str]:
    lines = title.splitlines()
    return [part for line in lines for part in textwrap.wrap(line, int(len(line) * min(width / _width(line), 1)))]


def _width(text: str) -> float:
    return text_to_path.get_text_width_height_descent(text, LETTERS, ismath=False)[0] / 72


def frame(axes: Axes) -> None:
    """Draw a thin frame, without ticks."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.5, color="grey")


def png(figure: Figure, exact: Sequence[Sequence[int]] = ()) -> bytes:
    """Return a PNG file of 256 colours, `exact` among them: a third of the bytes, without a visible difference."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    packed, places = np.unique(pixels @ np.array((1 << 16, 1 << 8, 1)), return_inverse=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.uint8)
    greys = ((grey, grey, grey) for grey in range(0, 256, 5))
    exact = [*greys, *exact]
    some = colours[np.newaxis, :: 1 + len(colours) // MOST_COLOURS]
    adaptive = Image.fromarray(some).quantize(256 - len(exact), Image.Quantize.MEDIANCUT).getpalette()
    palette = np.array([*exact, *np.reshape(adaptive, (-1, 3))], np.uint8)
    nearest = KDTree(palette).query(colours)[1].astype(np.uint8)
    drawn = Image.fromarray(nearest[places].reshape(pixels.shape[:2]))
    drawn.putpalette(palette.tobytes())
    content = io.BytesIO()
    drawn.save(content, "png", optimize=True)
    return content.getvalue()


def heat(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Blend a class's map, (H, W) in 0..1, as a heat map over the greyed image; images are (H, W, 3) uint8."""
    grey = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
    return blend(HEAT(values, bytes=True)[..., :3], grey, 0.65)


def swatches(label_maps: Sequence[np.ndarray], label_set: LabelSet) -> list[Swatch]:
    """Return swatches of the classes that occur, and a black one if there are unlabelled pixels."""
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
    """Return a row of panels: an image, its ground truth and its masks by stage, in the published colours.

    The image is (H, W, 3) uint8, the masks are class indices, (H, W) uint8; `label` is written left of the row.
    """
    shown = {"ground truth": truth, **{STAGE_TITLES[stage]: mask for stage, mask in masks.items()}}
    panels = [("image", image), *((title, painted(labels, label_set)) for title, labels in shown.items())]
    return Row(panels, swatches([*shown.values()], label_set), label)


def plot(labels: np.ndarray, image: np.ndarray, label_set: LabelSet, axes: Axes) -> None:
    """Show a label map over its image on Matplotlib's axes, with a legend of its classes to the right.

    Parameters
    ----------
    labels : ndarray of shape (H, W), uint8
        Class indices; the number of classes where the pixel is unlabelled.
    image : ndarray of shape (H, W, 3), uint8
        The segmented image.
    label_set : LabelSet
        Colours and names of the classes.
    axes : matplotlib.axes.Axes
        Axes to draw on, such as ``plt.gca()``.

    Raises
    ------
    InputError
        If an argument is invalid, or the sizes differ.
    """
    axes.imshow(overlay(labels, image, label_set, period_of(labels)))
    frame(axes)
    for name in axes.legend(**key_of(swatches([labels], label_set), (1.02, 1))).get_texts():
        name.set_parse_math(False)


def painted(labels: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Paint class indices in the published colours, with hatching of look-alike colours."""
    return hatch(colourise(labels, label_set), labels, label_set, period_of(labels))


def period_of(labels: np.ndarray) -> int:
    """Return the distance of hatching lines, in px of a label map, that keeps them distinct on a panel."""
    return round(PERIOD * max(1, max(labels.shape) / PANEL))
