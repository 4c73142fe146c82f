"""A classifier of invented classes that is no Keras network: red, green and blue tissue, by the mean of a channel."""

from dataclasses import dataclass, field

import numpy as np

from hsn_v1.class_file import parse_taxonomy
from hsn_v1.io.masks import write_mask
from hsn_v1.io.writing import write_picture
from hsn_v1.labels import Taxonomy

CLASS_FILE = """
mpp = 1.0
mean = 190
std = 50
[outputs]
RED = "reddish tissue"
GREEN = "greenish tissue"
BLUE = "bluish tissue"
[label_sets.tissue]
background = "Bare"
background_rule = "grey above 200"
[label_sets.tissue.classes]
RED = [200, 0, 0]
GREEN = [0, 200, 0]
BLUE = [0, 0, 200]
Bare = [255, 255, 255]
"""
INVENTED = parse_taxonomy(CLASS_FILE, "invented.toml")
TISSUE = INVENTED.label_sets["tissue"]


@dataclass(frozen=True)
class ChannelClassifier:
    tile: int = 32
    mpp: float = 1.0
    labels: Taxonomy = INVENTED
    thresholds: np.ndarray = field(default_factory=lambda: np.full(3, 0.3))
    identity: str = "channels"

    def __call__(self, tiles):
        coarse = tiles.reshape(len(tiles), 8, self.tile // 8, 8, self.tile // 8, 3).mean(axis=(2, 4)) / 255
        coarse = np.where(coarse.min(axis=-1, keepdims=True) > 0.7, 0, coarse)  # nothing in bare glass
        cams = np.ascontiguousarray(np.moveaxis(coarse - coarse.min(axis=-1, keepdims=True), -1, 1), np.float32)
        return cams.max(axis=(2, 3)), cams


def draw(rng, height=32, width=32, classes=(0, 1, 3)):
    """Return an image in vertical stripes of classes, and their indices."""
    labels = np.array(classes, np.uint8)[np.arange(width) * len(classes) // width][np.newaxis].repeat(height, axis=0)
    colours = np.array([(180, 60, 60), (60, 180, 60), (60, 60, 180), (250, 250, 250)])
    noise = rng.integers(-5, 6, (height, width, 3))
    return (colours[labels] + noise).clip(0, 255).astype(np.uint8), labels


def write_set(folder, files, **options):
    """Write images, and palette masks of class indices."""
    rng = np.random.default_rng(5)
    for file in files:
        image, labels = draw(rng, **options)
        write_picture(folder / "img" / file, image)
        write_mask(folder / "mask" / f"{file.rpartition('.')[0]}.png", labels, TISSUE)
