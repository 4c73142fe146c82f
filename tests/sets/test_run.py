import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import SIZES, links, rows

from hsn_v1 import HistoSegNetV1
from hsn_v1.adp import CLASSIFIER_CODES, FUNC, GLAS, LABEL_SETS, MORPH
from hsn_v1.classify import classify
from hsn_v1.errors import InputError
from hsn_v1.gradcam import localise
from hsn_v1.hsn_v1 import segment_image
from hsn_v1.io.images import read_image
from hsn_v1.io.locks import LockedError, locked
from hsn_v1.io.masks import read_mask
from hsn_v1.io.writing import write_picture
from hsn_v1.labels import STAGES
from hsn_v1.object_metrics import METRICS, object_metrics
from hsn_v1.parallel import SMALL_IMAGES, pool_of
from hsn_v1.sets.measure import OBJECTS, compare_objects, split_objects
from hsn_v1.sets.run import ReadAhead, warm_up
from hsn_v1.sets.run import run as run_set
from hsn_v1.sets.settings import Settings, check_params, settings_from_params, with_crfs

pytestmark = pytest.mark.slow

BOTH = {"input_name": "patches", "batch_size": 3, "verbosity": "QUIET"}
PATCHES = {**BOTH, "htt_mode": "func"}
GLANDS = {"input_name": "glands", "htt_mode": "glas", "down_fac": 1.5, "verbosity": "QUIET"}


def test_workers_warm_up():
    for crf in (True, False):
        warm_up.__wrapped__(crf)  # nobody asks how it went


def run(root, params, histonet, out=None, workers=1):
    hsn = HistoSegNetV1(params, root, out, workers=workers)
    settings = settings_from_params(check_params(params), root=root, out=out, workers=workers)
    hsn.settings = with_crfs(settings, root / "data", "toy")
    hsn.histonet = histonet
    return hsn.run_batch()


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def per_image(name, folders):
    return {f"{name}/{folder}/{file}" for folder in folders for file in SIZES}


def per_class(name, folder, files):
    """Return those of the tree's files that name an image and a class of the label set, as they should be."""
    possible = {f"{name}/{folder}/{Path(image).stem}_h{code}.png" for image in SIZES for code in LABEL_SETS[name].codes}
    return files & possible


def metric_files(names):
    files = {f"metric_results_{stage}.csv" for stage in STAGES} | {f"IoU_{name}.png" for name in names}
    files |= {f"mIoU_{name}.png" for name in names}
    files |= {f"{name}_IoU_metric_results.csv" for name in names}
    files |= {f"{name}_protocol_metrics.csv" for name in names if name != "glas"}  # of which nothing is excluded
    return files | {
        f"confusion_matrix_{fore}{name}_{stage}.png" for fore in ("", "fore_") for name in names for stage in STAGES
    }


MASKS = [*(f"ablative_{stage}" for stage in STAGES), "patch", "overlay"]


@pytest.fixture(scope="module")
def patches(tmp_path_factory, made_root, toy_histonet):
    """Return the report on a run over both label sets by two workers, its folder and the root, to be read only."""
    root = shutil.copytree(made_root, tmp_path_factory.mktemp("both"), dirs_exist_ok=True)
    return run(root, BOTH, toy_histonet, workers=2), root / "out" / "patches", root


def test_the_tree_of_patches(patches):
    report, out, _ = patches
    files = tree(out)
    expected = metric_files(["morph", "func"]) | {"index.html", "run.json"}
    for name in ("morph", "func"):
        assert per_class(name, "gradcam", files)
        assert per_class(name, "patchconfidence", files)
        expected |= per_class(name, "gradcam", files) | per_class(name, "patchconfidence", files)
        expected |= per_image(name, MASKS)
        expected |= {f"{name}/{way}/{file}.png" for way in ("horizontal", "vertical") for file in SIZES}
    assert files == expected
    assert {link for link, exists in links(out / "index.html").items() if not exists} == set()
    assert report.files == tuple(SIZES)
    assert report.failures == {}


def test_the_tree_of_glands(root, toy_histonet):
    report = run(root, GLANDS, toy_histonet)
    files = tree(root / "out" / "glands")
    expected = metric_files(["glas"]) | per_image("glas", MASKS) | per_class("glas", "gradcam", files)
    expected |= {f"glas/{way}/{file}.png" for way in ("horizontal", "vertical") for file in SIZES}
    expected |= {f"glas/{kind}_gland/{Path(file).stem}.bmp" for kind in ("single", "multi") for file in SIZES}
    assert files == expected | {"glas_confscores.csv", "index.html", "run.json"}
    (row,) = rows(root / "out" / "glands" / "glas_confscores.csv")
    assert list(row) == ["", *SIZES]
    assert {file: float(row[file]) for file in SIZES} == report.scores["glas"]
    single = cv2.imread(str(root / "out" / "glands" / "glas" / "single_gland" / "b c.bmp"), cv2.IMREAD_UNCHANGED)
    mask = read_mask(root / "out" / "glands" / "glas" / "patch" / "b c.png", GLAS, SIZES["b c.png"]).labels
    np.testing.assert_array_equal(single, mask)


@pytest.fixture
def glands(root):
    """Add a bitmap of two true glands to all images but one."""
    for file in SIZES:
        labels = np.kron(np.array([[1, 0, 2], [1, 0, 0]], np.uint8), np.ones((9, 9), np.uint8))
        write_picture(root / "gt" / "glands" / "glas_multi_gland" / f"{Path(file).stem}.bmp", labels)
    (root / "gt" / "glands" / "glas_multi_gland" / "b c.bmp").unlink()
    return root


def test_objects_are_compared_where_the_true_ones_are_known(glands, toy_histonet):
    report = run(glands, GLANDS, toy_histonet)
    assert report.files == tuple(SIZES)
    table = rows(glands / "out" / "glands" / "glas_object_metrics.csv")
    images = [file for file in SIZES if file != "b c.png"]
    assert [(row["image"], row["objects"]) for row in table] == [(i, k) for k in OBJECTS for i in (*images, "all")]
    for *each, pooled in (table[:4], table[4:]):
        assert [row["images"] for row in (*each, pooled)] == ["1", "1", "1", "3"]
        assert [row["true"] for row in (*each, pooled)] == ["2", "2", "2", "6"]
        assert int(pooled["predicted"]) == sum(int(row["predicted"]) for row in each)
        assert set(METRICS) < set(pooled)


def test_objects_of_the_final_mask_are_compared_as_they_are_and_as_published(tmp_path):
    final = np.zeros((30, 30), np.uint8)
    final[5:] = final[2, 2] = 1
    truth = np.zeros((60, 60, 3), np.uint8)
    truth[10:] = 4
    write_picture(tmp_path / "glas_multi_gland" / "a.bmp", truth)
    settings = Settings(images=(), truth=tmp_path, out=tmp_path, label_sets=(GLAS,))
    masks = {("glas", "Adjust"): 1 - final, ("glas", "CRF"): final}
    sums = compare_objects(settings, Path("a.png"), masks)
    metrics = {kind: tuple(object_metrics(sums["glas", kind]).values()) for kind in OBJECTS}
    assert metrics["published post-processing"] == (1, 1, 0)
    assert metrics["connected components"][0] == 2 / 3
    assert compare_objects(settings, Path("b.png"), masks) == {}


def test_touching_objects_are_cut_where_that_is_asked_for(tmp_path):
    y, x = np.indices((60, 100))
    left, right = ((y - 30) ** 2 + (x - middle) ** 2 <= 22**2 for middle in (30, 68))
    mask, truth = (left | right).astype(np.uint8), np.where(x < 49, 1, 2) * (left | right)
    write_picture(tmp_path / "glas_multi_gland" / "a.bmp", truth.astype(np.uint8))
    asking = replace(GLAS, split_objects=30)
    settings = Settings(images=(), truth=tmp_path, out=tmp_path, label_sets=(asking,))
    sums = compare_objects(settings, Path("a.png"), {("glas", "CRF"): mask})
    assert {kind: found.objects[0] for (_, kind), found in sums.items()} == {
        "connected components": 1,
        "published post-processing": 1,
        "watershed": 2,
    }
    assert object_metrics(sums["glas", "watershed"])["object Dice"] > 0.97
    np.testing.assert_array_equal(split_objects(mask, 90) > 0, mask > 0)
    mask[:5, :5] = 1  # a speck
    np.testing.assert_array_equal(np.unique(split_objects(mask, 30)), [0, 1, 2])
    assert split_objects(mask, 90).max() == 1 and not split_objects(np.zeros((9, 9), np.uint8), 5).any()


def test_true_objects_that_cannot_be_read_fail_their_image(glands, toy_histonet):
    (glands / "gt" / "glands" / "glas_multi_gland" / "a#1.bmp").write_bytes(b"not an image")
    report = run(glands, GLANDS, toy_histonet)
    assert list(report.failures) == ["a#1.png"]
    assert "glas_multi_gland/a#1.bmp: not an image" in report.failures["a#1.png"]
    assert not [path for path in tree(glands / "out") if "a#1" in path]


def test_what_is_written_is_what_the_plain_functions_give(patches, toy_histonet):
    _, out, root = patches
    from hsn_v1.densecrf import CRF

    crfs = {name: CRF.from_file(root / "data" / f"{name}_optimal_pcc.npy") for name in ("morph", "func")}
    for file, size in SIZES.items():
        image, _ = read_image(root / "img" / "patches" / file)
        segmentations = segment_image(image, toy_histonet, [MORPH, FUNC], crfs)
        for name, segmentation in segmentations.items():
            for stage, mask in segmentation.masks.items():
                written = read_mask(out / name / f"ablative_{stage}" / file, LABEL_SETS[name], size).labels
                np.testing.assert_array_equal(written, mask)
            painted, _ = read_image(out / name / "patch" / file)
            overlay, _ = read_image(out / name / "overlay" / file)
            expected = (0.75 * painted.astype(float) + 0.25 * image).astype(np.uint8)
            np.testing.assert_array_equal(overlay, expected)
            for c, code in enumerate(LABEL_SETS[name].codes):
                path = out / name / "gradcam" / f"{Path(file).stem}_h{code}.png"
                assert path.exists() == segmentation.maps[c].any()
                if path.exists():
                    grey = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                    np.testing.assert_array_equal(grey, np.rint(255 * segmentation.maps[c]))


def test_confidences_are_the_scores_of_present_classes(root, toy_histonet):
    out = root / "out" / "patches"
    run(root, {**BOTH, "run_level": 1, "input_size": [5, 9]}, toy_histonet)
    assert not (out / "morph" / "gradcam").exists()
    image, _ = read_image(root / "img" / "patches" / "a#1.png")
    ((*scores,),) = toy_histonet(image[np.newaxis].astype(np.float32))[0]
    for code in MORPH.codes[1:]:
        score = scores[CLASSIFIER_CODES.index(code)]
        path = out / "morph" / "patchconfidence" / f"a#1_h{code}.png"
        assert path.exists() == (score >= 0.5)
        if path.exists():
            picture, _ = read_image(path)
            np.testing.assert_array_equal(picture, np.full((5, 9, 3), round(255 * float(score))))


def test_run_level_2_stops_before_the_crf(root, toy_histonet):
    report = run(root, {**BOTH, "run_level": 2}, toy_histonet)
    folders = {path.split("/")[1] for path in tree(root / "out" / "patches") if "/" in path}
    assert folders == {"patchconfidence", "gradcam", "ablative_GradCAM", "ablative_Adjust"}
    assert report.confusions == {}


def test_grad_cams_are_written_on_request_and_files_that_an_earlier_run_left_removed(root, toy_histonet):
    settings = settings_from_params(check_params({**PATCHES, "run_level": 2}), root=root, workers=1)
    run_set(replace(settings, grad_cams=True), toy_histonet)
    image, _ = read_image(root / "img" / "patches" / "a#1.png")
    ((_, _, tiles),) = classify([(None, image)], toy_histonet)
    cams, folder = localise(tiles, FUNC), root / "out" / "patches" / "func" / "gradcam_unadjusted"
    assert {path.name for path in folder.glob("a#1_h*")} == {
        f"a#1_h{FUNC.codes[c]}.png" for c in np.flatnonzero(cams.any(axis=(1, 2)))
    }
    for path in folder.glob("a#1_h*"):
        cam = cams[FUNC.codes.index(path.stem.removeprefix("a#1_h"))]
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.rint(255 * cam))
    assert [*folder.glob("a#1_h*")]
    adjusted = folder.with_name("gradcam")
    stale = next(path for code in FUNC.codes if not (path := adjusted / f"a#1_h{code}.png").exists())
    write_picture(stale, np.zeros((2, 2), np.uint8))
    run_set(settings, toy_histonet)
    assert not [*folder.iterdir()] and not stale.exists() and [*adjusted.iterdir()]


@pytest.mark.parametrize(
    ("kept", "folders"),
    [(0, {"patchconfidence"}), (1, {"gradcam"}), (2, {*MASKS}), (3, {"horizontal", "vertical"})],
)
def test_save_types_and_no_metrics_without_ground_truth(root, toy_histonet, kept, folders):
    params = {**PATCHES, "save_types": [i == kept for i in range(4)], "gt_mode": "off"}
    assert run(root, params, toy_histonet).confusions == {}
    files = tree(root / "out" / "patches")
    assert {path.split("/")[1] for path in files if "/" in path} == folders
    assert {path for path in files if "/" not in path} == {"index.html", "run.json"}


def test_functional_types_alone_are_those_of_both(patches, toy_histonet, tmp_path):
    report, out, root = patches
    alone = run(root, {**PATCHES, "batch_size": 1}, toy_histonet, tmp_path / "alone")
    assert not (tmp_path / "alone" / "morph").exists()
    for stage in STAGES:
        np.testing.assert_array_equal(alone.confusions["func", stage], report.confusions["func", stage])
    for path in (tmp_path / "alone" / "func").rglob("*.png"):
        assert path.read_bytes() == (out / path.relative_to(tmp_path / "alone")).read_bytes()


def test_metrics_are_those_of_the_masks(patches):
    _, out, root = patches
    pixels = np.zeros(len(FUNC))
    intersection, union = np.zeros(len(FUNC)), np.zeros(len(FUNC))
    for file, size in SIZES.items():
        truth = read_mask(root / "gt" / "patches" / "func" / file, FUNC, size)
        mask = read_mask(out / "func" / "patch" / file, FUNC, size).labels
        pixels += truth.pixels
        for c in range(len(FUNC)):
            intersection[c] += np.sum((truth.labels == c) & (mask == c))
            union[c] += np.sum((truth.labels == c) | (mask == c))
    (row,) = rows(out / "func_IoU_metric_results.csv")
    np.testing.assert_allclose([float(row[code]) for code in FUNC.codes], intersection / union)
    (row,) = rows(out / "metric_results_CRF.csv")
    assert list(row) == ["", "morph_fIoU", "morph_mIoU", "func_fIoU", "func_mIoU"]
    weights = 1 / np.log(pixels)
    assert float(row["func_mIoU"]) == pytest.approx(np.mean(intersection / union))
    assert float(row["func_fIoU"]) == pytest.approx((weights / weights.sum()) @ (intersection / union))


def test_one_broken_image_does_not_lose_the_others(root, toy_histonet):
    (root / "img" / "patches" / "broken.png").write_bytes(b"not an image")
    (root / "gt" / "patches" / "func" / "b c.png").unlink()
    truncated = root / "gt" / "patches" / "morph" / "ü.PNG"
    truncated.write_bytes(truncated.read_bytes()[:200])
    report = run(root, BOTH, toy_histonet)
    assert report.files == ("a#1.png", "d.png_crop_1.png")
    assert {file: message.split(": ")[1] for file, message in report.failures.items()} == {
        "b c.png": "no such ground truth; add it, remove the image, or run with gt_mode off",
        "broken.png": report.failures["broken.png"].split(": ")[1],
        "ü.PNG": report.failures["ü.PNG"].split(": ")[1],
    }
    assert "not an image" in report.failures["broken.png"]
    assert "gt/patches/morph/ü.PNG" in report.failures["ü.PNG"]
    masks = {path for path in tree(root / "out" / "patches") if "/patch/" in path}
    assert masks == {f"{name}/patch/{file}" for name in ("morph", "func") for file in report.files}


def test_what_is_read_ahead_makes_no_difference(root, toy_histonet):
    settings = with_crfs(settings_from_params(check_params(PATCHES), root=root, workers=1), root / "data", "toy")
    (root / "gt" / "patches" / "func" / "b c.png").write_bytes(b"broken")
    reader = ReadAhead(settings)
    reader._thread.join()
    ahead = reader.stop()
    assert sorted(path.name for path in ahead) == ["a#1.png", "d.png_crop_1.png", "ü.PNG"]
    before, after = (run_set(settings, toy_histonet, ahead=each) for each in ({}, ahead))
    assert [*before.failures] == [*after.failures] == ["b c.png"]
    for key, confusion in before.confusions.items():
        np.testing.assert_array_equal(after.confusions[key], confusion)


def test_strange_colours_and_default_settings_are_told(root, toy_histonet):
    write_picture(root / "gt" / "patches" / "func" / "a#1.png", np.full((4, 5, 3), 77, np.uint8))
    (root / "data" / "func_optimal_pcc.npy").unlink()
    first, second = run(root, PATCHES, toy_histonet).notes
    assert "func_optimal_pcc.npy: no such file" in first
    assert "func/a#1.png: 20 pixels have a colour of no class" in second


def test_a_folder_that_cannot_be_written_is_named(root, toy_histonet):
    (root / "file").write_text("")
    with pytest.raises(InputError, match="file/out: cannot be written to"):
        run(root, PATCHES, toy_histonet, root / "file" / "out")


PUBLISHED_SCRIPT = """
import hsn_v1
hsn = hsn_v1.HistoSegNetV1(params={
    'input_name': 'patches', 'input_size': [224, 224], 'input_mode': 'patch', 'down_fac': 1.0, 'batch_size': 16,
    'htt_mode': 'func', 'gt_mode': 'on', 'run_level': 3, 'save_types': [1, 1, 1, 1], 'verbosity': 'QUIET'})
hsn.find_img()
hsn.analyze_img()
hsn.load_histonet(params={'model_name': 'toy'})
hsn.run_batch()
"""


def test_a_script_of_published_calls_runs_unchanged(root, tmp_path_factory):
    """It has no ``if __name__ == '__main__'``, its folder only data, img and gt, and its screen stays clean."""
    script = tmp_path_factory.mktemp("script") / "script.py"
    script.write_text(PUBLISHED_SCRIPT)
    package = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=root,
        env={"PYTHONPATH": str(package), "LOKY_MAX_CPU_COUNT": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert per_image("func", MASKS) | metric_files(["func"]) <= tree(root / "out" / "patches")


@pytest.mark.parametrize("size", [(1, 1200), (1200, 1), (2, 2000)])
def test_images_as_thin_as_a_line_are_segmented(root, toy_histonet, size):
    folder = root / "img" / "thin"
    write_picture(folder / "line.png", np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    report = run(root, {**PATCHES, "input_name": "thin", "gt_mode": "off"}, toy_histonet)
    assert (report.files, report.failures) == (("line.png",), {})
    mask, _ = read_image(root / "out" / "thin" / "func" / "patch" / "line.png")
    assert mask.shape[:2] == size


def test_images_whose_maps_would_have_one_name_are_refused(root, toy_histonet):
    shutil.copy(root / "img" / "patches" / "a#1.png", root / "img" / "patches" / "a#1.PNG")
    with pytest.raises(InputError, match=r"a#1\.png and a#1\.PNG: their results would have the same name; rename one"):
        run(root, PATCHES, toy_histonet)
    run(root, {**PATCHES, "save_types": [0, 0, 1, 0], "gt_mode": "off"}, toy_histonet)
    masks = {path.name for path in (root / "out" / "patches" / "func" / "patch").iterdir()}
    assert masks == {*SIZES, "a#1.PNG"}


def test_a_second_run_into_the_same_folder_is_refused_and_the_folder_is_given_up(root, toy_histonet):
    with (
        locked(root / "out" / "patches"),
        pytest.raises(LockedError, match=r"patches: another run \(process \d+ on .*\) is working there; wait"),
    ):
        run(root, PATCHES, toy_histonet)
    assert not (root / "out" / "patches").exists()
    run(root, {**PATCHES, "run_level": 1}, toy_histonet)
    assert not list((root / "out").rglob(".*"))


# --- Last, as these end the workers -----------------------------------------------------------------------------------


def test_when_all_images_fail_the_run_does(root, toy_histonet):
    for file in SIZES:
        (root / "img" / "patches" / file).write_bytes(b"")
    with pytest.raises(InputError, match=r"a#1\.png: not an image"):
        run(root, PATCHES, toy_histonet)


def test_a_disk_that_fills_up_ends_the_run_in_one_line(root, toy_histonet):
    pool = pool_of(1, SMALL_IMAGES)
    for limited in [pool.submit(limit_files) for _ in range(20)]:
        limited.result()
    with pytest.raises(InputError, match=r"File too large; results cannot be written") as caught:
        run(root, PATCHES, toy_histonet)
    assert "\n" not in str(caught.value)
    assert not [path for path in tree(root / "out") if ".part" in path]


def limit_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
