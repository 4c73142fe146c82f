import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from helpers import contents

from hsn_v1.adjust import BACKGROUND_REACH
from hsn_v1.adp import CLASSIFIER_MPP, FUNC, GLAS, MORPH
from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.hsn_v1 import segment_image
from hsn_v1.io.writing import write_picture
from hsn_v1.slide_io.slide import open_slide
from hsn_v1.slides.job import SlideGrid, SlideJob, label_reader
from hsn_v1.slides.tiled import _averaged_maps, read_ahead, segment_tiles, warm_up
from hsn_v1.slides.tissue import find_tissue, tiles_with_tissue
from hsn_v1.tiles import Window

pytestmark = pytest.mark.slow

TILE = 32
CRFS = {"morph": CRF(1, 20, 2, 40, 50), "func": CRF(3, 40, 2, 4, 25), "glas": CRF(3, 40, 2, 4, 25)}

NAME = "a slide #1 ü.png"


def textured(seed, *size):
    return np.random.default_rng(seed).integers(0, 230, (*size, 3), np.uint8)


@pytest.fixture
def make_job(tmp_path, toy_histonet):
    def make(image, *, block=64, label_sets=(MORPH, FUNC)):
        write_picture(tmp_path / NAME, image)
        grid = SlideGrid(*image.shape[:2], TILE, block)
        tissue = tiles_with_tissue(grid, find_tissue(image).tissue)
        crfs = {label_set.name: CRFS[label_set.name] for label_set in label_sets}
        folder = tmp_path / f"work {len(list(tmp_path.glob('work*')))}"
        return SlideJob(grid, tissue, 3, label_sets, crfs, CLASSIFIER_MPP, toy_histonet.thresholds, folder)

    return make


@pytest.fixture
def run(toy_histonet):
    """Return a function that carries out a job; it returns the numbers by which progress was told."""

    def run(job, workers=1):
        calls = []
        with open_slide(job.folder.parent / NAME, CLASSIFIER_MPP) as slide:
            segment_tiles(job, slide, toy_histonet, workers, lambda *numbers: calls.append(numbers))
        return calls

    return run


def whole(job, label_set):
    return label_reader(job, label_set)(job.grid.frame)


def test_a_slide_of_one_tile_is_segmented_as_an_image(make_job, toy_histonet, run):
    image = textured(0, TILE, TILE)
    job = make_job(image, label_sets=(MORPH, FUNC, GLAS))
    run(job)
    expected = segment_image(image, toy_histonet, job.label_sets, CRFS)
    for label_set in job.label_sets:
        np.testing.assert_array_equal(whole(job, label_set), expected[label_set.name].masks["CRF"])


def test_what_exists_is_not_made_again_and_the_rest_comes_out_the_same(make_job, run):
    job = make_job(textured(1, 100, 150))
    run(job, 2)
    first = contents(job.folder)
    assert len(first) == job.batches + 2 * math.prod(job.grid.blocks)
    kept = job.block_file(0, MORPH)
    made = kept.stat().st_mtime_ns
    for lost in (job.batch_file(1), job.batch_file(job.batches - 1), job.block_file(3, FUNC), job.block_file(5, MORPH)):
        lost.unlink()
    run(job, 2)
    needed = contents(job.folder)
    assert {file: content for file, content in first.items() if file in needed} == needed
    assert all(file in needed for file in first if file.startswith("labels"))
    assert kept.stat().st_mtime_ns == made


def test_a_batch_that_no_unfinished_window_needs_is_not_classified(make_job, run):
    job = make_job(textured(1, 60, 400))
    run(job)
    for number in range(job.batches):
        job.batch_file(number).unlink()
    job.block_file(0, MORPH).unlink()
    run(job)
    needed = set((job.positions(job.with_halo(0)) // job.batch_size).tolist())
    assert {number for number in range(job.batches) if job.batch_file(number).exists()} == needed
    assert len(needed) < job.batches


def test_glass_is_neither_classified_nor_tissue(make_job, run):
    image = np.full((120, 200, 3), 250, np.uint8)
    image[:50, :50] = textured(2, 50, 50)
    job = make_job(image, label_sets=(MORPH, GLAS))
    assert 0 < len(job.tissue) < math.prod(job.grid.tiles) / 3
    run(job)
    assert (whole(job, MORPH)[100:, 100:] == MORPH.codes.index("Background")).all()
    assert (whole(job, GLAS)[100:, 100:] == len(GLAS)).all()
    assert (whole(job, GLAS)[:50, :50] < len(GLAS)).all()


def test_windows_are_no_larger_than_what_is_classified(make_job):
    image = np.full((120, 200, 3), 250, np.uint8)
    image[:20, :20] = textured(2, 20, 20)
    job = make_job(image, block=200, label_sets=(MORPH,))
    reach = CRFS["morph"].reach
    assert job.tissue.tolist() == [0] and job.covered(0) == Window(0, 0, TILE, TILE)
    assert job.with_halo(0) == Window(0, 0, TILE + reach, TILE + reach)


def test_tiles_are_classified_as_the_blocks_need_them(make_job):
    job = make_job(textured(1, 150, 200))
    assert sorted(job.order.tolist()) == job.tissue.tolist()
    needed = [set(job.positions(job.with_halo(block)).tolist()) for block in range(math.prod(job.grid.blocks))]
    done = [max(set.union(*needed[: block + 1])) + 1 for block in range(len(needed))]
    assert done == [len(set.union(*needed[: block + 1])) for block in range(len(needed))]
    assert done[0] < len(job.tissue) / 3


@pytest.mark.parametrize("maps", ["adjusted", "gradcam"])
def test_what_of_a_tile_a_window_does_not_see_does_not_matter(make_job, run, maps):
    image = textured(5, 100, 120)
    image[30:70, 40:90] = 245  # where the background map is not 0
    job = replace(make_job(image), maps=maps)
    run(job)
    tiles = {place: job.grid.tile_window(tile) for place, tile in enumerate(job.order.tolist())}

    def maps_of(window):
        around = window.grown(BACKGROUND_REACH)
        padded = np.pad(image, ((40, 40), (40, 40), (0, 0)), "symmetric")
        pixels = padded[around.within(Window(-40, -40, 180, 200))]
        touched = {
            place: tile for place, tile in tiles.items() if tile.overlap(window).height * tile.overlap(window).width
        }
        return _averaged_maps(job, touched, pixels, window)[0]

    part = Window(21, 35, 50, 43)
    whole, alone = maps_of(job.grid.frame), maps_of(part)
    inner = part.grown(-BACKGROUND_REACH) if maps == "gradcam" else part
    for name, found in alone.items():
        expected = whole[name][(..., *inner.within(job.grid.frame))]
        np.testing.assert_array_equal(found[(..., *inner.within(part))], expected)
        assert expected.any()


@pytest.mark.parametrize("crf", [True, False])
def test_workers_warm_up(crf):
    warm_up(crf)  # nobody asks how it went


def test_a_slide_without_tissue_has_nothing_to_do(make_job, run):
    job = make_job(np.full((90, 90, 3), 255, np.uint8))
    calls = run(job)
    assert not len(job.tissue) and not calls and not job.folder.exists()
    assert (whole(job, MORPH) == 0).all()


def test_progress_counts_up_to_all_tiles(make_job, run):
    job = make_job(textured(3, 70, 70))
    stages = {}
    for stage, done, total in run(job):
        stages.setdefault(stage, []).append((done, total))
    tiles, blocks = len(job.tissue), math.prod(job.grid.blocks)
    assert stages["tiles"] == [(min(done, tiles), tiles) for done in range(0, tiles + 3, 3)]
    assert stages["windows"] == sorted(stages["windows"]) and stages["windows"][-1] == (blocks, blocks)


def test_progress_begins_with_what_an_earlier_run_did(make_job, run):
    job = make_job(textured(3, 70, 70))
    run(job)
    for number in (1, 2):
        job.batch_file(number).unlink()
    for block in range(math.prod(job.grid.blocks)):
        job.block_file(block, MORPH).unlink()
    calls = run(job)
    assert calls[0] == ("tiles", len(job.tissue) - 6, len(job.tissue))


def test_the_reader_cuts_the_same_map_anywhere(make_job, run):
    job = make_job(textured(4, 130, 90), block=50)
    run(job)
    labels, read = whole(job, MORPH), label_reader(job, MORPH)
    for top, left, height, width in ((0, 0, 1, 1), (49, 49, 2, 2), (30, 10, 100, 80), (129, 89, 1, 1)):
        np.testing.assert_array_equal(
            read(Window(top, left, height, width)), labels[top : top + height, left : left + width]
        )


def test_positions_are_of_tiles_with_tissue_only(make_job):
    image = np.full((100, 100, 3), 255, np.uint8)
    image[60:, 60:] = textured(5, 40, 40)
    job = make_job(image)
    window = Window(0, 0, 100, 100)
    assert job.positions(window).tolist() == list(range(len(job.tissue)))
    assert not len(job.positions(Window(0, 0, 10, 10)))
    corner = Window(90, 90, 10, 10)
    assert set(job.tissue[job.positions(corner)].tolist()) == set(job.grid.tiles_of(corner)) & set(job.tissue.tolist())


def test_reading_ahead_keeps_the_order_and_a_distance():
    begun, lock = [], threading.Lock()

    def read(number):
        with lock:
            begun.append(number)
        return 10 * number

    with ThreadPoolExecutor(1) as reader:
        results = read_ahead(reader, read, range(8), depth=2)
        assert next(results) == 0
        assert len(begun) <= 4
        assert list(results) == [10, 20, 30, 40, 50, 60, 70]


def damage(path, left):
    """Leave a share of a file, or nothing."""
    content = path.read_bytes()
    path.unlink()
    if left is not None:
        path.write_bytes(content[: int(left * len(content))])


@pytest.mark.parametrize("left", [None, 0, 0.5])
@pytest.mark.parametrize("kind", ["labels/morph", "tiles"])
def test_what_is_missing_or_damaged_is_an_error_or_made_again_and_never_no_tissue(make_job, run, left, kind):
    job = make_job(textured(7, 100, 120))
    run(job)
    before = contents(job.folder)
    damage(sorted((job.folder / kind).iterdir())[1], left)
    if kind == "tiles":
        damage(sorted((job.folder / "labels" / "func").iterdir())[0], left)  # which needs the batch
    else:
        with pytest.raises(InputError, match=r"000001\.png: missing or damaged .*; run the same command again"):
            whole(job, MORPH)
    run(job)
    assert contents(job.folder) == before
