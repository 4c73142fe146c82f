"""Label maps as files: levels, strips, thumbnails, metadata, areas."""

import warnings
import xml.etree.ElementTree as ET
from functools import partial

import numpy as np
import pytest
import rasterio
import tifffile
from helpers import LABEL_MAP_MPP as MPP
from helpers import write_map
from PIL import Image

from hsn_v1.adp import FUNC, GLAS, MORPH
from hsn_v1.errors import InputError
from hsn_v1.evaluate import tissue_shares
from hsn_v1.slide_io.label_maps import (
    LabelMapInfo,
    label_map_size,
    read_strips,
    read_thumbnail,
    write_areas,
    write_label_map,
)
from hsn_v1.tiles import Window

RNG = np.random.default_rng(0)


def described(label_set):
    return list(map(label_set.describe, label_set.codes))


@pytest.fixture(params=[(1, 1), (16, 16), (17, 48), (100, 37), (31, 200)])
def labels(request):
    return RNG.integers(0, len(MORPH), request.param, np.uint8)


def test_levels_are_strides_of_the_map_until_a_tile_holds_one(tmp_path, labels):
    counts = write_map(tmp_path / "x.ome.tif", labels, MORPH, tile=16)
    assert counts.tolist() == [*np.bincount(labels.ravel(), minlength=len(MORPH)), 0]
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as file:
        levels = [level.asarray() for level in file.series[0].levels]
    for level, pixels in enumerate(levels):
        np.testing.assert_array_equal(pixels, labels[:: 2**level, :: 2**level])
    assert max(levels[-1].shape) <= 16 and all(max(pixels.shape) > 16 for pixels in levels[:-1])


@pytest.mark.parametrize("rows", [1, 5, 16, 999])
def test_strips_put_together_are_the_map(tmp_path, labels, rows):
    write_map(tmp_path / "x.ome.tif", labels, MORPH, tile=16)
    tops, strips = zip(*read_strips(tmp_path / "x.ome.tif", rows), strict=True)
    np.testing.assert_array_equal(np.vstack(strips), labels)
    assert all(len(strip) <= rows for strip in strips)
    assert list(tops) == np.cumsum([0, *map(len, strips)])[:-1].tolist()


def test_a_thumbnail_has_the_size_asked_for_and_no_new_indices(tmp_path):
    labels = np.kron(np.array([[0, 4], [28, 7], [9, 29]], np.uint8), np.ones((400, 500), np.uint8))
    write_map(tmp_path / "x.ome.tif", labels, MORPH)
    thumbnail = read_thumbnail(tmp_path / "x.ome.tif", 12, 10)
    np.testing.assert_array_equal(thumbnail, np.kron([[0, 4], [28, 7], [9, 29]], np.ones((4, 5))))


@pytest.mark.parametrize("length", [0, 4, 100])
def test_a_file_that_is_cut_off_is_named(tmp_path, length):
    path = tmp_path / "x.ome.tif"
    write_map(path, np.zeros((8, 8), np.uint8))
    path.write_bytes(path.read_bytes()[:length])
    for read in (label_map_size, partial(read_thumbnail, height=4, width=4), lambda path: [*read_strips(path)]):
        with pytest.raises(InputError, match=r"x\.ome\.tif: not a slide or image, or damaged"):
            read(path)


def test_windows_are_asked_for_once_each_in_rows(tmp_path):
    asked, rows = [], []

    def read(window):
        asked.append(window)
        return np.zeros((window.height, window.width), np.uint8)

    write_label_map(tmp_path / "x.ome.tif", read, LabelMapInfo(20, 40, MPP, FUNC), tile=16, progress=rows.append)
    assert rows == [16, 20]
    assert asked == [Window(y, x, h, w) for y, h in ((0, 16), (16, 4)) for x, w in ((0, 16), (16, 16), (32, 8))]


def test_scale_place_and_classes_are_in_the_metadata(tmp_path):
    write_map(tmp_path / "x.ome.tif", np.zeros((3, 5), np.uint8), title="a & b")
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as file:
        page, xml = file.pages[0], ET.fromstring(file.ome_metadata)
        assert page.photometric == tifffile.PHOTOMETRIC.MINISBLACK and page.dtype == np.uint8
        assert page.resolution == pytest.approx((1e4 / MPP, 1e4 / MPP))
        assert page.resolutionunit == tifffile.RESUNIT.CENTIMETER
    attributes = {}
    for element in xml.iter():
        attributes.update({f"{element.tag.partition('}')[2]}.{key}": value for key, value in element.attrib.items()})
    assert attributes["Image.Name"] == "a & b"
    assert (attributes["Pixels.SizeX"], attributes["Pixels.SizeY"]) == ("5", "3")
    for axis in "XY":
        assert float(attributes[f"Pixels.PhysicalSize{axis}"]) == MPP
        assert float(attributes[f"Plane.Position{axis}"]) == 0
        assert attributes[f"Pixels.PhysicalSize{axis}Unit"] == attributes[f"Plane.Position{axis}Unit"] == "µm"
    classes = {element.attrib["K"]: element.text for element in xml.iter() if element.tag.endswith("}M")}
    assert classes == {**{str(i): name for i, name in enumerate(described(FUNC))}, "5": "no tissue"}


def test_other_readers_find_the_indices_the_levels_and_the_scale(tmp_path):
    path, labels = tmp_path / "x.ome.tif", RNG.integers(0, len(MORPH), (600, 1100), np.uint8)
    write_map(path, labels, MORPH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(1), labels)
            assert file.overviews(1) == [2, 4]
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), labels)
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (1100, 600)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(MPP)
        region = np.asarray(slide.read_region((500, 100), 0, (600, 500)))
    np.testing.assert_array_equal(region[..., :3], np.repeat(labels[100:, 500:, np.newaxis], 3, axis=2))


@pytest.mark.parametrize("calls", [0, 1, 4, 8])
def test_a_map_that_cannot_be_read_leaves_no_file(tmp_path, calls):
    windows = iter(range(calls))

    def read(window):
        if next(windows, None) is None:
            raise RuntimeError("no more labels")
        return np.zeros((window.height, window.width), np.uint8)

    with pytest.raises(RuntimeError, match="no more labels"):
        write_label_map(tmp_path / "x.ome.tif", read, LabelMapInfo(48, 48, MPP, FUNC), tile=16)
    assert not list(tmp_path.iterdir())


def test_a_class_too_many_is_refused(tmp_path):
    assert write_map(tmp_path / "x.ome.tif", np.full((2, 3), 5, np.uint8)).tolist() == [0, 0, 0, 0, 0, 6]
    with pytest.raises(ValueError, match="class index 6 in a label map of 5 classes"):
        write_map(tmp_path / "y.ome.tif", np.full((2, 3), 6, np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["x.ome.tif"]


def test_areas_in_mm2_and_as_shares_of_the_tissue(tmp_path):
    counts = np.array([4_000_000, 1_000_000, 3_000_000, 0, 0, 7])
    write_areas(tmp_path / "areas.csv", counts, LabelMapInfo(2000, 4000, 0.5, FUNC, caveat="no, result"))
    assert (tmp_path / "areas.csv").read_text().splitlines() == [
        "class,name,pixels,mm2,share_of_tissue,caveat",
        'Background,background,4000000,1.000000,,"no, result"',
        'Other,other tissue,1000000,0.250000,0.250000,"no, result"',
        'G.O,exocrine gland,3000000,0.750000,0.750000,"no, result"',
        'G.N,endocrine gland,0,0.000000,0.000000,"no, result"',
        'T,transport vessel,0,0.000000,0.000000,"no, result"',
        ',no tissue,7,0.000002,,"no, result"',
    ]


def test_shares_without_tissue_are_0():
    assert tissue_shares(np.array([9, 0, 0, 0, 0]), FUNC) == {1: 0, 2: 0, 3: 0, 4: 0}
    assert tissue_shares(np.array([1, 3, 100]), GLAS) == {0: 0.25, 1: 0.75}
