"""Outlines of label maps: they are the map's regions, whatever strips it is read in, and agree with its areas."""

import csv
import json
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import shapely
import tifffile
from helpers import LABEL_MAP_MPP as MPP
from helpers import info_of as info
from helpers import write_map
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hsn_v1.adp import FUNC, GLAS
from hsn_v1.slide_io.label_maps import write_areas
from hsn_v1.slide_io.polygons import regions, write_polygons

SCALE = 4.857142
RNG = np.random.default_rng(0)

maps = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 3))


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


def test_the_same_labels_give_the_same_bytes(tmp_path):
    labels = np.kron(RNG.integers(0, 5, (30, 35), np.uint8), np.ones((5, 5), np.uint8))
    for name in ("a", "b"):
        write_map(tmp_path / name / "x.ome.tif", labels)
        write_polygons(tmp_path / name / "x.geojson", tmp_path / name / "x.ome.tif", info(labels), SCALE, 50)
    for file in ("x.ome.tif", "x.geojson"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


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


RING, TOUCHING, SPECKS = np.full((3, 3), 2), np.full((4, 4), 2), np.full((6, 6), 2)
RING[1, 1] = 0
TOUCHING[1, 1] = TOUCHING[2, 2] = 4
SPECKS[1, 1], SPECKS[3, 2:5] = 3, 4
GLANDS, VESSEL = "G.O exocrine gland", "T transport vessel"
LEAST = {"min_area": 3 * MPP**2}

#: A label map, and of each class the areas and numbers of holes of its outlines; the pixels that are dropped of each.
OUTLINES = {
    "a ring keeps its hole": (RING, {}, {GLANDS: [(8, 1)]}, [0] * 5),
    "holes that touch at a corner are two": (TOUCHING, {}, {GLANDS: [(14, 2)], VESSEL: [(1, 0), (1, 0)]}, [0] * 5),
    "specks are dropped and leave their hole": (SPECKS, LEAST, {GLANDS: [(32, 2)], VESSEL: [(3, 0)]}, [0, 0, 0, 1, 0]),
    "background and no tissue have none": (np.array([[0, 5]]), LEAST, {}, [0] * 5),
    "without a background all have": (
        *(np.array([[0, 1, 2]]), {"label_set": GLAS}, {"other tissue": [(1, 0)], GLANDS: [(1, 0)]}, [0, 0]),
    ),
}


@pytest.mark.parametrize(("labels", "options", "expected", "dropped"), OUTLINES.values(), ids=OUTLINES)
def test_outlines(tmp_path, labels, options, expected, dropped):
    found, lost = outlines(tmp_path, labels.astype(np.uint8), **options)
    assert {name: [(o.area, len(o.interiors)) for o in some] for name, some in found.items()} == expected
    assert lost.tolist() == dropped
    shown = drawn(found, labels.shape, options.get("label_set", FUNC), 1)
    assert (shown[shown >= 0] == labels[shown >= 0]).all()


def test_outlines_run_along_the_edges_of_pixels(tmp_path):
    (ring,) = outlines(tmp_path / "ring", RING.astype(np.uint8))[0][GLANDS]
    assert ring.equals(shapely.Polygon([(0, 0), (3, 0), (3, 3), (0, 3)], [[(1, 1), (2, 1), (2, 2), (1, 2)]]))
    touching = outlines(tmp_path / "touching", TOUCHING.astype(np.uint8))[0][VESSEL]
    assert [outline.bounds for outline in touching] == [(1, 1, 2, 2), (2, 2, 3, 3)]


def test_a_large_map_of_one_class_is_one_rectangle(tmp_path):
    found, _ = outlines(tmp_path, np.full((700, 530), 4, np.uint8))
    (outline,) = found[VESSEL]
    assert outline.equals(shapely.box(0, 0, 530, 700)) and len(outline.exterior.coords) == 5


@pytest.mark.slow
def test_label_sets_are_outlined_side_by_side(tmp_path):
    labels = RNG.integers(1, len(FUNC), (12, 12)).astype(np.uint8)
    write_map(tmp_path / "x.ome.tif", labels)
    with ThreadPoolExecutor(4) as pool:  # whose warnings would be errors
        drawn = pool.map(lambda _: [region.pixels for region in regions(tmp_path / "x.ome.tif", {1, 2}, 1)], range(200))
        assert len({tuple(pixels) for pixels in drawn}) == 1


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


@pytest.mark.slow
def test_a_region_of_just_the_least_area_is_kept(tmp_path):
    rounded_up = [pixels for pixels in range(1, 60) if pixels * MPP**2 / MPP**2 > pixels]
    assert len(rounded_up) > 3
    for pixels in (1, *rounded_up[:4]):
        found, dropped = outlines(tmp_path, np.full((1, pixels), 2, np.uint8), min_area=pixels * MPP**2)
        assert found and not dropped.any()
        found, dropped = outlines(tmp_path, np.full((1, pixels), 2, np.uint8), min_area=(pixels + 0.01) * MPP**2)
        assert not found and dropped[2] == pixels


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(maps, st.sampled_from([0.61, 1, SCALE]))
def test_polygons_drawn_again_are_the_map(tmp_path_factory, labels, scale):
    found, dropped = outlines(tmp_path_factory.mktemp("map"), labels, scale=scale)
    expected = np.where(labels == 0, -1, labels.astype(int))
    np.testing.assert_array_equal(drawn(found, labels.shape, FUNC, scale), expected)
    assert not dropped.any()


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
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
@settings(deadline=None, max_examples=30)
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


def test_a_caveat_is_in_the_map_and_the_outlines(tmp_path):
    labels = np.full((2, 3), 2, np.uint8)
    write_map(tmp_path / "x.ome.tif", labels, caveat="no result")
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as file:
        (description,) = ET.fromstring(file.ome_metadata).findall(".//{*}Image/{*}Description")
    assert description.text == "no result"
    write_polygons(tmp_path / "x.geojson", tmp_path / "x.ome.tif", info(labels, caveat="no result"), 1, 0)
    collection = json.loads((tmp_path / "x.geojson").read_text("utf-8"))
    assert (collection["caveat"], len(collection["features"])) == ("no result", 1)
