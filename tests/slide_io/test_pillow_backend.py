import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from hsn_v1.errors import InputError
from hsn_v1.slide_io.pillow_backend import open_with_pillow
from hsn_v1.slide_io.slide import open_slide
from hsn_v1.tiles import Window

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (50, 70, 3), np.uint8)


def pixels(path):
    with open_slide(path, 0.5) as slide:
        return slide.pixels(), slide.notes


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(tmp_path, mode):
    image = Image.fromarray(IMAGE).convert(mode)
    if mode == "P":
        image.info["transparency"] = clear = image.getpixel((0, 0))
        where = np.asarray(image) == clear
    else:
        where = np.zeros((50, 70), bool)
        where[:, :30] = True
        image.putalpha(Image.fromarray(np.where(where, 0, 255).astype(np.uint8)))
    image.save(tmp_path / "a.png")
    found, notes = pixels(tmp_path / "a.png")
    assert (found[where] == 255).all() and (found[~where] != 255).any()
    assert any("transparent pixels are taken as white" in note for note in notes)
    if mode == "RGBA":
        np.testing.assert_array_equal(found[~where], IMAGE[~where])


@pytest.mark.parametrize(("mode", "note"), [("L", "greyscale"), ("P", "palette"), ("1", "black and white")])
def test_what_is_converted_is_said(tmp_path, mode, note):
    Image.fromarray(IMAGE).convert(mode).save(tmp_path / "a.png")
    found, notes = pixels(tmp_path / "a.png")
    np.testing.assert_array_equal(found, np.asarray(Image.fromarray(IMAGE).convert(mode).convert("RGB")))
    assert len(notes) == 1 and note in notes[0]


@pytest.mark.parametrize("ending", ["png", "webp", "jp2"])
def test_pixels_are_taken_as_stored_whatever_the_orientation(tmp_path, ending):
    exif = Image.Exif()
    exif[274] = 6
    options = {} if ending == "jp2" else {"exif": exif}
    Image.fromarray(IMAGE).save(tmp_path / f"a.{ending}", lossless=True, **options)
    found, notes = pixels(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(found, IMAGE)
    assert [note for note in notes if "orientation tag (6)" in note] == list(notes)
    assert bool(notes) == bool(options)


def test_a_stack_is_refused(tmp_path):
    image = Image.fromarray(IMAGE)
    image.save(tmp_path / "a.webp", save_all=True, append_images=[Image.fromarray(255 - IMAGE)])
    with pytest.raises(InputError, match="a stack of 2 images"):
        open_with_pillow(tmp_path / "a.webp")


def test_an_image_is_decoded_once(tmp_path, monkeypatch):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    decoded = []
    load = PngImageFile.load_prepare
    monkeypatch.setattr(PngImageFile, "load_prepare", lambda image: decoded.append(1) or load(image))
    region = open_with_pillow(tmp_path / "a.png").levels[0].region
    assert not decoded
    whole = region(Window(0, 0, *IMAGE.shape[:2]))
    np.testing.assert_array_equal(region(Window(1, 2, 9, 9)), whole[1:10, 2:11])
    assert len(decoded) == 1
    np.testing.assert_array_equal(whole, IMAGE)


def test_what_may_be_decoded_depends_on_the_memory_there_is(tmp_path, monkeypatch):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    monkeypatch.setattr("hsn_v1.slide_io.base.available_memory", lambda: 8 * IMAGE[..., 0].size)
    open_with_pillow(tmp_path / "a.png")
    monkeypatch.setattr("hsn_v1.slide_io.base.available_memory", lambda: 8 * IMAGE[..., 0].size - 1)
    with pytest.raises(InputError, match="can be read with the memory that is free; convert it"):
        open_with_pillow(tmp_path / "a.png")
