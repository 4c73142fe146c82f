"""The protocol of classifiers (docs/own_classes.md), and the colours in which one sees images."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import TILE

from hsn_v1.adp import ADP
from hsn_v1.class_file import parse_taxonomy
from hsn_v1.classify import classify, normalise_stain, stain_statistics
from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.hsn_v1 import segment_image
from hsn_v1.labels import Stain
from hsn_v1.training.new_class_file import class_file

LABELS = parse_taxonomy(class_file("m", {"red": None, "green": None}, 1, ([100], [50]), None), "m.toml")
STAIN = Stain((50, 20, -15), (12, 6, 5))


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


def stained(side=48):
    noise = np.random.default_rng(0).normal(0, 14, (side, side, 3))
    return (np.array((190, 120, 170)) + noise).clip(0, 255).astype(np.uint8)


def test_an_image_gets_the_colours_that_the_classifier_knows():
    brought = normalise_stain(stained(), stain_statistics(stained()), STAIN)
    np.testing.assert_allclose(stain_statistics(brought), [STAIN.mean, STAIN.std], atol=1.5)
    np.testing.assert_allclose(normalise_stain(brought, stain_statistics(brought), STAIN).astype(int), brought, atol=6)


def test_glass_does_not_count_unless_there_is_hardly_anything_else():
    glass = np.full((48, 48, 3), 250, np.uint8)
    with_glass = stain_statistics(np.concatenate([stained(), glass]))
    np.testing.assert_allclose(with_glass, stain_statistics(stained()), rtol=1e-3)
    assert stain_statistics(glass)[0, 0] > 95


def test_a_file_of_classes_says_the_colours():
    views = "\n[stain]\nmean = [50, 20, -15]\nstd = [12, 6, 5]\n"
    text = class_file("m", {"a": None, "b": None}, 1, ([0], [1]), views=views)
    assert parse_taxonomy(text, "m.toml").stain == STAIN and ADP.stain is None
    for wrong in ("std = [12, 6]", "std = [12, 6, 0]", "std = 12", "sd = [12, 6, 5]"):
        with pytest.raises(InputError, match=r"m\.toml: stain"):
            parse_taxonomy(text.replace("std = [12, 6, 5]", wrong), "m.toml")


def test_a_classifier_sees_images_in_its_colours():
    seen = []

    class Seeing(SimpleNamespace):
        def __call__(self, tiles):
            seen.append(tiles)
            return np.zeros((len(tiles), 51), np.float32), np.zeros((len(tiles), 51, 2, 2), np.float32)

    image = stained(TILE)
    for labels in (ADP, replace(ADP, stain=STAIN)):
        ((_, given, _),) = classify([(None, image)], Seeing(tile=TILE, labels=labels, thresholds=np.zeros(51)))
        assert given is image  # the CRF and the background see it as it is
    np.testing.assert_array_equal(seen[0][0], image)
    np.testing.assert_array_equal(seen[1][0], normalise_stain(image, stain_statistics(image), STAIN))
