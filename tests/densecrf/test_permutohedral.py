"""The lattice against brute force, and against itself: threads, normalisation, keys that do not fit."""

import numpy as np
import pytest

from hsn_v1.densecrf import permutohedral
from hsn_v1.densecrf.lattice_filter import filter_lattice
from hsn_v1.densecrf.permutohedral import NORMALISATIONS, build_lattice


def points(d: int, n: int, spread: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, spread, (d, n)).astype(np.float32)


@pytest.mark.parametrize(("d", "tolerance"), [(1, 0.03), (2, 0.05), (3, 0.07), (5, 0.12)])
def test_near_to_the_normalised_gaussian(d, tolerance):
    features = points(d, 1500, 4)
    values = np.random.default_rng(1).random((1500, 3)).astype(np.float32)
    squares = ((features[:, :, np.newaxis] - features[:, np.newaxis]) ** 2).sum(axis=0)
    kernel = np.exp(-squares / 2)
    norm = 1 / np.sqrt(kernel.sum(axis=1))
    expected = norm[:, np.newaxis] * (kernel @ (norm[:, np.newaxis] * values))
    error = filter_lattice(build_lattice(features), values) - expected
    assert np.abs(error).mean() < tolerance * expected.mean()


@pytest.mark.parametrize("d", [1, 2, 3, 5, 7])
def test_geometry(d):
    lattice = build_lattice(points(d, 999, 9))
    vertices = lattice.bounds[-1]
    np.testing.assert_allclose(lattice.weights.sum(axis=1), 1, atol=1e-5)
    assert lattice.weights.min() > -1e-5
    assert set(np.unique(lattice.offsets)) == set(range(vertices))
    for above, below in zip(lattice.above, lattice.below, strict=True):
        linked = np.flatnonzero(above < vertices)
        np.testing.assert_array_equal(below[above[linked]], linked)
        assert len(linked) == np.count_nonzero(below < vertices)


def test_all_neighbours_are_found():
    # Inside of a dense grid each vertex has both neighbours in all directions.
    grid = np.stack(np.meshgrid(np.arange(0, 40, 0.5), np.arange(0, 40, 0.5))).reshape(2, -1)
    lattice = build_lattice(grid)
    missing = (lattice.above == lattice.bounds[-1]).mean()
    assert missing < 0.05


def test_symmetric():
    lattice = build_lattice(points(5, 400, 3))
    matrix = filter_lattice(lattice, np.eye(400, dtype=np.float32))
    np.testing.assert_allclose(matrix, matrix.T, atol=0.02)


@pytest.mark.parametrize("key_bits", [40, 8])
def test_wide_keys_give_the_same(monkeypatch, key_bits):
    features, values = points(4, 3000, 6), points(1, 3000, 1).T.copy()
    expected = filter_lattice(build_lattice(features), values)
    monkeypatch.setattr(permutohedral, "KEY_BITS", key_bits)
    if key_bits == 8:  # hashed: the strides are drawn as if for 63 bits, to wrap around
        layout = permutohedral._key_layout

        def hashed(features, scale):
            *_, bits = layout(features, scale)
            strides = np.append(np.random.default_rng(0).integers(0, 1 << 63, len(features)) | 1, 0)
            return strides, np.int64(0), bits

        monkeypatch.setattr(permutohedral, "_key_layout", hashed)
    np.testing.assert_allclose(filter_lattice(build_lattice(features), values), expected, atol=1e-6)


def test_many_features():
    features = points(24, 500, 2)
    values = np.ones((500, 1), np.float32)
    filtered = filter_lattice(build_lattice(features), values)
    assert np.isfinite(filtered).all()
    assert (filtered > 0).all()


def test_same_bytes_with_any_number_of_threads():
    features = points(5, 20000, 5)
    alone = build_lattice(features)
    for threads in (2, 8):
        lattice = build_lattice(features, threads)
        for name in ("offsets", "weights", "above", "below", "before", "after"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(lattice, name))


def test_normalisations():
    features, values = points(3, 200, 3), points(2, 200, 1).T.copy()
    lattices = [build_lattice(features, normalisation=name) for name in NORMALISATIONS]
    none, before, after, symmetric = (filter_lattice(lattice, values) for lattice in lattices)
    degree = filter_lattice(lattices[0], np.ones((200, 1), np.float32))
    np.testing.assert_allclose(before, filter_lattice(lattices[0], values / degree), rtol=1e-4)
    np.testing.assert_allclose(after, none / degree, rtol=1e-4)
    np.testing.assert_allclose(symmetric, filter_lattice(lattices[0], values / degree**0.5) / degree**0.5, rtol=1e-4)


def test_points_are_filled_up_to_four_by_one_without_a_value():
    features = points(2, 7, 5)
    seven = build_lattice(features)
    eight = build_lattice(np.pad(features, ((0, 0), (0, 1))))
    assert seven.bounds == eight.bounds
    np.testing.assert_array_equal(seven.offsets, eight.offsets)
    assert seven.after.shape == (7,)
    assert filter_lattice(seven, np.ones((7, 2), np.float32)).shape == (7, 2)


@pytest.mark.parametrize(
    "features", [np.zeros((2, 0)), np.zeros((0, 2)), np.full((2, 3), np.nan), np.full((2, 3), 1e9)]
)
def test_refused(features):
    with pytest.raises(ValueError, match="features"):
        build_lattice(features)
