"""What is written of a slide: label map, polygons, areas and overview, which agree with one another."""

import csv
import json
import warnings
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from hsn_v1.adp import FUNC, GLAS, MORPH
from hsn_v1.errors import InputError
from hsn_v1.evaluate import tissue_shares
from hsn_v1.show.caption import captioned
from hsn_v1.show.figures import LINE, overview, round_length, scale_bar
from hsn_v1.slide_io.label_maps import LabelMapInfo, read_strips, read_thumbnail, write_areas, write_label_map
from hsn_v1.slide_io.polygons import regions, write_polygons
from hsn_v1.slides import results
from hsn_v1.tiles import Window

MPP = 1.2143
SCALE = 4.857142
RNG = np.random.default_rng(0)


def window_of(labels):
    return lambda window: labels[window.within(Window(0, 0, *labels.shape))]


def info(labels, label_set=FUNC, **kwargs):
    return LabelMapInfo(*labels.shape, MPP, label_set, **kwargs)


def write_map(path, labels, label_set=FUNC, tile=512, **kwargs):
    return write_label_map(path, window_of(labels), info(labels, label_set, **kwargs), tile=tile)


def features_of(path):
    collection = json.loads(path.read_text("utf-8"))
    assert collection["type"] == "FeatureCollection"
    return collection["features"]


def outlines(folder, labels, label_set=FUNC, scale=1, min_area=0):
    """Write a map and its polygons, and return the polygons by the class's name, and the pixels that were dropped."""
    write_map(folder / "x.ome.tif", labels, label_set)
    dropped = write_polygons(folder / "x.geojson", folder / "x.ome.tif", info(labels, label_set), scale, min_area)
    found = {}
    for feature in features_of(folder / "x.geojson"):
        outline = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert outline.geom_type == "Polygon" and outline.is_valid
        found.setdefault(feature["properties"]["classification"]["name"], []).append(outline)
    return found, dropped


def described(label_set):
    return list(map(label_set.describe, label_set.codes))


def polygon_of(region):
    shell, *holes = region.rings()
    return shapely.Polygon(shell, holes)


def drawn(found, shape, label_set, scale):
    """Draw polygons by the pixel centres that they contain; -1 where there is none."""
    y, x = ((np.indices(shape) + 0.5) * scale).reshape(2, -1)
    labels = np.full(shape, -1)
    for index, code in enumerate(label_set.codes):
        for outline in found.get(label_set.describe(code), ()):
            inside = shapely.contains_xy(outline, x, y).reshape(shape)
            assert (labels[inside] == -1).all()
            labels[inside] = index
    return labels


maps = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 3))


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


def test_other_readers_find_the_indices_and_the_levels(tmp_path):
    labels = RNG.integers(0, len(MORPH), (600, 1100), np.uint8)
    write_map(tmp_path / "x.ome.tif", labels, MORPH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "x.ome.tif") as file:
            np.testing.assert_array_equal(file.read(1), labels)
            assert file.overviews(1) == [2, 4]
    with Image.open(tmp_path / "x.ome.tif") as image:
        np.testing.assert_array_equal(np.asarray(image), labels)


def test_openslide_opens_it_at_its_scale(tmp_path):
    openslide = pytest.importorskip("openslide")
    labels = RNG.integers(0, len(MORPH), (600, 700), np.uint8)
    write_map(tmp_path / "x.ome.tif", labels, MORPH)
    with openslide.OpenSlide(tmp_path / "x.ome.tif") as slide:
        assert slide.dimensions == (700, 600)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(MPP)
        region = np.asarray(slide.read_region((500, 100), 0, (200, 500)))
    np.testing.assert_array_equal(region[..., :3], np.repeat(labels[100:, 500:, np.newaxis], 3, axis=2))


def test_the_same_labels_give_the_same_bytes(tmp_path):
    labels = np.kron(RNG.integers(0, 5, (60, 70), np.uint8), np.ones((11, 11), np.uint8))
    for name in ("a", "b"):
        write_map(tmp_path / name / "x.ome.tif", labels)
        write_polygons(tmp_path / name / "x.geojson", tmp_path / name / "x.ome.tif", info(labels), SCALE, 50)
    for file in ("x.ome.tif", "x.geojson"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


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


def test_a_full_disk_leaves_the_files_of_before(tmp_path):
    resource = pytest.importorskip("resource")
    labels = RNG.integers(0, 5, (100, 100), np.uint8)
    write_map(tmp_path / "map.ome.tif", labels)
    for name in ("x.ome.tif", "x.geojson"):
        (tmp_path / name).write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_map(tmp_path / "x.ome.tif", labels)
        with pytest.raises(OSError, match="too large"):
            write_polygons(tmp_path / "x.geojson", tmp_path / "map.ome.tif", info(labels), SCALE, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.ome.tif", "x.geojson", "x.ome.tif"]
    assert (tmp_path / "x.ome.tif").read_text() == (tmp_path / "x.geojson").read_text() == "before"


def test_a_ring_keeps_its_hole(tmp_path):
    labels = np.array([[2, 2, 2], [2, 0, 2], [2, 2, 2]], np.uint8)
    found, _ = outlines(tmp_path, labels)
    ring = shapely.Polygon([(0, 0), (3, 0), (3, 3), (0, 3)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])
    assert [outline.equals(ring) for outline in found["G.O exocrine gland"]] == [True]
    assert list(found) == ["G.O exocrine gland"]


def test_holes_that_touch_at_a_corner_are_two_and_so_are_their_pixels(tmp_path):
    labels = np.full((4, 4), 2, np.uint8)
    labels[1, 1] = labels[2, 2] = 4
    found, _ = outlines(tmp_path, labels)
    assert [len(outline.interiors) for outline in found["G.O exocrine gland"]] == [2]
    assert [outline.bounds for outline in found["T transport vessel"]] == [(1, 1, 2, 2), (2, 2, 3, 3)]


def test_label_sets_are_outlined_side_by_side(tmp_path):
    labels = RNG.integers(1, len(FUNC), (64, 200)).astype(np.uint8)
    write_map(tmp_path / "x.ome.tif", labels)
    with ThreadPoolExecutor(4) as pool:  # whose warnings would be errors
        drawn = pool.map(lambda _: [region.pixels for region in regions(tmp_path / "x.ome.tif", {1, 2}, 1)], range(60))
        assert len({tuple(pixels) for pixels in drawn}) == 1


def test_results_are_written_side_by_side_and_all_stop_where_one_fails(monkeypatch):
    def write(*writes, threads=2):
        calls, by_name = [], dict(zip(("morph", "func"), writes, strict=True))
        monkeypatch.setattr(results, "_write_label_set", lambda *passed: by_name[passed[4].name](passed[5]))
        method = SimpleNamespace(label_sets=(MORPH, FUNC))
        task = SimpleNamespace(method=method, workers=threads, progress=lambda *call: calls.append(call))
        results.write_results(SimpleNamespace(size=lambda mpp: (5, 5)), task, SimpleNamespace(mpp=MPP), None)
        return calls

    def four(step):
        step(4)

    def on_and_on(step):
        while True:
            step(1)

    def fail(step):
        raise InputError("no room")

    assert sorted(write(four, four)) == [("rows", 4, 20), ("rows", 8, 20)] == write(four, four, threads=1)
    for writes in ((fail, on_and_on), (on_and_on, fail)):
        with pytest.raises(InputError, match="no room"):
            write(*writes)


def test_qupath_finds_class_colour_and_area(tmp_path):
    outlines(tmp_path, np.array([[3, 3, 0]], np.uint8), scale=SCALE)
    (feature,) = features_of(tmp_path / "x.geojson")
    assert feature["type"] == "Feature"
    assert feature["properties"] == {
        "objectType": "annotation",
        "classification": {"name": "G.N endocrine gland", "color": [0, 128, 0]},
        "measurements": {"label map area µm^2": round(2 * MPP**2, 2)},
    }
    assert shapely.from_geojson(json.dumps(feature["geometry"])).bounds == (0, 0, 9.71, 4.86)


def test_specks_are_dropped_and_leave_their_hole(tmp_path):
    labels = np.full((6, 6), 2, np.uint8)
    labels[1, 1] = 3
    labels[3, 2:5] = 4
    found, dropped = outlines(tmp_path, labels, min_area=3 * MPP**2)
    assert dropped.tolist() == [0, 0, 0, 1, 0]
    assert {name: [outline.area for outline in some] for name, some in found.items()} == {
        "G.O exocrine gland": [32],
        "T transport vessel": [3],
    }


@pytest.mark.slow
def test_a_region_of_just_the_least_area_is_kept(tmp_path):
    for pixels in range(1, 60):
        found, dropped = outlines(tmp_path, np.full((1, pixels), 2, np.uint8), min_area=pixels * MPP**2)
        assert found and not dropped.any()
        found, dropped = outlines(tmp_path, np.full((1, pixels), 2, np.uint8), min_area=(pixels + 0.01) * MPP**2)
        assert not found and dropped[2] == pixels


def test_background_and_no_tissue_have_no_polygons(tmp_path):
    found, dropped = outlines(tmp_path, np.array([[0, 5]], np.uint8), min_area=99)
    assert not found and not dropped.any()
    found, _ = outlines(tmp_path, np.array([[0, 1, 2]], np.uint8), GLAS)
    assert {name: len(some) for name, some in found.items()} == {"other tissue": 1, "G.O exocrine gland": 1}


def test_a_large_map_of_one_class_is_one_rectangle(tmp_path):
    found, _ = outlines(tmp_path, np.full((700, 530), 4, np.uint8))
    (outline,) = found["T transport vessel"]
    assert outline.equals(shapely.box(0, 0, 530, 700)) and len(outline.exterior.coords) == 5


@settings(deadline=None, max_examples=60)
@given(maps, st.sampled_from([0.61, 1, SCALE]))
def test_polygons_drawn_again_are_the_map(tmp_path_factory, labels, scale):
    found, dropped = outlines(tmp_path_factory.mktemp("map"), labels, scale=scale)
    expected = np.where(labels == 0, -1, labels.astype(int))
    np.testing.assert_array_equal(drawn(found, labels.shape, FUNC, scale), expected)
    assert not dropped.any()


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(maps, st.integers(1, 12), st.sampled_from([0, 10_000]), st.integers(0, 9))
def test_regions_are_the_same_however_they_are_put_together(tmp_path_factory, labels, rows, fused, least):
    path = tmp_path_factory.mktemp("map") / "x.ome.tif"
    write_map(path, labels)

    def found(rows):
        large = [region for region in regions(path, (1, 2, 3), least, rows, fused) if region.pixels >= least]
        outlines = [(region, polygon_of(region)) for region in large]
        assert all(outline.is_valid and outline.area == region.pixels for region, outline in outlines)
        return sorted((region.index, outline.normalize().wkt) for region, outline in outlines)

    assert found(rows) == found(99)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(maps, st.integers(0, 20))
def test_map_polygons_and_areas_agree(tmp_path_factory, labels, least):
    folder = tmp_path_factory.mktemp("slide")
    found, dropped = outlines(folder, labels, min_area=least * MPP**2)
    counts = write_map(folder / "x.ome.tif", labels)
    write_areas(folder / "areas.csv", counts, info(labels))
    with (folder / "areas.csv").open(encoding="utf-8") as file:
        pixels = {row["class"]: int(row["pixels"]) for row in csv.DictReader(file)}
    for index, code in enumerate(FUNC.codes[1:], 1):
        areas = [outline.area for outline in found.get(FUNC.describe(code), ())]
        assert sum(areas) + dropped[index] == pixels[code] == (labels == index).sum()
        assert min(areas, default=least) >= least
        sizes = [region.pixels for region in regions(folder / "x.ome.tif", {index}, 0)]
        assert sorted(areas) == sorted(size for size in sizes if size >= least)


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


def test_a_caveat_is_in_the_map_and_the_outlines_and_under_the_picture(tmp_path):
    labels = np.full((2, 3), 2, np.uint8)
    write_map(tmp_path / "x.ome.tif", labels, caveat="no result")
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as file:
        (description,) = ET.fromstring(file.ome_metadata).findall(".//{*}Image/{*}Description")
    assert description.text == "no result"
    write_polygons(tmp_path / "x.geojson", tmp_path / "x.ome.tif", info(labels, caveat="no result"), 1, 0)
    collection = json.loads((tmp_path / "x.geojson").read_text("utf-8"))
    assert (collection["caveat"], len(collection["features"])) == ("no result", 1)
    picture = np.full((40, 300, 3), 200, np.uint8)
    sheet = captioned(picture, "segmented by a classifier that knows no real tissue: not a medical result")
    np.testing.assert_array_equal(sheet[:40], picture)
    below = sheet[40:].min(axis=(1, 2)) < 128
    assert np.diff(below.astype(int)).clip(0).sum() >= 2  # it needs two lines at least
    assert captioned(picture, "") is picture


def test_shares_without_tissue_are_0():
    assert tissue_shares(np.array([9, 0, 0, 0, 0]), FUNC) == {1: 0, 2: 0, 3: 0, 4: 0}
    assert tissue_shares(np.array([1, 3, 100]), GLAS) == {0: 0.25, 1: 0.75}


@pytest.mark.parametrize(("most", "length"), [(1, 1), (1.99, 1), (2, 2), (4.9, 2), (5, 5), (999, 500), (1000, 1000)])
def test_scale_bars_have_round_lengths(most, length):
    assert round_length(most) == length
    assert round_length(most / 1000) == pytest.approx(length / 1000)


@pytest.mark.parametrize(("width", "mpp", "length"), [(900, 9.7, 2000), (224, MPP, 50), (300, 1, 100)])
def test_the_bar_is_as_long_as_it_says(width, mpp, length):
    bar = scale_bar(width, mpp)
    assert bar.shape == (LINE, width, 3)
    dark = np.flatnonzero((bar == 20).all(axis=2).sum(axis=0) == 4)
    assert np.ptp(dark[: round(length / mpp)]) + 1 == round(length / mpp) == len(dark[dark < round(length / mpp)])
    assert (bar[LINE // 2, round(length / mpp) : round(length / mpp) + 6] == 255).all()


def test_the_overview_paints_tissue_and_names_the_classes_of_the_whole_map():
    thumbnail = np.full((60, 80, 3), (10, 200, 90), np.uint8)
    labels = np.full((60, 80), 5, np.uint8)
    labels[20:40] = 2
    sheet = overview(thumbnail, labels, FUNC, 10, "a slide")
    assert (sheet == (5, 100, 109)).all(axis=2).sum() == 20 * 80
    assert (sheet == (10, 200, 90)).all(axis=2).sum() == 60 * 80 + 40 * 80
    assert swatches(sheet) == {"G.O"}
    assert swatches(overview(thumbnail, labels, FUNC, 10, "a slide", np.array([0, 7, 7, 0, 0, 7]))) == {"Other", "G.O"}


def swatches(sheet):
    pure = {code: (sheet == colour).all(axis=2).sum() for code, colour in FUNC.colours.items() if code != "Background"}
    return {code for code, pixels in pure.items() if pixels > 100}


def test_the_smallest_overview_is_drawn():
    sheet = overview(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), MORPH, 0.25, "a slide with a long name")
    assert sheet.shape[1] > 200
