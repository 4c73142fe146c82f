"""Filter values with a permutohedral lattice: splat, blur, slice (see `permutohedral`).

Values are rows of one number per class, without padding, since memory is slower than the processor. For the same
reason, a point's vertices and their weights are stored side by side.

All arithmetic is in float32 and in the order of pydensecrf, which this reproduces bit for bit: no fast math here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import literal_unroll

from .kernels import in_threads, kernel, spans
from .simd import WIDTHS, everywhere, load, prefetch, store

CHUNKS = 32  # parts of each remainder's vertices, so that vertices of one part of the image are blurred together
AHEAD = 12  # distance, in points, of the prefetched vertices
WIDEST = 32  # most classes that are filtered together ...
VALUES = 1 << 26  # ... fewer, down to 8, if the vertices would hold more values than this, which bounds the memory


@dataclass(frozen=True)
class Lattice:
    """A permutohedral lattice: N points among M vertices, the vertices' neighbours, and the normalisation."""

    offsets: np.ndarray  #: (N, d + 1) uint32, the vertices of each point's simplex, by their remainder
    weights: np.ndarray  #: (N, d + 1) float32, its barycentric weights, in 0..1 but for rounding; they sum to 1
    above: np.ndarray  #: (d + 1, M) uint32, each vertex's neighbour up each direction; M if there is none
    below: np.ndarray  #: likewise, down each direction
    bounds: tuple[int, ...]  #: d + 2 numbers: vertices ``bounds[r]`` up to ``bounds[r + 1]`` have remainder r
    before: np.ndarray  #: (N,) float32, factors of the values before the filter: the diagonal of D^-1/2 ...
    after: np.ndarray  #: ... and after it: the same, for D^-1/2 G D^-1/2


def filter_lattice(lattice: Lattice, values: np.ndarray, threads: int = 1) -> np.ndarray:
    """Filter values with the normalised Gaussian of a lattice: ``D^-1/2 G D^-1/2 values``.

    Both are (N, K) float32: a row per point, padding left out, and a column per class. The result is the same for any
    number of threads.
    """
    vertices, gains = blur(lattice, values, threads), np.ones(values.shape[1], np.float32)
    out = np.zeros(values.shape, np.float32)
    parts = [(lattice, vertices, gains, out[start:stop], start) for start, stop in spans(len(out), threads)]
    in_threads(threads, add_slice, parts)
    return out


def buffers(lattice: Lattice, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return memory for `blur` of so many classes, which it can reuse at each call."""
    vertices = lattice.bounds[-1] + 1
    return np.empty(vertices * classes, np.float32), np.empty(vertices * min(classes, _widest(lattice)), np.float32)


def _widest(lattice: Lattice) -> int:
    return max(8, min(WIDEST, VALUES // lattice.bounds[-1] // 8 * 8))


def blur(
    lattice: Lattice, values: np.ndarray, threads: int = 1, memory: tuple[np.ndarray, np.ndarray] | None = None
) -> list[np.ndarray]:
    """Splat and blur values, with the arguments of `filter_lattice`; return them at the vertices, for `add_slice`.

    The arrays are (M + 1, k) float32, one for each group of k of the K classes; their last vertex stands for missing
    neighbours. They lie in the first of the `buffers` for K classes, if these are given as `memory`.
    """
    classes, vertices, remainders = values.shape[1], lattice.bounds[-1], len(lattice.bounds) - 1
    lasting, scratch = memory or buffers(lattice, classes)
    shares = np.array_split(np.arange(remainders), min(threads, remainders))
    bounds, size = np.array(lattice.bounds), -(-CHUNKS // threads)
    chunks = [(start, min(start + size, CHUNKS)) for start in range(0, CHUNKS, size)]
    blurred = []
    for first in range(0, classes, _widest(lattice)):
        width = min(_widest(lattice), classes - first)
        new = lasting[first * (vertices + 1) :][: width * (vertices + 1)].reshape(vertices + 1, width)
        old = scratch[: new.size].reshape(new.shape)
        old[-1] = new[-1] = 0
        if remainders % 2 == 0:  # so that the last pass writes to the lasting memory
            old, new = new, old
        splat = (values, first, lattice.before, lattice.offsets, lattice.weights, old)
        ends = [(r[0], r[-1] + 1, lattice.bounds[r[0]], lattice.bounds[r[-1] + 1]) for r in shares]
        in_threads(threads, _splat, [(*splat, *end) for end in ends])
        for up, down in zip(lattice.above, lattice.below, strict=True):
            in_threads(threads, _blur, [(old, new, up, down, bounds, *span) for span in chunks])
            old, new = new, old
        blurred.append(old)
    return blurred


def add_slice(lattice: Lattice, blurred: list[np.ndarray], gains: np.ndarray, out: np.ndarray, start: int) -> None:
    """Slice: add the filtered values of points from `start` on, times each class's gain (K,), to `out` (n, K)."""
    points = slice(start, start + len(out))
    # Alpha keeps a filtered constant near the constant. Its place in the product affects only the rounding.
    alpha = np.float32(1 / (1 + 2.0 ** (2 - len(lattice.bounds))))
    alphas = (np.float32(1), alpha) if len(gains) <= 2 else (alpha, np.float32(1))
    first = 0
    for vertices in blurred:
        places = lattice.offsets[points], lattice.weights[points]
        _slice(vertices, *places, alphas, lattice.after[points], gains, out, first)
        first += vertices.shape[1]


@kernel
def _splat(values, first, before, offsets, weights, vertices, least, most, start, stop):
    """Splat the columns from `first` on over the vertices `start` to `stop`, of remainders `least` to `most`."""
    width = vertices.shape[1]
    vertices[start:stop] = 0
    for p in range(len(values)):
        soon = min(p + AHEAD, len(values) - 1)
        for r in range(least, most):
            prefetch(vertices, np.int64(offsets[soon, r]) * width)
            prefetch(vertices, np.int64(offsets[soon, r]) * width + width - 1)
        row, column = p * values.shape[1] + first, 0
        for lanes in literal_unroll(WIDTHS):
            while column + len(lanes) <= width:
                value = load(values, row + column, lanes) * everywhere(before[p], lanes)
                for r in range(least, most):
                    place = np.int64(offsets[p, r]) * width + column
                    store(vertices, place, load(vertices, place, lanes) + everywhere(weights[p, r], lanes) * value)
                column += len(lanes)


@kernel
def _blur(old, new, above, below, bounds, start, stop):
    """Blur chunks `start` to `stop` of each remainder's vertices, whose neighbours have other remainders."""
    width = old.shape[1]
    for chunk in range(start, stop):
        for r in range(len(bounds) - 1):
            first, length = bounds[r], bounds[r + 1] - bounds[r]
            for v in range(first + length * chunk // CHUNKS, first + length * (chunk + 1) // CHUNKS):
                here, up, down, column = v * width, np.int64(above[v]) * width, np.int64(below[v]) * width, 0
                for lanes in literal_unroll(WIDTHS):
                    while column + len(lanes) <= width:
                        around = load(old, up + column, lanes) + load(old, down + column, lanes)
                        blurred = load(old, here + column, lanes) + everywhere(np.float32(0.5), lanes) * around
                        store(new, here + column, blurred)
                        column += len(lanes)


@kernel
def _slice(vertices, offsets, weights, alphas, after, gains, out, first):
    width = vertices.shape[1]
    for p in range(len(out)):
        soon = min(p + AHEAD, len(out) - 1)
        for r in range(offsets.shape[1]):
            prefetch(vertices, np.int64(offsets[soon, r]) * width)
            prefetch(vertices, np.int64(offsets[soon, r]) * width + width - 1)
        row, column = p * out.shape[1] + first, 0
        for lanes in literal_unroll(WIDTHS):
            while column + len(lanes) <= width:
                total = _weighted_sum(vertices, offsets[p], weights[p], alphas, column, lanes)
                gained = load(gains, first + column, lanes) * (total * everywhere(after[p], lanes))
                store(out, row + column, load(out, row + column, lanes) + gained)
                column += len(lanes)


@kernel
def _weighted_sum(vertices, offsets, weights, alphas, column, lanes):
    total, last = everywhere(np.float32(0), lanes), everywhere(alphas[1], lanes)
    for r in range(len(offsets)):
        vertex = load(vertices, np.int64(offsets[r]) * vertices.shape[1] + column, lanes)
        total += everywhere(weights[r] * alphas[0], lanes) * vertex * last
    return total
