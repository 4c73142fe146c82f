"""Annotations as QuPath and others write them, and label maps of them."""

import gzip
import json

import numpy as np
import pytest

from hsn_v1.adp import FUNC
from hsn_v1.errors import InputError
from hsn_v1.slide_io import geojson
from hsn_v1.slide_io.annotations import class_names, draw_labels, find_annotations, read_annotations, regions_of
from hsn_v1.tiles import Window

OTHER, GLAND, ENDOCRINE, VESSEL = range(1, 5)
NOTHING = len(FUNC)
SQUARE = [[100, 100], [500, 100], [500, 500], [100, 500], [100, 100]]


def feature(classification="G.O", ring=SQUARE, **changes):
    """Return a feature of a class, by its name or as QuPath writes it."""
    properties = {"objectType": "annotation", "classification": classification}
    return {"type": "Feature", "geometry": polygon(ring), "properties": properties} | changes


def polygon(*rings):
    return {"type": "Polygon", "coordinates": [*rings]}


def rectangle(x, y, width, height):
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]


def read(path, content):
    """Write what JSON or bytes hold, and read the names and areas of its regions, and the notes."""
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    found, notes = read_annotations(path)
    return [(one.name, one.geometry.area) for one in found], notes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.geojson"


GOOD = [("G.O", 160000)]
COLLECTION = json.dumps({"type": "FeatureCollection", "features": [feature()]}, indent=1)


FORMS = {
    "collection": {"type": "FeatureCollection", "features": [feature()]},
    "untyped": {"features": [feature()]},
    "annotations": {"annotations": [feature()]},
    "by names": {"type": "FeatureCollection", "features": {"id-1": feature()}},
    "lines": json.dumps([]).encode() + b"\n\n" + json.dumps(feature()).encode() + b"\r\n",
    "list": [feature()],
    "nested": [[feature()], {"type": "FeatureCollection", "features": []}],
    "feature": feature(),
    "BOM and CRLF": COLLECTION.replace("\n", "\r\n").encode("utf-8-sig"),
    "UTF-16": COLLECTION.encode("utf-16"),
    "Latin-1": COLLECTION.replace("annotation", "é").encode("latin-1"),
    "gzip": gzip.compress(COLLECTION.encode()),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_forms_of_a_file(path, content):
    assert read(path, content) == (GOOD, [])


@pytest.mark.parametrize(
    ("classification", "name"),
    [
        ({"name": "G.O", "colorRGB": -3670016}, "G.O"),
        ({"names": ["G.O", "Positive"], "color": [1, 2, 3]}, "G.O: Positive"),
        ({"name": "G.O: Positive"}, "G.O: Positive"),
        (["G.O", "Positive"], "G.O: Positive"),
        ({"name": None, "names": []}, "no class"),
        ({}, "no class"),
        (None, "no class"),
        ("", "no class"),
        (7, "7"),
    ],
)
def test_forms_of_a_class(path, classification, name):
    assert read(path, feature(classification)) == ([(name, 160000)], [])
    found, _ = read_annotations(path)
    regions, unknown = regions_of(found, class_names(FUNC))
    assert [*regions.classes] == [GLAND] * name.startswith("G.O")
    assert unknown == ([] if name.startswith("G.O") else [f"{name} (1)"])


@pytest.mark.parametrize(
    ("geometry", "area"),
    [
        (polygon(SQUARE[:-1]), 160000),  # not closed
        (polygon([[*point, 0] for point in SQUARE]), 160000),  # in three dimensions
        (polygon([[str(x), str(y)] for x, y in SQUARE]), 160000),
        (polygon(SQUARE, rectangle(200, 200, 100, 100), [[1, 1], [2, 2]]), 150000),
        (polygon(SQUARE, rectangle(100, 100, 100, 100)), 150000),  # a hole in a corner
        (polygon(SQUARE, rectangle(200, 200, 100, 100), rectangle(250, 200, 100, 100)), 145000),
        (polygon([[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]), 5000),  # crosses itself
        ({"type": "MultiPolygon", "coordinates": [[SQUARE], [rectangle(0, 0, 9, 9)], [[[1, 1], [2, 2]]], []]}, 160081),
        ({"type": "GeometryCollection", "geometries": [polygon(SQUARE), {"type": "Point"}]}, 160000),
    ],
)
def test_forms_of_a_region(path, geometry, area):
    assert read(path, feature(geometry=geometry)) == ([("G.O", area)], [])


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (feature(geometry=None), "no geometry"),
        (feature(geometry={}), "no geometry"),
        ({"type": "Feature", "properties": {}}, "no geometry"),
        (feature(geometry={"type": "LineString", "coordinates": [[1, 1], [5, 5]]}), "no region, as points and lines"),
        (feature(geometry={"type": "Point", "coordinates": [1, 2]}), "no region, as points and lines"),
        (feature(geometry={"type": "GeometryCollection", "geometries": []}), "no region, as points and lines"),
        (feature(geometry={"type": "X"}), "no region, as points and lines"),
        (feature(geometry=polygon()), "no region, as points and lines"),
        (feature(geometry=[1]), "no region, as points and lines"),
        (feature(ring=[[1, 1], [2, 2]]), "no area"),
        (feature(ring=[[1, 1], [2, 2], [3, 3]]), "no area"),
        (feature(ring=[]), "no area"),
        (feature(ring=[[0, 0], [float("nan"), 0], [5, 5]]), "damaged coordinates"),
        (feature(ring=[[0, 0], [1e300, 0], [5, 5]]), "damaged coordinates"),
        (feature(ring=[[0, 0], [1], [5, 5]]), "damaged coordinates"),
        (feature(ring=[[0, 0], None, ["x", 5]]), "damaged coordinates"),
        (feature(ring=5), "damaged coordinates"),
        (None, "no feature of GeoJSON"),
        ("x", "no feature of GeoJSON"),
        ({"a": 1}, "no feature of GeoJSON"),
    ],
)
def test_an_odd_feature_is_named_and_the_others_are_read(path, odd, reason):
    found, notes = read(path, [feature(), odd, feature(properties=None), odd])
    assert found == [*GOOD, ("no class", 160000)]
    assert notes == [f"{path}: 2 features left out, {reason}: number 2, number 4"]


def test_children_are_read_and_long_notes_are_cut(path):
    child = feature("T", rectangle(1, 1, 2, 2), childObjects=[feature("G.N", rectangle(0, 0, 2, 3))])
    parent = feature(properties={"classification": "Other", "childObjects": [child, *[None] * 7]})
    found, notes = read(path, parent)
    assert [name for name, _ in found] == ["Other", "T", "G.N"]
    numbers = ", ".join(f"number {number}" for number in range(4, 9))
    assert notes == [f"{path}: 7 features left out, no feature of GeoJSON: {numbers} and 2 more"]


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{}", b"3", b'{"features": 3}', b"[" * 9999, b"\x1f\x8b broken", b'{"type": "Topology"}']
)
def test_what_is_no_geojson(path, content):
    with pytest.raises(InputError, match=r"not GeoJSON as QuPath exports it|packed by gzip, and damaged"):
        read(path, content)


def test_a_file_that_unpacks_to_more_than_is_read(path, monkeypatch):
    monkeypatch.setattr(geojson, "MOST_BYTES", 1 << 20)
    with pytest.raises(InputError, match="more than 1 MB unpacked"):
        read(path, gzip.compress(bytes(2 << 20)))


def test_points_are_annotations_if_asked_for(path):
    point = {"type": "Point", "coordinates": [1, 2]}
    points = {"type": "MultiPoint", "coordinates": [[3, 4], [5.6, 6, 0]]}
    features = [feature("T", geometry=points), feature(geometry=point), feature("Ignore*", geometry=point)]
    path.write_text(json.dumps([*features, feature(geometry={"type": "MultiPoint", "coordinates": [["x"]]})]))
    found, notes = read_annotations(path, with_points=True)
    assert len(found) == 3 and notes == [f"{path}: 1 feature left out, damaged coordinates: number 4"]
    regions, unknown = regions_of(found, {"t": 5, "g.o": 0})
    assert regions.points.tolist() == [[3, 4, 5], [6, 6, 5], [1, 2, 0]] and (list(regions.classes), unknown) == ([], [])


def test_what_qupath_ignores_and_to_what_it_limits_itself(path):
    features = [
        feature("Region*", rectangle(0, 0, 40, 80)),
        feature("G.O", rectangle(20, 0, 40, 40)),
        feature("ignore*", rectangle(20, 0, 8, 8)),
        feature("G.O", geometry={"type": "MultiPoint", "coordinates": [[10, 60], [50, 60]]}),
    ]
    path.write_text(json.dumps(features))
    regions, unknown = regions_of(read_annotations(path, with_points=True)[0], class_names(FUNC))
    expected = np.full((20, 20), NOTHING, np.uint8)
    expected[:10, 5:10] = GLAND
    expected[:2, 5:7] = NOTHING
    np.testing.assert_array_equal(draw_labels(regions, Window(0, 0, 20, 20), (4, 4), NOTHING), expected)
    assert unknown == [] and regions.points.tolist() == [[10, 60, GLAND]] and regions.overlaps() == []


def test_overlaps_of_two_classes_in_part(path):
    squares = {"A": (0, 0, 100, 100), "B": (90, 0, 50, 50), "A: x": (40, 90, 30, 30), "C": (10, 10, 20, 20)}
    touching = [feature("C", rectangle(100, 60, 30, 30)), feature("C", rectangle(99.99, 90, 20, 20))]
    path.write_text(json.dumps([feature(name, rectangle(*box)) for name, box in squares.items()] + touching))
    regions, _ = regions_of(read_annotations(path)[0], {"A": 0, "B": 1, "C": 2})
    assert regions.overlaps() == [(0, 1)]


@pytest.mark.parametrize("name", ["slide.svs.geojson", "slide.geojson", "SLIDE.json", "slide.SVS.geojson.gz"])
def test_a_slides_file_has_its_name(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "other.geojson").touch()
    slides = [tmp_path / "slide.svs", tmp_path / "x.svs"]
    assert find_annotations(tmp_path, slides) == {slides[0]: tmp_path / name}


def test_regions_are_drawn_at_a_label_maps_scale_the_smaller_over_the_larger(path):
    features = [
        feature("TRANSPORT VESSEL", rectangle(200, 100, 400, 20)),
        feature({"name": "G.O exocrine gland"}, rectangle(0, 0, 400, 2400)),
        *[feature("Tumor", rectangle(0, 0, 4, 4))] * 2,
        feature(None),
    ]
    read(path, features)
    regions, unknown = regions_of(read_annotations(path)[0], class_names(FUNC))
    assert unknown == ["Tumor (2)", "no class (1)"]
    expected = np.full((600, 200), NOTHING, np.uint8)
    expected[:, :100] = GLAND
    expected[25:30, 50:150] = VESSEL
    scale = 4, 4
    np.testing.assert_array_equal(draw_labels(regions, Window(0, 0, 600, 200), scale, NOTHING), expected)
    np.testing.assert_array_equal(draw_labels(regions, Window(20, 40, 9, 80), scale, NOTHING), expected[20:29, 40:120])
    assert (draw_labels(regions_of([], {})[0], Window(0, 0, 3, 3), scale, NOTHING) == NOTHING).all()
