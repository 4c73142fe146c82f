"""Mean-field inference in a fully connected CRF, a filtering of the probabilities by each kernel at each step.

With x_i the class of pixel i, and U its unary energy, the energy of Krähenbühl and Koltun is ::

    E(x)  =  sum_i U_i(x_i)  +  sum_(i<j) sum_m  mu_m(x_i, x_j) k_m(i, j)

where each kernel k_m is a Gaussian of the difference of two pixels' features, and mu_m its compatibility of classes.
Mean field approximates exp(-E(x)) by a product of independent Q_i(x_i), in steps of ::

    Q_i(l)  <-  softmax_l( -U_i(l)  -  sum_m sum_l' mu_m(l, l') sum_j k_m(i, j) Q_j(l') )

The sums are taken in the order of pydensecrf, whose probabilities this reproduces bit for bit where the compatibility
is a number or one number for each class: mean field enlarges the last bits of pixels that are near to a tie.

P. Krähenbühl and V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .kernels import in_threads, kernel, spans
from .lattice_filter import Lattice, add_slice, blur, buffers, filter_lattice

LANES = 64  # points whose softmax is computed together, so that the loops over them become vector instructions
POINTS = 1 << 12  # points updated together, so that their logits stay in the cache


@dataclass(frozen=True)
class Pairwise:
    """A kernel and its compatibility of classes."""

    lattice: Lattice  #: the kernel
    #: -mu, float32: how much a neighbour's probability of a class raises that class's logit (K,), or each one's (K, K).
    gains: np.ndarray

    def add(self, blurred: list[np.ndarray], logits: np.ndarray, start: int) -> None:
        """Add the neighbours' messages, sliced from blurred probabilities, to the logits of points from `start` on."""
        if self.gains.ndim == 1:
            add_slice(self.lattice, blurred, self.gains, logits, start)
            return
        filtered = np.zeros_like(logits)
        add_slice(self.lattice, blurred, np.ones(len(self.gains), np.float32), filtered, start)
        logits += filtered @ self.gains.T


def softmax(logits: np.ndarray, threads: int = 1) -> np.ndarray:
    """Return the softmax of each row of a contiguous float32 array (N, K); that of -U starts the inference."""
    q = np.empty_like(logits)
    in_threads(threads, _softmax, [(logits[start:stop], q[start:stop]) for start, stop in spans(len(q), threads)])
    return q


def infer(log_p: np.ndarray, pairwise: list[Pairwise], q: np.ndarray, steps: int, threads: int = 1) -> None:
    """Take mean-field steps: update the probabilities in place.

    Parameters
    ----------
    log_p : ndarray of shape (N, K), float32, contiguous
        Log-probability of each point's classes without its neighbours: -U.
    pairwise : list of Pairwise
    q : ndarray of shape (N, K), float32, contiguous
        Probabilities; the softmax of `log_p`, to begin with.
    steps : int
    threads : int
        The result is the same for any number.
    """
    memory = [buffers(term.lattice, q.shape[1]) for term in pairwise]
    for _ in range(steps):
        blurred = [blur(term.lattice, q, threads, buffer) for term, buffer in zip(pairwise, memory, strict=True)]
        messages = list(zip(pairwise, blurred, strict=True))
        in_threads(threads, _update, [(log_p, messages, q, *span) for span in spans(len(q), threads)])


def free_energy(
    log_p: np.ndarray, pairwise: list[Pairwise], q: np.ndarray, threads: int = 1, share: float = 0.5
) -> float:
    """Return the free energy, which mean field lowers: the expected energy less the entropy of Q.

    Parameters
    ----------
    log_p, q : ndarray of shape (N, K), float32, contiguous
        See `infer`.
    pairwise : list of Pairwise
    threads : int
    share : float
        Weight of a pair of points at each of the two: 1/2, as E(x) counts each pair once.
    """
    energy = -log_p.astype(np.float64)
    for term in pairwise:
        filtered = filter_lattice(term.lattice, q, threads)
        energy -= share * (filtered * term.gains if term.gains.ndim == 1 else filtered @ term.gains)
    return float((q * (energy + np.log(q.clip(1e-20)))).sum())


def _update(log_p: np.ndarray, messages: list[tuple[Pairwise, list]], q: np.ndarray, start: int, stop: int) -> None:
    for first in range(start, stop, POINTS):
        points = slice(first, min(first + POINTS, stop))
        logits = log_p[points].copy()
        for term, blurred in messages:
            term.add(blurred, logits, first)
        _softmax(logits, q[points])


@kernel
def _softmax(logits, q):
    """Softmax over the classes, as Eigen computes it on SSE: four classes at a time, the rest one by one."""
    points, classes = logits.shape
    fours, eights = classes - classes % 4, classes - classes % 8
    tile = np.zeros((classes, LANES), np.float32)
    largest = np.empty(LANES, np.float32)
    total = np.empty(LANES, np.float32)
    sums = np.empty((8, LANES), np.float32)
    exponent = np.empty(LANES, np.int32)
    power = exponent.view(np.float32)
    for first in range(0, points, LANES):
        live = min(LANES, points - first)
        for n in range(live):
            for k in range(classes):
                tile[k, n] = logits[first + n, k]
        largest[:] = -np.inf
        for k in range(classes):
            for n in range(LANES):
                largest[n] = max(largest[n], tile[k, n])
        for k in range(fours):
            # The exponential of Cephes: exp(x) = 2^m exp(r) with r at most log(2) / 2, and a polynomial for exp(r).
            for n in range(LANES):
                x = max(tile[k, n] - largest[n], np.float32(-88.3762626647949))
                m = np.floor(x * np.float32(1.44269504088896341) + np.float32(0.5))
                r = x - m * np.float32(0.693359375) - m * np.float32(-2.12194440e-4)
                y = np.float32(1.9875691500e-4)
                y = y * r + np.float32(1.3981999507e-3)
                y = y * r + np.float32(8.3334519073e-3)
                y = y * r + np.float32(4.1665795894e-2)
                y = y * r + np.float32(1.6666665459e-1)
                y = y * r + np.float32(5.0000001201e-1)
                tile[k, n] = y * (r * r) + r + np.float32(1)
                exponent[n] = (np.int32(m) + np.int32(127)) << np.int32(23)  # the bits of 2^m
            for n in range(LANES):
                tile[k, n] *= power[n]
        for k in range(fours, classes):
            for n in range(LANES):
                tile[k, n] = math.exp(tile[k, n] - largest[n])
        sums[:] = 0
        for k in range(eights):
            for n in range(LANES):
                sums[k % 8, n] += tile[k, n]
        for k in range(4):
            for n in range(LANES):
                sums[k, n] += sums[k + 4, n]
        for k in range(eights, fours):
            for n in range(LANES):
                sums[k % 4, n] += tile[k, n]
        for n in range(LANES):
            total[n] = (sums[0, n] + sums[2, n]) + (sums[1, n] + sums[3, n])
        for k in range(fours, classes):
            for n in range(LANES):
                total[n] += tile[k, n]
        for n in range(live):
            for k in range(classes):
                q[first + n, k] = tile[k, n] / total[n]
