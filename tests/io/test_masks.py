import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hsn_v1.adp import FUNC, GLAS, LABEL_SETS, MORPH
from hsn_v1.errors import InputError
from hsn_v1.io.masks import JPEG, decoder_of, find_mask, read_mask, read_objects
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
    truth = read_mask(tmp_path / "x.png", MORPH, (2, 2), "silently")
    assert truth.labels.tolist() == [[0, 3], [28, 7]]
    assert truth.pixels[[0, 3, 28, 7]].tolist() == [16] * 4
    assert truth.pixels.sum() == 64
    assert not truth.notes


def test_unlabelled_and_strange_colours(tmp_path):
    rgb = np.array([[(255, 255, 255), (255, 165, 0), (1, 2, 3), (173, 20, 87)]], np.uint8)  # Background, G.X, ?, T
    write_picture(tmp_path / "x.png", rgb)
    truth = read_mask(tmp_path / "x.png", FUNC, (1, 4))
    assert truth.labels.tolist() == [[0, 5, 5, 4]]
    assert truth.pixels.tolist() == [1, 0, 0, 0, 1]
    assert truth.notes == (f"{tmp_path / 'x.png'}: 1 pixels have a colour of no class; they count as unlabelled",)


def test_the_same_colour_may_differ_between_label_sets(tmp_path):
    write_picture(tmp_path / "x.png", np.full((1, 1, 3), (255, 165, 0), np.uint8))
    assert read_mask(tmp_path / "x.png", MORPH, (1, 1)).labels == MORPH.codes.index("E.M.O")
    assert read_mask(tmp_path / "x.png", FUNC, (1, 1)).labels == len(FUNC)


def test_missing_ground_truth_is_named(tmp_path):
    with pytest.raises(InputError, match=r"x\.png: no such ground truth; add it, or remove the image"):
        read_mask(tmp_path / "x.png", MORPH, (1, 1))


@pytest.mark.parametrize("label_set", LABEL_SETS.values(), ids=LABEL_SETS)
def test_masks_are_read_as_they_were_written(tmp_path, label_set):
    labels = np.arange(len(label_set), dtype=np.uint8)[np.newaxis]
    write_picture(tmp_path / "x.png", colourise(labels, label_set))
    np.testing.assert_array_equal(read_mask(tmp_path / "x.png", label_set, labels.shape).labels, labels)


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
    truth = read_mask(save_indices(tmp_path / "x.png", INDICES, mode), label_set, (2, 3))
    assert truth.labels.tolist() == [[0, 1, 2], [2, 2, 3]]
    assert truth.pixels.tolist() == [1, 1, 3]
    assert truth.notes == (f"{tmp_path / 'x.png'}: read as class indices: 0 = TUM, 1 = STR, 2 = NOR",)


def test_a_palette_of_the_label_sets_colours_is_read_by_them(tmp_path):
    """As of an RGB mask that a program for pictures saved in fewer bytes, its indices in any order."""
    label_set = replace(TISSUE, unlabelled={"excluded": (255, 255, 255)})
    palette = [0, 0, 200, 255, 255, 255, 200, 0, 0]
    path = save_indices(tmp_path / "x.png", np.array([[0, 1, 2]], np.uint8), "P", palette)
    assert read_mask(path, label_set, (1, 3)).labels.tolist() == [[2, 3, 0]]
    assert read_mask(path, TISSUE, (1, 3)).labels.tolist() == [[0, 1, 2]]  # white is none of its colours


def test_a_palette_of_some_classes_colours_at_other_indices_is_noted(tmp_path):
    """As of an RGB mask that was reduced to the colours that it uses, of which one is no class's."""
    path = save_indices(tmp_path / "x.png", np.array([[0, 1]], np.uint8), "P", [255, 255, 255, 200, 0, 0])
    mask = read_mask(path, TISSUE, (1, 2))
    assert mask.labels.tolist() == [[0, 1]]
    assert mask.notes[0].endswith(
        "read as class indices: 0 = TUM, 1 = STR, 2 = NOR; its palette has some of the classes' colours, and at other "
        "indices: if these count, save it as RGB"
    )


def test_jpeg_is_named_where_its_colours_are_none_of_the_classes(tmp_path):
    Image.fromarray(np.tile(np.array([[(200, 0, 0), (0, 200, 0)]], np.uint8), (8, 4, 1))).save(tmp_path / "x.jpg")
    assert read_mask(tmp_path / "x.jpg", TISSUE).notes[0].endswith(f"count as unlabelled ({JPEG})")
    with pytest.raises(InputError, match=rf"x\.png: no such ground truth; .*; there is x\.jpg, but {JPEG}"):
        read_mask(tmp_path / "x.png", TISSUE)
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / "x.jpg")
    with pytest.raises(InputError, match=rf"index 7, .*{JPEG}"):
        read_mask(tmp_path / "x.jpg", TISSUE)


def test_the_mask_of_a_name_with_two_endings_is_found(tmp_path):
    write_picture(tmp_path / "x.png", np.zeros((1, 1), np.uint8))
    assert find_mask(tmp_path, "x.ome.tif") == tmp_path / "x.png"


def test_a_bilevel_mask_has_two_classes(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "x.png")
    assert read_mask(tmp_path / "x.png", TISSUE, (1, 2)).labels.tolist() == [[1, 0]]


def test_grey_may_be_colours(tmp_path):
    label_set = LabelSet("glands", {"other": (0, 0, 0), "gland": (255, 255, 255)}, {"other": 0, "gland": 1})
    write_picture(tmp_path / "x.png", np.array([[255, 0]], np.uint8))
    assert read_mask(tmp_path / "x.png", label_set, (1, 2)).labels.tolist() == [[1, 0]]


@pytest.mark.parametrize("mode", ["L", "P"])
def test_an_index_beyond_the_classes_is_named(tmp_path, mode):
    path = save_indices(tmp_path / "x.png", INDICES, mode)
    with pytest.raises(InputError, match=r"x\.png: index 4, expected 0 to 2, the classes of tissue; .*none = 4$"):
        read_mask(path, TISSUE, (2, 3))


def test_a_mask_of_another_size_is_an_error_where_none_is_resized(tmp_path):
    path = save_indices(tmp_path / "x.png", INDICES, "L")
    label_set = replace(TISSUE, unlabelled={"excluded": 4})
    assert read_mask(path, label_set, (4, 6)).labels.shape == (4, 6)
    with pytest.raises(InputError, match=r"x\.png: 3 x 2 px, expected 6 x 4 as its image has"):
        read_mask(path, label_set, (4, 6), "never")


@pytest.mark.parametrize(
    ("size", "wanted", "fits"),
    [
        ((1088, 1088), (224, 224), True),  # as ADP was published
        ((267, 396), (522, 775), True),  # as GlaS was published
        ((3, 4), (2, 3), True),  # 0.75 of 2 x 3 px is 1.5 x 2.25
        ((224, 150), (150, 224), False),
        ((1088, 1088), (224, 240), False),
    ],
)
def test_only_masks_of_their_image_s_aspect_are_resized_and_noted(tmp_path, size, wanted, fits):
    write_picture(tmp_path / "x.png", np.full((*size, 3), TISSUE.colours["STR"], np.uint8))
    if not fits:
        with pytest.raises(InputError, match=rf"{size[1]} x {size[0]} px, expected {wanted[1]} x {wanted[0]} as "):
            read_mask(tmp_path / "x.png", TISSUE, wanted)
        assert read_mask(tmp_path / "x.png", TISSUE, wanted, "silently").labels.shape == wanted  # as published
        return
    mask = read_mask(tmp_path / "x.png", TISSUE, wanted)
    assert (mask.labels == 1).all() and mask.labels.shape == wanted
    assert mask.pixels[1] == size[0] * size[1]
    (note,) = mask.notes
    assert f"{size[1]} x {size[0]} px, resized to its image's {wanted[1]} x {wanted[0]} px" in note
    assert read_mask(tmp_path / "x.png", TISSUE, wanted, "silently").notes == ()


def test_a_palette_with_more_than_the_given_colours_is_read_by_colours(tmp_path):
    """As of WSSS4LUAD, whose palette has white for the background; classes in any order."""
    label_set = LabelSet("tissue", {"normal": (243, 152, 0), "tumour": (0, 64, 128), "stroma": (64, 128, 0)}, {})
    palette = [0, 64, 128, 64, 128, 0, 243, 152, 0, 255, 255, 255]
    path = save_indices(tmp_path / "x.png", np.array([[0, 1, 2, 3]], np.uint8), "P", palette)
    mask = read_mask(path, label_set)
    assert mask.labels.tolist() == [[1, 2, 0, 3]]
    assert mask.notes == (f"{path}: 1 pixels have a colour of no class; they count as unlabelled",)
    assert read_mask(path, replace(label_set, unlabelled={"excluded": 3})).notes == ()


@pytest.mark.parametrize(("channels", "values"), [(1, {0, 255}), (3, {0, 255}), (1, {0, 1}), (3, {0, 1})])
def test_grey_masks_of_two_classes(tmp_path, channels, values):
    low, high = sorted(values)
    grey = np.array([[high, low, low]], np.uint8)
    Image.fromarray(grey if channels == 1 else np.dstack([grey] * 3)).save(tmp_path / "x.png")
    mask = read_mask(tmp_path / "x.png", GLAS)
    assert mask.labels.tolist() == [[1, 0, 0]]
    assert mask.notes == (f"{tmp_path / 'x.png'}: read as class indices: {low} = Other, {high} = G.O",)


def test_a_decoder_reads_strips_alike(tmp_path):
    """Whether grey values are colours shows only in the last strip."""
    strips = [np.zeros((1, 2, 3), np.uint8), np.full((1, 2, 3), 1, np.uint8), np.full((1, 2, 3), (200, 0, 0), np.uint8)]
    decode = decoder_of(tmp_path, TISSUE, strips)
    assert [decode(strip).tolist() for strip in strips] == [[[4, 4]], [[4, 4]], [[0, 0]]]
    decode = decoder_of(tmp_path, TISSUE, strips[:2])
    assert [decode(strip).tolist() for strip in strips[:2]] == [[[0, 0]], [[1, 1]]]


#: The files that cannot be read, and why.
REFUSED = {
    "float_indices.tif": "",
    "ignore255.png": "index 255, expected 0 to 4",
    "index_plus1.png": "index 5, expected 0 to 4",
    "indices_bilinear_resized.png": "index 15, expected 0 to 4",
    "u16_indices.png": "16 bits per channel",
    "zero255.png": "index 255, expected 0 to 4",
}


@pytest.mark.parametrize("kind", ["*indices*", "voc_palette*", "own_palette*", "colours.*", "webp*", "*.ome.tif"])
def test_one_truth_in_many_encodings(kind):
    folder = Path(os.environ.get("HSN_REFERENCE", "../shared")) / "cases" / "masks"
    if not folder.is_dir():
        pytest.skip(f"no masks in {folder}")
    wanted = read_mask(folder / "indices.png", FUNC).labels
    assert (read_mask(folder / "colours.png", FUNC).labels == wanted).all()
    for path in sorted(folder.glob(kind)):
        if REFUSED.get(path.name):
            with pytest.raises(InputError, match=REFUSED[path.name]):
                read_mask(path, FUNC)
        else:
            np.testing.assert_array_equal(read_mask(path, FUNC).labels, wanted, err_msg=path.name)
