import math

import numpy as np
import pytest
from PIL import Image

from hsn_v1.adp import CLASSIFIER_MPP, FUNC, MORPH
from hsn_v1.classify import classify
from hsn_v1.densecrf import CRF
from hsn_v1.files import slides
from hsn_v1.slides import own_file as own_files
from hsn_v1.slides.own_file import Method, kind_of, segment_windows


@pytest.fixture
def image():
    """Return noise with white parts, which the background map finds."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 230, (150, 110, 3), np.uint8)
    image[rng.random((15, 11)).repeat(10, axis=0).repeat(10, axis=1) < 0.3] = 255
    return image


def windows(monkeypatch, image, histonet, crf):
    """Segment an image at once and window by window, at 0.6 of the classifier's scale; return maps and progress."""
    method = Method((MORPH, FUNC), {"morph": crf, "func": crf})
    ((_, _, tiles),) = classify([(None, image)], histonet, 0.6)
    calls = []
    whole = segment_windows(image, tiles, method, 1)
    monkeypatch.setattr(own_files, "WHOLE", 0)
    monkeypatch.setattr(own_files, "CORE", 40)
    return whole, segment_windows(image, tiles, method, 1, lambda *numbers: calls.append(numbers)), calls


def test_windows_make_what_the_whole_is_where_pixels_hardly_see_each_other(monkeypatch, image, toy_histonet):
    whole, parts, calls = windows(monkeypatch, image, toy_histonet, CRF(1, 1e-9, 1, 1, 1e-9))
    for name, labels in whole.items():
        assert len(np.unique(labels)) > 1
        np.testing.assert_array_equal(parts[name], labels)
    assert calls == [(number, 12) for number in range(1, 13)]


def test_the_margin_of_windows_leaves_no_seam(monkeypatch, image, toy_histonet):
    whole, parts, _ = windows(monkeypatch, image, toy_histonet, CRF(2, 10, 3, 30, 10))
    for name, labels in whole.items():
        assert (parts[name] == labels).mean() > 0.99  # of noise, where many pixels are near to a tie


def test_kinds_of_files(tmp_path, monkeypatch, image):
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    assert kind_of(path, CLASSIFIER_MPP, 1.0) == "image"
    monkeypatch.setattr(own_files, "WHOLE", math.prod(image.shape[:2]) - 1)
    assert kind_of(path, CLASSIFIER_MPP, 1.0) == "large image"
    monkeypatch.setattr(slides, "PLAIN_PIXELS", math.prod(image.shape[:2]) - 1)
    assert kind_of(path, CLASSIFIER_MPP, 1.0) == "large image"
    assert kind_of(path, CLASSIFIER_MPP, 2 * CLASSIFIER_MPP) == "slide"
