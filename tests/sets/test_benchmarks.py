"""Data sets as they are released, and the one command from there to a table's row."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import carry_out, step_by_step
from invented import draw
from PIL import Image

from hsn_v1.errors import InputError
from hsn_v1.intervals import Estimate
from hsn_v1.io.masks import write_mask
from hsn_v1.io.writing import write_picture
from hsn_v1.labels import LabelSet
from hsn_v1.sets.benchmarks import (
    BENCHMARKS,
    Part,
    detect,
    find_parts,
    has_labels,
    images_in_one_folder,
    sorted_into_parts,
)
from hsn_v1.sets.comparison import paper_table

pytestmark = pytest.mark.slow

IMAGE = np.full((4, 6, 3), 90, np.uint8)
NAMES = {
    "luad": "1031280-2300-27920-[1 0 0 1].png",
    "bcss": "TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500+0[1101].png",
    "wsss4luad": "436219-9328-56427-[1, 1, 0].png",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("train", ["train", "train/img", "1.training"])
def test_released_layouts_are_told_by_their_labels(tmp_path, name, train):
    write_picture(tmp_path / train / NAMES[name], IMAGE)
    for part in ("valid", "test"):
        write_picture(tmp_path / part / "img" / "00.png", IMAGE)
        write_picture(tmp_path / part / "mask" / "00.png", IMAGE[..., 0] * 0)
        write_picture(tmp_path / part / "background-mask" / "00.png", IMAGE[..., 0] * 0)
    parts = find_parts(tmp_path)
    assert parts == {
        "train": Part(tmp_path / train, None),
        "validation": Part(tmp_path / "valid" / "img", tmp_path / "valid" / "mask"),
        "test": Part(tmp_path / "test" / "img", tmp_path / "test" / "mask"),
    }
    assert detect(parts) == name
    assert has_labels(parts["train"]) and not has_labels(parts["test"])


def test_what_cannot_be_told_is_asked_for(tmp_path):
    with pytest.raises(InputError, match="no data set; expected folders train, val, test"):
        find_parts(tmp_path)
    write_picture(tmp_path / "train" / "a.png", IMAGE)
    with pytest.raises(InputError, match=r"a\.png: not known by its labels; give `set` luad\|bcss\|wsss4luad\|glas"):
        detect(find_parts(tmp_path))


def write_published_glas(folder):
    """Write images, and masks of half their size in the published colours."""
    for file in ("train_1.png", "testA_2.png", "testB_3.png"):
        write_picture(folder / "img" / "02_glas_full" / file, IMAGE)
        colours = np.array([(3, 155, 229), (0, 0, 128)], np.uint8)
        write_picture(folder / "gt" / "02_glas_full" / "glas" / file, colours[np.array([[0, 1, 1], [0, 0, 1]])])
    return [[0, 0, 1, 1, 1, 1]] * 2 + [[0, 0, 0, 0, 1, 1]] * 2


def write_challenge_glas(folder):
    """Write images, and masks with one label per gland."""
    for stem in ("train_1", "testA_2", "testB_3"):
        write_picture(folder / f"{stem}.bmp", IMAGE)
        write_picture(folder / f"{stem}_anno.bmp", np.arange(6, dtype=np.uint8)[np.newaxis].repeat(4, axis=0) // 2)
    return [[0, 0, 1, 1, 1, 1]] * 4


@pytest.mark.parametrize("write", [write_published_glas, write_challenge_glas])
def test_glas_is_sorted_into_parts(tmp_path, write):
    expected = write(tmp_path / "glas")
    assert len(images_in_one_folder(tmp_path / "glas")) == 3
    assert len(list(sorted_into_parts(tmp_path / "glas", BENCHMARKS["glas"], tmp_path / "parts"))) == 3
    parts = find_parts(tmp_path / "parts")
    assert [path.name for path in parts["train"].images.iterdir()] == ["train_1.png"]
    assert {path.name for path in parts["test"].truth.iterdir()} == {"testA_2.png", "testB_3.png"}
    assert np.asarray(Image.open(parts["train"].truth / "train_1.png")).tolist() == expected
    assert images_in_one_folder(tmp_path / "parts" / "train" / "mask" / "nowhere") == []


def test_a_row_of_a_table():
    values = {
        ("IoU", "T"): {"excluded": Estimate(0.25, 0.2, 0.3), "other": Estimate(1)},
        ("IoU", "S"): {"excluded": Estimate(float("nan"))},
        ("Dice", "T"): {"excluded": Estimate(0.4)},
        ("mIoU", ""): {"excluded": Estimate(0.25)},
    }
    header, _, row = paper_table({"ours": values}, "excluded").splitlines()
    assert (header, row) == ("| excluded | T | S | mIoU |", "| ours | 0.2500 [0.200, 0.300] | - | 0.2500 |")


SET = LabelSet("tissue", {"RED": (200, 0, 0), "GREEN": (0, 200, 0), "BLUE": (0, 0, 200), "none": (255, 255, 255)}, {})
OWN = ["--classes", "RED=#c80000", "GREEN=#00c800", "BLUE=#0000c8", "--mpp", 1]
OPTIONS = "--network histonet --epochs 1 --width 0.05 --tile 32 --saved-tile 32 --batch 16 --half-cycle 1"


@pytest.fixture(scope="module")
def trained(keras, tmp_path_factory):
    """Make a small data set of invented classes, train, tune, segment and score, and return where."""
    root, rng = tmp_path_factory.mktemp("benchmark"), np.random.default_rng(0)
    for i, present in enumerate([(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 3), (3, 2, 1)] * 4):
        bits = ", ".join(str(int(c in present)) for c in range(3))
        write_picture(root / "set" / "train" / f"{i}-[{bits}].png", draw(rng, classes=present)[0])
    for part in ("val", "test"):
        for i in range(3):
            image, labels = draw(rng, 40, 48, [(0, 1, 3), (2, 1), (2, 0, 3)][i])
            write_picture(root / "set" / part / "img" / f"{i}.png", image)
            every = 2 if (part, i) == ("test", 2) else 1  # as GlaS' masks in the authors' download
            write_mask(root / "set" / part / "mask" / f"{i}.png", labels[::every, ::every], SET)
    with step_by_step():
        assert benchmark(root, *OWN, "--train-options", OPTIONS, "--trials", 1) == 0
    return root


def benchmark(root, *options):
    return carry_out("benchmark", root / "set", "--name", "mine", "--root", root, "--workers", 1, "--quiet", *options)


def test_one_command_ends_in_a_row_and_a_page(trained):
    out = trained / "out" / "mine" / "test"
    assert (out / "index.html").exists()
    assert {path.name for path in (out / "tissue" / "patch").iterdir()} == {"0.png", "1.png", "2.png"}
    excluded, background, published = (out / "score.md").read_text().split("\n\n")
    assert excluded.splitlines()[0].startswith("| excluded | RED | GREEN | BLUE | mIoU |")
    assert background.splitlines()[0].startswith("| background | RED | GREEN | BLUE | mIoU |")
    methods = [line.split(" | ")[0] for line in published.splitlines()[2:]]
    assert methods == [f"| HistoSegNet, mine, {stage}" for stage in ("after CRF", "Grad-CAM", "adjusted")]
    assert (trained / "data" / "mine_tissue_optimal_pcc.npy").exists()


def test_what_is_done_is_not_done_again(trained, capsys):
    weights = (trained / "data" / "mine.h5").stat().st_mtime_ns
    assert benchmark(trained, *OWN) == 0
    said = capsys.readouterr().out
    assert "train: done before" in said and "tune: done before" in said and "| excluded |" in said
    assert (trained / "data" / "mine.h5").stat().st_mtime_ns == weights
    assert benchmark(trained, *OWN, "--step", "score") == 0
    assert "segmented" not in capsys.readouterr().out


def test_repeats_end_in_mean_and_spread(trained, capsys):
    """As if the second seed's masks were the ground truth."""
    data, out, again = trained / "data", trained / "out" / "mine", trained / "out" / "mine" / "seed1"
    for path in data.glob("mine[._]*"):
        shutil.copy(path, data / path.name.replace("mine", "mine_seed1", 1))
    shutil.copytree(out / "test", again / "test", dirs_exist_ok=True)
    for path in (again / "test" / "tissue" / "ablative_CRF").iterdir():
        shutil.copy(trained / "set" / "test" / "mask" / path.name, path)
    assert benchmark(trained, *OWN, "--repeats", 2, "--step", "score") == 0
    said = capsys.readouterr().out
    one, two = (mean_iou((folder / "test" / "score.md").read_text()) for folder in (out, again))
    assert one < two == 1
    expected = (one + two) / 2, abs(one - two) / 2**0.5, min(one, two), max(one, two)
    line = next(line for line in said.splitlines() if line.startswith("mIoU (excluded) of 2 seeds"))
    assert [*map(float, re.findall(r"[01]\.\d+", line))] == pytest.approx(expected, abs=2e-4)
    shutil.rmtree(again)


def mean_iou(page):
    """Return mIoU of the first row of a page of scores."""
    header, _, row = (line.split(" | ") for line in page.splitlines()[:3])
    return float(row[header.index("mIoU")].split()[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "other", "--step", "segment"], "other.h5: no such model; run --step train first"),
        (["--part", "validation", "--step", "score"], "no masks; run --step segment first"),
        (["--set", "lung"], "--set lung: expected one of luad"),
        (["--classes", "RED"], "expected the masks' colours, such as tumour=#004080, and --mpp"),
    ],
)
def test_what_a_step_lacks_is_said(trained, command, options, message):
    fixed = ["--name", "mine", "--root", trained, "--set", "wsss4luad"]
    status, _, err = command("benchmark", trained / "set", *fixed, *options)
    assert status == 2 and message in err


def test_options_for_train_are_parsed_before_anything_is_cut(tmp_path, command):
    write_picture(tmp_path / "train" / "img" / "0.png", IMAGE)
    for options, message in (("--tile 7", "--tile: expected a whole number from 8"), ("'", "--train-options: invalid")):
        fixed = ["--root", tmp_path / "root", "--name", "mine", f"--train-options={options}"]
        status, out, err = command("benchmark", tmp_path, *OWN, *fixed)
        assert (status, out) == (2, "") and err.startswith(f"error: {message}")
    assert not (tmp_path / "root").exists()


def test_stages_of_images_of_own_classes(trained, tmp_path, capsys):
    test = trained / "set" / "test"
    options = ["--model", "mine", "--root", trained, "--out", tmp_path, "--workers", 1, "--quiet", "--stages"]
    assert carry_out("segment", test / "img", *options, "--truth", test / "mask", "--grad-cams") == 0
    printed = capsys.readouterr().out
    assert "Metrics" in printed and "Intervals" in printed
    for stage in ("GradCAM", "Adjust", "CRF"):
        masks = sorted((tmp_path / "tissue" / f"ablative_{stage}").iterdir())
        assert [path.name for path in masks] == ["0.png", "1.png", "2.png"]
    assert list((tmp_path / "tissue" / "gradcam_unadjusted").glob("0_h*.png"))
    page = (tmp_path / "index.html").read_text()
    assert 'href="model_card.md"' in page and "# Model card: mine" in (tmp_path / "model_card.md").read_text()
    assert "mIoU_tissue.png" in page and "95 % percentile bootstrap over the images" in page
    assert carry_out("segment", test / "img", *options, "--grad-cams", "--mpp", 0.5) == 2
    assert "holds results of another run (mpp: 1.0, now 0.5); replace them by --force" in capsys.readouterr().err
    assert carry_out("segment", test / "img" / "0.png", *options) == 2
    assert "--stages: expected one folder of images; slides have no stages" in capsys.readouterr().err
    assert carry_out("segment", test / "img", "--model", "mine", "--root", trained, "--truth", test / "mask") == 2
    assert "--truth and --grad-cams go with --stages" in capsys.readouterr().err


def segment(root, out, *options):
    return carry_out(
        *("segment", root / "set" / "train", "--model", "mine", "--root", root, "--out", out, "--workers", 1),
        *("--quiet", *options),
    )


def test_pseudo_masks_by_names_and_by_a_table(trained, tmp_path, capsys):
    assert segment(trained, tmp_path / "names", "--given-labels", "names", "--write", "masks", "maps") == 0
    assert "32 of 32 images: masks, gradcam, adjusted, crf in" in capsys.readouterr().out
    mask = tmp_path / "names" / "masks" / "3-[1, 1, 0].png"
    assert set(np.unique(Image.open(mask))) <= {0, 1, 3}
    table = tmp_path / "labels.csv"
    table.write_text('file,GREEN,BLUE\n"3-[1, 1, 0].png",0,1\n')
    assert segment(trained, tmp_path / "table", "--given-labels", table) == 1
    assert "no labels of it; add them" in capsys.readouterr().err
    (written,) = Path(tmp_path / "table" / "masks").iterdir()
    assert set(np.unique(Image.open(written))) <= {2, 3}
    table.write_text('file,PINK\n"3-[1, 1, 0].png",1\n')
    assert segment(trained, tmp_path / "table", "--given-labels", table) == 2
    assert "column 'PINK' is no class of the model; expected some of RED, GREEN, BLUE" in capsys.readouterr().err
