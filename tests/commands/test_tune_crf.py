"""The command ``tune-crf``: class files of each kind, and masks that do not fit."""

import numpy as np
import pytest
from helpers import KINDS, class_file_of_kind, write_halves
from PIL import Image

from hsn_v1.class_file import parse_taxonomy
from hsn_v1.densecrf import CRF
from hsn_v1.io import model_files
from hsn_v1.io.models import load_histonet, save_histonet
from hsn_v1.io.writing import write_picture, write_table
from hsn_v1.training.networks import build_histonet

pytestmark = pytest.mark.slow


@pytest.fixture
def tune(eagerly, tmp_path, command):
    write_halves(tmp_path)

    def run(kind, *options):
        text = class_file_of_kind(kind)
        codes = parse_taxonomy(text, kind).codes
        network = build_histonet(len(codes), 32, 0.03)
        save_histonet(tmp_path / "data", "mine", network, np.full(len(codes), 1 / 3), codes, text)
        folders = ("--images", tmp_path / "img", "--truth", tmp_path / "mask")
        return command("tune-crf", "--model", "mine", "--root", tmp_path, *folders, "--trials", 2, "--quiet", *options)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_class_files_of_each_kind(tmp_path, tune, kind):
    status, out, err = tune(kind)
    assert (status, err) == (0, "") and "tissue: mIoU of the present classes" in out
    assert (tmp_path / "data" / "mine_tissue_optimal_pcc.npy").exists()


def test_a_file_of_settings_is_replaced_by_better_ones_alone(tmp_path, tune, monkeypatch):
    tune("neither")
    file = tmp_path / "data" / "mine_tissue_optimal_pcc.npy"
    first = file.read_bytes()
    for diagonal in (1, 0):  # of worse masks than any, and of perfect ones
        tried = [(CRF(gauss_sxy=7), np.roll(np.diag([9, 9, 0]), diagonal, axis=0))]
        monkeypatch.setattr("hsn_v1.training.tuning.search", lambda *_, tried=tried: tried)
        status, out, _ = tune("neither")
        assert status == 0 and (file.read_bytes() == first) == (f"{file}: kept, since" in out) == bool(diagonal)
        assert ("no trial is better than no CRF: try more --trials" in out) == bool(diagonal)
    assert CRF.from_file(file) == CRF(gauss_sxy=7)


def test_a_shipped_classifier_is_copied_to_where_its_tuned_settings_are(tmp_path, tune, command, monkeypatch):
    tune("neither")
    (tmp_path / "data").rename(tmp_path / "shipped")
    monkeypatch.setattr(model_files, "SHIPPED", tmp_path / "shipped")
    folders = ("--images", tmp_path / "img", "--truth", tmp_path / "mask")
    best = [(CRF(gauss_sxy=7), np.diag([9, 9, 0]))]
    monkeypatch.setattr("hsn_v1.training.tuning.search", lambda *_: best)
    status, _, err = command("tune-crf", "--model", "mine", "--root", tmp_path, *folders, "--quiet")
    assert status == 0 and f"mine is copied from {tmp_path / 'shipped'}" in err
    folder = model_files.find_model(tmp_path, "mine")
    label_sets = tuple(model_files.read_taxonomy(folder, "mine").label_sets.values())
    assert folder == tmp_path / "data" and model_files.read_crfs(folder, "mine", label_sets)[0]["tissue"].gauss_sxy == 7
    assert load_histonet(folder, "mine").identity == load_histonet(tmp_path / "shipped", "mine").identity


def test_masks_of_another_shape_tune_nothing(tmp_path, tune):
    def resize(name, size):
        with Image.open(tmp_path / "mask" / name) as image:
            image.resize(size, Image.Resampling.NEAREST).save(tmp_path / "mask" / name)

    resize("0.png", (32, 24))
    resize("1.png", (64, 64))
    status, _, err = tune("neither")
    assert status == 0
    noted, left_out = err.splitlines()
    assert noted.startswith("note: ") and "0.png: 32 x 24 px" in noted and "64 x 48 px" in noted
    assert left_out.startswith("note: left out: ") and "1.png: 64 x 64 px, expected 64 x 48" in left_out
    (tmp_path / "data" / "mine_tissue_optimal_pcc.npy").unlink()
    resize("0.png", (64, 64))
    status, _, err = tune("neither")
    assert status == 2 and "0.png: 64 x 64 px, expected 64 x 48" in err
    assert not (tmp_path / "data" / "mine_tissue_optimal_pcc.npy").exists()
    assert tune("neither", "--resize")[::2] == (0, "")


def test_mosaics_of_patches_tune_without_masks(tmp_path, tune, command):
    tune("neither")  # which saves the classifier
    codes = parse_taxonomy(class_file_of_kind("neither"), "neither").codes
    patches = tmp_path / "patches"
    for i, code in enumerate(codes):
        write_picture(patches / f"{code}.png", np.full((64, 64, 3), 60 * i, np.uint8))
    rows = ([f"{code}.png", *(int(code == other) for other in codes)] for code in codes)
    write_table(patches / "labels.csv", [["patch", *codes], *rows])
    options = "--model", "mine", "--root", tmp_path, "--mosaic", patches, "--count", 1, "--trials", 1, "--quiet"
    status, out, err = command("tune-crf", *options)
    assert status == 0 and "tissue: mIoU of the present classes" in out
    assert err.startswith("note: borders in mosaics are sharper") and err.count("\n") == 1
    status, _, err = command("tune-crf", *options, "--images", tmp_path / "img", "--truth", tmp_path / "mask")
    assert status == 2 and "--mosaic goes without --images" in err
