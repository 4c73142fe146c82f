"""The field of view that a phantom is painted on: positions in microns, noise, cells, rows and stamps.

All random positions and noise lattices are drawn in microns, before they are sampled at pixels, so that a field shows
the same tissue at any pixel size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from ..adp import FUNC


@dataclass(frozen=True)
class Canvas:
    """A field of view, whose arrays are painted in place."""

    rng: np.random.Generator  # its draws do not depend on mpp
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


def new_canvas(stream: int, seed: int, size: tuple[int, int], mpp: float) -> Canvas:
    """Return an empty field with its own random stream; raises the ValueError of `phantom.patch`."""
    if seed < 0 or min(size) < 2 or not 0.1 <= mpp <= 2:
        raise ValueError(f"expected seed >= 0, size >= 2 px and mpp from 0.1 to 2, got {seed}, {size} and {mpp}")
    y, x = np.meshgrid(*((np.arange(n, dtype=np.float32) + 0.5) * np.float32(mpp) for n in size), indexing="ij")
    other = np.full(size, FUNC.codes.index("Other"), np.uint8)
    rng = np.random.default_rng([stream, seed])
    return Canvas(rng, mpp, y, x, np.zeros((3, *size), np.float32), np.zeros(size, np.uint8), other)


def branch(c: Canvas) -> Canvas:
    """Return the canvas with a child random stream, whose draws do not change those of `c` afterwards."""
    return replace(c, rng=c.rng.spawn(1)[0])


def smooth_noise(c: Canvas, wavelength: float) -> np.ndarray:
    """Return smooth, isotropic noise (H, W) of about unit variance."""
    lattice = c.rng.standard_normal(np.ceil(c.extent / wavelength).astype(int) + 3, np.float32)
    zoom, (rows, columns) = wavelength / c.mpp, c.y.shape
    # Interpolation lowers the variance between the lattice's points; 1.3 restores it.
    return 1.3 * cv2.resize(lattice, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)[:rows, :columns]


def along_and_across(c: Canvas, angle: float, origin=(0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (H, W) along a direction and across it, in um."""
    y, x = c.y - np.float32(origin[0]), c.x - np.float32(origin[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def fibre_noise(c: Canvas, length: float, width: float, angle: float, bend: np.ndarray | float = 0.0) -> np.ndarray:
    """Return noise (H, W) of about unit variance, elongated along `angle` and bent sideways by `bend` um (H, W)."""
    along, across = along_and_across(c, angle)
    reach = np.hypot(*c.extent)
    lattice = c.rng.standard_normal((int(reach / width) + 9, int(reach / length) + 9), np.float32)
    grid = np.float32(along / length), np.float32((across + bend) / width)
    return 1.3 * cv2.remap(lattice, *grid, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)


def fibre_direction(c: Canvas, angle: float, bend: np.ndarray) -> np.ndarray:
    """Return the direction (H, W) of bent fibres, in radians."""
    dy, dx = np.gradient(bend, c.mpp)
    return angle - np.arctan(np.cos(angle) * dx + np.sin(angle) * dy)


def scatter(c: Canvas, spacing: float, share: float = 1, jitter: float = 0.35) -> np.ndarray:
    """Draw points (N, 2) in um, (y, x), about `spacing` apart over the whole field, and keep a `share` of them."""
    rows, columns = np.ceil(c.extent / spacing).astype(int) + 2
    i, j = np.mgrid[:rows, :columns] - 0.5
    points = np.stack([i, j + 0.25 * (-1) ** np.arange(rows)[:, None]], -1)
    points = spacing * (points + c.rng.uniform(-jitter, jitter, points.shape)).reshape(-1, 2)
    return points[c.rng.random(len(points)) < share]


class Cells(NamedTuple):
    """A tessellation of the field."""

    number: np.ndarray  # (H, W) number of the cell, in no order
    depth: np.ndarray  # (H, W) distance to the next cell, in um
    radius: np.ndarray  # (H, W) distance to the cell's centre, in um
    chance: np.ndarray  # (H, W) random number of the cell, 0 to 1


def tessellate(c: Canvas, spacing: float, stretch: float = 1, wobble: float = 0.06) -> Cells:
    """Tessellate the field into Voronoi cells about `spacing` um wide, stretched by `stretch` in a random direction."""
    along, across = along_and_across(c, random_angle(c))
    u = along / (spacing * stretch) + wobble * smooth_noise(c, 0.6 * spacing)
    v = across / spacing + wobble * smooth_noise(c, 0.6 * spacing)
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


def random_angle(c: Canvas) -> float:
    """Draw the direction of a line, in radians."""
    return c.rng.uniform(0, np.pi)


def blur(c: Canvas, image: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth an image (H, W) or (H, W, C) by a Gaussian of `sigma` um."""
    return cv2.GaussianBlur(image, (0, 0), max(sigma / c.mpp, 0.1))


def depth_inside(c: Canvas, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distances from a mask's edge inwards, in um, and inward directions, in radians; all are (H, W)."""
    depth = c.mpp * cv2.distanceTransform(where.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    dy, dx = np.gradient(blur(c, depth, 3))
    return depth, np.arctan2(dy, dx)


def values_at(c: Canvas, field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the values (N,) of a field (H, W) at points; points outside get the value at the border."""
    row, column = (np.clip(p / c.mpp, 0, n - 1).astype(int) for p, n in zip(points.T, field.shape, strict=True))
    return field[row, column]


def keep(points: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Move the points (N, 2) that are not `kept`, (N,) bool, far outside the field.

    Their number stays the same, so that later draws take as many random numbers at any pixel size.
    """
    return np.where(kept[:, None], points, -1e6)


def row_under_edge(c: Canvas, depth: np.ndarray, inwards: np.ndarray, spacing: float, level: float, spread: float):
    """Draw points (N, 2), `spacing` um apart in a row `level` um under an edge; return them and inward directions."""
    points = scatter(c, spacing)
    angle, here = values_at(c, inwards, points), values_at(c, depth, points)
    shift = level + c.rng.normal(0, spread, len(points)) - here
    moved = points + shift[:, None] * np.stack([np.sin(angle), np.cos(angle)], -1)
    return keep(moved, np.abs(here - level) < spacing / 2), angle


def stamp(c: Canvas, points: np.ndarray, length, width, angle=0.0) -> np.ndarray:
    """Return the coverage (H, W), 0 to 1, of ellipses: `length` along `angle`, `width` across, numbers or (N,)."""
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
