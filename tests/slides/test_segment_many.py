import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from helpers import Page, carry_out, rows
from PIL import Image

from hsn_v1.adp import CLASSIFIER_MPP, FUNC, GLAS, MORPH
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
def segment(root):
    """Call the command in this process, with the toy model and two workers."""
    fixed = ("--root", root, "--model", "toy", "--workers", 2, "--quiet")
    return lambda *arguments: carry_out("segment", *arguments, *fixed)


def tissue(seed, *size):
    return np.random.default_rng(seed).integers(0, 230, (*size, 3), np.uint8)


def write_slide(path, image, mpp=CLASSIFIER_MPP):
    """Write a tiled TIFF of two levels, which OpenSlide opens."""
    common = {"tile": (16, 16), "photometric": "rgb", "resolutionunit": "CENTIMETER", "compression": "zlib"}
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 2):
            density = 10_000 / mpp / step
            writer.write(image[::step, ::step], resolution=(density, density), subfiletype=int(step > 1), **common)


def contents(folder):
    """Every result's bytes, but for those of files that tell when they were made."""
    told = ("run.json", "segmented.csv", "index.html")
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in told)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def label_map(folder, label_set, stem):
    return tifffile.imread(folder / label_set / f"{stem}.ome.tif")


def test_an_image_is_segmented_as_the_demos_do(segment, root, tmp_path, toy_histonet):
    image = tissue(0, 90, 120)
    write_picture(tmp_path / "a b#ü.png", image)
    assert segment(tmp_path / "a b#ü.png", "--mpp", 0.62, "--out", tmp_path / "out") == 0
    crfs, _ = read_crfs(root / "data", "toy", (MORPH, FUNC))
    expected = segment_image(image, toy_histonet, (MORPH, FUNC), crfs, CLASSIFIER_MPP / 0.62)
    for name in ("morph", "func"):
        found = label_map(tmp_path / "out" / "a b#ü.png", name, "a b#ü")
        np.testing.assert_array_equal(found, expected[name].masks["CRF"])
    written = {path.name for path in (tmp_path / "out" / "a b#ü.png" / "morph").iterdir()}
    assert written == {"a b#ü.ome.tif", "a b#ü.geojson", "areas.csv", "overview.png", "image.jpg", "mask.png"}


def test_an_image_beyond_pillows_limit_is_segmented_at_its_own_scale(segment, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    write_picture(tmp_path / "large.png", tissue(7, 90, 120))
    assert segment(tmp_path / "large.png", "--mpp", 0.62, "--out", tmp_path / "out", "--labels", "glas") == 0
    assert label_map(tmp_path / "out" / "large.png", "glas", "large").shape == (90, 120)


def test_a_slide_is_segmented_at_the_classifiers_scale(segment, tmp_path):
    write_slide(tmp_path / "slide.tif", tissue(1, 200, 300), mpp=CLASSIFIER_MPP / 2)
    assert segment(tmp_path / "slide.tif", "--out", tmp_path / "out", "--labels", "glas", "--maps", "adjusted") == 0
    folder = tmp_path / "out" / "slide.tif"
    assert label_map(folder, "glas", "slide").shape == (100, 150)
    assert sorted(path.name for path in folder.iterdir()) == ["glas", "run.json"]
    areas = [float(row["mm2"]) for row in rows(folder / "glas" / "areas.csv")]
    assert sum(areas) == pytest.approx(100 * 150 * CLASSIFIER_MPP**2 / 1e6, abs=1e-5)
    features = json.loads((folder / "glas" / "slide.geojson").read_text())["features"]
    points = np.concatenate([ring for f in features for ring in f["geometry"]["coordinates"]])
    assert points.min() >= 0 and points.max(axis=0).tolist() == [300, 200]  # px of full resolution


def test_a_file_that_kills_its_reader_is_one_failed_line(segment, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.tif", "b.tif", "c.tif"):
        write_slide(folder / name, tissue(2, 70, 70))
    with tifffile.TiffFile(folder / "b.tif") as file:
        places = [file.pages[0].tags[name].offset for name in ("TileWidth", "TileLength")]
    content = bytearray((folder / "b.tif").read_bytes())
    for at in places:
        content[at + 2 : at + 4], content[at + 8 : at + 12] = struct.pack("<H", 4), struct.pack("<I", 65_536)
    (folder / "b.tif").write_bytes(content)
    assert segment(folder, "--out", tmp_path / "out", "--labels", "glas") == 1
    said = capsys.readouterr()
    assert "2 of 3 inputs segmented" in said.out
    assert [line for line in said.err.splitlines() if line.startswith("failed")] == [
        f"failed: {folder / 'b.tif'}: so damaged that its reader died; get the file again"
    ]


def test_names_of_files_may_hold_anything(segment, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["a\udcff.png", "control\x01\x1b.png", "new\nline.png", "=cmd|x.png", "<script>.png", f"{'l' * 246}.png"]
    write_picture(tmp_path / "image.png", tissue(3, 40, 40))
    for name in names:
        shutil.copy(tmp_path / "image.png", folder / name)
    assert segment(folder, "--mpp", CLASSIFIER_MPP, "--out", tmp_path / "out", "--labels", "glas") == 0
    for name in names:
        record = json.loads((tmp_path / "out" / name / "run.json").read_text("utf-8"))
        assert record["source"] == str(folder / name)
        with tifffile.TiffFile(next((tmp_path / "out" / name / "glas").glob("*.ome.tif"))) as file:
            assert ElementTree.fromstring(file.ome_metadata).find("{*}Image").get("Name")
    assert segment(folder, "--mpp", CLASSIFIER_MPP, "--out", tmp_path / "out", "--labels", "glas") == 0
    assert len({row["input"] for row in rows(tmp_path / "out" / "areas.csv")}) == len(names)


def test_a_folder_of_images_and_slides_gives_a_table(segment, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    write_slide(folder / "a.tif", tissue(2, 70, 70))
    write_picture(folder / "b.png", tissue(3, 40, 40))
    (folder / "c.png").write_bytes(b"broken")
    write_slide(folder / "d.tif", tissue(4, 70, 70))
    (folder / "d.tif").write_bytes((folder / "d.tif").read_bytes()[:3000])
    (folder / "notes.txt").write_text("no image")
    assert segment(folder, "--mpp", CLASSIFIER_MPP, "--out", tmp_path / "out") == 1
    found = table(tmp_path / "out")
    states = {"a.tif": "done", "b.png": "done", "c.png": "failed", "d.tif": "failed"}
    assert {name: row["status"] for name, row in found.items()} == states
    assert found["a.tif"]["maps"] == found["b.png"]["maps"] == "gradcam"
    out, err = capsys.readouterr()
    assert f"note: {folder / 'notes.txt'}: no image or slide by its ending" in err
    assert "2 of 4 inputs" in out
    failures = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(failures) == 2 and str(folder / "c.png") in failures[0] and str(folder / "d.tif") in failures[1]


def test_the_scale_must_be_known(segment, tmp_path, capsys):
    Image.fromarray(tissue(5, 40, 40)).save(tmp_path / "a.png", dpi=(72, 72))
    assert segment(tmp_path / "a.png", "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"failed: {tmp_path / 'a.png'}: the file states 352.7 mpp (72.01 dpi), which is implausible")
    assert segment(tmp_path / "a.png", "--out", tmp_path / "out", "--objective", "20x") == 0
    assert "20x is taken as 0.5 mpp, which is approximate" in capsys.readouterr().err


def test_what_is_hardly_tissue_or_much_enlarged_is_told(segment, tmp_path, capsys):
    write_picture(tmp_path / "white.png", np.full((64, 64, 3), 255, np.uint8))
    assert segment(tmp_path / "white.png", "--mpp", 3, "--out", tmp_path / "out") == 0
    err = capsys.readouterr().err
    assert "only 0.0 % of it is darker than glass" in err
    assert "enlarged 2.5 times" in err


@pytest.mark.parametrize("slide", [False, True])
def test_what_is_done_is_skipped_and_what_changed_is_refused(segment, tmp_path, capsys, slide):
    path, out = tmp_path / "a.tif", tmp_path / "out"
    write_slide(path, tissue(6, 64, 64))
    arguments = (path, "--out", out, "--maps", "adjusted" if slide else "gradcam")
    assert segment(*arguments) == 0
    first = contents(out)
    times = {file: file.stat().st_mtime_ns for file in (out / "a.tif").rglob("*")}
    assert segment(*arguments) == 0
    assert {file: file.stat().st_mtime_ns for file in (out / "a.tif").rglob("*")} == times
    capsys.readouterr()
    assert segment(*arguments, "--min-area", 5) == 2
    assert "holds results of another run (smallest polygon: 100" in capsys.readouterr().err
    assert contents(out) == first
    row = table(out)["a.tif"]
    assert row["status"] == "done before" and row["reason"].startswith("not segmented again: ")
    write_slide(path, tissue(7, 64, 64))
    assert segment(*arguments) == 2
    assert segment(*arguments, "--force") == 0
    assert contents(out) != first
    write_slide(path, tissue(6, 64, 64))
    assert segment(*arguments, "--force") == 0
    assert contents(out) == first
    assert table(out)["a.tif"]["reason"] == ""


def table(out):
    return {Path(row["input"]).name: row for row in rows(out / "segmented.csv")}


def test_a_second_run_lists_the_results_of_the_first_and_keeps_them(segment, tmp_path, capsys):
    write_picture(tmp_path / "a.png", tissue(1, 40, 40))
    write_picture(tmp_path / "b.png", tissue(2, 40, 40))
    out = tmp_path / "out"
    assert segment(tmp_path / "a.png", "--mpp", 1, "--out", out, "--labels", "glas") == 0
    first = table(out)["a.png"]
    good = contents(out / "a.png")
    assert segment(tmp_path / "b.png", "--mpp", 1, "--out", out, "--labels", "morph") == 0
    assert table(out)["a.png"] == {**first, "status": "done before"}
    assert table(out)["b.png"]["status"] == "done"
    page = Page(out / "index.html")
    shown = {attributes["src"] for tag, attributes in page.tags if tag == "img" and "src" in attributes}
    files = ("image.jpg", "mask.png")
    assert shown == {f"{folder}/{file}" for folder in ("a.png/glas", "b.png/morph") for file in files}
    (tmp_path / "a.png").write_bytes(b"broken")
    assert segment(tmp_path / "a.png", "--mpp", 1, "--out", out, "--labels", "glas", "--force") == 2
    assert contents(out / "a.png") == good
    assert table(out)["a.png"]["status"] == "done before" and table(out)["b.png"]["status"] == "done before"
    write_picture(tmp_path / "a.png", tissue(3, 40, 40))
    assert segment(tmp_path / "a.png", "--mpp", 1, "--out", out, "--labels", "func", "--force") == 0
    assert sorted(path.name for path in (out / "a.png").iterdir()) == ["func", "run.json"]


def test_a_file_that_never_succeeded_holds_nobodys_results(segment, tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    out = tmp_path / "out"
    assert segment(tmp_path / "a.png", "--mpp", 1, "--out", out) == 2
    assert table(out)["a.png"]["status"] == "failed" and not (out / "a.png").exists()
    write_picture(tmp_path / "a.png", tissue(3, 40, 40))
    assert segment(tmp_path / "a.png", "--mpp", 1, "--out", out, "--min-area", 7) == 0


def test_whatever_goes_wrong_with_an_input_is_its_failure(segment, tmp_path, capsys, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        write_picture(tmp_path / name, tissue(1, 40, 40))
    whole = story.find_tissue
    failures = iter([ZeroDivisionError("float division\nby zero"), MemoryError()])

    def find_tissue(picture, leave_out_pen):
        if error := next(failures, None):
            raise error
        return whole(picture, leave_out_pen)

    monkeypatch.setattr(story, "find_tissue", find_tissue)
    inputs = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    assert segment(*inputs, "--mpp", 1, "--out", tmp_path / "out", "--labels", "glas", "--workers", 1) == 1
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert len(err) == 2 and any("ZeroDivisionError: float division by zero" in line for line in err)
    assert any("not enough memory" in line for line in err)
    assert sorted(row["status"] for row in table(tmp_path / "out").values()) == ["done", "failed", "failed"]
    assert (tmp_path / "out" / "index.html").exists()


def test_the_scale_that_is_given_is_for_files_that_state_none(segment, tmp_path, capsys):
    write_slide(tmp_path / "slide.tif", tissue(1, 40, 40), mpp=1.0)
    write_picture(tmp_path / "image.png", tissue(2, 40, 40))
    files, out = (tmp_path / "slide.tif", tmp_path / "image.png"), tmp_path / "out"
    assert segment(*files, "--mpp", 0.5, "--out", out, "--labels", "glas") == 0
    assert {name: float(row["mpp"]) for name, row in table(out).items()} == {"slide.tif": 1.0, "image.png": 0.5}
    assert "states 1 mpp, which counts, not the 0.5 given, unless overridden" in capsys.readouterr().err
    assert segment(*files, "--mpp-override", 0.5, "--out", tmp_path / "other", "--labels", "glas") == 0
    assert {float(row["mpp"]) for row in table(tmp_path / "other").values()} == {0.5}


def test_the_caveat_of_a_classifier_is_on_all_that_it_made(segment, root, tmp_path):
    caveat = "Not a medical result."
    text = (REPOSITORY / "data" / "histonet_X1.7_phantom.toml").read_text("utf-8")
    (root / "data" / "toy.toml").write_text(re.sub("(?m)^caveat = .*", f'caveat = "{caveat}"', text), "utf-8")
    write_picture(tmp_path / "a.png", tissue(2, 40, 40))
    out = tmp_path / "out"
    assert segment(tmp_path / "a.png", "--mpp", 1, "--out", out, "--labels", "glas") == 0
    assert table(out)["a.png"]["caveat"] == caveat
    assert json.loads((out / "a.png" / "run.json").read_text("utf-8"))["caveat"] == caveat
    assert json.loads((out / "a.png" / "glas" / "a.geojson").read_text("utf-8"))["caveat"] == caveat
    assert caveat in (out / "a.png" / "glas" / "areas.csv").read_text("utf-8")
    assert caveat in (out / "index.html").read_text("utf-8")


def test_a_root_that_is_missing_is_an_error(root, tmp_path, capsys):
    write_picture(tmp_path / "a.png", tissue(2, 40, 40))
    for quiet in ([], ["--quiet"]):
        assert carry_out("segment", tmp_path / "a.png", "--root", tmp_path / "nowhere", *quiet) == 2
        assert f"--root {tmp_path / 'nowhere'}: no such folder" in capsys.readouterr().err


def test_a_folder_with_other_files_is_not_touched(segment, tmp_path, capsys):
    write_picture(tmp_path / "a.png", tissue(6, 64, 64))
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    (tmp_path / "out" / "a.png" / "precious.txt").write_text("mine")
    assert segment(tmp_path / "a.png", "--mpp", 1, "--out", tmp_path / "out", "--force") == 2
    assert "has files that are no results" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out" / "a.png").iterdir()] == ["precious.txt"]


def test_killed_at_any_moment_the_same_call_goes_on_to_the_same_files(segment, root, tmp_path):
    path = tmp_path / "slide.tif"
    write_slide(path, tissue(8, 280, 350))
    assert segment(path, "--out", tmp_path / "whole", "--batch-size", 3, "--maps", "adjusted") == 0
    command = [sys.executable, "-m", "hsn_v1", "segment", path, "--out", tmp_path / "killed", "--batch-size", 3]
    command += ["--maps", "adjusted"]
    command = [*map(str, command), "--root", str(root), "--model", "toy", "--workers", "2", "--quiet"]
    tiles = tmp_path / "killed" / "slide.tif" / "work" / "tiles"
    for enough in (1, 20):
        process = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
        while process.poll() is None and (not tiles.is_dir() or len(list(tiles.glob("[0-9]*"))) < enough):
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # not done yet
    left = {file.name: file.stat().st_mtime_ns for file in tiles.glob("[0-9]*")}
    assert len(left) >= 20
    part = tmp_path / "killed" / "slide.tif" / "work" / "results" / "morph"
    part.mkdir(parents=True)
    (part / ".slide.ome.tif.1.part").write_text("half of it")
    assert segment(path, "--out", tmp_path / "killed", "--batch-size", 3, "--maps", "adjusted") == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.png",), "nowhere.png: no such file"),
        ((".", "--mpp", "0.5"), "no images or slides in this folder"),
        (("a.png", "--mpp", "-1"), "mpp -1"),
        (("a.png", "--objective", "big"), "objective big"),
        (("a.png", "--batch-size", "0"), "--batch-size 0: expected a positive whole number"),
        (("a.png", "--min-area", "-1"), "--min-area -1.0: expected 0 or more"),
    ],
)
def test_what_cannot_be_used_is_one_line(segment, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    if "." not in arguments:
        write_picture(tmp_path / "a.png", tissue(9, 32, 32))
        write_picture(tmp_path / "b" / "a.png", tissue(9, 32, 32))
    assert segment(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert message in line


def test_results_that_cannot_be_written_are_one_line(segment, tmp_path, capsys):
    write_slide(tmp_path / "a.tif", tissue(9, 64, 64))
    (tmp_path / "out").write_text("a file")
    assert segment(tmp_path / "a.tif", "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line


def test_a_full_disk_fails_one_input_in_one_line(segment, tmp_path, capsys, monkeypatch):
    write_slide(tmp_path / "a.tif", tissue(9, 64, 64))
    write_picture(tmp_path / "b.png", tissue(9, 64, 64))
    whole = results.write_label_map

    def full(path, *args, **options):
        if "a.tif" in path.parts:
            raise OSError(28, "No space left on device", str(path))
        return whole(path, *args, **options)

    monkeypatch.setattr(results, "write_label_map", full)
    arguments = (tmp_path / "a.tif", tmp_path / "b.png", "--mpp", CLASSIFIER_MPP, "--out", tmp_path / "out")
    assert segment(*arguments, "--labels", "glas") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert "No space left on device" in line
    assert not (tmp_path / "out" / "a.tif" / "glas").exists()
    monkeypatch.undo()


def test_files_of_the_same_name_are_not_mixed(segment, tmp_path, capsys):
    write_picture(tmp_path / "a.png", tissue(9, 32, 32))
    write_picture(tmp_path / "b" / "a.png", tissue(9, 32, 32))
    files = (tmp_path / "a.png", tmp_path / "b" / "a.png")
    assert segment(*files, "--mpp", 1, "--out", tmp_path / "out", "--labels", "glas") == 1
    assert f"failed: {files[1]}: has the same name as {files[0]}" in capsys.readouterr().err


def test_one_class_alone_covers_all_of_it(segment, tmp_path):
    write_picture(tmp_path / "a.png", np.full((40, 40, 3), 250, np.uint8))
    assert segment(tmp_path / "a.png", "--mpp", CLASSIFIER_MPP, "--out", tmp_path / "out", "--labels", "glas") == 0
    assert set(np.unique(label_map(tmp_path / "out" / "a.png", "glas", "a")).tolist()) <= set(range(len(GLAS)))


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
