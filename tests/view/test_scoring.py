"""Ground truth of the user's own: masks and annotations, and how a segmentation agrees with them."""

import json

import numpy as np
import pytest
from PIL import Image
from viewing import get, get_json, running, write_results

from hsn_v1.adp import FUNC
from hsn_v1.errors import InputError
from hsn_v1.io.writing import write_picture
from hsn_v1.show.figures import colourise
from hsn_v1.view.library import Entry
from hsn_v1.view.masks import Frame, annotation_strips, mask_strips, read_annotations
from hsn_v1.view.pyramids import build_pyramid
from hsn_v1.view.scoring import confusion, find_truth, scores

BACKGROUND, OTHER, GLAND, ENDOCRINE, VESSEL = range(5)
NOTHING = len(FUNC)
RNG = np.random.default_rng(8)


def read(path, rows, columns):
    return np.vstack([*mask_strips(path, FUNC, rows, columns)])


# --- Masks ------------------------------------------------------------------------------------------------------------


def test_masks_in_indices_in_colours_and_with_a_palette_are_the_same(tmp_path):
    labels = RNG.integers(0, NOTHING + 1, (1100, 130), np.uint8)
    Image.fromarray(labels).save(tmp_path / "indices.png")
    Image.fromarray(colourise(labels, FUNC)).save(tmp_path / "colours.tif", compression="tiff_lzw")
    Image.fromarray(colourise(labels, FUNC)).convert("RGBA").save(tmp_path / "alpha.png")
    palette = Image.fromarray(labels, "P")
    palette.putpalette([*np.ravel(list(FUNC.colours.values())).tolist(), 1, 2, 3])
    palette.save(tmp_path / "palette.png")
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(read(path, 1100, 130), labels, err_msg=path.name)


def test_a_mask_of_another_size_is_stretched_by_its_nearest_pixels(tmp_path):
    labels = RNG.integers(0, NOTHING, (600, 40), np.uint8)
    write_picture(tmp_path / "mask.png", labels)
    np.testing.assert_array_equal(read(tmp_path / "mask.png", 1200, 120), np.kron(labels, np.ones((2, 3), np.uint8)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GIF89a", "expected PNG, TIFF or BMP"),
        (b"", "expected PNG, TIFF or BMP"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged"),
    ],
)
def test_what_is_no_mask(tmp_path, content, message):
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "mask.png", 10, 10)


def test_a_mask_that_is_cut_off(tmp_path):
    write_picture(tmp_path / "mask.png", RNG.integers(0, 5, (500, 500), np.uint8))
    content = (tmp_path / "mask.png").read_bytes()
    (tmp_path / "mask.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged"):
        read(tmp_path / "mask.png", 500, 500)


def test_a_mask_of_16_bits_is_refused(tmp_path):
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="uint16; expected an 8-bit mask"):
        read(tmp_path / "mask.png", 9, 9)


# --- Annotations ------------------------------------------------------------------------------------------------------


def rectangle(x, y, width, height, name):
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    properties = {"classification": {"name": name, "color": [1, 2, 3]}} if name else {}
    return {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [corners]}}


def write_features(path, *features, wrap=lambda features: {"type": "FeatureCollection", "features": features}):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(wrap(list(features))), "utf-8")
    return path


def test_annotations_are_drawn_at_the_label_maps_scale(tmp_path):
    features = [
        rectangle(0, 0, 400, 2400, "G.O exocrine gland"),
        rectangle(200, 100, 400, 20, "TRANSPORT VESSEL"),
        rectangle(0, 0, 4, 4, "Tumor"),
        rectangle(8, 8, 4, 4, None),
    ]
    path = write_features(tmp_path / "a.geojson", *features)
    annotations = read_annotations(path, FUNC)
    assert annotations.unknown == {"Tumor": 1, "no class": 1}
    strips = [*annotation_strips(annotations, Frame(2400, 800, 600, 200), NOTHING)]
    assert [len(strip) for strip in strips] == [512, 88]
    drawn, expected = np.vstack(strips), np.full((600, 200), NOTHING, np.uint8)
    expected[:, :100] = GLAND
    expected[25:30, 50:150] = VESSEL  # later ones cover earlier ones
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("wrap", [list, lambda features: features[0]], ids=["list", "feature"])
def test_other_forms_of_geojson(tmp_path, wrap):
    path = write_features(tmp_path / "a.geojson", rectangle(0, 0, 9, 9, "G.O"), wrap=wrap)
    assert [index for _, index in read_annotations(path, FUNC).shapes] == [GLAND]


@pytest.mark.parametrize(
    "content", ["", "[1]", "{}", '{"features": 3}', '{"features": [{"geometry": {"type": "X"}}]}', "[" * 9999]
)
def test_what_is_no_geojson(tmp_path, content):
    (tmp_path / "a.geojson").write_text(content)
    with pytest.raises(InputError, match="not GeoJSON as QuPath exports it"):
        read_annotations(tmp_path / "a.geojson", FUNC)


# --- Where it lies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("slide.svs.geojson", True),
        ("slide.geojson", True),
        ("slide.png", True),
        ("slide_func.png", True),
        ("func/slide.png", True),
        ("func/slide.svs.tif", True),
        ("slide_morph.png", False),
        ("slide.svs", False),
        ("slide2.png", False),
    ],
)
def test_ground_truth_goes_by_the_slides_name(tmp_path, name, found):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    entry = Entry("slide.svs", "slide.svs", tmp_path)
    assert find_truth(entry, "func", tmp_path) == (path if found else None)
    assert find_truth(entry, "func", None) is None


# --- Scores -----------------------------------------------------------------------------------------------------------


def pyramid(labels):
    strips = (labels[top : top + 512] for top in range(0, len(labels), 512))
    return build_pyramid(strips, *labels.shape)


def test_scores_by_hand():
    truth, found = np.full((600, 700), NOTHING, np.uint8), np.full((600, 700), VESSEL, np.uint8)
    truth[590, 600:610] = GLAND
    truth[0, :4] = BACKGROUND
    found[590, 600:606] = GLAND
    found[590, 606:608] = OTHER
    found[0, :3] = NOTHING  # no tissue is background
    counts = confusion(pyramid(truth), pyramid(found), FUNC)
    assert counts.sum() == 14
    assert scores(counts, FUNC) == {
        "iou": {"Background": 0.75, "Other": 0.0, "G.O": 0.6, "T": 0.0},
        "pixels": {"Background": 4, "G.O": 10},
        "miou": 0.675,
        "correct": 0.6429,
    }


def test_no_annotations_give_no_mean():
    counts = confusion(pyramid(np.full((9, 9), NOTHING, np.uint8)), pyramid(np.zeros((9, 9), np.uint8)), FUNC)
    assert scores(counts, FUNC) == {"iou": {}, "pixels": {}, "miou": None, "correct": 0.0}


def test_own_annotations_are_shown_and_scored(tmp_path):
    source = tmp_path / "slides" / "a.png"
    write_picture(source, np.full((400, 400, 3), 200, np.uint8))
    labels = np.full((200, 200), OTHER, np.uint8)
    labels[:50] = GLAND
    write_results(tmp_path / "out" / "segmented" / "a.png", source, {"func": labels}, height=400, width=400)
    path = write_features(
        tmp_path / "truth" / "a.geojson", rectangle(0, 0, 400, 200, "G.O"), rectangle(0, 0, 9, 9, "x<y")
    )
    asked = {"id": "segmented/a.png", "set": "func", "layer": "labels"}
    with running(tmp_path / "out", tmp_path / "truth") as port:
        score = get_json(port, "/api/score", **asked)
        assert score["iou"] == {"Other": 0.0, "G.O": 0.5}
        assert score["notes"] == ["a.geojson: 1 annotations of x<y, which is no class of func, are left out"]
        layers = get_json(port, "/api/entry", id="segmented/a.png")["sets"][0]["layers"]
        assert [layer["key"] for layer in layers] == ["labels", "truth"]
        write_features(path, rectangle(0, 0, 400, 100, "G.O"))
        assert get_json(port, "/api/score", **asked)["iou"] == {"G.O": 1.0}
        path.write_text("{")
        assert get(port, "/api/score", asked)[0] == 422
        assert get(port, "/api/entry", {"id": "segmented/a.png"})[0] == 200
        path.unlink()
        assert get(port, "/api/score", asked)[0] == 404
