"""Bootstrap intervals of pooled metrics: draw images, or groups of images such as cases, with replacement.

A draw is stored as the count of each image. The sums of all draws are then one matrix product with the images'
confusion matrices. The same draws for two programs' masks give an interval of their difference.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS, SEED, LEVEL = 5000, 0, 95  #: number of draws, their seed, and the percentage of draws within an interval

FEW = 10  #: least number of images or groups for a meaningful interval


@dataclass(frozen=True)
class Estimate:
    """A metric's value and the ends of its interval; nan if undefined."""

    value: float
    low: float = np.nan
    high: float = np.nan

    @classmethod
    def of(cls, values: np.ndarray) -> Estimate:
        """Return the estimate of a metric from its (1 + D,) values: first of all images, then of each draw."""
        drawn = values[1:][~np.isnan(values[1:])]
        ends = np.percentile(drawn, [50 - LEVEL / 2, 50 + LEVEL / 2]).tolist() if len(drawn) else ()
        return cls(float(values[0]), *ends)

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{self.low:.3f}, {self.high:.3f}]"
        return "-" if np.isnan(self.value) else f"{self.value:.4f}{interval}"


def draw_weights(groups: Sequence[Hashable], draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """Draw bootstrap samples: as many groups as there are, with replacement.

    Parameters
    ----------
    groups : sequence of N hashable
        Group of each image; its own name to draw single images. Images of a group are drawn together.
    draws : int
        Number D of draws; 0 for no intervals.
    seed : int
        Seed of the draws.

    Returns
    -------
    ndarray of shape (1 + D, N), float64
        Count of each image: 1 in the first row, then its count in each draw.
    """
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    count = len(numbers)
    drawn = np.random.default_rng(seed).integers(0, count, (draws, count))
    drawn += count * np.arange(draws)[:, np.newaxis]
    times = np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count)
    times = np.concatenate([np.ones((1, count)), times])  # floats: products are fast, and exact for counts of pixels
    return times[:, [numbers[group] for group in groups]]


def weighted_sums(values: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the sums (1 + D, ...) of N images' values (...), weighted by the rows of `weights`, (1 + D, N)."""
    return np.tensordot(weights, np.asarray(values, np.float64), 1)
