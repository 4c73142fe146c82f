"""The permutohedral lattice: a Gaussian filter whose cost is linear in the points, in any number of dimensions.

A Gaussian filter over points with d features (a pixel's position and colour) compares all pairs of points.
Adams et al. place the points instead in a lattice of simplices, on the hyperplane of R^(d+1) whose coordinates sum to
zero.  *Splat* spreads the value of a point over the d+1 vertices of its simplex, by its barycentric weights; *blur*
convolves the vertices with (1/2, 1, 1/2) along each of the d+1 lattice directions; *slice* reads the values back with
the same weights.  As matrices the filter is G = S' B S, normalised to D^-1/2 G D^-1/2 with D = diag(G 1), as
Krähenbühl and Koltun do.

Why it is fast.  All coordinates of a vertex have the same remainder modulo d+1, and each simplex has one vertex of
each remainder.  So the vertices fall into d+1 blocks, which are sorted and searched separately.  Inside a block the
coordinates, (d+1) u + remainder, are packed into a key that is *linear* in u: to step to the neighbour in one
direction adds the same number to all keys.  Sorted keys thus stay sorted, and one merge with the next block finds the
neighbours of all vertices, both ways at once, without a hash table and its cache misses.  Keys sort by row and column
first, so that the vertices of neighbouring pixels are near to each other in memory.

All arithmetic is in float32 and in the order of pydensecrf, which this reproduces bit for bit: no fast math here.

References
----------
A. Adams, J. Baek and M. A. Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Computer
Graphics Forum 29(2), 2010.
P. Krähenbühl and V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
NeurIPS 2011.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from ..errors import Notice
from .kernels import in_threads, kernel, refuse, spans
from .lattice_filter import Lattice, filter_lattice

KEY_BITS = 63
DIGIT = 11  # bits by which keys are sorted at once
LANES = 64  # points embedded together, so that the loops over them become vector instructions
NORMALISATIONS = ("none", "before", "after", "symmetric")
LARGEST = 2.0**20  # a coordinate beyond which float32 no longer tells neighbouring simplices apart


def build_lattice(features: np.ndarray, threads: int = 1, normalisation: str = "symmetric") -> Lattice:
    """Embed points in the lattice, find the neighbours of all vertices, and normalise.

    Parameters
    ----------
    features : ndarray of shape (d, N), float32
        One column per point, in standard deviations of the Gaussian; d and N at least 1.
    threads : int
        The result is the same for any number.
    normalisation : str
        One of `NORMALISATIONS`: by the root of the degrees (the filter of ones) before and after, or by the degrees
        on one side, or not at all.

    Returns
    -------
    Lattice

    Raises
    ------
    ValueError
        If there is no point or no feature, or features are not finite, or too large for float32 (some 10^5).
    """
    features = np.ascontiguousarray(features, np.float32)
    if features.ndim != 2 or not features.size:
        raise ValueError(f"features must be (d, N), both at least 1, not {features.shape}")
    points = features.shape[1]
    if points % 4:
        # pydensecrf embeds four points at a time, and pads with zeros. The padding has no values, but its vertices take
        # part in the blur. A single padding point does the same.
        features = np.pad(features, ((0, 0), (0, 1)))
    d, n = features.shape
    # The embedding's columns as unit vectors, times the standard deviation of splat, blur and slice.
    deviation = float(np.float32(math.sqrt(2 / 3) * (d + 1)))
    scale = np.array([1 / math.sqrt((i + 2) * (i + 1)) * deviation for i in range(d)], np.float32)
    strides, origin, key_bits = _key_layout(features, scale)
    # If they fit, key and point share one integer, so that both are sorted at once; it is as linear as the key.
    point_bits = (n - 1).bit_length() if key_bits + (n - 1).bit_length() <= KEY_BITS else 0
    weights = np.empty((n, d + 1), np.float32)
    offsets = np.empty((n, d + 1), np.uint32)
    blocks = np.empty((d + 1, n), np.int64)
    embedding = features, scale, strides << point_bits, origin << point_bits, int(point_bits > 0), blocks, weights
    in_threads(threads, _embed, [(*embedding, *span) for span in spans(n, threads)])
    blocks = in_threads(threads, _sort_block, [(blocks[r], offsets[:, r], point_bits, key_bits) for r in range(d + 1)])

    bounds = (0, *np.cumsum([len(block) for block in blocks]).tolist())
    offsets += np.array(bounds[:-1], np.uint32)
    above, below = np.empty((2, d + 1, bounds[-1]), np.uint32)
    links = []
    for axis, r in product(range(d + 1), repeat=2):
        # One step along an axis adds 1 to all coordinates, and takes d+1 off that axis: there u loses 1.  But from
        # the last block the remainder wraps to zero, which adds 1 to all of u.
        following = (r + 1) % (d + 1)
        step = (strides.sum() - strides if following == 0 else -strides)[axis]
        first = np.argmin(blocks[r] + step) if key_bits > KEY_BITS else 0
        up, down = above[axis, bounds[r] : bounds[r + 1]], below[axis, bounds[following] : bounds[following + 1]]
        links.append((blocks[r], blocks[following], step, first, up, down, bounds[r], bounds[following], bounds[-1]))
    in_threads(threads, _link, links)

    ones = np.ones((points, 1), np.float32)
    lattice = Lattice(offsets, weights, above, below, bounds, before=ones[:, 0], after=ones[:, 0])
    if normalisation == "none":
        return lattice
    degree = filter_lattice(lattice, ones, threads)[:, 0].astype(np.float64) + 1e-20
    if normalisation == "symmetric":
        norm = (1 / np.sqrt(degree)).astype(np.float32)
        return replace(lattice, before=norm, after=norm)
    return replace(lattice, **{normalisation: (1 / degree).astype(np.float32)})


def _key_layout(features: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.int64, int]:
    """Return strides and origin of the keys ``origin + strides[:-1] @ u``, and their bits; the last stride is zero."""
    d = len(features)
    embedding = np.triu(np.ones((d + 1, d))) - np.diag(np.arange(1.0, d + 1), -1)[:, :d]
    embedding *= scale
    ends = [features.min(axis=1).astype(np.float64), features.max(axis=1).astype(np.float64)]
    if not (abs(embedding) @ np.maximum(*np.abs(ends))).max() < LARGEST:
        raise ValueError("features must be finite, and small enough for float32: divide by larger deviations")
    # A key's digits are u. Only the first two differ: they undo the embedding of features 1 and 0, row and column.
    digits = np.eye(d, dtype=np.int64)
    if d > 1:
        digits[0, :3] = (1, 1, -2)[:d]
        digits[1, :2] = (1, -1)
    extremes = np.stack([digits @ embedding[:d] / (d + 1) * end for end in ends])
    slack = 3 * abs(digits).sum(axis=1)  # rounding, the other vertices of the simplex, and a step to their neighbours
    lowest = np.floor(extremes.min(axis=0).sum(axis=1)).astype(int) - slack
    radix = (np.ceil(extremes.max(axis=0).sum(axis=1)).astype(int) + slack - lowest + 1).tolist()
    key_bits = math.prod(radix).bit_length()
    if key_bits > KEY_BITS:
        # Too many features.  A linear hash modulo 2^64 takes the place of the digits: random odd strides, the same
        # ones each time.  Among a million vertices, a collision is less likely than one in a million.
        hashes = np.random.default_rng(0).integers(0, 1 << KEY_BITS, d) | 1
        return np.append(hashes, 0), np.int64(0), key_bits
    place = np.array([math.prod(radix[i + 1 :]) for i in range(d)])
    return np.append(place @ digits, 0), -(place @ lowest), key_bits


@kernel
def _embed(features, scale, strides, origin, point, keys, weights, start, stop):
    """Compute keys and barycentric weights of the vertices around points `start` to `stop` (Adams et al., section 3.2).

    A point's number, times `point`, is added to its keys.
    """
    d = features.shape[0]
    side, inverse = np.float32(d + 1), np.float32(1) / np.float32(d + 1)
    feature = np.zeros(LANES, np.float32)
    elevated = np.empty((d + 1, LANES), np.float32)
    nearest = np.empty((d + 1, LANES), np.float32)
    rank = np.empty((d + 1, LANES), np.int32)
    total = np.empty(LANES, np.float32)
    residual = np.empty((d + 1, LANES), np.float32)
    stride = np.empty((d + 1, LANES), np.int64)
    key = np.empty(LANES, np.int64)
    for first in range(start, stop, LANES):
        live = min(LANES, stop - first)
        total[:] = 0
        for i in range(d, 0, -1):
            for n in range(live):
                feature[n] = features[i - 1, first + n]
            for n in range(LANES):
                scaled = feature[n] * scale[i - 1]
                elevated[i, n] = total[n] - np.float32(i) * scaled
                total[n] += scaled
        for n in range(LANES):
            elevated[0, n] = total[n]
            total[n] = 0
            key[n] = origin + point * (first + n)
        # Round to the nearest multiples of d+1; as they may not sum to zero ...
        for i in range(d + 1):
            for n in range(LANES):
                multiple = np.rint(inverse * elevated[i, n])
                nearest[i, n] = multiple * side
                total[n] += multiple
                rank[i, n] = 0
        for i in range(d):
            for j in range(i + 1, d + 1):
                for n in range(LANES):
                    less = np.int32(elevated[i, n] - nearest[i, n] < elevated[j, n] - nearest[j, n])
                    rank[i, n] += less
                    rank[j, n] += np.int32(1) - less
        # ... the coordinates rounded furthest move on to the multiple on the other side.
        for i in range(d + 1):
            for n in range(LANES):
                place = rank[i, n] + np.int32(total[n])
                wrap = np.int32(place < 0) - np.int32(place > d)
                place += wrap * np.int32(d + 1)
                corner = nearest[i, n] + np.float32(wrap) * side
                residual[place, n] = (elevated[i, n] - corner) * inverse
                stride[place, n] = strides[i]
                key[n] += np.int64(np.rint(corner * inverse)) * strides[i]
        # From that corner, a step along each axis by descending rank visits the vertices of the simplex.
        for n in range(live):
            keys[0, first + n] = key[n]
            weights[first + n, 0] = residual[d, n] + (np.float32(1) - residual[0, n])
        for r in range(1, d + 1):
            for n in range(live):
                key[n] -= stride[d - r + 1, n]
                keys[r, first + n] = key[n]
                weights[first + n, r] = residual[d - r, n] - residual[d - r + 1, n]


def _sort_block(keys: np.ndarray, offsets: np.ndarray, point_bits: int, key_bits: int) -> np.ndarray:
    """Number the vertices of one remainder by their keys' order, store each point's in `offsets`; return the keys."""
    if not point_bits:
        keys, numbers = np.unique(keys, return_inverse=True)
        offsets[:] = numbers
        return keys
    keys = _sort(keys, point_bits, point_bits + key_bits)  # the lower bits are in order already
    return keys[: _number(keys, point_bits, offsets)].copy()


@kernel
def _sort(values, low, high):
    """Sort by the bits from `low` to `high`: a radix sort, lowest digit first, linear in the number of values."""
    sorted_values, ends = np.empty_like(values), np.empty(1 << DIGIT, np.int64)
    for shift in range(low, high, DIGIT):
        ends[:] = 0
        for value in values:
            ends[(value >> shift) & ((1 << DIGIT) - 1)] += 1
        ends[1:] = np.cumsum(ends)[:-1]
        ends[0] = 0
        for value in values:
            digit = (value >> shift) & ((1 << DIGIT) - 1)
            sorted_values[ends[digit]] = value
            ends[digit] += 1
        values, sorted_values = sorted_values, values
    return values


@kernel
def _number(keys, point_bits, offsets):
    """Move the distinct keys to the front, store the number of each point's key in `offsets`; return their count."""
    last, last_key = -1, np.int64(-1)
    for i in range(len(keys)):
        key, point = keys[i] >> point_bits, keys[i] & ((1 << point_bits) - 1)
        if key != last_key:
            last, last_key = last + 1, key
            keys[last] = key
        offsets[point] = last
    return last + 1


@kernel
def _link(keys, others, step, first, above, below, base, other_base, missing):
    """Link neighbours: merge ``keys + step`` with `others`; both are sorted, the sums from `first` on, cyclically."""
    i, j, left = first, 0, len(keys)
    while left and j < len(others):
        key, other = keys[i] + step, others[j]
        # Written at each visit; the last one is right. A branch here would be mispredicted half of the time.
        above[i] = other_base + j if key == other else missing
        below[j] = base + i if key == other else missing
        left -= key <= other
        i += key <= other
        j += other <= key
        if i == len(keys):
            i = 0
    below[j:] = missing
    for rest in range(i, i + left):
        above[rest % len(keys)] = missing


def is_compiled() -> bool:
    """Tell whether an earlier run cached the compiled code; without it, the first filter takes many seconds.

    Raises InputError if Numba's compiler is switched off; warns by a Notice if no folder can hold the cache.
    """
    if _embed is refuse:
        refuse()
    folder = _embed.stats.cache_path
    if folder is None:
        text = "the CRF is compiled in each process, some ten seconds each, as neither {} nor a home can be written to"
        advice = "; set NUMBA_CACHE_DIR to a folder that keeps the code"
        warnings.warn(Notice(text.format(Path(__file__).parent) + advice), stacklevel=2)
        return False
    return any(Path(folder).glob(f"{Path(__file__).stem}.*.nbi"))
