"""What there is to look at, and how it is described."""

import csv
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from viewing import GLAND, OTHER, draw_set, get, get_json, running, write_results

from hsn_v1.adp import CLASSIFIER_MPP, FUNC, GLAS, LABEL_SETS, MORPH
from hsn_v1.densecrf import CRF
from hsn_v1.io.locks import locked
from hsn_v1.io.records import label_set_of, record_of_label_set
from hsn_v1.io.writing import write_picture
from hsn_v1.sets.outputs import write_record
from hsn_v1.slides.plan import Method
from hsn_v1.slides.segment_slide import segment_slide
from hsn_v1.view.cache import Cache
from hsn_v1.view.facts import differences, safe_colours
from hsn_v1.view.library import Library, OutsideError
from hsn_v1.view.open_results import OpenResults
from hsn_v1.view.pyramids import build_pyramid, decode, read_small


@pytest.mark.parametrize("label_set", LABEL_SETS.values(), ids=LABEL_SETS)
def test_a_record_of_a_label_set_has_all_that_is_shown(label_set):
    known = label_set_of(label_set.name, json.loads(json.dumps(record_of_label_set(label_set))))
    for attribute in ("name", "colours", "codes", "background", "other", "unlabelled"):
        assert getattr(known, attribute) == getattr(label_set, attribute)
    assert [*map(known.describe, known.codes)] == [*map(label_set.describe, label_set.codes)]


LABELS = {"morph": np.zeros((30, 40), np.uint8), "func": np.full((30, 40), GLAND, np.uint8)}


@pytest.fixture
def source(tmp_path):
    write_picture(tmp_path / "slides" / "a.png", np.full((30, 40, 3), 200, np.uint8))
    return tmp_path / "slides" / "a.png"


@pytest.fixture
def out(tmp_path, source):
    write_results(tmp_path / "out" / "segmented" / "a.png", source, LABELS)
    return tmp_path / "out"


def write_summary(folder, *rows):
    header = "input", "status", "reason", "folder"
    with (folder / "segmented.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_a_run_in_progress_shows_what_is_finished(out, source):
    folder = out / "segmented" / "b.png"
    write_results(folder, source, LABELS, finished=False, input="b.png")
    (folder / "func" / "overview.png").unlink()
    (out / "segmented" / "c.png" / "work").mkdir(parents=True)
    (out / "segmented" / "c.png" / "work" / "run.json").write_text('{"input": "c.png", "label sets": ["func"]}')
    library = Library.of(out)
    with locked(folder), locked(out / "segmented" / "c.png"):
        first, second, third = library.entries("segmented")
    assert (third.status, third.label_sets) == ("in progress", ())
    assert (first.status, [s.name for s in first.label_sets]) == ("done", ["morph", "func"])
    assert (second.status, [s.name for s in second.label_sets]) == ("in progress", ["morph"])
    write_results(folder, source, LABELS, input="b.png", notes=["<i>look</i>"], caveat="no medicine")
    second = library.entry("segmented/b.png")
    assert (second.status, len(second.label_sets), second.notes) == ("done", 2, ("no medicine", "<i>look</i>"))


@pytest.mark.slow
def test_a_slide_at_work_shows_its_picture_and_how_much_is_done(out, toy_histonet):
    source = out.parent / "slides" / "b.tif"
    pixels = np.random.default_rng(4).integers(0, 230, (32, 1600, 3), np.uint8)  # three windows in a row
    tifffile.imwrite(source, pixels, photometric="rgb", tile=(64, 64))
    write_summary(out / "segmented", ["b.tif", "failed", "in an earlier run", "b.tif"])
    seen, windows = [], []

    def look(stage, done, total):
        seen.append(Library.of(out).entries("segmented")[1])
        windows.append(done)
        if stage == "windows":  # all tiles are classified, and some windows done
            raise KeyboardInterrupt

    method = Method((FUNC,), {"func": CRF(1, 2, 2, 4, 10)}, maps="adjusted")
    with pytest.raises(KeyboardInterrupt):
        segment_slide(source, toy_histonet, method, out / "segmented", mpp=CLASSIFIER_MPP, workers=1, progress=look)
    assert {(entry.title, entry.status, entry.source) for entry in seen} == {("b.tif", "in progress", source)}
    shares = [int(entry.reason.removesuffix(" % done")) for entry in seen]
    assert shares == sorted(shares) and shares[0] == 0
    assert shares[-1] in [round(100 * done / 3) for done in (windows[-1], windows[-1] + 1)]  # one may be ahead
    (out / "segmented" / "segmented.csv").unlink()
    with running(out) as port:
        row = get_json(port, "/api/entries", collection="segmented")["entries"][1]
        assert (row["status"], row["opens"], row["width"]) == ("stopped", True, 1600)
        assert "the same command goes on" in row["reason"]
        assert get(port, "/thumbnail", {"id": "segmented/b.tif"})[0] == 200


def test_failures_are_listed(out):
    rows = (
        ["slides/bad.svs", "failed", "slides/bad.svs: no such file", "out/segmented/bad.svs"],
        ["a.png", "done", "", "a.png"],
    )
    write_summary(out / "segmented", *rows)
    entries = {entry.title: entry for entry in Library.of(out).entries("segmented")}
    assert (entries["bad.svs"].status, entries["bad.svs"].reason) == ("failed", "slides/bad.svs: no such file")
    assert entries["a.png"].status == "done"


def test_results_of_an_earlier_version_are_shown(out, monkeypatch):
    folder = out / "segmented" / "a.png"
    record = json.loads((folder / "run.json").read_text())
    for key in ("source", "classes", "height", "width", "notes"):
        del record[key]
    (folder / "run.json").write_text(json.dumps(record))
    monkeypatch.chdir(out.parent)
    write_summary(out / "segmented", ["slides/a.png", "done", "", "out/segmented/a.png"])
    for entry in (Library.of(out).entry("segmented/a.png"), *Library.of(out).entries("segmented")):
        assert entry.source == out.parent / "slides" / "a.png"
        assert entry.label_sets == (MORPH, FUNC)


@pytest.mark.parametrize(
    ("folder", "collection", "identifier"),
    [("out", "segmented", "segmented/a.png"), ("out/segmented", ".", "a.png"), ("out/segmented/a.png", ".", "a.png")],
)
def test_a_folder_of_folders_one_of_slides_and_one_of_a_slide(out, source, folder, collection, identifier):
    write_results(out / "segmented" / "b.png", source, LABELS)
    library = Library.of(out.parent / folder)
    assert list(library.collections()) == [collection]
    alone = folder.endswith(".png")
    expected = [identifier] if alone else [identifier, identifier.removesuffix("a.png") + "b.png"]
    assert [entry.id for entry in library.entries(collection)] == expected
    assert library.entry(identifier).title == "a.png"
    if alone:
        with pytest.raises(OutsideError):
            library.entry("b.png")


def test_the_newest_collection_comes_first(out, source):
    for name, when in (("older", 1), ("newer", 10**10)):
        write_summary(write_results(out / name / "x.png", source, LABELS).parent)
        os.utime(out / name / "segmented.csv", (when, when))
    assert [*Library.of(out).collections()] == ["newer", "segmented", "older"]


# --- Demo sets --------------------------------------------------------------------------------------------------------


def test_a_demo_set_has_stages_maps_and_truth(tmp_path):
    settings, report = draw_set(tmp_path, {"a#1.png": 6, "b.png": 3})
    write_record(settings, replace(report, failures={"c.png": "c.png: cut off"}))
    record = json.loads((settings.out / "run.json").read_text())
    assert record["results"]["a#1.png"]["iou"]["func"]["CRF"] == {"": 0.5, "G.O": 0.5, "Other": 0.0}
    with running(tmp_path / "out") as port:
        assert get_json(port, "/api/collections") == [{"name": "a set", "title": "a set"}]
        first, second = get_json(port, "/api/entries", collection="a set")["entries"]
        assert first["sets"]["func"] == {
            "shares": {"Other": 0.5, "G.O": 0.5},
            "iou": {"": 0.5, "G.O": 0.5, "Other": 0.0},
        }
        assert second["sets"]["func"]["iou"][""] == 0.75
        entry = get_json(port, "/api/entry", id="a set/a#1.png")
        layers = [layer["key"] for layer in entry["sets"][0]["layers"]]
        assert layers == ["CRF", "Adjust", "GradCAM", "truth", "cam:G.O", "map:G.O"]
        score = get_json(port, "/api/score", id="a set/a#1.png", set="func", layer="CRF")
        assert score["iou"] == {"Other": 0.0, "G.O": 0.5} and score["miou"] == 0.5


def test_layers_of_a_demo_set_are_what_the_run_wrote(tmp_path):
    write_record(*draw_set(tmp_path, {"a.png": 6}))
    results = OpenResults(Library.of(tmp_path / "out"))
    layers = {"CRF": (OTHER, GLAND), "truth": (GLAND, GLAND), "map:G.O": (128, 128), "cam:G.O": (64, 64)}
    for layer, expected in layers.items():
        tile = decode(results.layer(results.library.entry("a set/a.png"), FUNC, layer).tile(0, 0, 0))
        assert (tile[0, 0], tile[11, 15]) == expected, layer


def test_a_set_that_is_not_finished_shows_the_images_that_are(tmp_path):
    settings, _ = draw_set(tmp_path, {"a.png": 6, "b.png": 3})
    for stage in ("CRF", "Adjust", "GradCAM"):
        (settings.out / "func" / f"ablative_{stage}" / "b.png").unlink()
    write_record(settings)
    first, second = Library.of(tmp_path / "out").entries("a set")
    assert (first.status, second.status) == ("done", "in progress")


# --- Parts ------------------------------------------------------------------------------------------------------------


def test_a_pyramid_in_memory_is_the_strided_map():
    labels = np.random.default_rng(3).integers(0, 255, (1300, 2100), np.uint8)
    pyramid = build_pyramid((labels[top : top + 512] for top in range(0, 1300, 512)), 1300, 2100)
    sizes = [(level.height, level.width) for level in pyramid.levels]
    assert sizes == [(1300, 2100), (650, 1050), (325, 525), (163, 263)]
    for number, (height, width) in enumerate(sizes):
        rows, columns = range(-(-height // 512)), range(-(-width // 512))
        whole = np.block([[decode(pyramid.tile(number, row, column)) for column in columns] for row in rows])
        np.testing.assert_array_equal(whole[:height, :width], labels[:: 2**number, :: 2**number])
    np.testing.assert_array_equal(read_small(pyramid, 320), labels[::4, ::4])


def test_a_cache_keeps_what_was_used_last_within_its_limit():
    cache, made = Cache(10, cost=len), []

    def get(key, size=4):
        return cache.get(key, lambda: made.append(key) or "x" * size)

    for key in "aabacab":
        get(key)
    assert made == [*"abcb"]  # b was the oldest when c came
    get("large", 50)
    get("large", 50)
    assert made[4:] == ["large"]
    with pytest.raises(ZeroDivisionError):
        cache.get("bad", lambda: 1 / 0)
    assert cache.get("bad", lambda: "good") == "good"


def test_threads_that_ask_for_the_same_make_it_once():
    cache, made, start = Cache(10), [], threading.Barrier(8)

    def ask(_):
        start.wait()
        cache.get("one", lambda: made.append(threading.get_ident()))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert len(made) == 1


def closest(colours):
    colours = np.array(list(colours))
    return min(differences(np.delete(colours, i, 0), one).min() for i, one in enumerate(colours))


def test_safe_colours_differ_for_colour_blind_readers():
    assert closest(safe_colours(MORPH).values()) > 5 * closest(MORPH.colours.values())
    for label_set in (MORPH, FUNC, GLAS):
        colours = safe_colours(label_set)
        assert list(colours) == list(label_set.codes) and closest(colours.values()) > 15


def test_differences_as_red_green_blindness_sees_them():
    red, green, blue = (200, 30, 30), (91, 91, 20), (30, 30, 200)
    assert differences(np.array([green]), red)[0] < 0.4 * differences(np.array([blue]), red)[0]
    assert differences(np.array([red]), red)[0] == 0


def test_pages_of_the_package_are_small():
    for path in (Path(__file__).parents[2] / "hsn_v1" / "view" / "static").glob("*.*"):
        assert len(path.read_text("utf-8").splitlines()) < 400
