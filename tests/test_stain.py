"""Stain normalisation: colours of a classifier, and of images and slides that are brought to them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import TILE

from hsn_v1.adp import ADP
from hsn_v1.class_file import parse_taxonomy
from hsn_v1.classify import classify
from hsn_v1.errors import InputError
from hsn_v1.labels import Stain
from hsn_v1.stain import normalise_stain, stain_statistics
from hsn_v1.training.new_class_file import class_file

STAIN = Stain((50, 20, -15), (12, 6, 5))


def tissue(colour, side=48, seed=0):
    noise = np.random.default_rng(seed).normal(0, 14, (side, side, 3))
    return (np.array(colour) + noise).clip(0, 255).astype(np.uint8)


def test_an_image_gets_the_colours_that_the_classifier_knows():
    image = tissue((190, 120, 170))
    brought = normalise_stain(image, stain_statistics(image), STAIN)
    np.testing.assert_allclose(stain_statistics(brought), [STAIN.mean, STAIN.std], atol=1.5)
    np.testing.assert_allclose(normalise_stain(brought, stain_statistics(brought), STAIN).astype(int), brought, atol=6)


def test_glass_does_not_count_unless_there_is_hardly_anything_else():
    image = tissue((190, 120, 170))
    with_glass = np.concatenate([image, np.full_like(image, 250)])
    np.testing.assert_allclose(stain_statistics(with_glass), stain_statistics(image), rtol=1e-3)
    glass = np.full((48, 48, 3), 250, np.uint8)
    assert stain_statistics(glass)[0, 0] > 95


def test_a_file_of_classes_says_the_colours():
    text = class_file(
        "m", {"a": None, "b": None}, 1, [0], [1], views="\n[stain]\nmean = [50, 20, -15]\nstd = [12, 6, 5]\n"
    )
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

    image = tissue((190, 120, 170), TILE)
    for labels in (ADP, replace(ADP, stain=STAIN)):
        ((_, given, _),) = classify([(None, image)], Seeing(tile=TILE, labels=labels, thresholds=np.zeros(51)))
        assert given is image  # the CRF and the background see it as it is
    np.testing.assert_array_equal(seen[0][0], image)
    np.testing.assert_array_equal(seen[1][0], normalise_stain(image, stain_statistics(image), STAIN))
