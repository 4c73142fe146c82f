"""Digital tissue phantoms: haematoxylin and eosin (H&E) histology with exact ground truth, made from a seed.

A field of view is laid out in microns - zones of tissue, glands, vessels, cells - and then rendered at any pixel
size: every position and every noise lattice is drawn before it meets the pixel grid. Tissue is painted as amounts of
stain, which absorb light as Ruifrok and Johnston measured (Anal. Quant. Cytol. Histol., 2001). Collagen and muscle
share their stains: arrangement and texture tell them apart, not colour.

Ground truth follows ADP. A nucleus belongs to its tissue, and a vessel's wall is smooth muscle. The lumen of a gland
or vessel is background (or blood) in ``morph``, but part of the gland (``G.O``) or vessel (``T``) in ``func`` and
``glas``. The cells of an endocrine gland (``G.N``) are cuboidal epithelium (``E.M.U``) in ``morph``; a stratified
lining (``E.T.U``) is no gland.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from skimage.color import rgb_from_hed

from ..adp import CLASSIFIER_MPP, FUNC, GLAS, MORPH

#: Optical density in red, green and blue of one unit of haematoxylin, of eosin, and of the remainder, which here
#: stands for haemoglobin and for the orange of some eosins.
STAINS = rgb_from_hed.astype(np.float32)

#: Random streams of the two kinds, so that patch 1 is not a corner of GlaS-like image 1.
PATCH_STREAM, GLAS_STREAM = 1, 2

#: How often a zone of a patch is of each tissue or arrangement (see `PAINTERS`).
ZONES = {
    "C.D.I": 0.08, "C.D.R": 0.10, "C.L": 0.06, "M.M": 0.13, "A.W": 0.09, "S.C.H": 0.09, "H.Y": 0.09, "H.E": 0.05,
    "crypts": 0.12, "tubules": 0.10, "endocrine": 0.09,
}  # fmt: skip

#: Which seeds the phantoms of each purpose come from: none has two.
SEEDS = {
    "test": range(100_000),
    "tuning": range(100_000, 200_000),
    "validation": range(200_000, 1_000_000),
    "training": range(1_000_000, 2**31),
}

EMPTY = (0.0, 0.0, 0.0)
CLEFT = (0.03, 0.12, 0.0)  # ground substance: pale, yet darker than glass


@dataclass(frozen=True)
class Phantom:
    """An image and its ground truth.

    Attributes
    ----------
    image : ndarray of shape (H, W, 3), uint8
        RGB.
    labels : dict of str to ndarray of shape (H, W), uint8
        Class indices per label set: "morph" and "func", or "glas".
    instances : ndarray of shape (H, W), int32, or None
        Number of the gland, from 1; 0 is no gland. Only in GlaS-like images.
    """

    image: np.ndarray
    labels: dict[str, np.ndarray]
    instances: np.ndarray | None = None


@dataclass(frozen=True)
class Canvas:
    """A field of view, whose arrays are painted in place."""

    rng: np.random.Generator  # what is drawn from it does not depend on mpp
    mpp: float
    y: np.ndarray  # (H, W) pixel centres, in um
    x: np.ndarray
    stain: np.ndarray  # (3, H, W) amounts of the STAINS
    morph: np.ndarray  # (H, W) class indices
    func: np.ndarray

    @property
    def extent(self) -> np.ndarray:
        """Height and width, in um, rounded so that they are the same at any `mpp`."""
        return np.round(np.array(self.y.shape) * self.mpp, 3)


def patch(seed: int, *, size: tuple[int, int] = (224, 224), mpp: float = CLASSIFIER_MPP) -> Phantom:
    """Make a patch of one to several tissues, as in ADP.

    Parameters
    ----------
    seed : int
        Any number from 0; the same seed gives the same bytes.
    size : (int, int)
        Rows and columns, in px.
    mpp : float
        Pixel size, in um. A field of the same `size` times `mpp` shows the same tissue at any pixel size.

    Returns
    -------
    Phantom
        With the label sets "morph" and "func".

    Raises
    ------
    ValueError
        If `seed` is negative, `size` under 2 px, or `mpp` not from 0.1 to 2.
    """
    c = _canvas(PATCH_STREAM, seed, size, mpp)
    brain = c.rng.random() < 0.08
    if brain:
        palette = ["N.P"]
    else:
        count = c.rng.choice([1, 2, 3], p=[0.3, 0.45, 0.25])
        palette = c.rng.choice(list(ZONES), count, replace=False, p=list(ZONES.values()))
    chance = _cells(c, 170, stretch=c.rng.uniform(1, 2.5), wobble=0.12).chance
    for i, name in enumerate(palette):
        PAINTERS[name](_branch(c), np.floor(chance * len(palette)) == i)
    vessels(c)
    if c.rng.random() < 0.45:
        glass(c, None if brain else LININGS[c.rng.choice(3, p=[0.35, 0.4, 0.25])])
    return Phantom(_develop(c), {"morph": c.morph, "func": c.func})


def glas(seed: int, *, size: tuple[int, int] = (522, 775), mpp: float = 0.620) -> Phantom:
    """Make an image of colon glands, as in GlaS.

    Parameters and errors are those of `patch`. The label set is "glas", and every gland has a number.
    """
    c = _canvas(GLAS_STREAM, seed, size, mpp)
    mucosa = _cells(c, 330, stretch=c.rng.uniform(1, 2)).chance < c.rng.choice([0.7, 1])
    PAINTERS[c.rng.choice(["C.D.I", "M.M", "A.W", "H.Y"], p=[0.35, 0.45, 0.1, 0.1])](_branch(c), ~mucosa)
    PAINTERS[c.rng.choice(["C.L", "C.D.I"], p=[0.8, 0.2])](c, mucosa)
    gland = crypts(c, mucosa)
    if c.rng.random() < 0.3:
        gland[glass(c)] = 0
    return Phantom(_develop(c), {"glas": (gland > 0).astype(np.uint8)}, gland)


def present(phantom: Phantom, share: float = 0.005) -> tuple[str, ...]:
    """Return the codes of the classes that cover at least `share` of the image: the labels of a patch.

    Background and other tissue are no labels: the classifier has no output for them.
    """
    codes = []
    for label_set in (MORPH, FUNC, GLAS):
        if label_set.name in phantom.labels:
            area = np.bincount(phantom.labels[label_set.name].ravel(), minlength=len(label_set))
            codes += [label_set.codes[i] for i in label_set.classified if area[i] >= share * area.sum()]
    return tuple(codes)


def _canvas(stream: int, seed: int, size: tuple[int, int], mpp: float) -> Canvas:
    if seed < 0 or min(size) < 2 or not 0.1 <= mpp <= 2:
        raise ValueError(f"expected seed >= 0, size >= 2 px and mpp from 0.1 to 2, got {seed}, {size} and {mpp}")
    y, x = np.meshgrid(*((np.arange(n, dtype=np.float32) + 0.5) * np.float32(mpp) for n in size), indexing="ij")
    other = np.full(size, FUNC.codes.index("Other"), np.uint8)
    rng = np.random.default_rng([stream, seed])
    return Canvas(rng, mpp, y, x, np.zeros((3, *size), np.float32), np.zeros(size, np.uint8), other)


def _branch(c: Canvas) -> Canvas:
    """The same canvas with a random stream of its own: what is drawn on it, or not, changes nothing after it."""
    return replace(c, rng=c.rng.spawn(1)[0])


def _noise(c: Canvas, wavelength: float) -> np.ndarray:
    """Smooth noise (H, W) of about unit variance, the same in every direction."""
    lattice = c.rng.standard_normal(np.ceil(c.extent / wavelength).astype(int) + 3, np.float32)
    zoom, (rows, columns) = wavelength / c.mpp, c.y.shape
    # Interpolation takes variance away between the lattice's points: 1.3 gives it back.
    return 1.3 * cv2.resize(lattice, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)[:rows, :columns]


def _along(c: Canvas, angle: float, origin=(0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (H, W) along a direction and across it, in um."""
    y, x = c.y - np.float32(origin[0]), c.x - np.float32(origin[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _fibres(c: Canvas, length: float, width: float, angle: float, bend: np.ndarray | float = 0.0) -> np.ndarray:
    """Noise (H, W) of about unit variance, drawn out along `angle` and bent sideways by `bend` um (H, W)."""
    along, across = _along(c, angle)
    reach = np.hypot(*c.extent)
    lattice = c.rng.standard_normal((int(reach / width) + 9, int(reach / length) + 9), np.float32)
    grid = np.float32(along / length), np.float32((across + bend) / width)
    return 1.3 * cv2.remap(lattice, *grid, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)


def _course(c: Canvas, angle: float, bend: np.ndarray) -> np.ndarray:
    """Direction (H, W) of bent fibres, in radians."""
    dy, dx = np.gradient(bend, c.mpp)
    return angle - np.arctan(np.cos(angle) * dx + np.sin(angle) * dy)


def _scatter(c: Canvas, spacing: float, share: float = 1, jitter: float = 0.35) -> np.ndarray:
    """Points (N, 2) in um, (y, x), about `spacing` apart over the whole field; only a `share` of them."""
    rows, columns = np.ceil(c.extent / spacing).astype(int) + 2
    i, j = np.mgrid[:rows, :columns] - 0.5
    points = np.stack([i, j + 0.25 * (-1) ** np.arange(rows)[:, None]], -1)
    points = spacing * (points + c.rng.uniform(-jitter, jitter, points.shape)).reshape(-1, 2)
    return points[c.rng.random(len(points)) < share]


class Cells(NamedTuple):
    """A tessellation of the field."""

    number: np.ndarray  # (H, W) of the cell, in no order
    depth: np.ndarray  # (H, W) distance to the next cell, in um
    radius: np.ndarray  # (H, W) distance to the cell's centre, in um
    chance: np.ndarray  # (H, W) 0 to 1, drawn per cell


def _cells(c: Canvas, spacing: float, stretch: float = 1, wobble: float = 0.06) -> Cells:
    """Tessellate the field into Voronoi cells about `spacing` um wide, drawn out by `stretch` in some direction."""
    along, across = _along(c, _angle(c))
    u = along / (spacing * stretch) + wobble * _noise(c, 0.6 * spacing)
    v = across / spacing + wobble * _noise(c, 0.6 * spacing)
    # Each unit square of (u, v) holds one centre: the two nearest are among the 3 x 3 squares around a pixel.
    reach = int(np.hypot(*c.extent) / spacing) + 4
    centre, chance = c.rng.uniform(0.2, 0.8, (2, 4 * reach**2)).astype(np.float32), c.rng.random(4 * reach**2)
    row, column = np.floor(v).astype(np.int32), np.floor(u).astype(np.int32)
    home = (row + reach) * (2 * reach) + column + reach
    v, u, brick = v - row, u - column, np.float32(0.25) * (1 - 2 * (row % 2))  # rows of bricks hide the squares
    nearest = np.full(c.y.shape, np.inf, np.float32)
    second, cell = nearest.copy(), home.copy()
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            square = home + (2 * reach * i + j)
            dv, du = v - i - centre[0].take(square), u - j - (-1) ** i * brick - centre[1].take(square)
            distance = du * du + dv * dv
            np.copyto(cell, square, where=distance < nearest)
            np.minimum(second, np.maximum(distance, nearest), out=second)
            np.minimum(nearest, distance, out=nearest)
    nearest, second = np.sqrt(nearest), np.sqrt(second)
    return Cells(cell, (second - nearest) * (spacing / 2), nearest * spacing, chance.take(cell))


def _angle(c: Canvas) -> float:
    return c.rng.uniform(0, np.pi)


def _blur(c: Canvas, image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), max(sigma / c.mpp, 0.1))


def _depth(c: Canvas, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance in um from the edge of a mask (H, W) inwards, and the direction of inwards in radians."""
    depth = c.mpp * cv2.distanceTransform(where.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    dy, dx = np.gradient(_blur(c, depth, 3))
    return depth, np.arctan2(dy, dx)


def _at(c: Canvas, field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values (N,) of a field (H, W) at points, or at the border for points outside."""
    row, column = (np.clip(p / c.mpp, 0, n - 1).astype(int) for p, n in zip(points.T, field.shape, strict=True))
    return field[row, column]


def _keep(points: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Move other points far off: were they left out, later draws would depend on the pixels that decided on them."""
    return np.where(kept[:, None], points, -1e6)


def _row(c: Canvas, depth: np.ndarray, inwards: np.ndarray, spacing: float, level: float, spread: float):
    """Points (N, 2) about `spacing` um apart in a row `level` um under an edge, and the way inwards at each."""
    points = _scatter(c, spacing)
    angle, here = _at(c, inwards, points), _at(c, depth, points)
    shift = level + c.rng.normal(0, spread, len(points)) - here
    moved = points + shift[:, None] * np.stack([np.sin(angle), np.cos(angle)], -1)
    return _keep(moved, np.abs(here - level) < spacing / 2), angle


def _stamp(c: Canvas, points: np.ndarray, length, width, angle=0.0) -> np.ndarray:
    """Cover (H, W), 0 to 1, by ellipses `length` by `width` um, each a number or (N,), the long side along `angle`."""
    cover = np.zeros(c.y.shape, np.float32)
    marks = np.stack(np.broadcast_arrays(*points.T, length, width, angle))
    margin = np.max(length, initial=0)
    near = ((points > -margin) & (points < c.extent + margin)).all(1)
    if not near.any():
        return cover
    y, x, length, width, angle = marks[:, near, None].astype(np.float32)
    reach = int(length.max() / 2 / c.mpp) + 2
    row, column = (np.floor(p / c.mpp).astype(int) + np.arange(-reach, reach + 1) for p in (y, x))
    dy, dx = ((row + 0.5) * c.mpp - y)[:, :, None], ((column + 0.5) * c.mpp - x)[:, None, :]
    dy, dx, cos, sin = dy.astype(np.float32), dx.astype(np.float32), np.cos(angle)[..., None], np.sin(angle)[..., None]
    along, across = (cos * dx + sin * dy) / length[..., None], (cos * dy - sin * dx) / width[..., None]
    ellipse = 2 * np.sqrt(along * along + across * across)
    value = np.clip((1 - ellipse) * (width[..., None] / (2 * c.mpp)) + 0.5, 0, 1)
    rows, columns = c.y.shape
    inside = (value > 0) & ((row >= 0) & (row < rows))[:, :, None] & ((column >= 0) & (column < columns))[:, None, :]
    np.maximum.at(cover.ravel(), (row[:, :, None] * columns + column[:, None, :])[inside], value[inside])
    return cover


# --- Stain ----------------------------------------------------------------------------------------------------------


def _mix(haematoxylin, eosin, haemoglobin=0.0) -> np.ndarray:
    """Stack amounts of stain, each (H, W) or a number, to (3, H, W)."""
    return np.stack(np.broadcast_arrays(*(np.float32(amount) for amount in (haematoxylin, eosin, haemoglobin))))


def _over(stain: np.ndarray, cover: np.ndarray, top) -> np.ndarray:
    """Replace stain (3, H, W) by `top`, (3, H, W) or (3,), where `cover` (H, W) is 1; mix where it is in between."""
    top = np.float32(top)
    return stain + cover * (top.reshape(3, *(top.shape[1:] or (1, 1))) - stain)


def _nuclei(c: Canvas, stain: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Lay nuclei over a tissue, with the grain of their chromatin."""
    return _over(stain, cover, _mix(np.maximum(1.05 + 0.26 * _noise(c, 1.6) + 0.15 * _noise(c, 9), 0.3), 0.42))


def _spindles(c: Canvas, spacing: float, course, length=(7, 13), width=(2, 3.5)) -> np.ndarray:
    """Cover (H, W) by the slender nuclei of fibroblasts or muscle, along `course`, in radians (H, W)."""
    points = _scatter(c, spacing, share=0.8, jitter=0.5)
    angle = _at(c, course, points) + c.rng.normal(0, 0.12, len(points))
    return _stamp(c, points, c.rng.uniform(*length, len(points)), c.rng.uniform(*width, len(points)), angle)


def _lay(c: Canvas, where: np.ndarray, stain, morph: str, func: str = "Other") -> None:
    """Put a tissue where a mask (H, W) says: its stain with a soft edge, its labels with an exact one."""
    c.stain[:] = _over(c.stain, _blur(c, where.astype(np.float32), 0.8), stain)
    c.morph[where] = MORPH.codes.index(morph)
    c.func[where] = FUNC.codes.index(func)


# --- Tissues: each fills a field with stain (3, H, W) -----------------------------------------------------------------


def dense_irregular(c: Canvas) -> np.ndarray:
    """Coarse wavy bundles of collagen that run every way, with clefts between them."""
    angle, turn, bend = _angle(c), c.rng.uniform(0.7, 1.5), 12 * _noise(c, 40)
    bundles = np.maximum(_fibres(c, 40, 7, angle, bend), _fibres(c, 40, 6, angle + turn, 10 * _noise(c, 35)))
    stain = _mix(0.07, 0.46 + 0.14 * bundles + 0.07 * _fibres(c, 25, 2.2, angle, bend), 0.02)
    stain = _over(stain, np.clip(-0.4 - 1.5 * bundles, 0, 1), CLEFT)
    return _nuclei(c, stain, _spindles(c, 17, _course(c, angle, bend)))


def dense_regular(c: Canvas) -> np.ndarray:
    """Parallel, crimped collagen with rows of flat nuclei."""
    angle = _angle(c)
    crimp = np.sin(_along(c, angle)[0] * (2 * np.pi / c.rng.uniform(24, 40)) + 0.8 * _noise(c, 50))
    bend = c.rng.uniform(0.8, 2.2) * crimp + 5 * _noise(c, 100)
    stain = _mix(0.07, 0.5 + 0.12 * _fibres(c, 220, 5, angle, bend) + 0.1 * _fibres(c, 120, 2.2, angle, bend), 0.02)
    return _nuclei(c, stain, _spindles(c, 16, _course(c, angle, bend), (9, 16), (1.6, 2.4)))


def loose(c: Canvas) -> np.ndarray:
    """A pale ground with thin fibrils every way, fibroblasts, and few or many round cells."""
    angle, bend = _angle(c), 10 * _noise(c, 30)
    fibrils = sum(np.exp(-10 * _fibres(c, 30, 7, angle + turn, bend) ** 2) for turn in (0, 1, 2))
    stain = _mix(0.08 + 0.02 * _noise(c, 20), 0.15 + 0.04 * _noise(c, 6) + 0.13 * fibrils)
    points = _scatter(c, 11, share=c.rng.uniform(0.1, 0.7), jitter=0.5)
    diameter = c.rng.uniform(5, 7, len(points))
    stain = _over(stain, 0.7 * _stamp(c, points, diameter + 5, diameter + 2, 1.5), (0.2, 0.4, 0))
    round_cells = _stamp(c, points, diameter, 0.85 * diameter, c.rng.uniform(0, np.pi, len(points)))
    return _nuclei(c, stain, np.maximum(round_cells, _spindles(c, 17, _course(c, angle, bend))))


def smooth_muscle(c: Canvas) -> np.ndarray:
    """Fascicles of spindle cells, with long blunt nuclei along them."""
    angle, bend = _angle(c), 7 * _noise(c, 70)
    fascicles, cells = _fibres(c, 120, 18, angle, bend), _fibres(c, 45, 4, angle, bend)
    stain = _mix(0.06 + 0.02 * cells, 0.46 + 0.04 * fascicles + 0.05 * cells, 0.02)
    stain = _over(stain, 0.6 * np.exp(-14 * (fascicles + 1) ** 2), CLEFT)
    return _nuclei(c, stain, _spindles(c, 15, _course(c, angle, bend), (10, 17), (2.6, 3.8)))


def white_fat(c: Canvas) -> np.ndarray:
    """Large empty cells with thin walls and a flat nucleus here and there."""
    depth = _cells(c, c.rng.uniform(45, 75), c.rng.uniform(1, 1.3)).depth
    wall = np.clip(1.6 - depth / max(1, c.mpp), 0, 1) * np.clip(0.8 + 0.3 * _noise(c, 12), 0.3, 1)
    points = _scatter(c, 13, share=0.6)
    points = _keep(points, _at(c, depth, points) < 2.5)
    nuclei = _stamp(c, points, 7, 3, _at(c, _depth(c, depth > 1.2)[1], points) + np.pi / 2)
    return _nuclei(c, _over(_mix(0 * c.y, 0), wall, (0.12, 0.42, 0)), nuclei)


def neuropil(c: Canvas) -> np.ndarray:
    """A fine felt of processes, with sparse round glia, some in clear halos."""
    eosin = c.rng.uniform(0.3, 0.4) + 0.05 * _noise(c, 2.2) + 0.05 * _noise(c, 6) + 0.03 * _noise(c, 60)
    stain = _over(_mix(0.15 + 0.03 * _noise(c, 3), eosin), np.clip(_noise(c, 5) - 1.5, 0, 1), CLEFT)
    points = _scatter(c, c.rng.uniform(17, 26), share=0.7, jitter=0.5)
    diameter, halo = c.rng.uniform(5, 8.5, len(points)), c.rng.uniform(-1, 5, len(points))
    stain = _over(stain, _stamp(c, points + 0.7, diameter + halo, diameter + 0.8 * halo), CLEFT)
    return _nuclei(c, stain, _stamp(c, points, diameter, 0.9 * diameter))


def hyaline_cartilage(c: Canvas) -> np.ndarray:
    """A smooth, basophilic matrix with single or twin cells in lacunae, each with a darker rim."""
    stain = _mix(0.3 + 0.05 * _noise(c, 70) + 0.01 * _noise(c, 3), 0.22 + 0.05 * _noise(c, 90))
    points = _scatter(c, 28)
    points = np.concatenate([points, (points + c.rng.normal(0, 9, points.shape))[c.rng.random(len(points)) < 0.5]])
    width, angle = c.rng.uniform(9, 15, len(points)), c.rng.uniform(0, np.pi, len(points))
    stain = _over(stain, 0.8 * _blur(c, _stamp(c, points, width + 11, width + 8, angle), 1.5), (0.58, 0.26, 0))
    stain = _over(stain, _stamp(c, points, width, 0.75 * width, angle), CLEFT)
    return _nuclei(c, stain, _stamp(c, points, 6, 5, angle))


def lymphocytes(c: Canvas) -> np.ndarray:
    """Small, dark, round nuclei side by side, with next to no cytoplasm."""
    stain = _mix(0.2 + 0.05 * _noise(c, 15), 0.24 + 0.04 * _noise(c, 10))
    points = _scatter(c, 7.6, share=0.93)
    diameter = c.rng.uniform(5.2, 7, len(points))
    return _nuclei(c, stain, _stamp(c, points, diameter, 0.92 * diameter) * np.clip(0.9 + 0.15 * _noise(c, 9), 0, 1))


def erythrocytes(c: Canvas) -> np.ndarray:
    """Discs of 7 um in plasma, paler in the middle, without nuclei."""
    points = _scatter(c, 6.2, jitter=0.45)
    points = _keep(points, _at(c, _noise(c, 30), points) > -1.6)
    diameter = c.rng.uniform(5.8, 7.4, len(points))
    disc, dimple = _stamp(c, points, diameter, 0.9 * diameter), _stamp(c, points, 3, 3)
    return _over(_mix(0.02 * _noise(c, 20), 0.12), disc * (1 - 0.2 * dimple), (0, 0.8, 0.22))


def nests(c: Canvas) -> np.ndarray:
    """Nests of pale cells with round nuclei and no lumen, with capillaries between them."""
    depth = _cells(c, c.rng.uniform(38, 55), c.rng.uniform(1, 1.8)).depth
    points = _scatter(c, 10.5, jitter=0.3)
    points = _keep(points, _at(c, depth, points) > 4)
    diameter = c.rng.uniform(5.5, 7, len(points))
    stain = _mix(0.13 + 0.03 * _noise(c, 5), 0.26 + 0.04 * _noise(c, 4))
    stain = _nuclei(c, stain, _stamp(c, points, diameter, 0.95 * diameter))
    return _over(stain, np.clip(2.6 - depth, 0, 1), (0.05, 0.5, 0.1))


# --- Epithelia: each fills a field with stain (3, H, W), given the depth under its base and the way inwards ----------


def columnar(c: Canvas, depth: np.ndarray, inwards: np.ndarray, goblets: float, rows: int = 1) -> np.ndarray:
    """Tall cells: one or more rows of long nuclei near the base, and above them a share of goblets of mucin."""
    stain = _mix(0.32 + 0.04 * _noise(c, 8) + 0.03 * _noise(c, 2.5), 0.4 + 0.05 * _noise(c, 5))
    points, angle = _row(c, depth, inwards, 9, 18, 2)
    kept = c.rng.random(len(points)) < goblets
    stain = _over(stain, _stamp(c, points[kept], 17, 9.5, angle[kept]), (0.11, 0.14, 0))
    cover = np.zeros_like(depth)
    for level in 6.5 + 6 * np.arange(rows):
        points, angle = _row(c, depth, inwards, 5.2, level, 1.4)
        length, lean = c.rng.uniform(7.5, 10, len(points)), c.rng.normal(0, 0.15, len(points))
        cover = np.maximum(cover, _stamp(c, points, length, 4.6, angle + lean))
    return _nuclei(c, stain, cover)


def cuboidal(c: Canvas, depth: np.ndarray, inwards: np.ndarray) -> np.ndarray:
    """Cells as wide as tall, with a round nucleus in their middle."""
    stain = _mix(0.2 + 0.04 * _noise(c, 8), 0.48 + 0.05 * _noise(c, 4) + 0.04 * _noise(c, 12), 0.03)
    points, angle = _row(c, depth, inwards, 8.5, 6.5, 0.8)
    return _nuclei(c, stain, _stamp(c, points, c.rng.uniform(5.8, 7.2, len(points)), 6, angle))


def stratified(c: Canvas, depth: np.ndarray, inwards: np.ndarray) -> np.ndarray:
    """Cuboidal cells on top of each other, in polygons."""
    border = _cells(c, 10).depth
    stain = _mix(0.26 + 0.03 * _noise(c, 10), 0.36 + 0.05 * _noise(c, 6) + 0.12 * np.exp(-border * border))
    points = _scatter(c, 9.2, share=0.92, jitter=0.28)
    length = c.rng.uniform(6, 8, len(points))
    return _nuclei(c, stain, _stamp(c, points, length, 0.8 * length, _at(c, inwards, points)))


# --- Arrangements: each paints several tissues, with their labels -----------------------------------------------------


def tissue(c: Canvas, where: np.ndarray, fill: Callable, morph: str, func: str = "Other") -> None:
    """Paint one tissue in a mask (H, W)."""
    if where.any():
        _lay(c, where, fill(c), morph, func)


def glands(c: Canvas, where: np.ndarray, width: float, stretch: float, gap: float, wobble: float) -> np.ndarray:
    """Number glands (H, W) from 1, about `width` um wide and `gap` um apart, that lie mostly in a mask (H, W)."""
    cell, depth, radius, chance = _cells(c, width, stretch, wobble)
    largest = np.float32(width) * (0.45 + 0.3 * chance)  # not every gland is cut at its widest
    inside = (np.minimum(depth, _blur(c, depth, 4)) > gap / 2) & (_blur(c, radius, 2) < largest)
    area, hosted, own = (np.bincount(cell.ravel(), w.ravel()) for w in (cell >= 0, where, inside))
    kept = (hosted > 0.6 * area) & (own * c.mpp**2 > 100)
    return np.where(inside & kept[cell], np.cumsum(kept)[cell], 0).astype(np.int32)


def line(c: Canvas, gland: np.ndarray, morph: str, height: float, epithelium: Callable) -> None:
    """Paint numbered glands (H, W): an epithelium of `height` um around a lumen."""
    depth, inwards = _depth(c, gland > 0)
    _lay(c, gland > 0, epithelium(c, depth, inwards), morph, "G.O")
    _lay(c, depth > height + 1.5 * _noise(c, 8), EMPTY, "Background", "G.O")


def crypts(c: Canvas, where: np.ndarray) -> np.ndarray:
    """Paint glands of columnar cells, normal or crowded and irregular, and return their numbers (H, W)."""
    rng = c.rng
    width = rng.uniform(65, 105)
    if rng.random() < 0.65:
        gland = glands(c, where, width, rng.uniform(1, 1.6), rng.uniform(6, 16), rng.uniform(0.03, 0.08))
        line(c, gland, "E.M.O", rng.uniform(0.3, 0.4) * width, partial(columnar, goblets=rng.uniform(0.2, 1)))
    else:
        gland = glands(c, where, width, rng.uniform(1.2, 2.2), rng.uniform(6, 12), rng.uniform(0.07, 0.12))
        line(c, gland, "E.M.O", rng.uniform(26, 36), partial(columnar, goblets=rng.uniform(0, 0.15), rows=2))
    return gland


def tubules(c: Canvas, where: np.ndarray) -> None:
    """Paint small round glands of cuboidal cells."""
    gland = glands(c, where, c.rng.uniform(38, 56), c.rng.uniform(1, 1.5), c.rng.uniform(3, 7), 0.05)
    line(c, gland, "E.M.U", c.rng.uniform(13, 16), cuboidal)


def in_stroma(c: Canvas, where: np.ndarray, arrange: Callable) -> None:
    """Paint glands on loose, or now and then on dense, connective tissue."""
    if where.any():
        PAINTERS[c.rng.choice(["C.L", "C.D.I"], p=[0.7, 0.3])](c, where)
        arrange(c, where)


def vessels(c: Canvas) -> None:
    """Paint vessels here and there: a ring of smooth muscle around blood or an empty lumen."""
    centres = _scatter(c, 250, share=0.3, jitter=0.2)
    for centre in centres[((centres > 0) & (centres < c.extent)).all(1)]:
        outer, wall, stretch, angle = c.rng.uniform(30, 60), c.rng.uniform(10, 20), c.rng.uniform(1, 1.6), _angle(c)
        along, across = _along(c, angle, centre)
        depth, inwards = _depth(c, np.hypot(along / stretch, across) + 2.5 * _noise(c, 30) < outer)
        rings = np.sin(1.6 * depth + 1.5 * _noise(c, 12))
        nuclei = _spindles(c, 11, inwards + np.pi / 2, (9, 14), (2.4, 3.2))
        _lay(c, depth > 0, _nuclei(c, _mix(0.08 + 0.02 * rings, 0.45 + 0.08 * rings, 0.02), nuclei), "M.M", "T")
        _lay(c, depth > wall, EMPTY, "Background", "T")
        filling = c.rng.choice([-3, 0.2, 3])  # of blood: full, in part, none
        _lay(c, (depth > wall) & (_noise(c, 45) > filling), erythrocytes(c), "H.E", "T")


def glass(c: Canvas, lining: tuple | None = None) -> np.ndarray:
    """Cut the tissue off along an edge, ragged or lined (see `LININGS`), and return where the bare glass is (H, W)."""
    across, _ = _along(c, c.rng.uniform(0, 2 * np.pi))
    edge = across + 14 * _noise(c, 90) + (0 if lining else 3) * _noise(c, 9)
    bare = edge > np.quantile(edge, c.rng.uniform(0.6, 0.9))
    if lining:
        epithelium, morph, func, heights = lining
        height = c.rng.uniform(*heights)
        depth, inwards = _depth(c, ~bare)
        lined = (depth > 0) & (depth < height + 3 * _noise(c, 25))
        _lay(c, lined, epithelium(c, height - depth, inwards + np.pi), morph, func)
    _lay(c, bare, EMPTY, "Background", "Background")
    return bare


#: What may line the edge of the tissue: epithelium, codes in "morph" and "func", least and greatest height in um.
LININGS = (
    None,
    (stratified, "E.T.U", "Other", (45, 75)),
    (partial(columnar, goblets=0.4), "E.M.O", "G.O", (26, 32)),
)

#: Who paints a zone (H, W): by the code of its tissue, or by the name of an arrangement of several.
PAINTERS: dict[str, Callable[[Canvas, np.ndarray], None]] = {
    "C.D.I": partial(tissue, fill=dense_irregular, morph="C.D.I"),
    "C.D.R": partial(tissue, fill=dense_regular, morph="C.D.R"),
    "C.L": partial(tissue, fill=loose, morph="C.L"),
    "M.M": partial(tissue, fill=smooth_muscle, morph="M.M"),
    "A.W": partial(tissue, fill=white_fat, morph="A.W"),
    "N.P": partial(tissue, fill=neuropil, morph="N.P"),
    "S.C.H": partial(tissue, fill=hyaline_cartilage, morph="S.C.H"),
    "H.Y": partial(tissue, fill=lymphocytes, morph="H.Y"),
    "H.E": partial(tissue, fill=erythrocytes, morph="H.E"),
    "endocrine": partial(tissue, fill=nests, morph="E.M.U", func="G.N"),
    "tubules": partial(in_stroma, arrange=tubules),
    "crypts": partial(in_stroma, arrange=crypts),
}


# --- The microscope ---------------------------------------------------------------------------------------------------


def _develop(c: Canvas) -> np.ndarray:
    """Turn stain into an RGB image (H, W, 3) uint8, with the variation of section, stainer, lamp and sensor."""
    density = STAINS + c.rng.normal(0, 0.03, (3, 3))
    density[1] += c.rng.uniform(0.05, 0.25) * STAINS[2]
    strength = np.exp(c.rng.normal(0, [0.18, 0.22, 0.15]))
    thickness = 1 + 0.06 * _noise(c, 130)
    lamp = np.float32(c.rng.uniform(0.962, 0.98) + c.rng.normal(0, 0.003, 3))
    amount = np.maximum(c.stain, 0) * thickness
    absorbed = np.tensordot(amount, np.float32(strength[:, None] * np.maximum(density, 0)), (0, 0))  # (H, W, 3)
    light = _blur(c, lamp * np.exp(-absorbed), c.rng.uniform(0.35, 0.7))
    noise = c.rng.standard_normal(light.shape, np.float32) * (0.003 + 0.006 * np.sqrt(light))
    return np.clip(255 * (light + noise) + 0.5, 0, 255).astype(np.uint8)
