from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hsn_v1.adp import FUNC, LABEL_SETS, MORPH
from hsn_v1.errors import InputError
from hsn_v1.io.masks import read_objects, read_truth
from hsn_v1.io.writing import write_picture
from hsn_v1.labels import LabelSet
from hsn_v1.show.figures import colourise

RNG = np.random.default_rng(0)
TISSUE = LabelSet(
    "tissue", {"TUM": (200, 0, 0), "STR": (0, 200, 0), "NOR": (0, 0, 200)}, {"TUM": 0, "STR": 1, "NOR": 2}
)
INDICES = np.array([[0, 1, 2], [2, 2, 4]], np.uint8)
RELEASED = [0, 64, 128, 64, 128, 0, 243, 152, 0, 1, 2, 3, 255, 255, 255]  # a benchmark's palette, not the set's colours


def save_indices(path, indices, mode, palette=RELEASED):
    image = Image.fromarray(indices, mode="L" if mode == "L" else None)
    if mode == "P":
        image.putpalette(palette)
    image.save(path)
    return path


def test_ground_truth_of_another_size_with_alpha(tmp_path):
    labels = np.repeat(np.repeat(np.array([[0, 3], [28, 7]], np.uint8), 4, axis=0), 4, axis=1)
    rgba = np.dstack([colourise(labels, MORPH), RNG.integers(0, 256, labels.shape, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "x.png")
    truth = read_truth(tmp_path / "x.png", MORPH, 2, 2)
    assert truth.labels.tolist() == [[0, 3], [28, 7]]
    assert truth.pixels[[0, 3, 28, 7]].tolist() == [16] * 4
    assert truth.pixels.sum() == 64
    assert truth.strange == 0


def test_unlabelled_and_strange_colours(tmp_path):
    rgb = np.array([[(255, 255, 255), (255, 165, 0), (1, 2, 3), (173, 20, 87)]], np.uint8)  # Background, G.X, ?, T
    write_picture(tmp_path / "x.png", rgb)
    truth = read_truth(tmp_path / "x.png", FUNC, 1, 4)
    assert truth.labels.tolist() == [[0, 5, 5, 4]]
    assert truth.pixels.tolist() == [1, 0, 0, 0, 1]
    assert truth.strange == 1


def test_the_same_colour_may_differ_between_label_sets(tmp_path):
    write_picture(tmp_path / "x.png", np.full((1, 1, 3), (255, 165, 0), np.uint8))
    assert read_truth(tmp_path / "x.png", MORPH, 1, 1).labels == MORPH.codes.index("E.M.O")
    assert read_truth(tmp_path / "x.png", FUNC, 1, 1).labels == len(FUNC)


def test_missing_ground_truth_is_named(tmp_path):
    with pytest.raises(InputError, match=r"x\.png: no such ground truth; .*gt_mode off"):
        read_truth(tmp_path / "x.png", MORPH, 1, 1)


@pytest.mark.parametrize("label_set", LABEL_SETS.values(), ids=LABEL_SETS)
def test_masks_are_read_as_they_were_written(tmp_path, label_set):
    labels = np.arange(len(label_set), dtype=np.uint8)[np.newaxis]
    write_picture(tmp_path / "x.png", colourise(labels, label_set))
    np.testing.assert_array_equal(read_truth(tmp_path / "x.png", label_set, *labels.shape).labels, labels)


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_objects_are_read_from_grey_and_colour_bitmaps_of_any_size(tmp_path, channels):
    labels = np.kron(np.array([[0, 255], [7, 1]], np.uint8), np.ones((3, 3), np.uint8))
    values = np.broadcast_to(labels.reshape(6, 6, *(1 for _ in channels)), (6, 6, *channels)).copy()
    if channels == (4,):
        values[..., 3] = 9  # alpha
    Image.fromarray(values).save(tmp_path / "x.bmp")
    assert read_objects(tmp_path / "x.bmp", 2, 4).tolist() == [[0, 0, 255, 255], [7, 7, 1, 1]]


def test_objects_in_colours_are_an_error(tmp_path):
    write_picture(tmp_path / "x.bmp", RNG.integers(0, 256, (5, 7, 3), np.uint8))
    with pytest.raises(InputError, match=r"x\.bmp: its channels differ; expected one label per object"):
        read_objects(tmp_path / "x.bmp", 5, 7)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_indices_are_classes_whatever_the_palette(tmp_path, mode):
    label_set = replace(TISSUE, unlabelled={"excluded": 4})
    truth = read_truth(save_indices(tmp_path / "x.png", INDICES, mode), label_set, 2, 3)
    assert truth.labels.tolist() == [[0, 1, 2], [2, 2, 3]]
    assert truth.pixels.tolist() == [1, 1, 3]
    assert truth.strange == 0


def test_a_palette_of_the_label_sets_colours_is_read_by_them(tmp_path):
    """As of an RGB mask that a program for pictures saved in fewer bytes, its indices in any order."""
    label_set = replace(TISSUE, unlabelled={"excluded": (255, 255, 255)})
    palette = [0, 0, 200, 255, 255, 255, 200, 0, 0]
    path = save_indices(tmp_path / "x.png", np.array([[0, 1, 2]], np.uint8), "P", palette)
    assert read_truth(path, label_set, 1, 3).labels.tolist() == [[2, 3, 0]]
    assert read_truth(path, TISSUE, 1, 3).labels.tolist() == [[0, 1, 2]]  # white is none of its colours


def test_a_bilevel_mask_has_two_classes(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "x.png")
    assert read_truth(tmp_path / "x.png", TISSUE, 1, 2).labels.tolist() == [[1, 0]]


def test_grey_may_be_colours(tmp_path):
    label_set = LabelSet("glands", {"other": (0, 0, 0), "gland": (255, 255, 255)}, {"other": 0, "gland": 1})
    write_picture(tmp_path / "x.png", np.array([[255, 0]], np.uint8))
    assert read_truth(tmp_path / "x.png", label_set, 1, 2).labels.tolist() == [[1, 0]]


@pytest.mark.parametrize("mode", ["L", "P"])
def test_an_index_beyond_the_classes_is_named(tmp_path, mode):
    path = save_indices(tmp_path / "x.png", INDICES, mode)
    with pytest.raises(InputError, match=r"x\.png: index 4, expected 0 to 2, the classes of tissue; .*none = 4$"):
        read_truth(path, TISSUE, 2, 3)


def test_a_mask_of_another_size_is_an_error_where_none_is_resized(tmp_path):
    path = save_indices(tmp_path / "x.png", INDICES, "L")
    label_set = replace(TISSUE, unlabelled={"excluded": 4})
    assert read_truth(path, label_set, 4, 6).labels.shape == (4, 6)
    with pytest.raises(InputError, match=r"x\.png: 3 x 2 px, expected 6 x 4 as its image has"):
        read_truth(path, label_set, 4, 6, resize=False)
