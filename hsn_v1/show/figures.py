"""Draw figures of images and label maps: masks over images, legends, summaries, overviews. No display is needed.

An *image* shows tissue; a *mask* is a label map in its colours; a *figure* is for people and consists of *panels*.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..checks import check_image, check_label_set, check_labels
from ..evaluate import tissue_shares
from ..labels import LabelSet
from .hatching import PERIOD, hatch

TEXT = 13  #: height of the letters, in px
LINE = 18  #: height of a line of a legend, in px
GAP = 8
INK = (20, 20, 20)
FRAME = 200  #: grey of the frame around panels, which may be as white as the paper

#: Titles of the stages' masks.
STAGE_TITLES = {"GradCAM": "Grad-CAM", "Adjust": "adjusted", "CRF": "after CRF"}


def blend(mask: np.ndarray, image: np.ndarray, share: float) -> np.ndarray:
    """Blend a mask, at a share in 0..1, over an image, both (H, W, 3) in 0..255; truncated to uint8."""
    return (np.float32(share) * mask + np.float32(1 - share) * image).clip(0, 255).astype(np.uint8)


def continuous_map(maps: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Mix the classes' colours by their maps, (C, H, W) float32 in 0..1, to (H, W, 3) float32.

    Where the maps' sum is below 1, white fills the rest, so that dark colours show.
    """
    mixed = np.tensordot(maps, np.array(list(label_set.colours.values()), np.float32), axes=(0, 0))
    left = np.maximum(0, 1 - maps.sum(axis=0))
    return mixed + 255 * left[..., np.newaxis]


def colourise(labels: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Paint class indices, (H, W) uint8, in a label set's colours, as (H, W, 3) uint8; unlabelled pixels are black."""
    return np.array([*label_set.colours.values(), (0, 0, 0)], np.uint8).take(labels, axis=0)


def overlay(labels: np.ndarray, image: np.ndarray, label_set: LabelSet, period: int = PERIOD) -> np.ndarray:
    """Blend a label map at half over an image, with hatching of look-alike colours (see `hatching`).

    Parameters
    ----------
    labels : ndarray of shape (H, W), uint8
        Class indices; the number of classes where the pixel is unlabelled.
    image : ndarray of shape (H, W, 3), uint8
        The segmented image.
    label_set : LabelSet
        Colours of the classes.
    period : int
        Distance of the hatching's lines, in px.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8

    Raises
    ------
    InputError
        If an argument is invalid, or the sizes differ.

    Examples
    --------
    >>> from hsn_v1 import ADP
    >>> labels, image = np.zeros((8, 8), np.uint8), np.full((8, 8, 3), 200, np.uint8)
    >>> overlay(labels, image, ADP.label_sets["glas"])[0, 0].tolist()
    [101, 177, 214]
    """
    check_image(image)
    check_label_set(label_set)
    check_labels(labels, label_set, image.shape[:2])
    return hatch(blend(colourise(labels, label_set), image, 0.5), labels, label_set, period)


@cache
def font(size: int = TEXT) -> ImageFont.FreeTypeFont:
    """Return the font at a size in px."""
    return ImageFont.load_default(size)


def legend(
    classes: Sequence[int], label_set: LabelSet, rows: int, remarks: Mapping[int, str] | None = None
) -> Image.Image:
    """Draw a swatch, the name and a remark for each class, in columns of at most `rows` lines."""
    remarks = remarks or {}
    codes = [label_set.codes[c] for c in classes]
    names = [label_set.describe(code) + remarks.get(c, "") for c, code in zip(classes, codes, strict=True)]
    if not names:
        return _line_of_text("(none)")
    rows = max(rows, 1)
    columns = -(-len(names) // rows)
    width = LINE + GAP + max(round(font().getlength(name)) for name in names) + GAP
    panel = Image.new("RGB", (columns * width, min(rows, len(names)) * LINE), "white")
    for i, (code, name) in enumerate(zip(codes, names, strict=True)):
        x, y = i // rows * width, i % rows * LINE
        panel.paste(_swatch(code, label_set), (x, y + 2))
        _write(panel, x + LINE + GAP // 2, y, name)
    return panel


def _swatch(code: str, label_set: LabelSet) -> Image.Image:
    height, width = LINE - 5, LINE - 3
    label = np.full((height, width), label_set.codes.index(code), np.uint8)
    swatch = Image.fromarray(hatch(colourise(label, label_set), label, label_set))
    ImageDraw.Draw(swatch).rectangle((0, 0, width - 1, height - 1), outline=INK)
    return swatch


def _line_of_text(text: str) -> Image.Image:
    panel = Image.new("RGB", (round(font().getlength(text)) + GAP, LINE), "white")
    _write(panel, GAP // 2, 0, text)
    return panel


def _write(sheet: Image.Image, x: int, y: int, text: str) -> None:
    """Write a line of text, `LINE` px high."""
    sheet.paste(INK, (x, y), _letters(text))


@lru_cache(1 << 10)  # figures of a set repeat the same texts
def _letters(text: str) -> Image.Image:
    letters = Image.new("L", (math.ceil(font().getlength(text)) + GAP, LINE))
    ImageDraw.Draw(letters).text((0, LINE / 2), text, fill=255, font=font(), anchor="lm")
    return letters


def summary(panels: Sequence[tuple[str, np.ndarray | Image.Image]], vertical: bool) -> np.ndarray:
    """Arrange titled panels, (h, w, 3) uint8 or PIL images, in a row or a column; return (H, W, 3) uint8."""
    drawn = [(title, Image.fromarray(panel) if isinstance(panel, np.ndarray) else panel) for title, panel in panels]
    widths = [max(panel.width, round(font().getlength(title))) + GAP for title, panel in drawn]
    heights = [panel.height + LINE + GAP for _, panel in drawn]
    width, height = (max(widths), sum(heights)) if vertical else (sum(widths), max(heights))
    sheet = Image.new("RGB", (width + GAP, height + GAP), "white")
    x = y = GAP
    for i, (title, panel) in enumerate(drawn):
        _write(sheet, x, y, title)
        sheet.paste(panel, (x, y + LINE))
        x, y = (x, y + heights[i]) if vertical else (x + widths[i], y)
    return np.asarray(sheet)


def overview(
    thumbnail: np.ndarray,
    labels: np.ndarray,
    label_set: LabelSet,
    mpp: float,
    title: str,
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """Draw a slide next to its segmentation, with a scale bar and each class's share of the tissue, as (H, W, 3) uint8.

    `thumbnail`, (h, w, 3) uint8 at a scale of `mpp`, shows the slide; `labels`, (h, w) uint8, are class indices. C
    means no tissue, which stays unpainted. Shares are computed from `counts`, the pixels of each class in the whole
    label map (see `label_maps.write_label_map`), or from `labels`.
    """
    counts = np.bincount(labels.ravel(), minlength=len(label_set) + 1) if counts is None else counts
    shares = tissue_shares(counts, label_set)
    present = np.flatnonzero(counts[: len(label_set)]).tolist()
    remarks = {c: f", {100 * shares[c]:.1f} %" if shares[c] >= 0.001 else ", < 0.1 %" for c in present if c in shares}
    is_class = labels[..., np.newaxis] < len(label_set)
    mask = np.where(is_class, overlay(labels, thumbnail, label_set), thumbnail)
    slide, mask = (np.pad(panel, ((1, 1), (1, 1), (0, 0)), constant_values=FRAME) for panel in (thumbnail, mask))
    panels = [
        (title, np.vstack([slide, scale_bar(slide.shape[1], mpp)])),
        (f"segmentation ({label_set.name})", mask),
        ("classes, share of the tissue", legend(present, label_set, thumbnail.shape[0] // LINE, remarks)),
    ]
    return summary(panels, vertical=False)


def captioned(picture: np.ndarray, text: str, size: int = 14) -> np.ndarray:
    """Write a text under a picture, (H, W, 3) uint8, in wrapped lines of `size` px letters; "" changes nothing."""
    if not text:
        return picture
    margin, width = size // 2, picture.shape[1]
    letters = max(10, int((width - 2 * margin) / font(size).getlength(text) * len(text)))
    lines = textwrap.wrap(text, letters)
    strip = Image.new("RGB", (width, round(1.4 * size * len(lines)) + 2 * margin), "white")
    write = ImageDraw.Draw(strip).multiline_text
    write((margin, margin), "\n".join(lines), fill=(160, 0, 0), font=font(size), spacing=4)
    return np.vstack([picture, np.asarray(strip)])


def scale_bar(width: int, mpp: float) -> np.ndarray:
    """Draw a scale bar of a round length, at most a third of `width` px, as (LINE, width, 3) uint8."""
    length = round_length(width * mpp / 3)
    text = f"{length:g} um" if length < 1000 else f"{length / 1000:g} mm"
    strip = Image.new("RGB", (width, LINE), "white")
    draw = ImageDraw.Draw(strip)
    right = max(round(length / mpp), 1)
    draw.rectangle((0, LINE / 2 - 2, right - 1, LINE / 2 + 1), fill=INK)
    _write(strip, right + GAP, 0, text)
    return np.asarray(strip)


def round_length(most: float) -> float:
    """Return the greatest number up to `most` that is 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(most))
    return max(step * power for step in (1, 2, 5) if step * power <= most)
