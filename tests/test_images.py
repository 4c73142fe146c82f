import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hsn_v1.adp import FUNC, LABEL_SETS, MORPH
from hsn_v1.errors import InputError
from hsn_v1.files.images import read_image, read_objects, read_truth
from hsn_v1.files.writing import write_bytes, write_picture, write_row
from hsn_v1.show.figures import colourise

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)


def test_an_image_is_read_as_rgb(tmp_path):
    write_picture(tmp_path / "x.png", RGB)
    image, note = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(image, RGB)
    assert note == ""


@pytest.mark.parametrize(("mode", "note"), [("RGBA", "alpha"), ("L", "greyscale"), ("LA", "alpha"), ("P", "palette")])
def test_what_is_converted_is_said(tmp_path, mode, note):
    Image.fromarray(RGB).convert(mode).save(tmp_path / "x.png")
    image, said = read_image(tmp_path / "x.png")
    assert image.shape == RGB.shape
    assert said.startswith(str(tmp_path / "x.png"))
    assert note in said
    if mode == "RGBA":
        np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_16_bits_are_refused(tmp_path, shape):
    write_picture(tmp_path / "x.png", RNG.integers(0, 65536, shape).astype(np.uint16))
    with pytest.raises(InputError, match=r"x\.png: 16 bits per channel; convert it to 8-bit RGB"):
        read_image(tmp_path / "x.png")


def test_other_pixels_are_refused(tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "x.tif")
    with pytest.raises(InputError, match="pixels of type CMYK"):
        read_image(tmp_path / "x.tif")


def test_truncated_and_strange_files_are_named(tmp_path):
    path = tmp_path / "x.png"
    write_picture(path, RNG.integers(0, 256, (50, 70, 3), np.uint8))
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], content[:20], b"", b"not an image"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"x\.png: not an image, or cut off"):
            read_image(path)
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "y.png")


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
    Image.fromarray(RGB).save(tmp_path / "x.bmp")
    with pytest.raises(InputError, match=r"x\.bmp: its channels differ; expected one label per object"):
        read_objects(tmp_path / "x.bmp", 5, 7)


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "x.csv").write_text("before")

    def fill_disk(self, content):
        self.open("wb").close()
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "x.csv", b"after")
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert (tmp_path / "x.csv").read_text() == "before"


def test_a_table_of_one_row(tmp_path):
    write_row(tmp_path / "x.csv", {"a": 0.5, "b,c": 1})
    assert (tmp_path / "x.csv").read_text() == ',a,"b,c"\n0,0.5,1\n'
