"""Bootstrap intervals of pooled metrics: images, or groups of images such as cases, are drawn with replacement.

A draw is no list of images but how often each image counts, so that the sums of all draws are one matrix product of
the images' stored confusion matrices. The same draws for two programs' masks make an interval of their difference.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS, SEED, LEVEL = 5000, 0, 95  #: draws, their seed, and the percentage of them that an interval holds

FEW = 10  #: images or groups below which an interval says little


@dataclass(frozen=True)
class Estimate:
    """A metric's value, and the ends of its interval; nan where there is none."""

    value: float
    low: float = np.nan
    high: float = np.nan

    @classmethod
    def of(cls, values: np.ndarray) -> Estimate:
        """Return the estimate of a metric from its values (1 + D,): of all images, and of each draw."""
        drawn = values[1:][~np.isnan(values[1:])]
        ends = np.percentile(drawn, [50 - LEVEL / 2, 50 + LEVEL / 2]).tolist() if len(drawn) else ()
        return cls(float(values[0]), *ends)

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{self.low:.3f}, {self.high:.3f}]"
        return "-" if np.isnan(self.value) else f"{self.value:.4f}{interval}"


def draw_weights(groups: Sequence[Hashable], draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """Draw as many groups as there are, with replacement, many times.

    Parameters
    ----------
    groups : sequence of N hashable
        Group of each image: its own name where single images are drawn. Images of a group are drawn together.
    draws : int
        Number D of draws; 0 for no intervals.
    seed : int
        Seed of the draws.

    Returns
    -------
    ndarray of shape (1 + D, N), float64
        How often each image counts: once in the first row, and then in each draw.
    """
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    count = len(numbers)
    drawn = np.random.default_rng(seed).integers(0, count, (draws, count))
    drawn += count * np.arange(draws)[:, np.newaxis]
    times = np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count)
    times = np.concatenate([np.ones((1, count)), times])  # as floats, products are fast, and exact for pixels
    return times[:, [numbers[group] for group in groups]]


def weighted_sums(values: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Add up values of N images, each of shape (...), as often as each counts in the rows of (1 + D, N)."""
    return np.tensordot(weights, np.asarray(values, np.float64), 1)
