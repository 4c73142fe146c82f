"""Draw charts of a run's numbers, confusion matrices and IoU bars, at twice the screen's size, for print."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from ..evaluate import row_normalised
from .figures import GAP, LINE, font

CELL = 60  #: side of a confusion matrix's cell, in px
PRINT, TITLE = 26, 32  #: height of the letters, in px
MARGIN = 4 * GAP
BAR, LENGTH = LINE + 6, 760  #: height of an IoU bar, and its length at an IoU of 1, in px

#: Palette of all charts: 256 blues from ink to white.
BLUES = np.stack([np.interp(range(256), (0, 90, 255), ends) for ends in ((20, 25, 255), (20, 82, 255), (20, 156, 255))])
RULE, SHADES = 208, (190, 130, 60)  #: palette index of grid lines, and of the stages, early to final


def confusion_figure(confusion: np.ndarray, keep: Sequence[int], names: Sequence[str], title: str) -> bytes:
    """Draw a confusion matrix as a heat map, with pixel counts of classes, and shares in %; return a PNG file.

    `confusion`, (C + 1, C) int, counts pixels; rows are the ground truth, the last one unlabelled. The classes of
    `keep` are shown, labelled with `names`. Shares are of all pixels of the true class.
    """
    shares, labelled = row_normalised(confusion, keep), confusion[:-1]
    rows = _names(_with_pixels(names, labelled.sum(axis=1)[keep]), CELL)
    columns = _names(_with_pixels(names, labelled.sum(axis=0)[keep]), CELL).transpose(Image.Transpose.ROTATE_90)
    side, left, top = CELL * len(keep), MARGIN + rows.width, 2 * MARGIN + 4 * LINE
    caption = "rows: ground truth, columns: predicted, in % of the true class's pixels"
    width = max(left + side, MARGIN + round(max(_width(caption, PRINT), _width(title, TITLE))))
    sheet = Image.new("L", (width + MARGIN, top + side + columns.height + MARGIN), 255)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, fill=0, font=font(TITLE))
    draw.text((MARGIN, MARGIN + 3 * LINE), caption, fill=0, font=font(PRINT))
    sheet.paste(rows, (MARGIN, top))
    sheet.paste(columns, (left, top + side))
    if len(keep):
        sheet.paste(_cells(shares), (left, top))
    return _png(sheet)


def _with_pixels(names: Sequence[str], pixels: np.ndarray) -> list[str]:
    return [f"{name}  {count:,} px" for name, count in zip(names, pixels.tolist(), strict=True)]


def _cells(shares: np.ndarray) -> Image.Image:
    """Draw shares of shape (N, N) as shaded cells; those of half a percent or more get a number."""
    side = CELL * len(shares)
    shades = np.rint(255 - (255 - SHADES[-1]) * shares).astype(np.uint8)
    cells = Image.fromarray(shades).resize((side, side), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(cells)
    for line in range(0, side + 1, CELL):
        draw.line((0, line, side, line), fill=RULE)
        draw.line((line, 0, line, side), fill=RULE)
    for row, column in np.argwhere(shares >= 0.005):
        share, middle = shares[row, column], ((column + 0.5) * CELL, (row + 0.5) * CELL)
        draw.text(middle, f"{100 * share:.0f}", fill=255 if share > 0.5 else 0, font=font(PRINT), anchor="mm")
    return cells


def iou_figure(
    ious: Mapping[str, np.ndarray],
    names: Sequence[str],
    title: str,
    intervals: Mapping[str, np.ndarray] | None = None,
    axis: str = "IoU",
) -> bytes:
    """Draw bars of the IoU of classes or images, (C,) in 0..1 by stage, for up to three stages; return a PNG file.

    Intervals of these values, (C, 2) with nan for none, are drawn as lines; `axis` is the title of the axis.
    """
    row = BAR * len(ious) + 2 * GAP
    column = _names(names, row)
    left, top, height = MARGIN + column.width, 2 * MARGIN + 5 * LINE, row * len(names)
    width = max(left + LENGTH + 2 * MARGIN, 2 * MARGIN + round(_width(title, TITLE)))
    sheet = Image.new("L", (width + MARGIN, top + height + 3 * LINE + MARGIN), 255)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, fill=0, font=font(TITLE))
    _draw_axis(draw, left, top, height, axis)
    sheet.paste(column, (MARGIN, top))
    x = left
    for i, (stage, values) in enumerate(ious.items()):
        y = 2 * MARGIN + 3 * LINE
        draw.rectangle((x, y - LINE / 2, x + LINE, y + LINE / 2), fill=SHADES[i], outline=0)
        draw.text((x + LINE + GAP, y), stage, fill=0, font=font(PRINT), anchor="lm")
        x += LINE + 6 * GAP + _width(stage, PRINT)
        for c, value in enumerate(values):
            y, end = top + c * row + GAP + i * BAR, left + value * LENGTH
            draw.rectangle((left, y, end, y + BAR - 2), fill=SHADES[i])
            low, high = left + LENGTH * intervals[stage][c] if intervals else (end, end)
            if low < high:
                _draw_interval(draw, low, high, y)
            draw.text((max(end, high) + GAP, y + BAR / 2 - 1), f"{value:.2f}", fill=0, font=font(BAR), anchor="lm")
    return _png(sheet)


def _draw_interval(draw: ImageDraw.ImageDraw, low: float, high: float, top: int) -> None:
    """Draw an interval over a bar: a line with a stroke at each end."""
    middle = top + BAR / 2 - 1
    for width, shade in ((5, 255), (2, 0)):  # white around it, as a bar may be dark
        draw.line((low, middle, high, middle), fill=shade, width=width)
        for x in (low, high):
            draw.line((x, middle - BAR / 4, x, middle + BAR / 4), fill=shade, width=width)


def _draw_axis(draw: ImageDraw.ImageDraw, left: int, top: int, height: int, name: str) -> None:
    """Draw the axis below a chart's bars, and the grid lines behind them."""
    for tick in np.linspace(0, 1, 6):
        x = left + tick * LENGTH
        draw.line((x, top, x, top + height), fill=RULE, width=2)
        draw.text((x, top + height + LINE), f"{tick:.1f}", fill=0, font=font(PRINT), anchor="mm")
    draw.text((left + LENGTH / 2, top + height + 2.5 * LINE), name, fill=0, font=font(PRINT), anchor="mm")


def _names(names: Sequence[str], height: int) -> Image.Image:
    """Write names, flush right, in rows of `height` px."""
    width = round(max((_width(name, PRINT) for name in names), default=0)) + 2 * GAP
    strip = Image.new("L", (width, height * len(names)), 255)
    draw = ImageDraw.Draw(strip)
    for i, name in enumerate(names):
        draw.text((width - GAP, (i + 0.5) * height), name, fill=0, font=font(PRINT), anchor="rm")
    return strip


def _width(text: str, size: int) -> float:
    return font(size).getlength(text)


def _png(sheet: Image.Image) -> bytes:
    sheet.putpalette(BLUES.T.astype(np.uint8).tobytes())
    content = io.BytesIO()
    sheet.save(content, "png", compress_level=1)
    return content.getvalue()
