"""Which classes are in a patch of an image with a mask, or of a slide with annotations: shares, and points."""

import json
import tracemalloc
from itertools import product

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from hsn_v1.adp import LABEL_SETS
from hsn_v1.errors import InputError
from hsn_v1.io.writing import write_picture
from hsn_v1.labels import LabelSet
from hsn_v1.show.figures import colourise
from hsn_v1.slide_io.base import Level
from hsn_v1.slide_io.slide import Slide
from hsn_v1.tiles import Window
from hsn_v1.training import labelled_images
from hsn_v1.training.labelled_images import (
    AnnotatedSlide,
    Cut,
    ImageWithMask,
    LabelMap,
    classes_of,
    label_patches,
    patch_starts,
    read_tuning_set,
    truth_folder,
)

FUNC, GLAS = LABEL_SETS["func"], LABEL_SETS["glas"]
LABELS = LabelSet("masks", {"Tumor": (200, 0, 0), "Stroma": (0, 200, 0)}, {"Tumor": 0, "Stroma": 1})


def places(truth, classes, cut, points=(), centres=()):
    """Return what is in the patches of a label map."""
    read = LabelMap(
        lambda window: truth[window.within(Window(0, 0, *truth.shape))],
        *truth.shape,
        classes,
        np.reshape(np.array(points, int), (-1, 3)),
    )
    return {place: present.tolist() for place, present in label_patches(read, cut, centres).items()}


def test_an_image_of_no_pixel_at_the_patches_scale_gives_no_patch(tmp_path):
    for name in ("image.png", "mask.png"):
        write_picture(tmp_path / name, np.full((20, 30, 3), (200, 0, 0), np.uint8))
    source = ImageWithMask(tmp_path / "image.png", tmp_path / "mask.png", LABELS, factor=0.005)
    with pytest.raises(InputError, match="1 x 1 px give no patch of 8 px with a class"):
        source.label(Cut(8, 8))


@pytest.mark.parametrize(
    ("length", "size", "stride", "starts"),
    [(10, 4, 4, [0, 4, 6]), (12, 4, 4, [0, 4, 8]), (4, 4, 1, [0]), (3, 4, 4, []), (9, 4, 2, [0, 2, 4, 5])],
)
def test_patches_cover_an_axis(length, size, stride, starts):
    assert patch_starts(length, size, stride) == starts


def test_a_class_is_in_a_patch_from_its_share_on():
    truth = np.zeros((10, 30), np.uint8)
    truth[0, 0:5] = 1  # 5 of 100 px: exactly the share
    truth[0, 10:14] = 1  # 4
    truth[:, 20:] = 2  # unlabelled
    truth[:, 25:] = 1
    truth[0, 25] = 2  # 51 of 100 px unlabelled
    assert places(truth, 2, Cut(10, 10)) == {(0, 0): [True, True], (0, 10): [True, False]}


def present(truth, y, x, size, share):
    patch = truth[y : y + size, x : x + size]
    return [bool((patch == c).mean() >= share) for c in range(2)]


def each_by_itself(truth, size, stride, share):
    """Return the classes of each patch of a label map of two classes, cut on its own."""
    starts = product(*(patch_starts(side, size, stride) for side in truth.shape))
    labelled = [(y, x) for y, x in starts if (truth[y : y + size, x : x + size] == 2).mean() <= 0.5]
    found = {(y, x): present(truth, y, x, size, share) for y, x in labelled}
    return {place: classes for place, classes in found.items() if any(classes)}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_labels_are_those_of_each_patch_by_itself(data):
    height, width, size, stride = (data.draw(st.integers(1, most)) for most in (40, 40, 12, 12))
    truth = data.draw(arrays(np.uint8, (height, width), elements=st.integers(0, 2), fill=st.integers(0, 2)))
    share, block = data.draw(st.floats(0.01, 1)), data.draw(st.integers(1, 30))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(labelled_images, "BLOCK", block)
        assert places(truth, 2, Cut(size, stride, share)) == each_by_itself(truth, size, stride, share)


def test_a_patch_around_each_point_and_the_points_in_a_patch():
    truth = np.full((20, 40), 2, np.uint8)
    truth[:, :10] = 0
    found = places(truth, 2, Cut(10, 10), [(3, 4, 1), (12, 38, 1)], [(15, 5), (15, 20)])
    assert found == {
        (0, 0): [True, True],  # of the grid, and the first point's, moved inside
        (10, 0): [True, False],
        (7, 30): [False, True],  # the second point's, unlabelled else
    }
    assert places(truth, 2, Cut(64, 10), [(3, 4, 1)]) == {}


def test_where_masks_are(tmp_path):
    (tmp_path / "func").mkdir()
    assert truth_folder(tmp_path, FUNC, [FUNC, GLAS]) == tmp_path / "func"
    assert truth_folder(tmp_path, GLAS, [FUNC, GLAS]) is None
    assert truth_folder(tmp_path, GLAS, [GLAS]) == tmp_path
    assert truth_folder(tmp_path / "no", GLAS, [GLAS]) is None


def test_images_without_masks_are_left_out_and_named(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        write_picture(tmp_path / "img" / f"{name}.png", rng.integers(0, 256, (8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"a\.png: no such ground truth"):
        read_tuning_set(tmp_path / "img", tmp_path / "gt", GLAS)
    truth = rng.integers(0, 2, (8, 8), np.uint8)
    write_picture(tmp_path / "gt" / "b.png", colourise(truth, GLAS))
    pairs, notes, failures = read_tuning_set(tmp_path / "img", tmp_path / "gt", GLAS)
    np.testing.assert_array_equal(pairs[0][1], truth)
    assert len(pairs) == len(failures) == 1 and "a.png" in failures[0] and notes == []
    write_picture(tmp_path / "gt" / "b.png", colourise(truth, GLAS) // 2)
    with pytest.raises(InputError, match=r"b\.png: no pixel .* has a class of glas; found #0"):
        read_tuning_set(tmp_path / "img", tmp_path / "gt", GLAS)


@pytest.fixture(scope="module")
def opened():
    """Have slides of any size, without pixels."""
    sizes, really_open = {}, labelled_images.open_slide

    def open_slide(path, mpp):
        return Slide(path, mpp, (), (Level(*sizes[path], None),)) if path in sizes else really_open(path, mpp)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(labelled_images, "open_slide", open_slide)
        yield sizes


def rectangle(x, y, width, height):
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]


def feature(name, *rings, **geometry):
    geometry = geometry or {"type": "Polygon", "coordinates": rings}
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}


def write(folder, *features, size=(200, 160)):
    """Write a slide of some width and height, and annotations of it."""
    image = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(image).save(folder / "s.png")
    (folder / "s.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return AnnotatedSlide(folder / "s.png", folder / "s.geojson", LABELS, 1.0, 0.5)


def test_derived_classes_holes_points_and_what_qupath_ignores(tmp_path):
    slide = write(
        tmp_path,
        feature("Tumor: Positive", rectangle(0, 0, 100, 160), rectangle(0, 0, 40, 40)),
        feature("stroma", rectangle(40, 40, 40, 40)),
        feature("Ignore*", rectangle(0, 40, 40, 40)),
        feature("Stroma", type="MultiPoint", coordinates=[[160, 100], [500, 100]]),
        feature("Necrosis", rectangle(0, 0, 9, 9)),
        feature("Tumor", type="LineString", coordinates=[[1, 1], [2, 2]]),
        feature("Stroma", rectangle(90, 80, 40, 40)),
    )
    found, notes = slide.label(Cut(20, 20, 0.3))
    tumor, stroma = [True, False], [False, True]
    assert {place: present.tolist() for place, present in found.items()} == {
        **{(0, 20): tumor, (0, 40): tumor},  # the hole is in the first patch
        **{(20, 20): stroma, (20, 40): tumor},  # the first one is ignored
        **{(40, 0): tumor, (40, 20): tumor, (40, 40): stroma},
        **{(60, 0): tumor, (60, 20): tumor, (60, 40): tumor},
        **{(40, 45): stroma, (40, 70): stroma},  # around a small region, and around a point
    }
    assert [note.removeprefix(f"{slide.truth}: ") for note in notes][-4:] == [
        "1 feature left out, no region, as points and lines: number 6",
        "left out, of no class of masks: Necrosis (1)",
        "1 annotation outside the slide",
        "1 partial overlap of two classes, where the smaller region counts, such as Tumor and Stroma near x = 110, "
        "y = 100",
    ]


def test_points_alone_are_annotations(tmp_path):
    slide = write(tmp_path, feature("Stroma", type="Point", coordinates=[100, 80]))
    found, notes = slide.label(Cut(20, 20, 0.3))
    assert {place: present.tolist() for place, present in found.items()} == {(30, 40): [False, True]}
    assert not notes


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_labels_are_those_of_a_rasterised_reference(data, tmp_path_factory, opened):
    """Rectangles with holes, which touch, overlap and cover each other, at any share and scale."""
    folder, sides = tmp_path_factory.mktemp("slide"), st.integers(0, 12).map(lambda n: 8 * n)
    slide = AnnotatedSlide(folder / "s", folder / "s.geojson", LABELS, data.draw(st.sampled_from([1, 2])), 1)
    names, shapes = [*LABELS.codes, "Ignore*"], {}
    for _ in range(data.draw(st.integers(1, 6))):
        x, y, width, height = (data.draw(sides) for _ in range(4))
        ring, hole = rectangle(x, y, width + 8, height + 8), rectangle(x, y, data.draw(sides), data.draw(sides))
        shape, name = shapely.Polygon(ring).difference(shapely.Polygon(hole)), data.draw(st.sampled_from(names))
        if shape.area:
            shapes[shape.area] = shape, name  # which of two of one size counts is not said
    size, stride, share = data.draw(st.integers(2, 30)), data.draw(st.integers(3, 30)), data.draw(st.floats(0.01, 1))
    features = [feature(name, **shapely.geometry.mapping(shape)) for shape, name in shapes.values()]
    (folder / "s.geojson").write_text(json.dumps(features))
    opened[folder / "s"] = 96, 80
    height, width = (round(side / slide.patch_mpp) for side in (96, 80))
    truth = np.full((height, width), 2)
    columns, rows = np.meshgrid(*((np.arange(side) + 0.5) * slide.patch_mpp for side in (width, height)))
    for area in sorted(shapes, reverse=True):
        truth[shapely.contains_xy(shapes[area][0], columns, rows)] = names.index(shapes[area][1])
    try:
        found = {place: labels.tolist() for place, labels in slide.label(Cut(size, stride, share))[0].items()}
    except InputError:
        found = {}
    assert each_by_itself(truth, size, stride, share).keys() <= found.keys()
    assert found == {place: present(truth, *place, size, share) for place in found}


@pytest.mark.slow
def test_many_annotations_of_a_large_slide_in_little_memory(tmp_path, opened):
    rng = np.random.default_rng(0)
    corners, sides = rng.integers(0, 18_000, (300, 2)).tolist(), rng.integers(100, 2000, (300, 2)).tolist()
    boxes = [
        feature(LABELS.codes[i % 2], rectangle(*corner, *side))
        for i, (corner, side) in enumerate(zip(corners, sides, strict=True))
    ]
    (tmp_path / "s.geojson").write_text(json.dumps(boxes))
    opened[tmp_path / "s"] = 20_000, 20_000
    slide = AnnotatedSlide(tmp_path / "s", tmp_path / "s.geojson", LABELS, 0.5, 0.25)
    tracemalloc.start()
    found, notes = slide.label(Cut(448, 448))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) > 150 and "partial overlaps of two classes" in notes[-1]
    assert peak < 70e6  # the label map as a whole has 100 million px


@pytest.mark.slow
def test_the_classes_of_files(in_process, tmp_path):
    write(tmp_path, feature("Tumor: Positive", rectangle(0, 0, 9, 9)), feature("Region*", rectangle(0, 0, 9, 9)))
    other, broken = tmp_path / "b.geojson", tmp_path / "c.geojson"
    names = ["tumor: positive", None, "Immune cells", "Ignore*"]
    other.write_text(json.dumps([feature(name, type="Point", coordinates=[1, 1]) for name in names]))
    broken.write_text("{")
    assert classes_of([tmp_path / "s.geojson", other, broken], quiet=True) == ["Immune cells", "Tumor: Positive"]


def test_what_gives_no_patch_is_an_error(tmp_path):
    slide = write(tmp_path, feature("Tumor", rectangle(0, 0, 9, 9)))
    with pytest.raises(InputError, match=r"s\.geojson: no patch of 20 px at 1 mpp has a class"):
        slide.label(Cut(20, 20))
