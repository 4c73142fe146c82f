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


EXCLUDED = replace(TISSUE, unlabelled={"excluded": 4})
INDEXED = "read as class indices: 0 = TUM, 1 = STR, 2 = NOR"
STRANGE = "{} pixels have a colour of no class, such as {}; they count as unlabelled"


def save(path, pixels, palette=None):
    """Save pixels, or palette indices where there is a palette."""
    image = Image.fromarray(np.asarray(pixels) if np.asarray(pixels).dtype == bool else np.asarray(pixels, np.uint8))
    if palette:
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


GLANDS = LabelSet("glands", {"other": (0, 0, 0), "gland": (255, 255, 255)}, {"other": 0, "gland": 1})
WSSS = LabelSet("tissue", {"normal": (243, 152, 0), "tumour": (0, 64, 128), "stroma": (64, 128, 0)}, {})
WHITE = {"excluded": (255, 255, 255)}
WSSS_PALETTE = [0, 64, 128, 64, 128, 0, 243, 152, 0, 255, 255, 255]  # whose white is the background
SHADOW = "; its palette has some of the classes' colours, and at other indices: if these count, save it as RGB"
FUNC_COLOURS = [[(255, 255, 255), (255, 165, 0), (1, 2, 3), (173, 20, 87)]]  # Background, G.X, ?, T

#: Pixels, palette and label set of a mask, and its labels and note.
MASKS = {
    "unlabelled and strange colours": (FUNC_COLOURS, None, FUNC, [[0, 5, 5, 4]], STRANGE.format(1, "#010203")),
    "a colour of a label set": ([[(255, 165, 0)]], None, MORPH, [[MORPH.codes.index("E.M.O")]], ""),
    "that is unlabelled in another": ([[(255, 165, 0)]], None, FUNC, [[len(FUNC)]], ""),
    "grey indices": (INDICES, None, EXCLUDED, [[0, 1, 2], [2, 2, 3]], INDEXED),
    "indices with another palette": (INDICES, RELEASED, EXCLUDED, [[0, 1, 2], [2, 2, 3]], INDEXED),
    "a palette of the colours in any order": (
        *([[0, 1, 2]], [0, 0, 200, 255, 255, 255, 200, 0, 0], replace(TISSUE, unlabelled=WHITE), [[2, 3, 0]], ""),
    ),
    "whose white is none of them": (
        *([[0, 1, 2]], [0, 0, 200, 255, 255, 255, 200, 0, 0], TISSUE, [[0, 1, 2]], INDEXED + SHADOW),
    ),
    "some colours at other indices": ([[0, 1]], [255, 255, 255, 200, 0, 0], TISSUE, [[0, 1]], INDEXED + SHADOW),
    "a palette of more than the colours": (
        *([[0, 1, 2, 3]], WSSS_PALETTE, WSSS, [[1, 2, 0, 3]], STRANGE.format(1, "#ffffff")),
    ),
    "of which most are others": (*([[0, 3, 3, 3]], WSSS_PALETTE, WSSS, [[1, 3, 3, 3]], STRANGE.format(3, "#ffffff")),),
    "of which one is unlabelled": (
        *([[0, 1, 2, 3]], WSSS_PALETTE, replace(WSSS, unlabelled={"excluded": 3}), [[1, 2, 0, 3]], ""),
    ),
    "two levels": ([[True, False]], None, TISSUE, [[1, 0]], INDEXED),
    "grey colours": ([[255, 0]], None, GLANDS, [[1, 0]], "read as class indices: 0 = other, 255 = gland"),
    **{
        f"{name} of {high}": (pixels, None, GLAS, [[1, 0, 0]], f"read as class indices: 0 = Other, {high} = G.O")
        for high in (255, 1)
        for name, pixels in (("grey", [[high, 0, 0]]), ("the same in channels", [[(high,) * 3, (0,) * 3, (0,) * 3]]))
    },
}


@pytest.mark.parametrize(("pixels", "palette", "label_set", "labels", "note"), MASKS.values(), ids=MASKS)
def test_what_values_mean(tmp_path, pixels, palette, label_set, labels, note):
    path = save(tmp_path / "x.png", pixels, palette)
    mask = read_mask(path, label_set, np.shape(labels))
    assert mask.labels.tolist() == labels
    assert mask.pixels.tolist() == [np.count_nonzero(np.equal(labels, c)) for c in range(len(label_set))]
    assert mask.notes == ((f"{path}: {note}",) if note else ())


def test_a_photograph_is_no_mask(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    with pytest.raises(InputError, match=r"x\.png: most of its colours are of no class of tissue, as in a photograph"):
        read_mask(save(tmp_path / "x.png", colours), TISSUE)
    few = save(tmp_path / "x.png", colours.reshape(-1, 3)[np.arange(81).reshape(9, 9) % 64])
    colour = f"#{bytes(colours[0, 0].tolist()).hex()}"
    assert read_mask(few, TISSUE).notes[0].endswith(STRANGE.format(81, colour))


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


@pytest.mark.parametrize("palette", [None, RELEASED])
def test_an_index_beyond_the_classes_is_named(tmp_path, palette):
    path = save(tmp_path / "x.png", INDICES, palette)
    why = "" if palette is None else "its palette lacks the colour of .*: give the colours that it has; "
    message = rf"x\.png: index 4, expected 0 to 2, the classes of tissue; {why}if it is of no class, .*none = 4$"
    with pytest.raises(InputError, match=message):
        read_mask(path, TISSUE, (2, 3))


def test_a_mask_of_another_size_is_an_error_where_none_is_resized(tmp_path):
    path = save(tmp_path / "x.png", INDICES)
    assert read_mask(path, EXCLUDED, (4, 6)).labels.shape == (4, 6)
    with pytest.raises(InputError, match=r"x\.png: 3 x 2 px, expected 6 x 4 as its image has"):
        read_mask(path, EXCLUDED, (4, 6), "never")


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
