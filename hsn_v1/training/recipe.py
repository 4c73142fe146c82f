"""How to train: numbers and names only, so that a command's help needs no library."""

from __future__ import annotations

from dataclasses import dataclass

TILE = 224  #: side of the published classifier's tiles, in px

#: Networks that can be trained (see `networks`), and what each is.
NETWORKS = {
    "histonet": "HistoNet X1.7, as published",
    "vgg16": "VGG16 (Simonyan and Zisserman, 2015)",
    "resnet50": "ResNet50 (He et al., 2016)",
    "efficientnetb0": "EfficientNet-B0 (Tan and Le, 2019)",
}

#: How HistoNet pools its last maps: as published, or by their average, which makes every place of a patch count.
POOLINGS = ("max", "average")


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the published recipe's.

    Attributes
    ----------
    network : str
        One of `NETWORKS`.
    pooling : str
        One of `POOLINGS`; HistoNet's only, the others take the average.
    width : float
        Factor of the published numbers of filters (HistoNet only).
    dropout : float
        Factor of the published dropout rates.
    tile : int
        Side of the patches trained on, in px. No network has a weight that depends on it: smaller patches say more
        closely where a label comes from, and the classifier is saved for larger tiles.
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

    network: str = "histonet"
    pooling: str = "max"
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
