"""One stage at a time gives what the whole method gives."""

from itertools import pairwise

import numpy as np
import pytest

import hsn_v1
from hsn_v1.adp import ADP, FUNC, GLAS, MORPH

IMAGE = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)


def test_the_activations_weighed_are_the_raw_grad_cam(toy_histonet):
    tiles = hsn_v1.classify_image(IMAGE, toy_histonet)
    crop = tiles.grid.crop(IMAGE)
    activations, weights = toy_histonet.activations(crop), toy_histonet.channel_weights(crop)
    assert activations.shape == (1, 16, 16, 12) and weights.shape == (12, 51)
    raw = hsn_v1.grad_cam(IMAGE, toy_histonet, "G.O", "raw")
    c = ADP.codes.index("G.O")
    np.testing.assert_allclose(activations[0] @ weights[:, c], raw, atol=1e-6)
    assert hsn_v1.scores(IMAGE, toy_histonet)["G.O"] == pytest.approx(tiles.scores[0, c])


def test_the_normalised_grad_cam_times_the_score_is_the_method_s(toy_histonet):
    maps = hsn_v1.localise(hsn_v1.classify_image(IMAGE, toy_histonet), MORPH)
    scores = hsn_v1.scores(IMAGE, toy_histonet)
    present = np.flatnonzero(maps.any(axis=(1, 2)))
    assert len(present) > 2
    for c in present:
        code = MORPH.codes[c]
        np.testing.assert_allclose(hsn_v1.grad_cam(IMAGE, toy_histonet, code) * scores[code], maps[c], atol=1e-6)
        np.testing.assert_array_equal(hsn_v1.grad_cam(IMAGE, toy_histonet, code, "resized") > 0, maps[c] > 0)


def test_a_large_image_has_a_grad_cam_of_its_size(toy_histonet):
    image = np.tile(IMAGE, (2, 2, 1))[:50]
    maps = [hsn_v1.grad_cam(image, toy_histonet, code, downsample=0.8) for code in ADP.codes]
    assert {cam.shape for cam in maps} == {(50, 64)}
    assert {cam.max() for cam in maps} == {0, 1}
    assert min(cam.min() for cam in maps) == 0


@pytest.mark.parametrize("label_set", [MORPH, FUNC, GLAS])
def test_stages_one_by_one_end_in_the_same_mask(label_set, toy_histonet):
    crf = hsn_v1.CRF(bilat_srgb=40)
    whole = hsn_v1.segment_image(IMAGE, toy_histonet, [label_set], {label_set.name: crf})[label_set.name]
    maps = hsn_v1.adjusted_maps(IMAGE, hsn_v1.classify_image(IMAGE, toy_histonet), label_set)
    np.testing.assert_array_equal(maps, whole.maps)
    *_, last = crf.steps(maps, IMAGE)
    np.testing.assert_array_equal(hsn_v1.winners(last.probabilities), whole.masks["CRF"])


def test_the_free_energy_falls_step_by_step():
    maps = np.random.default_rng(2).random((3, 20, 20), np.float32)
    image = np.zeros((20, 20, 3), np.uint8)
    steps = [*hsn_v1.CRF(gauss_compat=1, bilat_compat=1, iterations=4).steps(maps, image)]
    assert len(steps) == 5
    assert all(before.energy > after.energy for before, after in pairwise(steps))
    np.testing.assert_allclose(steps[0].probabilities, maps.clip(1e-5, 1) / maps.clip(1e-5, 1).sum(axis=0), rtol=1e-4)


def test_a_function_is_a_classifier(toy_histonet):
    classifier = hsn_v1.FunctionClassifier(toy_histonet, ADP, toy_histonet.thresholds, toy_histonet.tile)
    found, expected = (hsn_v1.segment_image(IMAGE, each, [GLAS], {})["glas"] for each in (classifier, toy_histonet))
    np.testing.assert_array_equal(found.maps, expected.maps)


def test_a_label_map_goes_through_a_file(tmp_path):
    labels = np.arange(30).reshape(5, 6)
    hsn_v1.write_mask(tmp_path / "new" / "a.png", labels, MORPH)
    np.testing.assert_array_equal(hsn_v1.read_mask(str(tmp_path / "new" / "a.png"), MORPH).labels, labels)
    assert hsn_v1.imread(tmp_path / "new" / "a.png").shape == (5, 6, 3)
    assert hsn_v1.find_images(str(tmp_path / "new")) == (tmp_path / "new" / "a.png",)


def test_iou_of_a_mask():
    truth = np.array([[0, 0, 1, 2]])  # the last is unlabelled
    assert hsn_v1.iou(np.array([[0, 1, 1, 1]]), truth, GLAS) == pytest.approx({"Other": 1 / 2, "G.O": 1 / 3})
    assert [*hsn_v1.iou(np.zeros((1, 4), int), np.zeros((1, 4), int), GLAS)] == ["Other"]
