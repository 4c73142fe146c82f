"""Masks of any program against ground truth, by one ruler."""

import json
from functools import partial

import numpy as np
import pytest
from helpers import carry_out, rows, write_map
from invented import CLASS_FILE, TISSUE, draw
from PIL import Image

from hsn_v1.adp import GLAS
from hsn_v1.errors import InputError
from hsn_v1.evaluate import PUBLISHED, named_metrics
from hsn_v1.intervals import draw_weights
from hsn_v1.io.masks import write_mask
from hsn_v1.io.records import record_of_label_set
from hsn_v1.io.writing import write_picture
from hsn_v1.labels import LabelSet
from hsn_v1.sets.score import OBJECT, score_folder
from hsn_v1.show.figures import colourise

TRUTH = np.array([[0, 0, 1, 3], [0, 1, 1, 3]], np.uint8)
FOUND = np.array([[0, 1, 1, 0], [0, 1, 3, 3]], np.uint8)  # red 2 of 3, green 2 of 3, bare 1 of 2


@pytest.fixture
def folders(tmp_path):
    write_mask(tmp_path / "truth" / "x.png", TRUTH, TISSUE)
    write_picture(tmp_path / "found" / "x.jpg.png", colourise(FOUND, TISSUE))
    return tmp_path / "found", tmp_path / "truth"


def values_of(score, protocols):
    """Return the values of a score's table, without intervals."""
    table = score.table(protocols)
    return {key: {protocol: one.value for protocol, one in values.items()} for key, values in table.items()}


def test_worked_by_hand(folders):
    score = score_folder(*folders, TISSUE)
    assert (score.names, score.failures, score.notes) == (["x"], (), ())
    table = values_of(score, ["excluded", "background"])
    assert table["IoU", "RED"] == pytest.approx({PUBLISHED: 2 / 4, "excluded": 2 / 3, "background": 2 / 4})
    assert table["IoU", "GREEN"] == pytest.approx({PUBLISHED: 2 / 4, "excluded": 2 / 4, "background": 2 / 4})
    assert table["IoU", "Bare"] == pytest.approx({PUBLISHED: 1 / 3})
    assert table["mIoU", ""] == pytest.approx({PUBLISHED: (1 + 1 / 3) / 4, "excluded": 7 / 12, "background": 1 / 2})
    assert table["pixel accuracy", ""] == pytest.approx({"excluded": 4 / 6, "background": 5 / 8})
    assert np.isnan(table["IoU", "BLUE"]["excluded"])


def test_indices_score_as_colours_do(folders):
    found, truth = folders
    Image.fromarray(FOUND).save(found.parent / "indices.png")
    (found / "x.jpg.png").unlink()
    (found.parent / "indices.png").rename(found / "x.png")
    table = values_of(score_folder(found, truth, TISSUE), ["excluded"])
    assert table["mIoU", ""]["excluded"] == pytest.approx(7 / 12)


def test_truth_of_another_size_is_resized_if_asked(folders):
    found, truth = folders
    write_mask(truth / "x.png", TRUTH.repeat(3, axis=0).repeat(3, axis=1), TISSUE)
    with pytest.raises(InputError, match=r"x\.png: 12 x 6 px, expected 4 x 2"):
        score_folder(found, truth, TISSUE)
    score = score_folder(found, truth, TISSUE, resize=True)
    assert values_of(score, ["excluded"])["mIoU", ""]["excluded"] == pytest.approx(7 / 12)
    assert score.images[0].pixels.sum() == 9 * 8
    assert "1 masks, 4 x 2 px; 1 files of ground truth resized to them; of 8 px, 0.0 %" in score.comparison()


def test_what_is_missing_surplus_or_strange_is_said(folders):
    found, truth = folders
    write_mask(truth / "y.png", TRUTH, TISSUE)
    write_picture(found / "z.png", colourise(FOUND, TISSUE))
    write_picture(found / "x.jpg.png", np.where(FOUND[..., None] == 3, 77, colourise(FOUND, TISSUE)).astype(np.uint8))
    score = score_folder(found, truth, TISSUE)
    assert score.names == ["x"]
    assert "y.png" in score.failures[0] and "has no mask of this name" in score.failures[0]
    assert "x.jpg.png: 2 pixels have a colour of no class" in score.notes[0]
    assert "z.png: no ground truth of this name; 1 such masks do not count" in score.notes[1]
    assert score.confusion[:, -1].sum() == 2
    (truth / "x.png").unlink()
    with pytest.raises(InputError, match="no mask of this name"):
        score_folder(found, truth, TISSUE)
    with pytest.raises(InputError, match="nowhere: no such folder; it should hold masks"):
        score_folder(found.parent / "nowhere", truth, TISSUE)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.toml").write_text(CLASS_FILE)
    return tmp_path


def test_the_command_prints_and_writes_all_values(root, folders, capsys):
    found, truth = folders
    table = root / "score.csv"
    options = ["--prediction", found, "--truth", truth, "--model", "mine", "--root", root, "--quiet"]
    assert carry_out("evaluate", *options, "--csv", table) == 0
    printed = capsys.readouterr().out
    assert "left out of the first means: BLUE bluish tissue" in printed
    assert "0.5833" in printed and "excluded: pixels whose truth is Bare do not count" in printed
    values = {(row["protocol"], row["metric"], row["class"]): row["value"] for row in rows(table)}
    assert float(values["excluded", "mIoU", ""]) == pytest.approx(7 / 12)
    assert values["excluded", "IoU", "BLUE"] == ""
    assert carry_out("evaluate", *options, "--protocol", "excluded") == 0
    assert "background" not in capsys.readouterr().out.splitlines()[2]


def test_the_command_goes_on_without_what_it_cannot_compare(root, folders, capsys):
    found, truth = folders
    write_mask(truth / "y.png", TRUTH, TISSUE)
    options = ["--prediction", found, "--truth", truth, "--model", "mine", "--root", root, "--quiet"]
    assert carry_out("evaluate", *options) == 1
    assert "failed: " in capsys.readouterr().err
    assert carry_out("evaluate", *options, "--labels", "morph") == 2
    assert "morph: no label set of this classifier; it has tissue" in capsys.readouterr().err
    assert carry_out("evaluate", *options, "--model", "yours") == 2
    assert "yours.json: no such file; put it there, or choose one of: " in capsys.readouterr().err


def test_a_score_over_no_class_is_no_number_and_no_worst_image(root, folders, capsys):
    """An image of background alone: found as such, its mean IoU of the classes is not 0."""
    found, truth = folders
    bare = np.full((2, 4), TISSUE.codes.index("Bare"), np.uint8)
    for folder in folders:
        write_mask(folder / "bare.png", bare, TISSUE)
    options = ["--prediction", found, "--truth", truth, "--model", "mine", "--root", root, "--quiet"]
    assert carry_out("evaluate", *options, "--per-image", root / "images.csv") == 0
    first, last = rows(root / "images.csv")
    assert (first["image"], last["image"], last["mIoU (excluded)"]) == ("x", "bare", "")
    assert last["pixel accuracy (background)"] == "1.0" and last["pixel accuracy (excluded)"] == ""
    (found / "x.jpg.png").unlink()
    (truth / "x.png").unlink()
    capsys.readouterr()
    assert carry_out("evaluate", *options, "--baselines", "--images", truth) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "mIoU " in line and "of" not in line)
    assert [cell.strip() for cell in line.split("│")[3:5]] == ["-", "-"]


def test_label_maps_of_segment_are_scored_at_the_truth_s_size(tmp_path):
    labels = np.zeros((8, 12), np.uint8)
    labels[:, 6:] = 1
    labels[:2] = len(GLAS)  # no tissue
    for name in ("a.png", "b.svs"):
        folder = tmp_path / "out" / name
        write_map(folder / "glas" / f"{name[0]}.ome.tif", labels, GLAS)
        (folder / "run.json").write_text('{"finished": true}')
        write_mask(tmp_path / "truth" / f"{name[0]}.png", np.kron(labels % 2, np.ones((2, 2), np.uint8)), GLAS)
    score = score_folder(tmp_path / "out", tmp_path / "truth", GLAS)
    assert (score.names, score.failures) == (["a", "b"], ())
    assert score.confusion.tolist() == [[288, 0, 192], [0, 288, 0], [0, 0, 0]]
    (note,) = score.notes
    assert "a.ome.tif: 12 x 8 px, resized to its ground truth's 24 x 16 px (1 more file likewise)" in note
    write_mask(tmp_path / "truth" / "b.png", np.zeros((16, 16), np.uint8), GLAS)
    score = score_folder(tmp_path / "out", tmp_path / "truth", GLAS)
    assert score.names == ["a"]
    assert "b.png: 16 x 16 px, expected 12 x 8 as its image has, or the same aspect" in score.failures[0]
    assert score_folder(tmp_path / "out", tmp_path / "truth", GLAS, resize=True).names == ["a", "b"]


NO_TISSUE = np.where(FOUND == 0, len(TISSUE), FOUND).astype(np.uint8)


@pytest.mark.parametrize(
    ("file", "results", "given", "write"),
    [
        ("x.svs/tissue/x.ome.tif", "x.svs", ".", partial(write_map, labels=NO_TISSUE)),
        ("tissue/patch/x.png", ".", ".", partial(write_mask, labels=FOUND)),
        ("tissue/ablative_CRF/x.png", ".", "tissue/ablative_CRF", partial(write_mask, labels=FOUND)),
    ],
)
def test_results_have_the_classes_of_their_record(folders, file, results, given, write):
    _, truth = folders
    out = truth.parent / "out"
    write(out / file, label_set=TISSUE)
    (out / results / "run.json").write_text('{"finished": true}')  # as of an earlier version
    expected = score_folder(out / given, truth, TISSUE).confusion
    (out / results / "run.json").write_text(json.dumps({"classes": {"tissue": record_of_label_set(TISSUE)}}))
    order = ["Bare", "NEW", "BLUE", "GREEN", "RED"]
    colours = {"NEW": (1, 2, 3), **TISSUE.colours}
    edited = LabelSet("tissue", {code: colours[code] for code in order}, {})
    places = [*edited.indices(TISSUE.codes), len(edited)]
    assert (score_folder(out / given, truth, edited).confusion[np.ix_(places, places)] == expected).all()
    assert expected.sum() == TRUTH.size
    fewer = LabelSet("tissue", {code: colours[code] for code in ("GREEN", "RED")}, {})
    with pytest.raises(InputError, match=r"x\..*: written with the class BLUE of tissue, expected GREEN, RED of"):
        score_folder(out / given, truth, fewer)
    with pytest.raises(InputError, match="out: no masks of glas; these results have tissue: give one"):
        score_folder(out, truth, GLAS)


def test_a_label_map_of_other_or_unknown_classes_is_refused(folders):
    _, truth = folders
    write_map(truth.parent / "out" / "tissue" / "x.ome.tif", TRUTH, TISSUE)
    (truth.parent / "out" / "run.json").write_text(json.dumps({"classes": {"tissue": record_of_label_set(TISSUE)}}))
    kinds = LabelSet("kinds", {f"K.{code}": colour for code, colour in TISSUE.colours.items()}, {})
    with pytest.raises(
        InputError, match=r"x\.ome\.tif: written with the class RED of tissue, expected K\.RED, K\.GREEN"
    ):
        score_folder(truth.parent / "out" / "tissue", truth, kinds)
    (truth.parent / "out" / "run.json").write_text("damaged")
    with pytest.raises(InputError, match=r"run\.json: cannot be read, but has the classes"):
        score_folder(truth.parent / "out" / "tissue", truth, TISSUE)


def test_ground_truth_without_a_pixel_of_a_class_is_refused(folders):
    found, truth = folders
    write_mask(truth / "y.png", TRUTH, TISSUE)
    write_mask(found / "y.png", FOUND, TISSUE)
    wrong = colourise(TRUTH, TISSUE) // 2
    write_picture(truth / "x.png", wrong)
    assert score_folder(*folders, TISSUE).names == ["x", "y"]
    write_picture(truth / "y.png", wrong)
    with pytest.raises(
        InputError, match=r"x\.png: no pixel .* of tissue; found #640000, expected RED #c80000, GREEN #"
    ):
        score_folder(*folders, TISSUE)


@pytest.fixture
def program(root):
    """Two programs' masks of twelve images of four cases, their truth and the images."""
    rng = np.random.default_rng(2)
    for i in range(12):
        image, labels = draw(rng, 24, 30, [(0, 1, 3), (2, 1), (2, 0, 3)][i % 3])
        write_picture(root / "img" / f"c{i % 4}_{i}.png", image)
        write_mask(root / "truth" / f"c{i % 4}_{i}.png", labels, TISSUE)
        for name, least in (("found", i), ("other", 2 + i)):
            wrong = np.where(rng.integers(0, 40, labels.shape) < least, 1, labels).astype(np.uint8)
            write_mask(root / name / f"c{i % 4}_{i}.png", wrong, TISSUE)
    with (root / "cases.csv").open("w") as file:
        file.write("slide;image;case\n" + "".join(f"s;img/c{i % 4}_{i}.jpg;case {i % 4}\n" for i in range(12)))
    return root


def evaluate(root, *options):
    folders = ["--prediction", root / "found", "--truth", root / "truth", "--model", "mine", "--root", root]
    return carry_out("evaluate", *folders, "--quiet", *options)


def test_images_add_up_to_what_is_pooled_and_the_worst_comes_first(program, capsys):
    options = ["--csv", program / "all.csv", "--per-image", program / "images.csv", "--protocol", "background"]
    assert evaluate(program, *options) == 0
    printed = capsys.readouterr().out
    assert "\nbackground: " in printed and "\nexcluded: " not in printed
    pooled = {(row["protocol"], row["metric"], row["class"]): row for row in rows(program / "all.csv")}
    images = rows(program / "images.csv")
    ious = [float(row["mIoU (background)"]) for row in images]
    assert len(ious) == 12 and ious == sorted(ious) and images[-1]["image"] == "c0_0"
    confusion = np.zeros((5, 5), int)
    for column in images[0]:
        if " as " in column:
            true, predicted = ([*TISSUE.codes, "none"].index(code) for code in column.split(" as "))
            confusion[true, predicted] = sum(int(row[column]) for row in images)
    for metric, code, value in named_metrics(confusion, TISSUE, "background"):
        assert float(pooled["background", metric, code]["value"]) == value
    row = pooled["background", "mIoU", ""]
    assert float(row["low"]) < float(row["value"]) < float(row["high"])


@pytest.mark.parametrize("options", [["--group", "^c."], ["--group", "case", "--group-table", "cases.csv"]])
def test_groups_have_scores_and_are_drawn_whole(program, options, capsys, monkeypatch):
    monkeypatch.chdir(program)
    assert evaluate(program, *options, "--interval", "groups", "--csv", "all.csv", "--per-image", "i.csv") == 0
    assert "bootstrap over 4 groups, 5000 draws, seed 0; of so few, they say little" in capsys.readouterr().out
    mious = [row for row in rows(program / "all.csv") if (row["protocol"], row["metric"]) == ("excluded", "mIoU")]
    assert [row["images"] for row in mious] == ["12", "3", "3", "3", "3"]
    assert mious[1]["group"] in ("c0", "case 0") and mious[1]["low"] == ""
    confusions = {row["image"]: row["group"] for row in rows(program / "i.csv")}
    score = score_folder(program / "found", program / "truth", TISSUE)
    groups = [confusions[name] for name in score.names]
    drawn = score.table(["excluded"], draw_weights(groups))["mIoU", ""]["excluded"]
    assert float(mious[0]["low"]) == drawn.low


def test_two_programs_and_what_needs_none(program, capsys):
    (program / "other" / "c0_0.png").unlink()
    options = ["--against", program / "other", "--baselines", "--images", program / "img", "--patch", 6]
    assert evaluate(program, *options, "--csv", program / "all.csv") == 1
    assert "c0_0.png: " in (told := capsys.readouterr()).err
    assert "11 images, label set tissue: difference" in told.out
    mious = [row for row in rows(program / "all.csv") if row["metric"] == "mIoU" and row["protocol"] == "excluded"]
    assert {row["images"] for row in mious} == {"11"}
    mious = {row["masks"]: row for row in mious}
    first, other, difference = (mious[name] for name in ("", str(program / "other"), "difference"))
    assert float(difference["value"]) == pytest.approx(float(first["value"]) - float(other["value"]))
    assert 0 < float(difference["low"]) < float(difference["high"])
    (threshold,), (alone,) = ([name for name in mious if word in name] for word in ("where", "all "))
    names = [alone, threshold, "true labels of windows of 6 px, painted"]
    values = [float(mious[name]["value"]) for name in names]
    assert values == sorted(values) and values[-1] > 0.7


def test_annotations_are_truth_where_they_are(program, capsys):
    (program / "truth" / "c0_0.png").unlink()
    square = [[[0, 0], [6, 0], [6, 6], [0, 6], [0, 0]]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": square},
        "properties": {"classification": {"name": "reddish tissue"}},
    }
    (program / "truth" / "c0_0.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    score = score_folder(program / "found", program / "truth", TISSUE).of(["c0_0"])
    assert score.confusion.sum() == 36 and score.confusion[0, 0] == 36
    assert evaluate(program, "--baselines") == 0
    feature["properties"]["classification"]["name"] = "fat"
    (program / "truth" / "c0_0.geojson").write_text(json.dumps(feature))
    assert evaluate(program) == 1
    assert "c0_0.geojson: no region of a class of tissue" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--interval", "groups"], "--interval groups goes with --group"),
        (["--group", "("], "--group (: no regular expression"),
        (["--group", "x{9}"], "puts no image in a group; expected names such as c0_0"),
        (["--group", "patient", "--group-table", "cases.csv"], "no column patient; expected one of slide, image, case"),
        (["--against", "found/nowhere"], "nowhere: no such folder"),
        (["--images", "img"], "--images and --patch go with --baselines"),
    ],
)
def test_what_cannot_be_compared_is_said(program, options, said, capsys, monkeypatch):
    monkeypatch.chdir(program)
    assert evaluate(program, *options) == 2
    assert said in capsys.readouterr().err


def test_objects_are_scored_where_a_label_set_has_them(tmp_path):
    found, true = np.zeros((2, 12, 20), np.uint8)
    true[2:8, 2:8] = true[2:8, 10:16] = found[2:8, 2:8] = 1
    write_mask(tmp_path / "found" / "a.png", found, GLAS)
    write_mask(tmp_path / "truth" / "a.png", true, GLAS)
    table = values_of(score_folder(tmp_path / "found", tmp_path / "truth", GLAS), [])
    assert table["F1", "connected components"] == {OBJECT: pytest.approx(2 / 3)}
    true[:, 10:] *= 2  # in the published file, both are of one object
    write_picture(tmp_path / GLAS.true_objects / "a.bmp", np.minimum(true, 1))
    table = values_of(score_folder(tmp_path / "found", tmp_path / "truth", GLAS), [])
    assert table["F1", "connected components"] == {OBJECT: 1}
