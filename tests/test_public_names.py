"""The namespace `hsn_v1`: every public name is told by its help, and does not load what it does not need."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

import hsn_v1
from hsn_v1.adp import MORPH

TOLD = re.findall(r"^ *(\w+)  +\w", hsn_v1.__doc__, re.MULTILINE)


def test_help_tells_every_public_name_once():
    assert sorted(TOLD) == sorted(hsn_v1.__all__)
    assert len({*TOLD}) == len(TOLD)


@pytest.mark.parametrize("name", hsn_v1.__all__)
def test_a_public_name_is_there_and_is_documented(name):
    thing = getattr(hsn_v1, name)
    assert name in dir(hsn_v1)
    assert thing.__doc__


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'segment'"):
        _ = hsn_v1.segment


def test_plot_draws_a_mask_and_its_legend():
    image, axes = np.zeros((8, 9, 3), np.uint8), Figure().subplots()
    labels = np.full((8, 9), MORPH.codes.index("A.W"), np.uint8)
    labels[0] = len(MORPH)
    hsn_v1.plot(labels, image, MORPH, axes)
    (shown,) = axes.get_images()
    assert shown.get_array().shape == image.shape
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [MORPH.describe("A.W"), "unlabelled"]
