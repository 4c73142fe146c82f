import numpy as np
import pytest
from PIL import Image

from hsn_v1.errors import InputError
from hsn_v1.io.images import read_image
from hsn_v1.io.writing import write_picture, write_row

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
    with pytest.raises(InputError, match="a folder, expected an image"):
        read_image(tmp_path)


def test_a_table_of_one_row(tmp_path):
    write_row(tmp_path / "x.csv", {"a": 0.5, "b,c": 1})
    assert (tmp_path / "x.csv").read_text() == ',a,"b,c"\n0,0.5,1\n'
