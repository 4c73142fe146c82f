"""Slides and images: the same pixels in whatever window, at whatever scale, from whatever file."""

import contextlib
import os
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hsn_v1.adp import CLASSIFIER_MPP
from hsn_v1.errors import InputError
from hsn_v1.slide_io import base
from hsn_v1.slide_io.base import Level
from hsn_v1.slide_io.formats import open_slide_file, read_region
from hsn_v1.slide_io.pillow_backend import open_with_pillow
from hsn_v1.slide_io.scale import choose_mpp
from hsn_v1.slide_io.slide import Slide, open_slide
from hsn_v1.tiles import Window

RNG = np.random.default_rng(0)
IMAGE = cv2.resize(RNG.integers(0, 256, (91, 123, 3), np.uint8), (803, 601), interpolation=cv2.INTER_CUBIC)
TILED = {"tile": (128, 128), "photometric": "rgb", "compression": "deflate"}


def smaller(image, factor):
    height, width = (side // factor for side in image.shape[:2])
    squares = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return squares.mean((1, 3)).round().astype(np.uint8)


def resampled(image, slide, mpp):
    return np.asarray(Image.fromarray(image).resize(slide.size(mpp)[::-1], Image.Resampling.BILINEAR))


def write_pyramid(path, image=IMAGE, factors=(1, 4, 8), mpp=0.25, unit="CENTIMETER", **options):
    microns = {"CENTIMETER": 10_000, "INCH": 25_400, "NONE": 1}[unit]
    with tifffile.TiffWriter(path) as file:
        for factor in factors:
            density = (microns / mpp / factor,) * 2
            kind = {"subfiletype": int(factor > 1), "resolution": density, "resolutionunit": unit, "metadata": None}
            file.write(smaller(image, factor), **{**TILED, **kind, **options})
    return path


def write_ome(path, axes="YXS", image=IMAGE, factors=(1, 4), metadata=None, **options):
    metadata = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25} if metadata is None else metadata
    options = {**TILED, **options}
    if axes == "SYX":
        options["planarconfig"] = "separate"
    elif axes == "CYX":
        options["photometric"] = "minisblack"
    with tifffile.TiffWriter(path, ome=True) as file:
        for factor in factors:
            level = smaller(image, factor)
            level = level if axes == "YXS" else np.ascontiguousarray(level.transpose(2, 0, 1))
            kind = {"subfiletype": 1} if factor > 1 else {"subifds": len(factors) - 1}
            file.write(level, metadata={"axes": axes, **metadata}, **options, **kind)
    return path


def write_image(path, image=IMAGE, dpi=101_600):
    Image.fromarray(image).save(path, dpi=(dpi, dpi))
    return path


def in_memory(image, mpp=0.25, factors=(1,)):
    def level(image):
        frame = Window(0, 0, *image.shape[:2])
        return Level(*image.shape[:2], lambda window: image[window.within(frame)])

    return Slide("memory", mpp, (), tuple(level(smaller(image, factor)) for factor in factors), lambda: None)


FILES = {
    "openslide": lambda path: write_pyramid(path / "a.tif"),
    "ome": lambda path: write_ome(path / "a.ome.tif"),
    "ome planes": lambda path: write_ome(path / "a.ome.tif", "CYX"),
    "ome separate": lambda path: write_ome(path / "a.ome.tif", "SYX"),
    "ome untiled": lambda path: write_ome(path / "a.ome.tif", tile=None),
    "ome planes untiled": lambda path: write_ome(path / "a.ome.tif", "CYX", tile=None),
    "ome separate untiled": lambda path: write_ome(path / "a.ome.tif", "SYX", tile=None),
    "png": lambda path: write_image(path / "a.png"),
    "tiff": lambda path: write_image(path / "a.tif"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write a file of each kind once; no test changes it."""
    return cache(lambda kind: FILES[kind](tmp_path_factory.mktemp("file")))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_windows_show_the_level_that_fits_resampled(written, kind):
    with open_slide(written(kind)) as slide:
        assert (slide.height, slide.width, slide.notes) == (601, 803, ())
        assert slide.mpp == pytest.approx(0.25)
        assert slide.size(1) == (150, 201)
        for mpp in (0.4, CLASSIFIER_MPP, 0.2):
            factor = 4 if mpp == CLASSIFIER_MPP and len(slide.levels) > 1 else 1
            want = resampled(smaller(IMAGE, factor), slide, mpp).astype(int)
            whole = slide.read(slide.frame(mpp), mpp)
            # OpenSlide interpolates between the pixels of a level that is no exact fraction of the first.
            assert np.abs(whole - want).max() <= (8 if kind == "openslide" and factor > 1 else 1)
            assert np.abs(whole - want).mean() < 0.4
            part = slide.read(Window(21, 37, 90, 110), mpp)
            assert np.abs(part - whole[21:111, 37:147].astype(int)).max() <= 1
            beyond = slide.read(Window(-20, -30, whole.shape[0] + 25, whole.shape[1] + 45), mpp)
            mirrored = cv2.copyMakeBorder(whole, 20, 5, 30, 15, cv2.BORDER_REFLECT)
            np.testing.assert_array_equal(beyond, mirrored)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.data(), st.floats(0.06, 8) | st.sampled_from([1 / 6, 0.75, CLASSIFIER_MPP]), st.sampled_from([0.25, 0.4]))
def test_a_pixel_is_the_same_in_every_window(data, mpp, own):
    slide = in_memory(IMAGE[:200, :300], own, (1, 2, 8))
    rows, columns = slide.size(mpp)
    whole = slide.read(slide.frame(mpp), mpp).astype(int)
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    height, width = data.draw(st.integers(1, rows - top)), data.draw(st.integers(1, columns - left))
    part = slide.read(Window(top, left, height, width), mpp)
    assert part.shape == (height, width, 3) and part.dtype == np.uint8
    assert np.abs(part - whole[top : top + height, left : left + width]).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 1)])
def test_a_window_larger_than_the_slide_is_mirrored_again_and_again(shape):
    image = RNG.integers(0, 256, (*shape, 3), np.uint8)
    window = in_memory(image).read(Window(-7, -9, 30, 40), 0.25)
    row = np.pad(np.arange(shape[0]), (7, 23 - shape[0]), mode="symmetric")
    column = np.pad(np.arange(shape[1]), (9, 31 - shape[1]), mode="symmetric")
    np.testing.assert_array_equal(window, image[np.ix_(row, column)])


def test_a_large_window_is_read_in_pieces(monkeypatch):
    image, areas = IMAGE[:300, :400], []
    level = in_memory(image).levels[0]

    def region(window):
        areas.append(window.height * window.width)
        return level.region(window)

    slide = Slide("memory", 0.25, (), (Level(300, 400, region),))
    whole = slide.read(slide.frame(0.6), 0.6).astype(int)
    monkeypatch.setattr("hsn_v1.slide_io.slide.PIECE_PIXELS", 5000)
    pieces = slide.read(slide.frame(0.6), 0.6)
    assert np.abs(pieces - whole).max() <= 1
    assert areas[0] == 300 * 400 and max(areas[1:]) < 10_000


@pytest.mark.parametrize(
    ("mpp", "height"), [(0.1, 800), (0.25, 800), (0.49, 800), (0.5, 400), (1.97, 400), (1.985, 100), (9, 100)]
)
def test_the_coarsest_level_that_is_fine_enough_is_read(mpp, height):
    asked = []
    levels = tuple(
        Level(side, side, lambda w, side=side: (asked.append(side), np.zeros((w.height, w.width, 3), np.uint8))[1])
        for side in (800, 400, 100)
    )
    Slide("memory", 0.25, (), levels, lambda: None).read(Window(3, 3, 2, 2), mpp)
    assert asked == [height]


def test_levels_are_read_on_a_fixed_lattice_where_openslide_interpolates(tmp_path):
    image = RNG.integers(0, 256, (1001, 1003, 3), np.uint8)
    with open_slide(write_pyramid(tmp_path / "a.tif", image, (1, 2, 4))) as slide:
        assert len(slide.levels) == 3
        level = slide.levels[2]
        whole = level.region(Window(0, 0, level.height, level.width))
        for top, left in ((1, 2), (3, 101), (120, 7)):
            region = level.region(Window(top, left, 120, 133))
            np.testing.assert_array_equal(region, whole[top : top + 120, left : left + 133])


@pytest.mark.parametrize("name", ["a b#1.tif", "Präparat é №.tif", "スライド.tif"])
@pytest.mark.parametrize("write", [write_pyramid, write_ome, write_image])
def test_names_may_hold_anything(tmp_path, name, write):
    path = write(tmp_path / name)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(Window(500, 700, 50, 60), slide.mpp), IMAGE[500:550, 700:760])


def test_what_is_transparent_is_white_and_an_open_file_is_closed(monkeypatch, tmp_path):
    openslide = pytest.importorskip("openslide")
    closed = []
    rgba = np.full((8, 8, 4), (10, 20, 30, 255), np.uint8)
    rgba[:, 4:, 3] = 0
    handle = SimpleNamespace(
        properties={"openslide.vendor": "mirax", "openslide.mpp-x": "0.3", "openslide.mpp-y": "0.3"},
        dimensions=(8, 8),
        level_dimensions=[(8, 8)],
        level_downsamples=[1.0],
        level_count=1,
        read_region=lambda corner, level, size: Image.fromarray(rgba).crop((*corner, *np.add(corner, size))),
        close=lambda: closed.append(True),
    )
    path = tmp_path / "a.mrxs"
    path.write_bytes(b"")
    monkeypatch.setattr(openslide, "OpenSlide", lambda path: handle)
    monkeypatch.setattr(openslide.OpenSlide, "detect_format", lambda path: "mirax", raising=False)
    for background, colour in ((None, [255, 255, 255]), ("01FF03", [1, 255, 3])):
        if background:
            handle.properties["openslide.background-color"] = background
        with contextlib.closing(open_slide_file(path)) as file:
            assert file.levels[0].region(Window(0, 0, 8, 8))[0, [3, 4]].tolist() == [[10, 20, 30], colour]
    assert len(closed) == 2


def sized(size, unit=None):
    """Return OME metadata of a pixel's size."""
    units = {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit} if unit else {}
    return {"PhysicalSizeX": size, "PhysicalSizeY": size, **units}


IMAGEJ = {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um"}}
DENSITY = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
SCALES = {
    "TIFF's centimetres": lambda path: write_pyramid(path / "a.tif", mpp=0.5, unit="CENTIMETER"),
    "TIFF's inches": lambda path: write_pyramid(path / "a.tif", mpp=0.5, unit="INCH"),
    "OME's microns": lambda path: write_ome(path / "a.tif", metadata=sized(0.5)),
    "OME's microns by name": lambda path: write_ome(path / "a.tif", metadata=sized(0.5, "µm")),
    "OME's nanometres": lambda path: write_ome(path / "a.tif", metadata=sized(500, "nm")),
    "OME's millimetres": lambda path: write_ome(path / "a.tif", metadata=sized(0.0005, "mm")),
    "an OME-TIFF's resolution": lambda path: write_ome(path / "a.tif", metadata={}, **DENSITY),
    "ImageJ's": lambda path: tifffile.imwrite(path / "a.tif", IMAGE[:20, :30], **IMAGEJ),
    "PNG's": lambda path: write_image(path / "a.png", dpi=50_800),
    "JPEG's": lambda path: write_image(path / "a.jpg", dpi=50_800),
    "BMP's": lambda path: write_image(path / "a.bmp", dpi=50_800),
    "Pillow's TIFF's": lambda path: write_image(path / "a.tif", dpi=50_800),
}


@pytest.mark.parametrize("kind", SCALES)
def test_scale_as_files_state_it(tmp_path, kind):
    SCALES[kind](tmp_path)
    (path,) = tmp_path.iterdir()
    with contextlib.closing(open_slide_file(path)) as file:
        assert choose_mpp(file.mpp, None, None, False) == (pytest.approx(0.5, rel=1e-3), [])


def test_where_scales_differ_the_file_is_named(tmp_path):
    path = write_pyramid(tmp_path / "a.tif")
    with open_slide(path, 0.5) as slide:
        assert slide.mpp == pytest.approx(0.25)
        assert slide.notes == (f"{path}: the file states 0.25 mpp, which counts, not the 0.5 given, unless overridden",)
    path = write_image(tmp_path / "b.tif", dpi=300)
    with pytest.raises(
        InputError, match=r"b\.tif: the file states 84\.67 mpp \(300 dpi\), which is implausible .*; give "
    ):
        open_slide(path)
    with pytest.raises(InputError, match=r"mpp \S+: expected 0\.05 to 10; microns per pixel"):
        open_slide(path, 0)


TILES = {"tile": (32, 32), "photometric": "minisblack"}
OTHERS = {
    "16-bit channels": ("a.ome.tif", (3, 64, 64), "u2", {**TILES, "metadata": {"axes": "CYX"}}, "uint16 .* C=3, Y=64"),
    "four channels": ("a.ome.tif", (4, 64, 64), "u1", {**TILES, "metadata": {"axes": "CYX"}}, "axes C=4, Y=64, X=64"),
    "one channel of OME": ("a.ome.tif", (64, 64), "u1", {**TILES, "metadata": {"axes": "YX"}}, "axes Y=64, X=64"),
    "one channel": ("a.tif", (64, 64), "u1", TILES, "MINISBLACK pixels of uint8 "),
    "16 bits": ("a.tif", (64, 64, 3), "u2", {"photometric": "rgb"}, "uint16|16 bits"),
    "16 bits in tiles": ("a.tif", (64, 64, 3), "u2", {"photometric": "rgb", "tile": (32, 32)}, "uint16|16 bits"),
}


@pytest.mark.parametrize(("name", "shape", "dtype", "options", "message"), OTHERS.values(), ids=OTHERS)
def test_other_than_8_bit_rgb_is_refused(tmp_path, name, shape, dtype, options, message):
    tifffile.imwrite(tmp_path / name, np.zeros(shape, dtype), **options)
    with pytest.raises(InputError, match=rf"{name}: .*({message}).*8-bit RGB"):
        open_slide_file(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.9])
def test_a_file_that_is_cut_off_gives_one_line(written, tmp_path, monkeypatch, kind, share, caplog):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as in the sandbox
    whole = written(kind)
    path, content = tmp_path / whole.name, whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"^[^\n]*a\.(ome\.)?(tif|png): [^\n]*$"):
        read_region(path, 0, 0, 0, 601, 803)
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["deflate", "jpeg", None])
@pytest.mark.parametrize("write", [write_pyramid, write_ome])
def test_damage_that_only_shows_when_it_is_read_gives_one_line(tmp_path, write, compression):
    path = write(tmp_path / "a.tif", factors=(1,), compression=compression)
    with open_slide(path) as slide:
        slide.read(Window(0, 0, 100, 100), slide.mpp)
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size // 3)
        with pytest.raises(InputError, match=r"^[^\n]*a\.tif: not a slide or image, or damaged[^\n]*$"):
            slide.read(Window(0, 0, 601, 803), slide.mpp)


def test_a_tile_that_is_left_out_is_white(tmp_path):
    path = tmp_path / "a.ome.tif"
    options = {"shape": (64, 64, 3), "dtype": "u1", "tile": (32, 32), "photometric": "rgb", "compression": "deflate"}
    tiles = (None if number == 1 else np.full((32, 32, 3), 7, np.uint8) for number in range(4))
    tifffile.imwrite(path, tiles, metadata={"axes": "YXS"}, **options)
    with open_slide(path, 0.25) as slide:
        assert slide.read(Window(0, 0, 64, 64), 0.25)[::32, ::32, 0].tolist() == [[7, 255], [7, 7]]


def test_what_is_no_slide_at_all(tmp_path):
    (tmp_path / "a.svs").write_text("no slide")
    (tmp_path / "a.tif").write_text("no image")
    for path, message in (
        (Path(os.devnull), f"{os.devnull}: a pipe or a device, not a file"),
        (tmp_path / "a.svs", r"a\.svs: named as a slide, but holds none .*damaged"),
        (tmp_path / "a.tif", r"a\.tif: not a slide or image, or damaged"),
        (tmp_path, "a folder, not a slide"),
        (tmp_path / "b.svs", r"b\.svs: no such file"),
    ):
        with pytest.raises(InputError, match=message):
            open_slide(path)


@pytest.mark.slow
def test_images_over_pillows_limit_are_read_up_to_a_limit(tmp_path, monkeypatch):
    path = write_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.pixels(), IMAGE)
    assert Image.MAX_IMAGE_PIXELS == 1000
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(base, "DECODED_PIXELS", 601 * 803 - 1)
    with pytest.raises(InputError, match=r"a\.png: 803 x 601 px in one piece.*vips tiffsave"):
        open_with_pillow(path)


def test_a_large_ome_tiff_is_not_read_whole(tmp_path, monkeypatch):
    path = write_ome(tmp_path / "a.tif", factors=(1,))
    offsets = []
    with contextlib.closing(open_slide_file(path)) as file:
        seek = tifffile.FileHandle.seek
        monkeypatch.setattr(tifffile.FileHandle, "seek", lambda self, *at: (offsets.append(at), seek(self, *at))[1])
        np.testing.assert_array_equal(file.levels[0].region(Window(130, 140, 100, 100)), IMAGE[130:230, 140:240])
    assert len(offsets) == 1
