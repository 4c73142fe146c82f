"""How to train: numbers only."""

from __future__ import annotations

from dataclasses import dataclass

TILE = 224  #: side of the published classifier's tiles, in px


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the published recipe's.

    Attributes
    ----------
    width : float
        Factor of the published numbers of filters.
    dropout : float
        Factor of the published dropout rates.
    tile : int
        Side of the patches trained on, in px. The network has no weight that depends on it, and is saved for
        tiles of 224 px; smaller patches say more closely where a label comes from.
    batch : int
        Patches in a step.
    low, high : float
        Least and greatest learning rate of the first cycle.
    half_cycle : int
        Epochs in which the learning rate rises, and in which it falls again.
    session : int
        Epochs after which the amplitude of the cycles is halved.
    bfloat16 : bool
        Compute in bfloat16, keep the weights in float32.
    seed : int
        Of the first weights, the order of the patches and their augmentation.
    """

    width: float = 1.0
    dropout: float = 1.0
    tile: int = TILE
    batch: int = 16
    low: float = 0.001
    high: float = 0.02
    half_cycle: int = 5
    session: int = 20
    bfloat16: bool = False
    seed: int = 0
