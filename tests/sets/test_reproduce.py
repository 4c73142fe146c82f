"""The papers' numbers: fetched in both layouts and run on stand-in weights; small networks and phantoms elsewhere."""

import csv
import io
import json
import shutil
import zipfile

import numpy as np
import pytest
from helpers import links

import demo_01_segment_patches as demo_01
import demo_02_segment_glas_patches as demo_02
from hsn_v1.adp import LABEL_SETS
from hsn_v1.errors import InputError
from hsn_v1.evaluate import confusion_matrix, mean_iou
from hsn_v1.io import tree
from hsn_v1.io.images import read_image
from hsn_v1.io.masks import read_mask
from hsn_v1.sets import published, reproduce
from hsn_v1.sets.official import inspect
from hsn_v1.sets.reproduce import EXPERIMENTS, Experiment

pytestmark = pytest.mark.slow

NOT_COMPARABLE = "not comparable", "Not comparable with the published numbers: 1 of 50 images."
NONE = {"fIoU": None, "mIoU": None}


def numbers_of(out):
    """Return a table's rows, which are the same in all its forms."""
    rows = json.loads((out / "numbers.json").read_text())["numbers"]
    with open(out / "numbers.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows] == table
    assert all(links(out / "index.html").values())
    return rows


def test_without_the_authors_data_phantoms_show_the_same_table(root, tmp_path, command, monkeypatch, eagerly):
    shown = (
        Experiment("phantoms", "patches", "toy", {"morph": NONE, "func": NONE}),
        Experiment("phantoms", "glands", "toy", {"glas": NONE}),
    )
    monkeypatch.setattr(reproduce, "PHANTOMS", shown)
    monkeypatch.setattr(published, "REPOSITORY", root)
    here = tmp_path / "here"
    here.mkdir()
    status, out, err = command("reproduce", "--root", here, "--workers", 1)
    assert status == 0
    assert err.startswith(f"note: {here}: nothing of the authors' is there; phantoms show the way")
    rows = numbers_of(here / "out" / "reproduced")
    assert len(rows) == 14 + 6
    assert {row["verdict"] for row in rows[:14]} == {"missing"} and {row["here"] for row in rows[:14]} == {None}
    assert {row["verdict"] for row in rows[14:]} == {"not comparable"} and all(row["here"] for row in rows[14:])
    assert f"database/models_cnn/ADP_X1.7/ADP_X1.7.h5 is missing; hsn-v1 data --fetch ijcv2020 --root {here}\n" in out
    assert "0.20568" in out and "0.44115" in out


@pytest.mark.parametrize(("script", "experiment"), [(demo_01, EXPERIMENTS[0]), (demo_02, EXPERIMENTS[1])])
def test_the_demos_have_the_same_numbers_and_settings(script, experiment):
    params = script.PARAMS["input_name"], script.PARAMS["down_fac"]
    assert params == (experiment.images, pytest.approx(experiment.downsample))
    assert (experiment.model, experiment.published) == (script.MODEL_NAME, script.PUBLISHED)


@pytest.fixture
def later(root, eagerly):
    """Have the later paper's tree, with a network of small tiles, and images of other sizes than these."""
    for file in (root / "data").iterdir():
        name = file.name.replace("toy", "ADP_X1.7")
        folder = root / tree.LATER_CRFS if file.suffix == ".npy" else root / tree.LATER_CLASSIFIERS / "ADP_X1.7"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / name)
    top = root / tree.LATER_TRUTH.parent
    (top / "ImageSets" / "Segmentation").mkdir(parents=True)
    for part, names in (("tuning", ["a#1", "b c"]), ("segtest", ["d.png_crop_1"])):
        (top / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(names))
    shutil.move(root / "img" / "patches", top / "PNGImagesSubset")
    for name in ("morph", "func"):
        shutil.move(root / "gt" / "patches" / name, top / "SegmentationClassAug" / f"ADP-{name}")
    shutil.rmtree(root / "data")
    return root


def test_the_later_paper_s_images_are_resized_and_their_masks_compared_at_the_truth_s_size(later, command):
    status, out, err = command("reproduce", "--root", later, "--workers", 1)
    assert (status, err) == (0, "")
    rows = {(row["images"], row["label_set"]): row for row in numbers_of(later / "out" / "reproduced") if row["here"]}
    assert set(rows) == {(part, name) for part in ("tuning", "segtest") for name in ("morph", "func")}
    folder, counts = later / "out" / "reproduced" / "ijcv2020_tuning_ADP_X1.7", 0
    for image in tree.later_images(later, "tuning"):
        mask = read_mask(tree.stage_mask(folder, "func", "CRF", image.name), LABEL_SETS["func"]).labels
        truth = read_mask(tree.truth_of(later / tree.LATER_TRUTH, "func") / image.name, LABEL_SETS["func"]).labels
        size, (height, width) = mask.shape, read_image(image)[0].shape[:2]
        assert size == (32, 32) and truth.shape == (2 * height, 2 * width)
        rows_of, columns = (np.arange(side) * 32 // side for side in truth.shape)
        counts = counts + confusion_matrix(truth, mask[np.ix_(rows_of, columns)], 5)
    row = rows["tuning", "func"]
    assert row["here"] == pytest.approx(mean_iou(counts), abs=1e-12)
    assert row["difference"] == row["here"] - row["published"] and row["verdict"] == "not reproduced"
    assert "ijcv2020, tuning, ADP_VGG16: database/models_cnn/ADP_VGG16/ADP_VGG16.h5 is missing" in out


def test_one_experiment_that_fails_does_not_lose_the_others(later, command):
    image = tree.later_images(later, "segtest")[0]
    image.write_bytes(b"broken")
    (tree.later_images(later, "tuning")[0]).unlink()
    status, _, err = command("reproduce", "--root", later, "--workers", 1, "--quiet")
    assert status == 1 and [line.partition(":")[0] for line in err.splitlines()] == ["failed", "failed"]
    rows = [row for row in numbers_of(later / "out" / "reproduced") if row["model"] == "ADP_X1.7"]
    assert [row["verdict"] for row in rows] == ["not comparable"] * 2 + ["failed"] * 2
    assert rows[0]["reason"] == "1 images failed." and rows[2]["reason"].startswith(str(image))


@pytest.mark.parametrize("names", ["", "../../x", "a\nb/c", "/etc/passwd"])
def test_a_list_that_leads_elsewhere_or_nowhere_is_refused(tmp_path, names):
    path = tmp_path / tree.LATER_TRUTH.parent / "ImageSets" / "Segmentation" / "tuning.txt"
    path.parent.mkdir(parents=True)
    path.write_text(names)
    with pytest.raises(InputError, match=r"tuning\.txt: expected a list of the names of images"):
        tree.later_images(tmp_path, "tuning")
    assert "expected a list" in inspect(tmp_path)[0].found


# --- Stand-in weights ------------------------------------------------------------------------------------------------


def packed(*files):
    """Return an archive of (path in it, file or text)."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, file in files:
            archive.writestr(name, file if isinstance(file, str) else file.read_bytes())
    return content.getvalue()


def both_layouts(real, images):
    """Return `hsn_data.zip` and `database.zip` of a subset of the tuning patches."""
    patches, truth = real / "img" / "01_tuning_patch", real / "gt" / "01_tuning_patch"
    first = [(f"hsn_data/data/{file.name}", file) for file in (real / "data").iterdir()]
    top = "database/ADPdevkit/ADPRelease1"
    later = [(f"{top}/ImageSets/Segmentation/{part}.txt", "\n".join(images)) for part in ("tuning", "segtest")]
    for file in (real / "data").glob("histonet*"):
        later.append((f"database/models_cnn/ADP_X1.7/ADP_X1.7{file.suffix}", file))
    for name in ("morph", "func"):
        later.append((f"database/models_wsss/{name}_optimal_pcc.npy", real / "data" / f"{name}_optimal_pcc.npy"))
    for name in (f"{image}.png" for image in images):
        first.append((f"hsn_data/img/01_tuning_patch/{name}", patches / name))
        later.append((f"{top}/PNGImagesSubset/{name}", patches / name))
        for label_set in ("morph", "func"):
            first.append((f"hsn_data/gt/01_tuning_patch/{label_set}/{name}", truth / label_set / name))
            later.append((f"{top}/SegmentationClassAug/ADP-{label_set}/{name}", truth / label_set / name))
    return packed(*first), packed(*later)


def test_both_papers_are_fetched_and_reproduced_in_one_command_each(reference, host, gdown, command, tmp_path):
    images = ["HE#2.png_crop_510"]
    host.files["uc"], host.files["database.zip"] = both_layouts(reference / "real", images)
    assert command("data", "--fetch", "--root", tmp_path, "--quiet")[0] == 1  # of 50 images, 1 is there
    status, out, err = command("reproduce", "--root", tmp_path, "--quiet", "--workers", 1)
    assert (status, out, err) == (0, "", "")
    rows = numbers_of(tmp_path / "out" / "reproduced")
    told = {(row["paper"], row["images"], row["model"]): (row["verdict"], row["reason"]) for row in rows}
    assert len(told) == len(EXPERIMENTS)
    assert told["iccv2019", "01_tuning_patch", "histonet_X1.7_clrdecay_5"] == NOT_COMPARABLE
    folders = {"iccv2019": reference / "reference", "ijcv2020": reference / "ijcv"}
    for row in rows:
        if row["here"] is None or row["metric"] != "mIoU" or row["images"] == "segtest":
            continue
        counts = 0
        for name in (f"{image}.png" for image in images):
            (found,) = folders[row["paper"]].rglob(f"{name}.npz")
            mask, size = np.load(found)[f"{row['label_set']}_CRF"], None if row["paper"] == "ijcv2020" else (224, 224)
            truth_file = reference / "real" / "gt" / "01_tuning_patch" / row["label_set"] / name
            truth = read_mask(truth_file, LABEL_SETS[row["label_set"]], size, "silently").labels
            grid = np.ix_(*(np.arange(side) * 224 // side for side in truth.shape))
            counts = counts + confusion_matrix(truth, mask[grid], len(LABEL_SETS[row["label_set"]]))
        assert row["here"] == pytest.approx(mean_iou(counts), abs=1e-6), row
