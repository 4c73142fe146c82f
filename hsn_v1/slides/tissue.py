"""Find the tissue of a slide, and tell it from bare glass, pen marks on the cover slip, and unscanned parts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_dilation, label, uniform_filter
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_objects

from ..slide_io.tiling import nearest, touched
from ..tiles import Window
from .job import SlideGrid

REDUCTION = 8  #: pixel size of the picture in which tissue is sought, in pixels at the classifier's scale
GLASS = 240  #: mean of R, G and B from which on a pixel is bare glass in any slide, as in `adjust.background_map`
GLASS_MARGIN = 6  #: least difference in brightness between a slide's glass and its tissue
DARKEST_GLASS = 160  #: lowest brightness of bare glass in bright field
FLAT = 3  #: largest standard deviation of the brightness around a pixel of glass: tissue has texture
GREY = 25  #: largest difference of R, G and B in a pixel of glass: stained tissue has a colour
LEAST_GLASS = 0.005  #: least share of glass in the scanned part for its brightness to be measured
PADDING_DEVIATION = 3  #: largest change of unscanned black or white by a lossy codec
PADDING_EDGE = 16  #: the same at the edge of the scanned part
NOISE = 5  #: side of the square over which brightness is averaged where glass is painted white, in px
SPECK = 64  #: smallest connected area of tissue, in px of the picture
LEAST_PADDING = 784, 0.25  #: smallest connected unscanned area, in px of the picture (one tile) or as a share of it
TILE_TISSUE = 0.02  #: least share of tissue in a tile that is classified: in bare glass, classifiers invent classes
LITTLE_TISSUE, MUCH_TISSUE = 0.01, 0.99  #: shares of tissue outside which the input may be something else
MANY_TILES = 9  #: number of tiles from which on an input is expected to show some glass
DARK = 50  #: brightness that most of a slide in bright field exceeds

INK_GREY = 30  #: largest difference of R, G and B, in 0..255, in black ink: dark nuclei are purple
INK_DENSITY = 0.45  #: lowest optical density of black ink in R, G and B: 35 % of the light passes
DYE_DENSITY = 0.2  #: lowest optical density of green and blue ink in R
GREEN = 1.2  #: lowest ratio of the densities in R and G, in green ink: H&E absorbs more green than red
BLUE = 0.95, 2.7  #: lowest ratios of the densities in R and G, and in R and B, in blue ink: haematoxylin: 0.9, 2.2
MARK_FLAT = 8  #: largest standard deviation of the brightness around a flat pixel
MARK_FLAT_SHARE = 0.25  #: least share of flat px in a mark: a thin stroke is mostly edge
MARK_LEAST = 64  #: smallest connected area of a mark, in px of the picture
MARK_MARGIN = 2  #: width of the margin in which a mark fades, in px

#: Values of `TissueMap.blank`: unchanged; painted white where black or as bright as glass; painted white.
SEEN, BARE, LEFT_OUT = 0, 1, 2


@dataclass(frozen=True)
class PenMarks:
    """Pen marks in a slide's small picture."""

    where: np.ndarray  #: (h, w) bool: mask of the marks, with a margin
    colours: tuple[str, ...] = ()  #: of "dark", "green", "blue"
    share: float = 0.0  #: of the tissue, in 0..1


@dataclass(frozen=True)
class TissueMap:
    """Map of a slide's tissue, found in a small picture of it."""

    tissue: np.ndarray  #: (h, w) bool
    padding: np.ndarray  #: (h, w) bool: not scanned, with a margin
    glass: float | None  #: brightness of bare glass, in 0..255; None if there is too little to measure
    brightness: float  #: median brightness of the scanned part
    pen: PenMarks | None = None  #: pen marks, if there are any
    pen_left_out: bool = False  #: pen marks count as no tissue
    whitens_glass: bool = True  #: paint glass white that stage 3 takes for tissue, at the cost of lumens
    limits: np.ndarray | None = None  #: (h, w) bool: only tiles that touch it are classified

    @property
    def threshold(self) -> float:
        """Brightness from which on a pixel is glass."""
        return GLASS if self.glass is None else min(GLASS, self.glass - GLASS_MARGIN)

    @property
    def glass_is_dark(self) -> bool:
        """Whether stage 3 would take bare glass for tissue."""
        return self.glass is not None and self.glass < GLASS

    @property
    def shows_glass(self) -> bool:
        """Whether a scanned part is no tissue."""
        return bool((~self.tissue & ~self.padding).any())

    @property
    def blank(self) -> np.ndarray:
        """Map of the parts to paint white, (h, w) uint8: `SEEN`, `BARE` or `LEFT_OUT`; see `paint_blank`."""
        glass = self.whitens_glass and self.glass_is_dark
        blank = np.where(~self.tissue if glass else self.padding, np.uint8(BARE), np.uint8(SEEN))
        if self.pen and self.pen_left_out:
            blank[self.pen.where] = LEFT_OUT
        return blank

    def tiles(self, grid: SlideGrid) -> np.ndarray:
        """Return the numbers of the tiles that are classified, ascending."""
        numbers = tiles_with_tissue(grid, self.tissue)
        return numbers if self.limits is None else np.intersect1d(numbers, tiles_with_tissue(grid, self.limits, 1e-9))


def find_tissue(picture: np.ndarray, leave_out_pen: bool = False) -> TissueMap:
    """Find tissue, bare glass, pen marks and unscanned parts in a picture of (h, w, 3) uint8.

    The picture is at `REDUCTION` times the classifier's mpp. In doubt a pixel is tissue, as a skipped tile is lost.
    All pixels darker than glass are tissue, except specks, and pen marks if these are left out. Glass is brighter than
    240, as in stage 3, or than the slide's own glass less a margin. The slide's own glass is the median of the pixels
    that are bright (by Otsu's threshold, and as in bright field), grey and flat. Large areas of exact black or white
    count as not scanned.
    """
    padding = _padding(picture)
    brightness = picture.mean(axis=-1, dtype=np.float32)
    scanned = brightness[~padding]
    median = float(np.median(scanned)) if scanned.size else 255.0
    bare = TissueMap(np.zeros_like(padding), padding, _glass(picture, brightness, padding), median)
    tissue = (brightness < bare.threshold) & ~padding
    if not tissue.all() and tissue.size >= 4 * SPECK:
        tissue = remove_small_objects(tissue, max_size=SPECK - 1, connectivity=2)
    pen = find_pen_marks(picture, tissue) if median >= DARK else None
    if not (pen and pen.colours):
        return replace(bare, tissue=tissue)
    return replace(bare, tissue=tissue & ~pen.where if leave_out_pen else tissue, pen=pen, pen_left_out=leave_out_pen)


def _padding(picture: np.ndarray) -> np.ndarray:
    """Return a mask of large areas of exact black or white, with a margin where they blend with the scanned part."""
    black = (picture <= PADDING_DEVIATION).all(axis=-1)
    white = (picture >= 255 - PADDING_DEVIATION).all(axis=-1)
    least = min(LEAST_PADDING[0], math.ceil(LEAST_PADDING[1] * black.size))
    large = [remove_small_objects(exact, max_size=least - 1) for exact in (black, white)]
    return binary_dilation(np.logical_or(*large), iterations=2)


def _glass(picture: np.ndarray, brightness: np.ndarray, padding: np.ndarray) -> float | None:
    """Return the brightness of bare glass, or None if there is too little of it."""
    scanned = ~padding
    if not scanned.any():
        return None
    deviation = np.sqrt(np.maximum(uniform_filter(brightness**2, 3) - uniform_filter(brightness, 3) ** 2, 0))
    grey = np.ptp(picture, axis=-1) <= GREY
    bright = brightness >= max(DARKEST_GLASS, threshold_otsu(brightness[scanned]))
    glass = scanned & bright & grey & (deviation <= FLAT)
    return float(np.median(brightness[glass])) if glass.sum() >= LEAST_GLASS * scanned.sum() else None


# --- Pen marks --------------------------------------------------------------------------------------------------------


def find_pen_marks(picture: np.ndarray, tissue: np.ndarray) -> PenMarks:
    """Find pen marks in the picture of `find_tissue`, among the pixels that are darker than glass.

    Pen marks are flat areas that are dark and grey, or of a green or blue that H&E stains do not have.
    """
    where, colours = np.zeros_like(tissue), []
    for colour, ink in _inks(picture).items():
        marks, count = label(ink & tissue, np.ones((3, 3)))
        area = np.bincount(marks.ravel(), minlength=count + 1)
        flat = np.bincount(marks[_deviation(picture, marks > 0) <= MARK_FLAT], minlength=count + 1)
        kept = (area >= MARK_LEAST) & (flat >= MARK_FLAT_SHARE * area)
        kept[0] = False
        if kept.any():
            where |= kept[marks]
            colours.append(colour)
    share = (where & tissue).sum() / max(1, tissue.sum())
    return PenMarks(binary_dilation(where, iterations=MARK_MARGIN), tuple(colours), float(share))


def _inks(picture: np.ndarray) -> dict[str, np.ndarray]:
    """Return masks, (h, w) bool, of the pixels that may be ink, by its colour."""
    red, green, blue = density = -np.log10((np.moveaxis(picture, -1, 0) + np.float32(1)) / 256)
    dark = (density.min(axis=0) >= INK_DENSITY) & (np.ptp(picture, axis=-1) <= INK_GREY)
    dyed = (red >= DYE_DENSITY) & ~dark
    greenish = dyed & (red >= GREEN * green) & (green <= blue)
    bluish = (red >= GREEN * green) | ((red >= BLUE[0] * green) & (red >= BLUE[1] * blue))
    return {"dark": dark, "green": greenish, "blue": dyed & bluish & ~greenish}


def _deviation(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the brightness around each pixel of a mask, (h, w), among the mask's pixels."""
    brightness = picture.mean(axis=-1, dtype=np.float32)
    share = np.maximum(uniform_filter(where.astype(np.float32), 3), 1e-6)
    mean, square = (uniform_filter(where * values, 3) / share for values in (brightness, brightness**2))
    return np.where(where, np.sqrt(np.maximum(square - mean**2, 0)), np.inf)


# --- Use --------------------------------------------------------------------------------------------------------------


def tissue_notes(found: TissueMap, tiles: int) -> list[str]:
    """Return notes on an input, covered by `tiles` tiles, whose tissue may surprise the user."""
    notes, scanned = [], max(1, (~found.padding).sum())
    share = found.tissue.sum() / scanned
    if found.padding.any():
        notes.append("large areas are exactly black or white, and taken as not scanned")
    if found.brightness < DARK:
        notes.append("most of it is dark, as in fluorescence: the classifier knows bright-field H&E only")
    elif share < LITTLE_TISSUE:
        notes.append(f"only {100 * share:.1f} % of it is darker than glass: is it tissue, stained with H&E?")
    elif share > MUCH_TISSUE and tiles * (~found.padding).mean() >= MANY_TILES:
        notes.append(f"{100 * share:.1f} % of it counts as tissue: if it has bare glass, that was not recognised")
    if found.glass_is_dark:
        notes.append(
            f"its bare glass has a brightness of {found.glass:.4g}, less than {GLASS}: what is at least "
            f"{found.threshold:.4g} counts as glass"
        )
    if found.pen:
        fate = "left out" if found.pen_left_out else "taken for tissue; see `leave_out_pen`"
        notes.append(
            f"flat {' and '.join(found.pen.colours)} areas look like pen marks, {100 * found.pen.share:.1f} % of what "
            f"is darker than glass: they are {fate}"
        )
    return notes


def tiles_with_tissue(grid: SlideGrid, tissue: np.ndarray, least: float = TILE_TISSUE) -> np.ndarray:
    """Return the numbers of the tiles with a share of tissue of at least `least`, int, ascending.

    `tissue`, (h, w) bool, may have any scale; `least` is above 0.
    """
    integral = np.pad(tissue.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))  # number of pixels above and left

    def has_tissue(number: int) -> bool:
        tile = touched(grid.tile_window(number).overlap(grid.frame), grid.frame, *tissue.shape)
        (before, above), (left, whole) = integral[np.ix_((tile.top, tile.bottom), (tile.left, tile.right))]
        return whole - above - left + before >= least * tile.height * tile.width

    return np.array([number for number in range(math.prod(grid.tiles)) if has_tissue(number)], int)


def paint_blank(image: np.ndarray, window: Window, frame: Window, blank: np.ndarray, threshold: float) -> np.ndarray:
    """Paint parts without tissue white, in place, which stage 3 would not take for background; return their mask.

    `image`, (H, W, 3) uint8, shows `window`, which may reach beyond `frame`. `blank`, the coarse `TissueMap.blank`,
    (h, w) uint8, covers `frame`. Where it is `BARE`, only pixels as bright as the threshold, or black, are painted.
    """
    blank = nearest(blank, window, frame)
    white = blank == LEFT_OUT
    if blank.any():
        smooth = uniform_filter(image.mean(axis=-1, dtype=np.float32), NOISE)
        white |= (blank == BARE) & ((image <= PADDING_EDGE).all(axis=-1) | (smooth >= threshold))
        image[white] = 255
    return white
