"""Ground truth of the user's own: masks and annotations, and how a segmentation agrees with them."""

import json
import os

import numpy as np
import pytest
from PIL import Image
from viewing import get, get_json, running, write_results

from hsn_v1.adp import FUNC
from hsn_v1.errors import InputError
from hsn_v1.io.masks import read_mask
from hsn_v1.io.writing import write_picture
from hsn_v1.show.figures import colourise
from hsn_v1.view import ground_truth
from hsn_v1.view.entries import Entry
from hsn_v1.view.ground_truth import Frame, confusion, find_ground_truth, read_ground_truth, scores, unused_files
from hsn_v1.view.library import Library
from hsn_v1.view.pyramids import build_pyramid, read_small

BACKGROUND, OTHER, GLAND, ENDOCRINE, VESSEL = range(5)
NOTHING = len(FUNC)
RNG = np.random.default_rng(8)


def read(path, rows, columns):
    """Read ground truth of a slide as large as its label map: class indices, and notes."""
    truth = read_ground_truth(path, FUNC, Frame(rows, columns, rows, columns))
    return read_small(truth.pyramid, max(rows, columns)), [*truth.notes]


# --- Masks ------------------------------------------------------------------------------------------------------------


def draw_masks(folder, labels):
    """Draw a mask, all of whose classes occur, in the forms that people use."""
    palette = np.vstack([[*FUNC.colours.values()], RNG.integers(0, 256, (200, 3))]).astype(np.uint8)
    Image.fromarray(labels).save(folder / "indices.png")
    Image.fromarray(labels).save(folder / "indices.bmp")
    Image.fromarray(colourise(labels, FUNC)).save(folder / "colours.tif", compression="tiff_lzw")
    Image.fromarray(colourise(labels, FUNC)).convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(np.dstack([labels] * 3)).save(folder / "greys.png")
    Image.fromarray(labels % 2 > 0).save(folder / "bilevel.png")
    Image.fromarray(labels % 2 > 0).save(folder / "bilevel.tif")
    for name, order in (("palette.png", slice(None)), ("permuted.png", slice(None, None, -1))):
        image = Image.fromarray(labels if name == "palette.png" else np.uint8(len(palette) - 1) - labels, "P")
        image.putpalette(palette[order].ravel().tolist())
        image.save(folder / name)


@pytest.fixture(params=[10**9, 10], ids=["at once", "in strips"])
def way(request, monkeypatch):
    """Let masks be read at once, or all as large ones are; return how."""
    monkeypatch.setattr(ground_truth, "PLAIN_PIXELS", request.param)
    return request.node.callspec.id


@pytest.mark.slow
def test_masks_are_read_as_elsewhere_however_large_they_are(tmp_path, way):
    labels = RNG.integers(0, NOTHING, (1100, 130), np.uint8)
    draw_masks(tmp_path, labels)
    for path in tmp_path.iterdir():
        found, notes = read(path, 1100, 130)
        mask = read_mask(path, FUNC)
        drawn = labels % 2 if path.stem == "bilevel" else labels
        np.testing.assert_array_equal(found, drawn, err_msg=path.name)
        np.testing.assert_array_equal(found, mask.labels)
        assert notes == [note.replace(str(path), path.name) for note in mask.notes]
        assert len(notes) == path.name.startswith(("indices", "greys", "bilevel"))


def test_a_mask_of_another_size_is_resized_to_its_nearest_pixels_and_one_of_another_aspect_refused(tmp_path, way):
    labels = RNG.integers(0, NOTHING, (600, 40), np.uint8)
    write_picture(tmp_path / "mask.png", labels)
    found, _ = read(tmp_path / "mask.png", 1200, 80)
    np.testing.assert_array_equal(found, np.kron(labels, np.ones((2, 2), np.uint8)))
    with pytest.raises(InputError, match="40 x 600 px, expected 120 x 1200 as its image has, or the same aspect"):
        read(tmp_path / "mask.png", 1200, 120)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"GIF89a", "not an image"), (b"", "not an image"), (b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged")],
)
def test_what_is_no_mask(tmp_path, content, message):
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "mask.png", 10, 10)


def test_a_mask_that_is_cut_off(tmp_path, way):
    write_picture(tmp_path / "mask.png", RNG.integers(0, 5, (500, 500), np.uint8))
    content = (tmp_path / "mask.png").read_bytes()
    (tmp_path / "mask.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"damaged|cut off"):
        read(tmp_path / "mask.png", 500, 500)


def test_a_mask_of_16_bits_is_refused(tmp_path, way):
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="16 bits" if way == "at once" else "save it with 8 bits"):
        read(tmp_path / "mask.png", 9, 9)


# --- Annotations ------------------------------------------------------------------------------------------------------


def rectangle(x, y, width, height, name):
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    properties = {"classification": {"name": name, "color": [1, 2, 3]}} if name else {}
    return {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [corners]}}


def write_features(path, *features):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(features), "utf-8")
    return path


def test_annotations_are_drawn_at_the_label_maps_scale(tmp_path):
    path = write_features(tmp_path / "a.geojson", rectangle(0, 2000, 400, 400, "G.O"), rectangle(0, 0, 4, 4, "Tumor"))
    truth = read_ground_truth(path, FUNC, Frame(2400, 800, 600, 200))
    expected = np.full((600, 200), NOTHING, np.uint8)
    expected[500:, :100] = GLAND
    np.testing.assert_array_equal(read_small(truth.pyramid, 600), expected)
    assert truth.notes == ("a.geojson: left out, of no class of func: Tumor (1)",)


def test_annotations_beside_the_slide_are_told(tmp_path):
    path = write_features(tmp_path / "a.json", rectangle(900, 0, 40, 40, "G.O"))
    assert read(path, 90, 80)[1] == ["a.json: no region of a class of func lies on the slide of 80 x 90 px"]


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
        ("slide.json", True),
        ("slide.svs.geojson.gz", True),
        ("slide.xml", False),
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
    assert find_ground_truth(entry, "func", tmp_path) == (path if found else None)
    assert find_ground_truth(entry, "func", None) is None


def test_files_that_are_nobodys_ground_truth_are_listed(tmp_path):
    source, folder = tmp_path / "slides" / "a.png", tmp_path / "truth"
    write_picture(source, np.full((40, 40, 3), 200, np.uint8))
    write_results(tmp_path / "out" / "a.png", source, {"func": np.zeros((40, 40), np.uint8)})
    library = Library.of(tmp_path / "out")
    for name in ("b.xml", "func/c.png", "d.png"):
        write_features(folder / name)
    os.mkfifo(folder / "e.png")
    none = f"{folder}: no ground truth of any slide; expected files named after the slides: a.geojson"
    left = "b.xml, d.png, e.png, func/c.png; of annotations, only GeoJSON"
    files = f"{folder}: passed over, as no slide's ground truth: {left}"
    first, second = unused_files(library, folder)
    assert first.startswith(none) and second.startswith(files)
    write_features(folder / "func" / "a.json")
    assert [note.partition(": ")[2] for note in unused_files(library, folder)] == [second.partition(": ")[2]]


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
        assert score["notes"] == ["a.geojson: left out, of no class of func: x<y (1)"]
        layers = get_json(port, "/api/entry", id="segmented/a.png")["sets"][0]["layers"]
        assert [layer["key"] for layer in layers] == ["labels", "truth"]
        write_features(path, rectangle(0, 0, 400, 100, "G.O"))
        assert get_json(port, "/api/score", **asked)["iou"] == {"G.O": 1.0}
        path.write_text("{")
        assert get(port, "/api/score", asked)[0] == 422
        assert get(port, "/api/entry", {"id": "segmented/a.png"})[0] == 200
        path.unlink()
        assert get(port, "/api/score", asked)[0] == 404
