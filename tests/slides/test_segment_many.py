import json
import os
import re
import shutil
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from helpers import Page, carry_out, contents, rows
from PIL import Image

from hsn_v1.adp import CLASSIFIER_MPP, FUNC, GLAS
from hsn_v1.hsn_v1 import segment_image
from hsn_v1.io.locks import LockedError, locked
from hsn_v1.io.writing import write_picture
from hsn_v1.sets.settings import read_crfs
from hsn_v1.slides import results
from hsn_v1.slides import segment_slide as story
from hsn_v1.slides.segment_many import once_free

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def segment(root, tmp_path):
    """Call the command in this process, with the toy model and two workers; results go to ``out``, mostly of glas."""
    fixed = ("--root", root, "--model", "toy", "--workers", 2, "--quiet", "--out", tmp_path / "out", "--labels", "glas")
    return lambda *arguments: carry_out("segment", *fixed, *arguments)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def failures(capsys):
    """Return a function that tells which failures the screen has."""
    return lambda: [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]


def tissue(seed, *size):
    return np.random.default_rng(seed).integers(0, 230, (*size, 3), np.uint8)


def image(path, seed=1, *size):
    """Write an image of noise, and return its path."""
    write_picture(path, tissue(seed, *(size or (40, 40))))
    return path


def write_slide(path, image, mpp=CLASSIFIER_MPP):
    """Write a tiled TIFF of two levels, which OpenSlide opens."""
    common = {"tile": (16, 16), "photometric": "rgb", "resolutionunit": "CENTIMETER", "compression": "zlib"}
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 2):
            density = 10_000 / mpp / step
            writer.write(image[::step, ::step], resolution=(density, density), subfiletype=int(step > 1), **common)
    return path


def results_in(folder):
    """Every result's bytes, but for those of files that tell when they were made."""
    told = ("run.json", "segmented.csv", "index.html")
    return {name: content for name, content in contents(folder).items() if Path(name).name not in told}


def label_map(folder, label_set, stem):
    return tifffile.imread(folder / label_set / f"{stem}.ome.tif")


def table(out):
    return {Path(row["input"]).name: row for row in rows(out / "segmented.csv")}


def test_an_image_is_segmented_as_the_demos_do(segment, root, out, tmp_path, toy_histonet):
    picture = tissue(0, 90, 120)
    write_picture(tmp_path / "a b#ü.png", picture)
    assert segment(tmp_path / "a b#ü.png", "--mpp", 0.62, "--labels", "func") == 0
    crfs, _ = read_crfs(root / "data", "toy", (FUNC,))
    expected = segment_image(picture, toy_histonet, (FUNC,), crfs, CLASSIFIER_MPP / 0.62)
    found = label_map(out / "a b#ü.png", "func", "a b#ü")
    np.testing.assert_array_equal(found, expected["func"].masks["CRF"])
    written = {path.name for path in (out / "a b#ü.png" / "func").iterdir()}
    assert written == {"a b#ü.ome.tif", "a b#ü.geojson", "areas.csv", "overview.png", "image.jpg", "mask.png"}


def test_an_image_beyond_pillows_limit_is_segmented_at_its_own_scale(segment, out, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    assert segment(image(tmp_path / "large.png", 7, 90, 120), "--mpp", 0.62) == 0
    assert label_map(out / "large.png", "glas", "large").shape == (90, 120)


def test_a_slide_is_segmented_at_the_classifiers_scale(segment, out, tmp_path):
    write_slide(tmp_path / "slide.tif", tissue(1, 200, 300), mpp=CLASSIFIER_MPP / 2)
    assert segment(tmp_path / "slide.tif", "--maps", "adjusted") == 0
    folder = out / "slide.tif"
    assert label_map(folder, "glas", "slide").shape == (100, 150)
    assert sorted(path.name for path in folder.iterdir()) == ["glas", "run.json"]
    areas = [float(row["mm2"]) for row in rows(folder / "glas" / "areas.csv")]
    assert sum(areas) == pytest.approx(100 * 150 * CLASSIFIER_MPP**2 / 1e6, abs=1e-5)
    features = json.loads((folder / "glas" / "slide.geojson").read_text())["features"]
    points = np.concatenate([ring for f in features for ring in f["geometry"]["coordinates"]])
    assert points.min() >= 0 and points.max(axis=0).tolist() == [300, 200]  # px of full resolution


def test_names_of_files_may_hold_anything(segment, out, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["a\udcff.png", "control\x01\x1b.png", "new\nline.png", "=cmd|x.png", "<script>.png", f"{'l' * 246}.png"]
    image(tmp_path / "image.png")
    for name in names:
        shutil.copy(tmp_path / "image.png", folder / name)
    for _ in range(2):
        assert segment(folder, "--mpp", CLASSIFIER_MPP) == 0
    for name in names:
        record = json.loads((out / name / "run.json").read_text("utf-8"))
        assert record["source"] == str(folder / name)
        with tifffile.TiffFile(next((out / name / "glas").glob("*.ome.tif"))) as file:
            assert ElementTree.fromstring(file.ome_metadata).find("{*}Image").get("Name")
    assert len({row["input"] for row in rows(out / "areas.csv")}) == len(names)


def test_a_folder_of_images_and_slides_gives_a_table(segment, out, tmp_path, capsys):
    folder = tmp_path / "in"
    image(folder / "b.png")
    (folder / "c.png").write_bytes(b"broken")
    for name in ("a.tif", "d.tif", "e.tif"):
        write_slide(folder / name, tissue(2, 70, 70))
    (folder / "d.tif").write_bytes((folder / "d.tif").read_bytes()[:3000])
    with tifffile.TiffFile(folder / "e.tif") as file:  # which kills its reader
        places = [file.pages[0].tags[name].offset for name in ("TileWidth", "TileLength")]
    content = bytearray((folder / "e.tif").read_bytes())
    for at in places:
        content[at + 2 : at + 4], content[at + 8 : at + 12] = struct.pack("<H", 4), struct.pack("<I", 65_536)
    (folder / "e.tif").write_bytes(content)
    (folder / "notes.txt").write_text("no image")
    assert segment(folder, "--mpp", CLASSIFIER_MPP) == 1
    found = table(out)
    states = {"a.tif": "done", "b.png": "done", "c.png": "failed", "d.tif": "failed", "e.tif": "failed"}
    assert {name: row["status"] for name, row in found.items()} == states
    assert found["a.tif"]["maps"] == found["b.png"]["maps"] == "gradcam"
    said, err = capsys.readouterr()
    assert f"note: {folder / 'notes.txt'}: no image or slide by its ending" in err
    assert "2 of 5 inputs segmented" in said
    lines = sorted(line for line in err.splitlines() if line.startswith("failed: "))
    assert len(lines) == 3 and str(folder / "c.png") in lines[0] and str(folder / "d.tif") in lines[1]
    assert lines[2] == f"failed: {folder / 'e.tif'}: so damaged that its reader died; get the file again"


def test_the_scale_must_be_known(segment, tmp_path, capsys):
    Image.fromarray(tissue(5, 40, 40)).save(tmp_path / "a.png", dpi=(72, 72))
    assert segment(tmp_path / "a.png") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"failed: {tmp_path / 'a.png'}: the file states 352.7 mpp (72.01 dpi), which is implausible")
    assert segment(tmp_path / "a.png", "--objective", "20x") == 0
    assert "20x is taken as 0.5 mpp, which is approximate" in capsys.readouterr().err


def test_what_is_hardly_tissue_or_much_enlarged_is_told(segment, out, tmp_path, capsys):
    write_picture(tmp_path / "white.png", np.full((40, 40, 3), 250, np.uint8))
    assert segment(tmp_path / "white.png", "--mpp", 3) == 0
    err = capsys.readouterr().err
    assert "only 0.0 % of it is darker than glass" in err
    assert "enlarged 2.5 times" in err
    assert segment(tmp_path / "white.png", "--mpp", CLASSIFIER_MPP, "--force") == 0  # one class alone covers all of it
    assert set(np.unique(label_map(out / "white.png", "glas", "white")).tolist()) <= set(range(len(GLAS)))


@pytest.mark.parametrize("maps", ["gradcam", "adjusted"])
def test_what_is_done_is_skipped_and_what_changed_is_refused(segment, out, tmp_path, capsys, maps):
    path = write_slide(tmp_path / "a.tif", tissue(6, 64, 64))
    arguments = (path, "--maps", maps)
    assert segment(*arguments) == 0
    first = results_in(out)
    times = {file: file.stat().st_mtime_ns for file in (out / "a.tif").rglob("*")}
    capsys.readouterr()
    assert segment(*arguments, "--mpp", 3) == 0
    assert {file: file.stat().st_mtime_ns for file in (out / "a.tif").rglob("*")} == times
    said, err = capsys.readouterr()
    assert "1 of 1 inputs segmented, 1 of them before;" in said
    assert "a.tif: the file states 1.214 mpp, which counts, not the 3 given" in err
    assert segment(*arguments, "--min-area", 5) == 2
    assert "holds results of another run (smallest polygon: 100" in capsys.readouterr().err
    assert segment(*arguments, "--flips") == 2
    assert "holds results of another run (views: None, now {'flips': True})" in capsys.readouterr().err
    assert results_in(out) == first
    row = table(out)["a.tif"]
    assert row["status"] == "done before" and row["reason"].startswith("not segmented again: ")
    write_slide(path, tissue(7, 64, 64))
    assert segment(*arguments) == 2
    assert segment(*arguments, "--force") == 0
    assert results_in(out) != first
    write_slide(path, tissue(6, 64, 64))
    assert segment(*arguments, "--force") == 0
    assert results_in(out) == first
    assert table(out)["a.tif"]["reason"] == ""


def test_a_second_run_lists_the_results_of_the_first_and_keeps_them(segment, out, tmp_path):
    assert segment(image(tmp_path / "a.png"), "--mpp", 1) == 0
    first, good = table(out)["a.png"], results_in(out / "a.png")
    assert segment(image(tmp_path / "b.png"), "--mpp", 1, "--labels", "func") == 0
    assert table(out)["a.png"] == {**first, "status": "done before"}
    assert table(out)["b.png"]["status"] == "done"
    page = Page(out / "index.html")
    shown = {attributes["src"] for tag, attributes in page.tags if tag == "img" and "src" in attributes}
    files = ("image.jpg", "mask.png")
    assert shown == {f"{folder}/{file}" for folder in ("a.png/glas", "b.png/func") for file in files}
    (tmp_path / "a.png").write_bytes(b"broken")
    assert segment(tmp_path / "a.png", "--mpp", 1, "--force") == 2
    assert results_in(out / "a.png") == good
    assert table(out)["a.png"]["status"] == "done before" and table(out)["b.png"]["status"] == "done before"
    assert segment(image(tmp_path / "a.png", 3), "--mpp", 1, "--labels", "func", "--force") == 0
    assert sorted(path.name for path in (out / "a.png").iterdir()) == ["func", "run.json"]


def test_a_file_that_never_succeeded_holds_nobodys_results(segment, out, tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    assert segment(tmp_path / "a.png", "--mpp", 1) == 2
    assert table(out)["a.png"]["status"] == "failed" and not (out / "a.png").exists()
    assert segment(image(tmp_path / "a.png"), "--mpp", 1, "--min-area", 7) == 0


def test_whatever_goes_wrong_with_an_input_is_its_failure(segment, out, tmp_path, failures, monkeypatch):
    inputs, whole = [image(tmp_path / name) for name in ("a.png", "b.png", "c.png", "d/c.png")], story.find_tissue
    errors = iter([ZeroDivisionError("float division\nby zero"), MemoryError()])

    def find_tissue(picture, leave_out_pen):
        if error := next(errors, None):
            raise error
        return whole(picture, leave_out_pen)

    monkeypatch.setattr(story, "find_tissue", find_tissue)
    assert segment(*inputs, "--mpp", 1, "--workers", 1) == 1
    lines = failures()
    assert len(lines) == 3 and any("ZeroDivisionError: float division by zero" in line for line in lines)
    assert any("not enough memory" in line for line in lines)
    same_name = f"failed: {inputs[3]}: has the same name as {inputs[2]}"
    assert any(line.startswith(same_name) for line in lines)
    found = {row["input"]: (row["status"], bool(row["reason"])) for row in rows(out / "segmented.csv")}
    assert found == {str(path): ("failed", True) for path in inputs} | {str(inputs[2]): ("done", False)}
    assert (out / "index.html").exists()
    assert segment(inputs[2], "--mpp", 1, "--workers", 1) == 0  # and the others stay listed until they are tried again
    assert {row["input"] for row in rows(out / "segmented.csv") if row["reason"]} == {*map(str, inputs)} - {
        str(inputs[2])
    }


def test_the_scale_that_is_given_is_for_files_that_state_none(segment, out, tmp_path, capsys):
    files = write_slide(tmp_path / "slide.tif", tissue(1, 40, 40), mpp=1.0), image(tmp_path / "image.png", 2)
    assert segment(*files, "--mpp", 0.5) == 0
    assert {name: float(row["mpp"]) for name, row in table(out).items()} == {"slide.tif": 1.0, "image.png": 0.5}
    assert "states 1 mpp, which counts, not the 0.5 given, unless overridden" in capsys.readouterr().err
    assert segment(*files, "--mpp-override", 0.5, "--out", tmp_path / "other") == 0
    assert {float(row["mpp"]) for row in table(tmp_path / "other").values()} == {0.5}


def test_the_caveat_of_a_classifier_is_on_all_that_it_made(segment, root, out, tmp_path):
    caveat = "Not a medical result."
    text = (REPOSITORY / "data" / "histonet_X1.7_phantom.toml").read_text("utf-8")
    (root / "data" / "toy.toml").write_text(re.sub("(?m)^caveat = .*", f'caveat = "{caveat}"', text), "utf-8")
    assert segment(image(tmp_path / "a.png"), "--mpp", 1) == 0
    assert table(out)["a.png"]["caveat"] == caveat
    for name in ("a.png/run.json", "a.png/glas/a.geojson"):
        assert json.loads((out / name).read_text("utf-8"))["caveat"] == caveat
    for name in ("a.png/glas/areas.csv", "index.html"):
        assert caveat in (out / name).read_text("utf-8")


def test_a_folder_with_other_files_is_not_touched(segment, out, tmp_path, capsys):
    (out / "a.png").mkdir(parents=True)
    (out / "a.png" / "precious.txt").write_text("mine")
    assert segment(image(tmp_path / "a.png"), "--mpp", 1, "--force") == 2
    assert "has files that are no results" in capsys.readouterr().err
    assert [path.name for path in (out / "a.png").iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.png",), "nowhere.png: no such file"),
        (("none", "--mpp", "0.5"), "no images or slides in this folder"),
        (("a.png", "--mpp", "-1"), "--mpp: expected microns per pixel from 0.05 to 10, not '-1'"),
        (("a.png", "--objective", "big"), "objective big"),
        (("a.png", "--batch-size", "0"), "--batch-size: expected a whole number from 1 to 100,000, not '0'"),
        (("a.png", "--min-area", "-1"), "--min-area: expected a number from 0 to 1e+12, not '-1'"),
        (("a.png", "--mpp", "1", "--root", "nowhere"), "--root: nowhere: no such folder"),
        (("a.png", "--mpp", "1", "--out", "a.png"), "cannot be written"),
    ],
)
def test_what_cannot_be_used_is_one_line(segment, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").mkdir()
    image(tmp_path / "a.png", 9, 32, 32)
    assert segment(*arguments) == 2
    said, err = capsys.readouterr()
    assert said == ""
    (line,) = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert message in line


def test_a_full_disk_fails_one_input_in_one_line(segment, out, tmp_path, failures, monkeypatch):
    files, whole = [image(tmp_path / name, 9, 64, 64) for name in ("a.png", "b.png")], results.write_label_map

    def full(path, *args, **options):
        if "a.png" in path.parts:
            raise OSError(28, "No space left on device", str(path))
        return whole(path, *args, **options)

    monkeypatch.setattr(results, "write_label_map", full)
    assert segment(*files, "--mpp", CLASSIFIER_MPP) == 1
    (line,) = failures()
    assert "No space left on device" in line
    assert not (out / "a.png" / "glas").exists()


def test_a_slide_waits_for_the_lock_of_a_worker_that_died_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("hsn_v1.io.locks.PATIENCE", 0.5)
    (tmp_path / ".claim").write_text(json.dumps({"owner": "them", "host": "elsewhere", "pid": 1, "began": 0}))
    checked = []

    def task():
        with locked(tmp_path):
            return "done"

    assert once_free(task, lambda: checked.append(1), patience=30, pause=0.1) == "done"
    assert checked  # so that a worker that has to end does not go on waiting
    with locked(tmp_path), pytest.raises(LockedError, match=f"process {os.getpid()} on"):
        once_free(task, patience=0.3, pause=0.1)
