"""Pictures for people: overlays, legends, the summary of an image, confusion matrices. No display is needed."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..evaluate import tissue_shares
from ..labels import LabelSet

TEXT = 13  #: height of the letters, in px
LINE = 18  #: height of a line of a legend, in px
GAP = 8
INK = (20, 20, 20)
FRAME = 200  #: grey around pictures that may be as white as the paper
#: Figures, unlike pictures, are drawn at twice the screen's size, for print, and in 256 blues from ink to white.
CELL = 60  #: side of a confusion matrix's cell, in px
PRINT, TITLE = 2 * TEXT, 32  #: height of the letters, in px
BLUES = np.stack([np.interp(range(256), (0, 90, 255), ends) for ends in ((20, 25, 255), (20, 82, 255), (20, 156, 255))])
RULE, SHADES = 208, (190, 130, 60)  #: blue of the lines, and of the stages, early to final


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


def colourise(labels: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Paint class indices in a label set's colours; unlabelled pixels become black.

    Parameters
    ----------
    labels : ndarray of shape (H, W), uint8
    label_set : LabelSet

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
    """
    return np.array([*label_set.colours.values(), (0, 0, 0)], np.uint8)[labels]


@cache
def _font(size: int = TEXT) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def legend(
    classes: Sequence[int], label_set: LabelSet, rows: int, remarks: Mapping[int, str] | None = None
) -> Image.Image:
    """Draw a swatch and the name in words of each class, with a remark on it, in columns of at most `rows` lines."""
    codes = [label_set.codes[c] for c in classes]
    remarks = remarks or {}
    names = [label_set.describe(code) + remarks.get(c, "") for c, code in zip(classes, codes, strict=True)] or [
        "(none)"
    ]
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
    text = f"{length:g} um" if length < 1000 else f"{length / 1000:g} mm"
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


def confusion_figure(shares: np.ndarray, names: Sequence[str], title: str) -> bytes:
    """Draw a confusion matrix as a heat map, with its numbers in %.

    Parameters
    ----------
    shares : ndarray of shape (C, C), in 0..1
        Rows are the ground truth.
    names : sequence of C str
        What the classes are called.
    title : str

    Returns
    -------
    bytes
        A PNG file.
    """
    margin = 4 * GAP
    side, column = CELL * len(names), _names(names, CELL)
    left, top = margin + column.width, 2 * margin + 4 * LINE
    caption = "rows: ground truth, columns: predicted, in % of the true class's pixels"
    width = max(left + side, margin + round(_width(caption, PRINT)))
    sheet = Image.new("L", (width + margin, top + side + column.width + margin), 255)
    draw = ImageDraw.Draw(sheet)
    draw.text((margin, margin), title, fill=0, font=_font(TITLE))
    draw.text((margin, margin + 3 * LINE), caption, fill=0, font=_font(PRINT))
    sheet.paste(column, (margin, top))
    sheet.paste(column.transpose(Image.Transpose.ROTATE_90), (left, top + side))
    if names:
        heat = np.rint(255 - (255 - SHADES[-1]) * shares).astype(np.uint8)
        sheet.paste(Image.fromarray(heat).resize((side, side), Image.Resampling.NEAREST), (left, top))
    for line in range(0, side + 1, CELL):
        draw.line((left, top + line, left + side, top + line), fill=RULE)
        draw.line((left + line, top, left + line, top + side), fill=RULE)
    for row, column in np.argwhere(shares >= 0.005):
        share, middle = shares[row, column], (left + (column + 0.5) * CELL, top + (row + 0.5) * CELL)
        ink = 255 if share > 0.5 else 0
        draw.text(middle, f"{100 * share:.0f}", fill=ink, font=_font(PRINT), anchor="mm")
    return _png(sheet)


def iou_figure(ious: Mapping[str, np.ndarray], names: Sequence[str], title: str) -> bytes:
    """Draw each class's IoU after each stage as bars, with their values.

    Parameters
    ----------
    ious : mapping of str to ndarray of shape (C,), in 0..1
        By the stage's name, at most three.
    names : sequence of C str
        What the classes are called.
    title : str

    Returns
    -------
    bytes
        A PNG file.
    """
    bar, margin, length = LINE + 6, 4 * GAP, 760
    row = bar * len(ious) + 2 * GAP
    column = _names(names, row)
    left, top, bottom = margin + column.width, 2 * margin + 5 * LINE, row * len(names)
    width = max(left + length + 2 * margin, 2 * margin + round(_width(title, TITLE)))
    sheet = Image.new("L", (width + margin, top + bottom + 3 * LINE + margin), 255)
    draw = ImageDraw.Draw(sheet)
    draw.text((margin, margin), title, fill=0, font=_font(TITLE))
    for tick in np.linspace(0, 1, 6):
        x = left + tick * length
        draw.line((x, top, x, top + bottom), fill=RULE, width=2)
        draw.text((x, top + bottom + LINE), f"{tick:.1f}", fill=0, font=_font(PRINT), anchor="mm")
    draw.text((left + length / 2, top + bottom + 2.5 * LINE), "IoU", fill=0, font=_font(PRINT), anchor="mm")
    sheet.paste(column, (margin, top))
    x = left
    for i, (stage, values) in enumerate(ious.items()):
        y = 2 * margin + 3 * LINE
        draw.rectangle((x, y - LINE / 2, x + LINE, y + LINE / 2), fill=SHADES[i], outline=0)
        draw.text((x + LINE + GAP, y), f"after {stage}", fill=0, font=_font(PRINT), anchor="lm")
        x += LINE + 6 * GAP + _width(f"after {stage}", PRINT)
        for c, value in enumerate(values):
            y, end = top + c * row + GAP + i * bar, left + value * length
            draw.rectangle((left, y, end, y + bar - 2), fill=SHADES[i])
            draw.text((end + GAP, y + bar / 2 - 1), f"{value:.2f}", fill=0, font=_font(bar), anchor="lm")
    return _png(sheet)


def _names(names: Sequence[str], height: int) -> Image.Image:
    """Write the classes' names, flush right, in rows of a height in px."""
    width = round(max((_width(name, PRINT) for name in names), default=0)) + 2 * GAP
    strip = Image.new("L", (width, height * len(names)), 255)
    draw = ImageDraw.Draw(strip)
    for i, name in enumerate(names):
        draw.text((width - GAP, (i + 0.5) * height), name, fill=0, font=_font(PRINT), anchor="rm")
    return strip


def _width(text: str, size: int) -> float:
    return _font(size).getlength(text)


def _png(sheet: Image.Image) -> bytes:
    sheet.putpalette(BLUES.T.astype(np.uint8).tobytes())
    content = io.BytesIO()
    sheet.save(content, "png", compress_level=1)
    return content.getvalue()
