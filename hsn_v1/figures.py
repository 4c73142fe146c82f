"""Pictures for people: overlays, legends, the summary of an image, confusion matrices. No display is needed."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .adp import LabelSet, describe
from .files import colourise
from .label_maps import tissue_shares

TEXT = 13  #: height of the letters, in px
LINE = 18  #: height of a line of a legend, in px
GAP = 8
INK = (20, 20, 20)
FRAME = 200  #: grey around pictures that may be as white as the paper


def blend(picture: np.ndarray, image: np.ndarray, share: float) -> np.ndarray:
    """Lay a picture over an image; truncated to 8 bit.

    Parameters
    ----------
    picture, image : ndarray of shape (H, W, 3), uint8 or float, in 0..255
    share : float
        The picture's share, in 0..1.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
    """
    return (np.float32(share) * picture + np.float32(1 - share) * image).clip(0, 255).astype(np.uint8)


def continuous_map(maps: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Mix the classes' colours by their maps.

    Parameters
    ----------
    maps : ndarray of shape (C, H, W), float32, in 0..1
    label_set : LabelSet

    Returns
    -------
    ndarray of shape (H, W, 3), float32
    """
    return np.tensordot(maps, np.array(list(label_set.colours.values()), np.float32), axes=(0, 0))


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(TEXT)


def legend(
    classes: Sequence[int], label_set: LabelSet, rows: int, remarks: Mapping[int, str] | None = None
) -> Image.Image:
    """Draw a swatch and the name in words of each class, with a remark on it, in columns of at most `rows` lines."""
    codes = [label_set.codes[c] for c in classes]
    remarks = remarks or {}
    names = [describe(code) + remarks.get(c, "") for c, code in zip(classes, codes, strict=True)] or ["(none)"]
    rows = max(rows, 1)
    columns = -(-len(names) // rows)
    width = LINE + GAP + max(round(_font().getlength(name)) for name in names) + GAP
    picture = Image.new("RGB", (columns * width, min(rows, len(names)) * LINE), "white")
    draw = ImageDraw.Draw(picture)
    for i, name in enumerate(names):
        x, y = i // rows * width, i % rows * LINE
        if classes:
            colour = label_set.colours[codes[i]]
            draw.rectangle((x, y + 2, x + LINE - 4, y + LINE - 4), fill=colour, outline=INK)
        draw.text((x + LINE + GAP / 2, y + LINE / 2), name, fill=INK, font=_font(), anchor="lm")
    return picture


def summary(panels: Sequence[tuple[str, np.ndarray | Image.Image]], vertical: bool) -> np.ndarray:
    """Put titled panels in a row, or in a column.

    Parameters
    ----------
    panels : sequence of (str, ndarray of shape (h, w, 3) or PIL image)
    vertical : bool

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
    """
    pictures = [(title, Image.fromarray(panel) if isinstance(panel, np.ndarray) else panel) for title, panel in panels]
    cells = [(max(p.width, round(_font().getlength(title))), p.height + LINE) for title, p in pictures]
    widths, heights = zip(*cells, strict=True)
    if vertical:
        size = max(widths) + 2 * GAP, sum(heights) + (len(cells) + 1) * GAP
    else:
        size = sum(widths) + (len(cells) + 1) * GAP, max(heights) + 2 * GAP
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    x = y = GAP
    for (title, picture), (width, height) in zip(pictures, cells, strict=True):
        draw.text((x, y), title, fill=INK, font=_font())
        sheet.paste(picture, (x, y + LINE))
        x, y = (x, y + height + GAP) if vertical else (x + width + GAP, y)
    return np.asarray(sheet)


def overview(
    thumbnail: np.ndarray,
    labels: np.ndarray,
    label_set: LabelSet,
    mpp: float,
    title: str,
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """Draw a slide beside its segmentation, with a scale bar and each class's share of the tissue.

    Parameters
    ----------
    thumbnail : ndarray of shape (h, w, 3), uint8
    labels : ndarray of shape (h, w), uint8
        Class indices; C where there is no tissue, which stays unpainted.
    label_set : LabelSet
    mpp : float
        Scale of the thumbnail.
    title : str
    counts : ndarray of shape (C,) or (C + 1,), int, optional
        Pixels of each class in the whole label map (see `label_maps.write_label_map`); without them, those of `labels`.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
    """
    counts = np.bincount(labels.ravel(), minlength=len(label_set) + 1) if counts is None else counts
    shares = tissue_shares(counts, label_set)
    present = np.flatnonzero(counts[: len(label_set)]).tolist()
    remarks = {c: f", {100 * shares[c]:.1f} %" if shares[c] >= 0.001 else ", < 0.1 %" for c in present if c in shares}
    mask = blend(colourise(labels, label_set), thumbnail, 0.5)
    mask = np.where(labels[..., np.newaxis] < len(label_set), mask, thumbnail)
    slide, mask = (np.pad(panel, ((1, 1), (1, 1), (0, 0)), constant_values=FRAME) for panel in (thumbnail, mask))
    panels = [
        (title, np.vstack([slide, scale_bar(slide.shape[1], mpp)])),
        (f"segmentation ({label_set.name})", mask),
        ("classes, share of the tissue", legend(present, label_set, thumbnail.shape[0] // LINE, remarks)),
    ]
    return summary(panels, vertical=False)


def scale_bar(width: int, mpp: float) -> np.ndarray:
    """Draw a bar of a round length, at most a third of a width in px, with the length beside it.

    Returns
    -------
    ndarray of shape (LINE, width, 3), uint8
    """
    length = round_length(width * mpp / 3)
    text = f"{length:g} µm" if length < 1000 else f"{length / 1000:g} mm"
    strip = Image.new("RGB", (width, LINE), "white")
    draw = ImageDraw.Draw(strip)
    right = round(length / mpp)
    draw.rectangle((0, LINE / 2 - 2, right - 1, LINE / 2 + 1), fill=INK)
    draw.text((right + GAP, LINE / 2), text, fill=INK, font=_font(), anchor="lm")
    return np.asarray(strip)


def round_length(most: float) -> float:
    """Return the greatest of 1, 2 and 5 times a power of ten that is at most `most`."""
    power = 10 ** math.floor(math.log10(most))
    return max(step * power for step in (1, 2, 5) if step * power <= most)


def confusion_figure(shares: np.ndarray, codes: Sequence[str], title: str) -> bytes:
    """Draw a confusion matrix as a heat map.

    Parameters
    ----------
    shares : ndarray of shape (C, C), in 0..1
        Rows are the ground truth.
    codes : sequence of C str
    title : str

    Returns
    -------
    bytes
        A PNG file.
    """
    from matplotlib.figure import Figure  # without pyplot: needs no display, keeps no state

    names = [describe(code) for code in codes]
    # In inches; a layout engine would measure every text twice.
    side, left, right, bottom, top = max(0.32 * len(codes), 2.5), 0.085 * max(map(len, names)) + 0.4, 1.2, 1.4, 0.5
    width, height = left + side + right, bottom + side + top
    figure = Figure(figsize=(width, height), dpi=100)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(title=title, xlabel="predicted", ylabel="ground truth")
    axes.set_xticks(range(len(codes)), codes, rotation=90)
    axes.set_yticks(range(len(codes)), names)
    for row, column in np.argwhere(shares >= 0.005):
        share = shares[row, column]
        colour = "white" if share > 0.6 else "black"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=colour)
    bar = figure.add_axes(((left + side + 0.25) / width, bottom / height, 0.15 / width, side / height))
    figure.colorbar(picture, cax=bar, label="share of the true class (numbers: %)")
    content = io.BytesIO()
    figure.savefig(content, format="png", pil_kwargs={"compress_level": 1})
    return content.getvalue()
