"""Settings of a training: numbers and names only, so that a command's help needs no library."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

TILE = 224  #: side of the published classifier's tiles, in px
TILE_OF_WINDOWS = 448  #: side for a classifier with localised windows: larger, so that few lie at a tile's edge
MOST_TILE = 4096

#: Networks that can be trained (see `networks`), with their descriptions.
NETWORKS = {
    "histonet": "HistoNet X1.7, as published",
    "vgg16": "VGG16 (Simonyan and Zisserman, 2015)",
    "resnet50": "ResNet50 (He et al., 2016)",
    "efficientnetb0": "EfficientNet-B0 (Tan and Le, 2019)",
    "efficientnet-lite0": "EfficientNet-Lite0's first blocks, which begin with ImageNet's weights",
}

#: Global pooling of HistoNet: the maximum, as published, or the average, to which every place of a patch contributes.
POOLINGS = ("max", "average")

OF_HISTONET = ("pooling", "width")  #: settings of this network alone
OF_STEPS = ("dropout", "batch", "low", "high", "half_cycle", "session")  #: settings that a frozen network lacks


def _option(default: Any, words: str, choices: Iterable[str] = (), within: tuple[float, float] = (1, 100_000)) -> Any:
    return field(default=default, metadata={"help": words, "choices": tuple(choices) or None, "within": within})


@dataclass(frozen=True)
class Recipe:
    """Settings of a training, by default as published. Each field's help text is that of the ``train`` command.

    No weight depends on the tile's side: train on small patches, which localise a label better, and save the
    classifier for larger tiles.
    """

    network: str = _option("histonet", "network", NETWORKS)
    pooling: str = _option("max", "how HistoNet pools its last maps; the other networks average them", POOLINGS)
    width: float = _option(1.0, "factor of HistoNet's numbers of filters", within=(0.01, 16))
    dropout: float = _option(1.0, "factor of the dropout rates", within=(0, 2))
    tile: int = _option(TILE, "side of the patches trained on, in px", within=(8, MOST_TILE))
    batch: int = _option(16, "patches in a step")
    low: float = _option(0.001, "least learning rate", within=(0, 1e9))
    high: float = _option(0.02, "greatest learning rate", within=(1e-9, 1e9))
    half_cycle: int = _option(5, "epochs in which the learning rate rises, and in which it falls again")
    session: int = _option(20, "epochs after which the amplitude of the learning rate is halved")
    bfloat16: bool = _option(False, "compute in bfloat16, with weights in float32")
    seed: int = _option(
        0, "seed of the first weights, the order of the patches and their augmentation", within=(0, 2**31)
    )
    deterministic: bool = _option(False, "let the same seed give the same weights, where TensorFlow can; slower")
    frozen: bool = _option(False, "fit the last layer alone, in seconds, to what the pretrained network sees")

    @property
    def used(self) -> dict[str, Any]:
        """The settings that count: only HistoNet has a width, and only steps of training have a rate."""
        unused = {*(() if self.network == "histonet" else OF_HISTONET), *(OF_STEPS if self.frozen else ())}
        return {name: value for name, value in asdict(self).items() if name not in unused}

    @property
    def probed(self) -> bool:
        """Whether training starts by fitting the last layer to a pretrained network's features."""
        return self.frozen or self.network == "efficientnet-lite0"
