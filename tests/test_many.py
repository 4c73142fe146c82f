import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from hsn_v1.__main__ import main
from hsn_v1.adp import CLASSIFIER_MPP, FUNC, GLAS, MORPH
from hsn_v1.files.writing import write_picture
from hsn_v1.hsn_v1 import segment_image
from hsn_v1.sets.settings import read_crfs

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def segment(monkeypatch, root):
    """Call the command in this process, with the toy model and two workers."""

    def call(*arguments):
        fixed = ("--root", root, "--model", "toy", "--workers", 2, "--quiet")
        monkeypatch.setattr(sys, "argv", ["hsn_v1", "segment", *map(str, (*arguments, *fixed))])
        return main()

    return call


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


def test_a_large_image_is_segmented_at_its_own_scale(segment, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # beyond which Pillow refuses to read
    monkeypatch.setattr("hsn_v1.slides.own_file.WHOLE", 1000)
    monkeypatch.setattr("hsn_v1.slides.own_file.CORE", 64)
    write_picture(tmp_path / "large.png", tissue(7, 90, 120))
    assert segment(tmp_path / "large.png", "--mpp", 0.62, "--out", tmp_path / "out", "--labels", "glas") == 0
    assert label_map(tmp_path / "out" / "large.png", "glas", "large").shape == (90, 120)


def test_a_slide_is_segmented_at_the_classifiers_scale(segment, tmp_path):
    write_slide(tmp_path / "slide.tif", tissue(1, 200, 300), mpp=CLASSIFIER_MPP / 2)
    assert segment(tmp_path / "slide.tif", "--out", tmp_path / "out", "--labels", "glas") == 0
    folder = tmp_path / "out" / "slide.tif"
    assert label_map(folder, "glas", "slide").shape == (100, 150)
    assert sorted(path.name for path in folder.iterdir()) == ["glas", "run.json"]
    with open(folder / "glas" / "areas.csv", newline="") as file:
        areas = {row["class"]: float(row["mm2"]) for row in csv.DictReader(file)}
    assert sum(areas.values()) == pytest.approx(100 * 150 * CLASSIFIER_MPP**2 / 1e6, abs=1e-5)
    features = json.loads((folder / "glas" / "slide.geojson").read_text())["features"]
    points = np.concatenate([ring for f in features for ring in f["geometry"]["coordinates"]])
    assert points.min() >= 0 and points.max(axis=0).tolist() == [300, 200]  # px of full resolution


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
    with open(tmp_path / "out" / "segmented.csv", newline="") as file:
        rows = {Path(row["input"]).name: row for row in csv.DictReader(file)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "a.tif": "done",
        "b.png": "done",
        "c.png": "failed",
        "d.tif": "failed",
    }
    assert rows["a.tif"]["kind"] == "slide" and rows["b.png"]["kind"] == "image"
    out, err = capsys.readouterr()
    assert "2 of 4 inputs" in out
    failures = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(failures) == 2 and str(folder / "c.png") in failures[0] and str(folder / "d.tif") in failures[1]


def test_the_scale_must_be_known(segment, tmp_path, capsys):
    Image.fromarray(tissue(5, 40, 40)).save(tmp_path / "a.png", dpi=(72, 72))
    assert segment(tmp_path / "a.png", "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"failed: {tmp_path / 'a.png'}: the file does not tell its scale; add --mpp")
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
    write = write_slide if slide else lambda path, image: Image.fromarray(image).save(path)
    write(path, tissue(6, 64, 64))
    arguments = (path, "--mpp", CLASSIFIER_MPP, "--out", out)
    assert segment(*arguments) == 0
    first = contents(out)
    times = {file: file.stat().st_mtime_ns for file in (out / "a.tif").rglob("*")}
    assert segment(*arguments) == 0
    assert {file: file.stat().st_mtime_ns for file in (out / "a.tif").rglob("*")} == times
    capsys.readouterr()
    assert segment(*arguments, "--min-area", 5) == 2
    assert "holds results of another run (smallest polygon: 100" in capsys.readouterr().err
    assert contents(out) == first
    write(path, tissue(7, 64, 64))
    assert segment(*arguments) == 2
    assert segment(*arguments, "--force") == 0
    assert contents(out) != first
    write(path, tissue(6, 64, 64))
    assert segment(*arguments, "--force") == 0
    assert contents(out) == first


def test_a_folder_with_other_files_is_not_touched(segment, tmp_path, capsys):
    write_picture(tmp_path / "a.png", tissue(6, 64, 64))
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    (tmp_path / "out" / "a.png" / "precious.txt").write_text("mine")
    assert segment(tmp_path / "a.png", "--mpp", 1, "--out", tmp_path / "out", "--force") == 2
    assert "has files of somebody else's" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out" / "a.png").iterdir()] == ["precious.txt"]


def test_killed_at_any_moment_the_same_call_goes_on_to_the_same_files(segment, root, tmp_path):
    path = tmp_path / "slide.tif"
    write_slide(path, tissue(8, 400, 500))
    assert segment(path, "--out", tmp_path / "whole", "--batch-size", 3) == 0
    command = [sys.executable, "-m", "hsn_v1", "segment", path, "--out", tmp_path / "killed", "--batch-size", 3]
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
    (tmp_path / "killed" / "slide.tif" / "morph").mkdir()
    (tmp_path / "killed" / "slide.tif" / "morph" / ".slide.ome.tif.1.part").write_text("half of it")
    assert segment(path, "--out", tmp_path / "killed", "--batch-size", 3) == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.png",), "nowhere.png: no such file"),
        ((".", "--mpp", "0.5"), "no images or slides in this folder"),
        (("a.png", "--mpp", "-1"), "--mpp -1"),
        (("a.png", "--objective", "big"), "--objective big"),
        (("a.png", "--batch-size", "0"), "--batch-size 0: expected a positive whole number"),
        (("a.png", "--min-area", "-1"), "--min-area -1.0: expected 0 or more"),
        (("a.png", "b/a.png", "--mpp", "1"), "have the same name"),
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
    from hsn_v1.slides import own_file as own_files

    whole = own_files.write_label_map

    def full(path, *args, **options):
        if "a.tif" in path.parts:
            raise OSError(28, "No space left on device", str(path))
        return whole(path, *args, **options)

    monkeypatch.setattr(own_files, "write_label_map", full)
    arguments = (tmp_path / "a.tif", tmp_path / "b.png", "--mpp", CLASSIFIER_MPP, "--out", tmp_path / "out")
    assert segment(*arguments, "--labels", "glas") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert not (tmp_path / "out" / "a.tif" / "glas").exists()
    monkeypatch.undo()


def test_one_class_alone_covers_all_of_it(segment, tmp_path):
    write_picture(tmp_path / "a.png", np.full((40, 40, 3), 255, np.uint8))
    assert segment(tmp_path / "a.png", "--mpp", CLASSIFIER_MPP, "--out", tmp_path / "out", "--labels", "glas") == 0
    assert set(np.unique(label_map(tmp_path / "out" / "a.png", "glas", "a")).tolist()) <= set(range(len(GLAS)))
