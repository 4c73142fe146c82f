"""Slides that are segmented in annotated regions only."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from hsn_v1.adp import CLASSIFIER_MPP, FUNC
from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.io.reading import read_table
from hsn_v1.slide_io.base import Level
from hsn_v1.slide_io.label_maps import read_areas
from hsn_v1.slide_io.slide import Slide
from hsn_v1.slides.inputs import Input, limited_to_regions
from hsn_v1.slides.plan import Method
from hsn_v1.slides.regions import read_regions
from hsn_v1.slides.segment_slide import segment_slide


def feature(name, x, y, width, height):
    ring = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    classification = {"classification": {"name": name}} if name else {}
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "geometry": geometry, "properties": classification}


def write(path, *features):
    path.write_text(json.dumps(features))
    return path


@pytest.fixture
def slide(tmp_path):
    """Return a function that opens a slide of 200 x 100 px without pixels."""
    return Slide(tmp_path / "s.svs", 1.0, (), (Level(100, 200, None),))


@pytest.mark.slow
@pytest.mark.parametrize("maps", ["adjusted", "gradcam"])
def test_inside_regions_as_the_whole_slide_and_outside_no_tissue(tmp_path, toy_histonet, maps):
    image = np.random.default_rng(0).integers(0, 230, (200, 300, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "s.png")
    # Maps are averaged over whole tiles, but the CRF sees pixels beside them: it is next to none here.
    method = Method((FUNC,), {"func": CRF(1, 1e-9, 1, 1, 1e-9)}, maps=maps)
    path = write(
        tmp_path / "s.geojson",
        feature("Tumor", 20, 30, 100, 80),
        feature(None, 100, 60, 60, 60),
        feature("Ignore*", 30, 40, 10, 10),
        feature("tiny", 270, 170, 4, 4),
    )
    results = []
    for name, regions in (("whole", None), ("part", path)):
        task = {"mpp": CLASSIFIER_MPP, "workers": 1, "name": name, "regions": regions}
        folder = segment_slide(tmp_path / "s.png", toy_histonet, method, tmp_path, **task).folder / "func"
        results.append(
            (tifffile.imread(folder / "s.ome.tif"), {row.code: row.pixels for row in read_areas(folder / "areas.csv")})
        )
    (whole, _), (part, areas) = results
    inside = np.zeros((200, 300), bool)
    inside[30:110, 20:120] = inside[60:120, 100:160] = inside[170:174, 270:274] = True
    inside[40:50, 30:40] = False
    np.testing.assert_array_equal(part[inside], whole[inside])
    assert (part[~inside] == len(FUNC)).all() and areas[""] == (~inside).sum()
    counted = {}
    for row in read_table(folder / "regions.csv"):
        counted.setdefault((row["region"], row["annotation"]), {})[row["class"]] = int(row["pixels"])
    assert {key: sum(counts.values()) for key, counts in counted.items()} == {
        ("1", "Tumor"): 8000,
        ("2", "no class"): 3600,
        ("3", "tiny"): 16,
    }
    assert counted["1", "Tumor"][""] == 100  # what is ignored in it
    with pytest.raises(InputError, match="holds results of another run"):
        segment_slide(tmp_path / "s.png", toy_histonet, method, tmp_path, mpp=CLASSIFIER_MPP, name="part")


def test_qupaths_regions_come_before_all_others(tmp_path, slide):
    path = write(tmp_path / "a.geojson", feature("Tumor", 0, 0, 90, 90), feature("Region*", 100, 0, 50, 50))
    regions, _ = read_regions(path, slide)
    assert [shape.name for shape in regions.shapes] == ["Region*"]
    touched = regions.touched(20, 40)
    assert touched[:10, 20:30].all() and not touched[:, :17].any() and not touched[13:].any()
    path = write(tmp_path / "b.geojson", feature("Ignore*", 0, 0, 90, 90), feature("Tumor", 900, 0, 9, 9))
    with pytest.raises(InputError, match="no region on the slide of 200 x 100 px"):
        read_regions(path, slide)


def test_inputs_without_regions_have_a_problem(tmp_path):
    write(tmp_path / "a.geojson", feature("x", 0, 0, 9, 9))
    inputs = [Input(tmp_path / "a.svs", "a.svs"), Input(tmp_path / "b.svs", "b.svs")]
    first, second = limited_to_regions(inputs, tmp_path)
    assert first.regions == tmp_path / "a.geojson" and not first.problem
    assert f"b.svs: no annotations in {tmp_path}; expected b.geojson" in second.problem
    with pytest.raises(InputError, match="no such folder"):
        limited_to_regions(inputs, tmp_path / "none")
    with pytest.raises(InputError, match=r"a\.geojson: no folder, but a file; it should hold annotations, as GeoJSON"):
        limited_to_regions(inputs, tmp_path / "a.geojson")
