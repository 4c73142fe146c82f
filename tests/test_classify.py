"""The protocol of classifiers: a stand-in of another framework goes through all stages (docs/own_classes.md)."""

import numpy as np

from hsn_v1.class_file import parse_taxonomy
from hsn_v1.densecrf import CRF
from hsn_v1.hsn_v1 import segment_image
from hsn_v1.training.new_class_file import class_file

LABELS = parse_taxonomy(class_file("m", {"red": None, "green": None}, 1, [100], [50], None), "m.toml")


class StandIn:
    """Global average pooling and one linear layer, on features that are the colours of squares of 8 px."""

    tile, mpp, labels, thresholds, identity = 32, LABELS.mpp, LABELS, np.array([0.5, 0.5]), "stand-in"
    weights = np.float32([[1, -1, 0], [-1, 1, 0]])

    def __call__(self, tiles):
        normalised = (tiles - np.float32(self.labels.mean)) / np.float32(self.labels.std)
        maps = normalised.reshape(len(tiles), 4, 8, 4, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
        scores = 1 / (1 + np.exp(-10 * np.abs(maps).mean(axis=(2, 3)) @ np.abs(self.weights).T))
        return np.float32(scores), np.einsum("tkhw,ck->tchw", maps, self.weights).astype(np.float32)


def test_any_class_that_has_the_protocol_is_a_classifier():
    image = np.zeros((40, 72, 3), np.uint8)
    image[:, :36, 0], image[:, 36:, 1] = 200, 200
    (tissue,) = LABELS.label_sets.values()
    found = segment_image(image, StandIn(), [tissue], {"tissue": CRF()})["tissue"]
    for mask in found.masks.values():
        assert (mask[:, :30] == 0).all() and (mask[:, 42:] == 1).all()
    halved = segment_image(image, StandIn(), [tissue], {}, downsample=0.5)["tissue"]
    assert halved.maps.shape == (2, 40, 72)
