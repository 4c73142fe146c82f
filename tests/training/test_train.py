"""The commands from a user's images to a trained classifier: patches, train, tune-crf."""

import re
import shutil

import numpy as np
import pytest
from helpers import KINDS, class_file_of_kind, one_convolution, write_halves

from hsn_v1.adp import MORPH
from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.hsn_v1 import segment_image
from hsn_v1.io.images import read_image
from hsn_v1.io.model_files import read_crfs
from hsn_v1.io.models import load_histonet
from hsn_v1.io.writing import write_picture
from hsn_v1.phantoms import phantom, phantom_set
from hsn_v1.training.linear_probe import LinearLayer, with_linear_layer

pytestmark = pytest.mark.slow

RED, GREEN = (200, 60, 60), (60, 200, 60)
PATCHES = "patches --images a --truth b --out c --mpp 1"
QUICK = ("--epochs", 1, "--width", 0.03, "--saved-tile", 32, "--quiet")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(phantom_set.KINDS, "patch", lambda seed: phantom.patch(seed, size=(64, 64)))
        phantom_set.write_set("patch", 6, 50_000, folder, "few")
    return folder


@pytest.fixture
def tiny(eagerly, in_process, monkeypatch):
    """Have a network of one convolution, and no pictures: what is read, told and written is the same with any."""

    def build(recipe, outputs, imagenet=False):
        return with_linear_layer(one_convolution(4, recipe.tile), LinearLayer.blank(4, outputs))

    monkeypatch.setattr("hsn_v1.training.train.build_network", build)
    monkeypatch.setattr("hsn_v1.training.validation_report._save", lambda figure, path: path.touch())
    monkeypatch.setattr("hsn_v1.show.sheets.sheet", lambda rows, columns: b"")


@pytest.fixture
def plain(tiny, monkeypatch):
    """Train on patches as they are, too: to augment them takes longest."""
    monkeypatch.setattr("hsn_v1.training.fit.augmentation", lambda seed: lambda images: images)


@pytest.fixture
def halves(tmp_path):
    """Make images of which one half is red and one green, and their masks."""
    write_halves(tmp_path, 2)
    return tmp_path


def test_from_images_with_masks_to_a_classifier_of_new_classes(tiny, halves, command):
    """The whole way, which must learn red from green."""
    root, cut, classes = halves / "root", halves / "cut", ("--classes", "red=#c80000", "green=#00c800")
    status, out, _ = command(
        *("patches", "--images", halves / "img", "--truth", halves / "mask", "--size", 16, "--stride", 8, "--quiet"),
        *("--mpp", 1, "--validation", 0.5, "--out", cut, *classes),
    )
    assert status == 0 and "labels.csv: 35 patches, 20 with red, 20 with green" in out
    status, out, err = command(
        *("train", "--name", "mine", "--root", root, "--images", cut / "train", "--validation", cut / "validation"),
        *(*classes, "--mpp", 1, "--tile", 16, "--batch", 8, *QUICK, "--epochs", 4, "--low", 0.05, "--high", 0.1),
    )
    assert status == 0
    assert re.search(r"35 patches to train on, 35 to validate on.*\n  red +20 +20 +57%\n", out)
    assert "red: only 15 patches to train on lack it" in err and "mine.toml is new" in err
    assert float(re.search(r"mean AUC (\S+),", out)[1]) > 0.9
    card = (root / "data" / "mine.md").read_text()
    for words in (
        "# Model card: mine",
        "| trained on | 35 patches: red 20, green 20 |",
        f"| patches | {cut / 'train'} |",
        "| purity | 14% of them have every class;",
        "| scale | 1 microns per pixel, tiles of 16 px in training |",
        "seed 0, deterministic False",
        "| class | patches | AUC | sensitivity | specificity | F1 | threshold |",
    ):
        assert words in card
    for line in re.findall("^  hsn-v1 (.*)$", out, re.MULTILINE):
        assert f"--model mine --root {root}" in line
    assert {path.name for path in (root / "out" / "mine").iterdir()} >= {
        *("log.csv", "classes.csv", "classes.png", "curves.png", "best.npz"),
    }
    status, out, err = command(
        *("tune-crf", "--model", "mine", "--root", root, "--images", halves / "img", "--truth", halves / "mask"),
        *("--trials", 4, "--quiet"),
    )
    assert (status, err) == (0, "") and "tissue: mIoU of the present classes" in out
    assert len((root / "out" / "mine" / "crf_tissue.csv").read_text().splitlines()) == 1 + 4
    histonet = load_histonet(root / "data", "mine")
    (tissue,) = histonet.labels.label_sets.values()
    crfs, notes = read_crfs(root / "data", "mine", (tissue,))
    assert notes == ()
    image, _ = read_image(halves / "img" / "0.png")
    mask = segment_image(image, histonet, [tissue], crfs)["tissue"].masks["CRF"]
    assert (mask[:, :28] == 0).mean() > 0.8 and (mask[:, 36:] == 1).mean() > 0.8


def test_labels_in_file_names_and_a_second_training_by_the_file_of_classes(plain, tmp_path, command):
    rng = np.random.default_rng(0)
    for i in range(12):
        colour = (RED, GREEN)[i % 2]
        image = np.uint8(colour + rng.integers(-20, 20, (20, 28, 3)))
        write_picture(tmp_path / "patches" / f"{i}-[{int(i % 2 == 0)}, {int(i % 2)}].png", image)
    (tmp_path / "patches" / "broken-[1, 0].png").write_bytes(b"no image")
    arguments = ("train", "--root", tmp_path, "--images", tmp_path / "patches", "--tile", 32, *QUICK, "--name", "mine")
    arguments = (*arguments, "--validation", 4)
    assert "say what they are: --classes CLASS1 CLASS2" in command(*arguments)[2]
    assert "--mpp is missing" in command(*arguments, "--classes", "red", "green")[2]
    status, out, err = command(*arguments, "--classes", "red", "green", "--mpp", 0.5)
    assert status == 0 and "8 patches to train on, 4 to validate on" in out and "broken-[1, 0].png" in err
    text = (tmp_path / "data" / "mine.toml").read_text(encoding="utf-8")
    (tmp_path / "data" / "mine.toml").write_text(text.replace('= "red"', '= "red tissue"'), encoding="utf-8")
    status, out, err = command(*arguments, "--mpp", 0.5, "--out", tmp_path / "again")
    assert status == 0 and "red tissue" in out and "new" not in err
    assert load_histonet(tmp_path / "data", "mine").labels.outputs == {"red": "red tissue", "green": "green"}
    assert "mine.toml has red, green" in command(*arguments, "--classes", "a", "b")[2]


@pytest.mark.parametrize("kind", KINDS)
def test_class_files_of_each_kind(plain, tmp_path, coloured, command, kind):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.toml").write_text(class_file_of_kind(kind))
    rows = [f"{i};{'green' if i % 2 else 'red'}" for i in range(8)]
    status, out, err = command(*coloured("file;label", *rows), "--validation", 4)
    assert status == 0 and "mean AUC" in out and "column 'label' holds names of classes: red, green" in err
    assert load_histonet(tmp_path / "data", "mine").labels.codes == ("red", "green")


def test_from_a_table_of_the_atlas_codes_to_masks(eagerly, in_process, images, tmp_path, command):
    status, out, err = command(
        *("train", "--images", images / "img" / "few", "--labels", images / "gt" / "few" / "gt_labels.csv"),
        *("--name", "mine", "--root", tmp_path, "--validation", 3, *QUICK, "--saved-tile", 64),
        *("--bfloat16", "--pooling", "average"),
    )
    assert status == 0 and "mean AUC" in out and "nan" not in out
    assert "E.T.X" in err and "transport vessel" in err and "never found" in err
    histonet = load_histonet(tmp_path / "data", "mine")
    assert histonet.closed_form and histonet.mpp == pytest.approx(1.2142857)
    assert {layer.dtype_policy.name for layer in histonet.model.layers} == {"float32"}
    image, _ = read_image(next((images / "img" / "few").iterdir()))
    masks = segment_image(image, histonet, [MORPH], {"morph": CRF()})["morph"].masks
    assert masks["CRF"].shape == (64, 64)


def test_phantoms_are_trained_on_without_images(plain, tmp_path, command):
    status, out, _ = command(
        *("train", "--name", "mine", "--root", tmp_path, "--patches", 24, "--validation", 12, "--tile", 16, *QUICK)
    )
    assert status == 0 and "24 patches to train on, 12 to validate on" in out
    assert load_histonet(tmp_path / "data", "mine").labels.caveat


def test_a_frozen_network_is_judged_by_the_patches_that_it_scored(tmp_path, monkeypatch, command):
    seen = []

    def stop(data, *_):
        seen.append(data)
        raise InputError("enough")

    monkeypatch.setattr("hsn_v1.training.train.train", stop)
    frozen = ("--network", "efficientnet-lite0", "--tile", 64, "--saved-tile", 128)
    command("train", "--name", "mine", "--root", tmp_path, "--patches", 2, "--validation", 2, *frozen)
    assert seen[0].judged is seen[0].validation


def test_label_sets_without_truth_are_skipped_and_named(keras, images, root, command):
    truth = images / "gt" / "few"
    (root / "data" / "func_optimal_pcc.npy").unlink()  # which would be kept if it is better
    status, _, err = command(
        *("tune-crf", "--model", "toy", "--root", root, "--out", root / "trials", "--quiet"),
        *("--images", images / "img" / "few", "--truth", truth, "--trials", 4, "--label-sets", "func", "glas"),
    )
    assert status == 0
    assert err.strip() == f"note: glas is skipped: no ground truth in {truth / 'glas'}"
    trials = (root / "trials" / "crf_func.csv").read_text().splitlines()
    assert len(trials) == 1 + 4
    status, _, err = command(
        *("tune-crf", "--model", "toy", "--root", root, "--out", root / "trials", "--quiet", "--label-sets", "func"),
        *("--images", images / "img" / "few", "--truth", truth / "func", "--trials", 4),
    )
    assert (status, err) == (0, "")  # and the trials are those of before
    settings = np.load(root / "data" / "toy_func_optimal_pcc.npy")
    assert [f"{value:g}" for value in settings[0, :5]] == [f"{float(value):g}" for value in trials[1].split(",")[:5]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --name x --epochs 0", "--epochs: expected a whole number from 1 to 100,000, not '0'"),
        ("train --name x --tile 100", "--tile 100: expected a multiple of 8"),
        ("train --name x --network vgg16 --tile 16", "a multiple of 8, from 64 on"),
        ("train --name x --low 2", "expected low <= high"),
        ("train --name x --labels a", "--labels does not go with phantoms; give --images"),
        ("train --name x --weights a.h5", "--weights a.h5: no such file; expected none, imagenet or a file of weights"),
        ("train --name x --weights imagenet", "--weights imagenet: HistoNet has no such weights"),
        ("train --name x --images a --labels none.csv", "a: no such folder"),
        ("train --name x --images a --classes a=", "expected a name, or a name with a colour"),
        ("train --name x --validation some", "--validation some: expected a number of phantoms"),
        ("tune-crf --model x --trials 0", "--trials: expected a whole number from 1 to 10,000, not '0'"),
        ("tune-crf --model x --truth a", "--images and --truth go together"),
        ("tune-crf --model none", "data: no such folder"),
        (f"{PATCHES} --size 0 --classes a=#000000", "--size: expected a whole number"),
        (f"{PATCHES} --size 8 --classes a", "its colour in the masks is missing"),
        (f"{PATCHES} --size 8 --classes a=#000001", "a: no such folder"),
    ],
)
def test_options_that_cannot_be_used_are_named(tmp_path, monkeypatch, command, line, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = command(*line.split())
    assert status == 2
    (line,) = err.splitlines()
    assert message in line


@pytest.fixture
def coloured(tmp_path):
    """Make red and green patches, and a function that writes a table of some of them."""
    rng = np.random.default_rng(0)
    for i in range(8):
        image = np.uint8((RED, GREEN)[i % 2] + rng.integers(-9, 9, (16, 16, 3)))
        write_picture(tmp_path / "patches" / f"{i}.png", image)

    def table(*rows):
        (tmp_path / "labels.csv").write_text("\n".join(rows))
        images = ("--images", tmp_path / "patches", "--labels", tmp_path / "labels.csv", "--mpp", 1)
        return "train", "--name", "mine", "--root", tmp_path, *images, "--tile", 16, *QUICK

    return table


def test_training_that_diverges_ends_in_one_line_and_without_a_classifier(tiny, tmp_path, coloured, command):
    rows = [f"{i}.png,{1 - i % 2},{i % 2}" for i in range(8)]
    options = ("--validation", 4, "--epochs", 5, "--low", 1e9, "--high", 1e9)
    status, _, err = command(*coloured("file,red,green", *rows), *options)
    assert status == 2
    assert re.search(r"^error: the loss is (nan|inf) in epoch \d: .* give a lower --high", err, re.MULTILINE)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0.png,1,0"], "patches: one patch that can be read; expected two"),
        (["0.png,1,0", "2.png,1,0"], "no class is in some validation patches and lacking in others"),
    ],
)
def test_too_few_patches_end_in_one_line(in_process, coloured, command, rows, message):
    status, _, err = command(*coloured("file,red,green", *rows))
    assert status == 2
    assert sum(message in line for line in err.splitlines() if line.startswith("error: ")) == 1


def test_what_cannot_be_found_or_read_is_said_once(plain, tmp_path, coloured, command):
    """No patch has the last class, no validation patch the third."""
    (tmp_path / "patches" / "7.png").write_bytes(b"no image")
    rows = ["file,red,green,rare,absent", *(f"{i}.png,{1 - i % 2},{i % 2},{int(i == 3)},0" for i in range(8))]
    arguments = coloured(*rows)
    shutil.copytree(tmp_path / "patches", tmp_path / "validation")
    (tmp_path / "validation" / "labels.csv").write_text("\n".join(rows[:4]))
    status, _, err = command(*arguments, "--validation", tmp_path / "validation")
    assert status == 0
    (line,) = (line for line in err.splitlines() if "7.png" in line)
    assert line.startswith(f"note: left out: {tmp_path / 'patches' / '7.png'}: not an image")
    assert "note: in no patch at all, and therefore never found: absent" in err
    assert "note: rare: no validation patch has it; it is in no figure, and its threshold is 1: it can never" in err


def test_trainings_by_several_seeds_tell_their_spread(plain, halves, command):
    root, cut = halves / "root", halves / "cut"
    options = ("--classes", "red=#c80000", "green=#00c800", "--size", 16, "--stride", 16, "--mpp", 1, "--quiet")
    command("patches", "--images", halves / "img", "--truth", halves / "mask", "--out", cut, *options)
    options = ("--images", cut, "--mpp", 1, "--tile", 16, "--batch", 8, "--seed", 3, "--repeats", 2, *QUICK)
    status, out, _ = command("train", "--name", "mine", "--root", root, *options)
    assert status == 0
    rows = [line.split(",") for line in (root / "out" / "mine" / "repeats.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["model", "mine", "mine_seed4"]
    low, high = sorted(float(row[1]) for row in rows[1:])
    assert f"mean AUC of 2 seeds: {(low + high) / 2:.4f} +- {(high - low) / 2**0.5:.4f}" in out
    assert "seed 4" in (root / "data" / "mine_seed4.md").read_text()
    assert (root / "out" / "mine" / "seed4" / "curves.png").exists()
