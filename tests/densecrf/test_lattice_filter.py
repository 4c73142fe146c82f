"""The filter for any number of classes, in parts and by threads, against the same filter of one class or of all."""

from dataclasses import replace

import numpy as np
import pytest

from hsn_v1.densecrf import lattice_filter
from hsn_v1.densecrf.lattice_filter import Lattice, add_slice, blur, buffers, filter_lattice
from hsn_v1.densecrf.permutohedral import build_lattice

RNG = np.random.default_rng(0)


def lattice_and_values(d: int, n: int, classes: int):
    return build_lattice(RNG.uniform(0, 5, (d, n))), RNG.random((n, classes), np.float32)


def test_by_hand():
    # Two points on a line of three vertices, in steps of one direction: 0 - 1 - 2; vertex 3 is not there.
    up, down = [1, 2, 3], [3, 0, 1]
    ones = np.ones(2, np.float32)
    lattice = Lattice(
        offsets=np.array([[0, 2], [1, 2]], np.uint32),
        weights=np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
        above=np.array([up, [3, 3, 3]], np.uint32),
        below=np.array([down, [3, 3, 3]], np.uint32),
        bounds=(0, 2, 3),
        before=ones,
        after=2 * ones,
    )
    splat = np.array([0.75 * 8, 0.5 * 4, 0.25 * 8 + 0.5 * 4])
    blurred = np.array([splat[0] + splat[1] / 2, splat[1] + (splat[0] + splat[2]) / 2, splat[2] + splat[1] / 2])
    alpha = 1 / (1 + 2**-1)
    expected = 2 * alpha * np.array([0.75 * blurred[0] + 0.25 * blurred[2], 0.5 * blurred[1] + 0.5 * blurred[2]])
    values = np.array([[8], [4]], np.float32)
    np.testing.assert_allclose(filter_lattice(lattice, values)[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(filter_lattice(replace(lattice, before=3 * ones), values)[:, 0], 3 * expected, rtol=1e-6)


@pytest.mark.parametrize("classes", [*range(3, 19), 33, 45])
def test_classes_do_not_mix(classes):
    lattice, values = lattice_and_values(3, 500, classes)
    together = filter_lattice(lattice, values)
    for k in (0, classes // 2, classes - 1):
        three = np.repeat(values[:, k : k + 1], 3, axis=1)
        np.testing.assert_array_equal(filter_lattice(lattice, three)[:, 0], together[:, k])
        np.testing.assert_allclose(filter_lattice(lattice, three[:, :1].copy())[:, 0], together[:, k], rtol=1e-5)


def test_threads_and_parts_of_the_classes(monkeypatch):
    lattice, values = lattice_and_values(5, 20000, 21)
    expected = filter_lattice(lattice, values)
    for threads in (2, 8):
        np.testing.assert_array_equal(filter_lattice(lattice, values, threads), expected)
    monkeypatch.setattr(lattice_filter, "VALUES", 0)
    assert [part.shape[1] for part in blur(lattice, values)] == [8, 8, 5]
    np.testing.assert_array_equal(filter_lattice(lattice, values), expected)


@pytest.mark.parametrize("d", [2, 3])
def test_memory_is_used_again(d):
    lattice, values = lattice_and_values(d, 100, 5)
    memory = buffers(lattice, 5)
    expected = [part.copy() for part in blur(lattice, values, memory=memory)]
    blur(lattice, 1 - values, memory=memory)
    again = blur(lattice, values, memory=memory)
    assert all(np.shares_memory(part, memory[0]) for part in again)
    np.testing.assert_array_equal(again, expected)


def test_slices_are_added_with_gains():
    lattice, values = lattice_and_values(2, 100, 4)
    filtered, gains = filter_lattice(lattice, values), np.array([1, 2, 0, -1], np.float32)
    out = np.ones((30, 4), np.float32)
    add_slice(lattice, blur(lattice, values), gains, out, 50)
    np.testing.assert_allclose(out, 1 + gains * filtered[50:80], rtol=1e-5, atol=1e-6)
