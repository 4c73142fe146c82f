import numpy as np
import pytest
from scipy.special import softmax as reference

from hsn_v1.densecrf.lattice_filter import filter_lattice
from hsn_v1.densecrf.meanfield import Pairwise, infer, softmax
from hsn_v1.densecrf.permutohedral import build_lattice

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 8, 11, 16, 30])
def test_softmax(classes):
    logits = RNG.normal(0, 10, (129, classes)).astype(np.float32)
    np.testing.assert_allclose(softmax(logits), reference(logits.astype(np.float64), axis=1), rtol=1e-5, atol=1e-7)


def test_a_step_is_the_softmax_of_unary_and_messages():
    log_p, lattice = RNG.normal(0, 1, (5000, 3)).astype(np.float32), build_lattice(RNG.uniform(0, 9, (2, 5000)))
    gains, matrix = RNG.random(3, np.float32), RNG.random((3, 3), np.float32)
    q = softmax(log_p)
    filtered = filter_lattice(lattice, q)
    infer(log_p, [Pairwise(lattice, gains), Pairwise(lattice, matrix)], q, 1)
    np.testing.assert_allclose(q, reference(log_p + gains * filtered + filtered @ matrix.T, axis=1), rtol=1e-4)


@pytest.mark.parametrize("threads", [2, 8])
def test_same_bytes_with_any_number_of_threads(threads):
    log_p, features = RNG.normal(0, 1, (30000, 3)).astype(np.float32), RNG.uniform(0, 9, (3, 30000))
    pairwise = [Pairwise(build_lattice(features), np.full(3, 2, np.float32))]
    alone, shared = softmax(log_p), softmax(log_p, threads)
    np.testing.assert_array_equal(alone, shared)
    infer(log_p, pairwise, alone, 2)
    infer(log_p, pairwise, shared, 2, threads)
    np.testing.assert_array_equal(alone, shared)
