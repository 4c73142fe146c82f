import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import tifffile
from helpers import contents, write_sparse
from PIL import Image

from hsn_v1.adp import ADP, CLASSIFIER_CODES, CLASSIFIER_MPP, FUNC, MORPH
from hsn_v1.classify import classify
from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.io.model_files import SHIPPED, read_taxonomy
from hsn_v1.labels import LabelSet
from hsn_v1.slide_io.slide import Level, Slide, open_slide
from hsn_v1.slides.in_memory import segment_blocks
from hsn_v1.slides.plan import FEW_TILES, Method, Plan, SlideTask, plan_for
from hsn_v1.slides.results import small_pictures, thumbnail
from hsn_v1.slides.segment_slide import input_notes, segment_slide
from hsn_v1.slides.tissue import TissueMap
from hsn_v1.stages import FunctionClassifier
from hsn_v1.tiles import Window

pytestmark = pytest.mark.slow

CRFS = {"morph": CRF(1, 20, 2, 40, 50), "func": CRF(3, 40, 2, 4, 25)}


@pytest.fixture
def image():
    """Return noise with white parts, which the background map finds."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 230, (150, 110, 3), np.uint8)
    image[rng.random((15, 11)).repeat(10, axis=0).repeat(10, axis=1) < 0.3] = 255
    return image


def blocks(image, histonet, crf):
    """Segment an image at once and block by block, at 0.6 of the classifier's scale; return maps and progress."""
    method = Method((MORPH, FUNC), {"morph": crf, "func": crf})
    ((_, _, tiles),) = classify([(None, image)], histonet, 0.6)
    calls = []
    whole = segment_blocks(image, tiles, method, 1)
    parts = segment_blocks(image, tiles, method, 1, lambda *numbers: calls.append(numbers), block=40)
    return whole, parts, calls


def test_blocks_make_what_the_whole_is_where_pixels_hardly_see_each_other(image, toy_histonet):
    whole, parts, calls = blocks(image, toy_histonet, CRF(1, 1e-9, 1, 1, 1e-9))
    for name, labels in whole.items():
        assert len(np.unique(labels)) > 1
        np.testing.assert_array_equal(parts[name], labels)
    assert calls == [("windows", number, 12) for number in range(1, 13)]


def test_the_halo_of_blocks_leaves_no_seam(image, toy_histonet):
    whole, parts, _ = blocks(image, toy_histonet, CRF(2, 10, 3, 30, 10))
    for name, labels in whole.items():
        assert (parts[name] == labels).mean() > 0.99  # of noise, where many pixels are near to a tie


def slide_of(side, mpp=CLASSIFIER_MPP):
    return Slide("memory", mpp, (), (Level(side, side, None),))


FEW_SIDES = round(FEW_TILES**0.5)


@pytest.mark.parametrize(
    ("maps", "side", "mpp", "expected"),
    [
        ("auto", 32, CLASSIFIER_MPP, Plan("image", "gradcam", 1)),
        ("auto", 32 + 24 * (FEW_SIDES - 1), CLASSIFIER_MPP, Plan("image", "gradcam", FEW_TILES)),
        ("auto", 32 + 24 * FEW_SIDES, CLASSIFIER_MPP, Plan("slide", "adjusted", (FEW_SIDES + 1) ** 2)),
        ("auto", 10, CLASSIFIER_MPP / 2, Plan("image", "gradcam", 1)),
        ("auto", 10, CLASSIFIER_MPP / 2.01, Plan("slide", "adjusted", 1)),
        ("auto", 10, 9, Plan("image", "gradcam", 9)),
        ("adjusted", 32, CLASSIFIER_MPP, Plan("slide", "adjusted", 1)),
        ("gradcam", 32, CLASSIFIER_MPP, Plan("image", "gradcam", 1)),
        ("gradcam", 224, CLASSIFIER_MPP, Plan("image", "gradcam", 81)),
        ("gradcam", 8001, CLASSIFIER_MPP / 100, Plan("slide", "gradcam", 9)),  # too large for its own scale
    ],
)
def test_the_plan_depends_on_scale_and_number_of_tiles(toy_histonet, maps, side, mpp, expected):
    assert plan_for(slide_of(side, mpp), toy_histonet, Method((MORPH,), CRFS, maps=maps)) == expected


def test_overlapping_views_make_no_slide_of_a_small_image_and_are_averaged_before_classes_compete(toy_histonet):
    small, large, method = slide_of(80), slide_of(400), Method((MORPH,), CRFS)
    often = toy_histonet.with_views(stride=8)
    assert plan_for(small, often, method) == Plan("image", "gradcam", 49)
    assert plan_for(large, often, method).maps == "adjusted"
    assert plan_for(large, often.with_views(window=16), method) == Plan("slide", "gradcam", 47**2)


@pytest.mark.parametrize(
    ("name", "kind", "tissue", "told"),
    [
        ("glands", "slide", np.eye(2, dtype=bool), True),
        ("glands", "slide", np.ones((2, 2), bool), False),  # no glass
        ("glands", "image", np.eye(2, dtype=bool), False),
        ("tissue", "slide", np.eye(2, dtype=bool), False),  # has background
    ],
)
def test_glass_that_counts_as_tissue_is_told(name, kind, tissue, told):
    labels = read_taxonomy(SHIPPED, "colon_glands")
    label_set = labels.label_sets[name]
    task = SlideTask(None, SimpleNamespace(labels=labels, mpp=1), Method((label_set,), {}), Path())
    found = TissueMap(tissue, np.zeros_like(tissue), None, 200, whitens_glass=bool(label_set.background))
    notes = input_notes(slide_of(400), task, found, Plan(kind, "gradcam", 4))
    assert any("glands has no background" in n and "label set tissue has the same classes" in n for n in notes) == told


@pytest.fixture
def segment(tmp_path, toy_histonet):
    """Return a function that segments a file of the folder."""

    def segment(name, label_sets=(FUNC,), crfs=CRFS, maps="auto", **options):
        method = Method(label_sets, crfs, maps=maps)
        return segment_slide(str(tmp_path / name), toy_histonet, method, str(tmp_path / "out"), workers=1, **options)

    return segment


def save(path, image, mpp):
    if path.suffix == ".png":
        Image.fromarray(image).save(path, dpi=(25_400 / mpp,) * 2)
        return
    common = {"tile": (16, 16), "photometric": "rgb", "resolutionunit": "CENTIMETER", "compression": "zlib"}
    with tifffile.TiffWriter(path, ome=path.name.endswith(".ome.tif")) as writer:
        if path.name.endswith(".ome.tif"):
            writer.write(image, metadata={"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp}, **common)
            return
        for step in (1, 2):
            density = (10_000 / mpp / step,) * 2
            writer.write(image[::step, ::step], resolution=density, subfiletype=int(step > 1), metadata=None, **common)


@pytest.mark.parametrize("maps", ["adjusted", "gradcam"])
def test_the_same_pixels_give_the_same_labels_in_any_container(tmp_path, image, segment, maps):
    labels = []
    for name in ("a.png", "a.tif", "a.ome.tif"):
        save(tmp_path / name, image, CLASSIFIER_MPP)
        done = segment(name, (MORPH,), maps=maps)
        assert (done.facts["maps"], done.facts["kind"]) == (maps, "image" if maps == "gradcam" else "slide")
        labels.append(tifffile.imread(done.folder / "morph" / f"{(tmp_path / name).stem}.ome.tif"))
    assert len(np.unique(labels[0])) > 2
    np.testing.assert_array_equal(labels[0], labels[1])
    np.testing.assert_array_equal(labels[0], labels[2])


def test_outlines_count_from_the_corner_of_what_was_scanned(tmp_path, segment):
    image = np.random.default_rng(1).integers(0, 230, (256, 256, 3), np.uint8)
    write_sparse(tmp_path / "sparse.tif", image, CLASSIFIER_MPP)
    save(tmp_path / "full.png", image, CLASSIFIER_MPP)
    done = [segment(name, maps="adjusted") for name in ("sparse.tif", "full.png")]
    maps = [tifffile.imread(next(one.folder.glob("func/*.ome.tif"))) for one in done]
    np.testing.assert_array_equal(maps[0], maps[1])
    outlines = [json.loads(next(one.folder.glob("func/*.geojson")).read_text()) for one in done]
    assert outlines[0]["features"] == outlines[1]["features"] != []
    frame = json.loads((done[0].folder / "run.json").read_text())["frame"]
    assert (frame["top"], frame["left"], frame["height"], frame["width"]) == (128, 128, 256, 256)
    assert "openslide.bounds" in frame["counted from"]


def test_small_pictures_read_each_pixel_of_the_slide_once(tmp_path, image, toy_histonet):
    read = []

    def region(window):
        read.append(window)
        return image[window.within(Window(0, 0, 150, 110))]

    pictures = small_pictures(Slide("memory", 1.0, (), (Level(150, 110, region),)), CLASSIFIER_MPP)
    assert [picture.shape for picture in pictures] == [(15, 11, 3), (150, 110, 3)]
    assert sum(window.height * window.width for window in read) < 1.1 * 150 * 110


def test_a_thumbnail_is_the_same_in_any_chunks(tmp_path):
    Image.fromarray(np.random.default_rng(6).integers(0, 230, (300, 410, 3), np.uint8)).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", CLASSIFIER_MPP) as slide:
        small, large = (thumbnail(slide, 4 * CLASSIFIER_MPP, chunk) for chunk in (16, 1000))
    assert small.shape == (75, 102, 3)
    assert np.abs(small.astype(int) - large).max() <= 1


def test_a_slide_is_opened_once(tmp_path, image, segment, monkeypatch):
    save(tmp_path / "a.tif", image, CLASSIFIER_MPP)
    opened = mock.Mock(side_effect=open_slide)
    monkeypatch.setattr("hsn_v1.slides.plan.open_slide", opened)
    segment("a.tif", maps="adjusted")
    assert opened.call_count == 1


def test_a_file_that_changes_while_it_is_read_fails(tmp_path, image, segment):
    save(tmp_path / "a.png", image, CLASSIFIER_MPP)
    with pytest.raises(InputError, match=r"a\.png: changed while it was read"):
        segment("a.png", progress=lambda *_: os.utime(tmp_path / "a.png", (0, 0)))
    assert not (tmp_path / "out" / "a.png" / "func").exists()
    assert segment("a.png").status == "done"


@pytest.mark.parametrize("maps", ["adjusted", "gradcam"])
def test_what_was_not_scanned_is_no_tissue(tmp_path, segment, maps):
    image = np.zeros((600, 300, 3), np.uint8)
    image[:300] = np.random.default_rng(2).integers(0, 230, (300, 300, 3), np.uint8)
    save(tmp_path / "a.png", image, CLASSIFIER_MPP / 2)
    done = segment("a.png", maps=maps)
    labels = tifffile.imread(done.folder / "func" / "a.ome.tif")
    half = len(labels) // 2
    assert (labels[half + 1 :] == 0).all()
    assert (labels[: half - 1] > 0).mean() > 0.9
    assert any("not scanned" in note for note in done.notes)


def segment_slowly(path, out):
    """Segment a slide by a classifier of any framework, here of none, which starts at once and takes its time."""

    def classify(tiles):
        time.sleep(0.02)
        weights = np.random.default_rng(3).random((3, len(CLASSIFIER_CODES)), np.float32)
        cams = np.moveaxis(tiles[:, ::8, ::8] / 255 @ weights, -1, 1)  # (T, K, 4, 4)
        return np.clip(cams.mean(axis=(2, 3)), 0, 1), cams

    classifier = FunctionClassifier(classify, ADP, np.full(len(CLASSIFIER_CODES), 0.5), 32, identity="colours")
    return segment_slide(path, classifier, Method((FUNC,), CRFS, batch_size=2, maps="adjusted"), out, workers=2)


def test_killed_at_any_moment_the_same_call_goes_on_to_the_same_files(tmp_path):
    save(tmp_path / "a.tif", np.random.default_rng(8).integers(0, 230, (160, 200, 3), np.uint8), CLASSIFIER_MPP)
    whole, killed = (tmp_path / name / "a.tif" for name in ("whole", "killed"))
    program = "import sys; from test_segment_slide import segment_slowly; segment_slowly(*sys.argv[1:])"
    command = [sys.executable, "-c", program, tmp_path / "a.tif", killed.parent]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*Path(__file__).parents][:3]))}
    for enough in (1, 10):
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        while process.poll() is None and len([*killed.glob("work/tiles/[0-9]*")]) < enough:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # not done yet
    assert len([*killed.glob("work/tiles/[0-9]*")]) >= 10
    part = killed / "work" / "results" / "func"
    part.mkdir(parents=True)
    (part / ".a.ome.tif.1.part").write_text("half of it")
    assert [segment_slowly(tmp_path / "a.tif", folder.parent).status for folder in (killed, whole)] == ["done"] * 2
    (whole / "run.json").unlink()
    assert contents(whole) == {name: content for name, content in contents(killed).items() if name != "run.json"}


def test_what_is_missing_of_results_is_made_anew_and_said_once(tmp_path, image, segment):
    save(tmp_path / "a.png", image, CLASSIFIER_MPP)
    first = segment("a.png")
    before = contents(first.folder / "func")
    (first.folder / "func" / "overview.png").unlink()
    (first.folder / "func" / "a.ome.tif").write_bytes(b"")
    again = segment("a.png")
    assert (again.status, len(again.notes)) == ("done", len(first.notes) + 1)
    assert again.notes[-1] == f"{first.folder / 'func' / 'a.ome.tif'}: is missing or empty; the results were made anew"
    assert contents(first.folder / "func") == before
    (first.folder / "run.json").write_text("")
    last = segment("a.png", force=True)
    assert last.notes[-1] == f"{first.folder / 'run.json'}: cannot be read; the results were made anew"
    known = segment("a.png")
    assert (known.status, known.notes) == ("done before", first.notes)


@pytest.mark.parametrize("maps", ["adjusted", "gradcam"])
@pytest.mark.parametrize("plain", [(), ("Background",), ("Other",), ("Background", "Other")])
@pytest.mark.parametrize("codes", [("G.O", "G.N", "T"), ()])
def test_classes_need_neither_a_background_nor_another_nor_a_score(tmp_path, segment, maps, plain, codes):
    codes = codes if plain else ("T",)
    label_set = LabelSet(
        "tissue",
        {code: FUNC.colours[code] for code in (*plain, *codes)},
        {code: FUNC.outputs_of[code] for code in codes},
        background="Background" if "Background" in plain else None,
        other="Other" if "Other" in plain else None,
    )
    image = np.full((80, 120, 3), 255, np.uint8)
    image[:40, :40] = np.random.default_rng(2).integers(0, 230, (40, 40, 3), np.uint8)
    save(tmp_path / "a.png", image, CLASSIFIER_MPP)
    done = segment("a.png", (label_set,), {"tissue": CRFS["func"]}, maps)
    labels = tifffile.imread(done.folder / "tissue" / "a.ome.tif")
    assert labels[:30, :30].max() < len(label_set)
    if maps == "adjusted":  # where nothing is classified
        assert (labels[70:, 90:] == (0 if "Background" in plain else len(label_set))).all()
    assert (done.folder / "tissue" / "areas.csv").read_text("utf-8").count("\n") == len(label_set) + 2
