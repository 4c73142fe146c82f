import sys

import numpy as np
import pytest

from hsn_v1.__main__ import main
from hsn_v1.adp import CLASSIFIER_CODES, MORPH
from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.files.images import read_image
from hsn_v1.files.models import load_histonet
from hsn_v1.hsn_v1 import segment_image
from hsn_v1.phantoms.phantom_set import write_set
from hsn_v1.training import fit as train
from hsn_v1.training.fit import Recipe, cyclical_learning_rate, equal_error_thresholds
from hsn_v1.training.patches import LabelledPatches

pytestmark = pytest.mark.slow

TINY = Recipe(width=0.03, tile=32, batch=4, half_cycle=1)


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["hsn_v1", *map(str, arguments)])
    return main()


def patches(count, tile=32, seed=0):
    rng = np.random.default_rng(seed)
    targets = np.zeros((count, len(CLASSIFIER_CODES)), np.float32)
    targets[::2, :3] = 1
    return LabelledPatches(rng.integers(0, 256, (count, tile, tile, 3), np.uint8), targets)


def test_the_published_network_has_its_parameters(keras):
    model = train.build_histonet()
    assert model.count_params() == 1_753_203
    assert train.build_histonet(width=0.5, dropout=0).count_params() < 1_753_203 / 3.5


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.001), (2.5, 0.0105), (5, 0.02), (7.5, 0.0105), (10, 0.001), (25, 0.0105), (45, 0.00575)]
)
def test_the_learning_rate_is_a_triangle_whose_height_halves(epoch, rate):
    assert cyclical_learning_rate(epoch, Recipe()) == pytest.approx(rate)


def test_thresholds_worked_by_hand():
    targets = np.zeros((6, 51))
    scores = np.zeros((6, 51))
    targets[:, 0], scores[:, 0] = [0, 0, 0, 1, 1, 1], [0.1, 0.4, 0.7, 0.6, 0.8, 0.9]
    targets[:, 1], scores[:, 1] = [0, 0, 0, 1, 1, 1], [0.01, 0.02, 0.03, 0.1, 0.2, 0.25]
    targets[:, 2], scores[:, 2] = [0, 0, 0, 1, 1, 1], [0, 0, 0.2, 1, 1, 1]
    targets[:, 3], scores[:, 3] = 1, [0.6, 0.5, 0.7, 0.9, 0.9, 0.9]
    thresholds = equal_error_thresholds(targets, scores)
    assert thresholds[0] == pytest.approx(0.65)  # from .6 to .7, sensitivity and specificity are both 2 / 3
    assert thresholds[1] == pytest.approx(1 / 3)  # the middle of .03 and .1 separates them, but is clamped
    assert thresholds[2] == pytest.approx(0.6)  # not 1, which the next patch may just miss
    assert thresholds[3] == 0.5  # always there
    assert (thresholds[4:] == 1).all()  # nothing is known of classes that do not occur


def test_rare_classes_weigh_more():
    targets = np.zeros((100, 51))
    targets[:50, 0] = 1
    targets[:10, 1] = 1
    weights = train.class_weights(targets)
    assert weights.mean() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(5)
    assert weights[2] == weights[0]


def test_the_report_leaves_out_classes_that_tell_nothing():
    targets = np.zeros((4, 51))
    targets[:2, 0], targets[:, 1] = 1, 1
    scores = np.full((4, 51), 0.5)
    scores[:, 0] = [0.9, 0.6, 0.7, 0.1]
    (row,) = train.classification_report(targets, scores, np.full(51, 0.65))
    assert row["class"] == "E"
    assert row["AUC"] == pytest.approx(3 / 4)
    assert (row["sensitivity"], row["specificity"], row["F1"]) == (0.5, 0.5, 0.5)


def test_augmentation_keeps_what_it_must(keras):
    images = np.full((3, 32, 32, 3), 128, np.uint8)
    augmented = np.asarray(train.augmentation(Recipe())(images))
    assert augmented.shape == images.shape
    for image in augmented:  # a grey patch may change its shade, as a whole
        np.testing.assert_allclose(image, np.broadcast_to(image[0, 0], image.shape), atol=0.1)
    assert np.ptp(augmented[:, 0, 0], axis=0).max() > 0.5
    assert np.abs(augmented - 128.0).max() < 45


def test_interrupted_training_goes_on_where_it_was(keras, tmp_path, monkeypatch):
    steps = []
    rate = cyclical_learning_rate

    def interrupted(epoch, recipe):
        steps.append(epoch)
        if epoch >= 1.5:
            raise KeyboardInterrupt
        return rate(epoch, recipe)

    data = patches(8), patches(4, seed=1)
    monkeypatch.setattr(train, "cyclical_learning_rate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.fit(*data, TINY, 3, tmp_path)
    assert [row["epoch"] for row in train.read_log(tmp_path / "log.csv")] == ["0"]
    assert steps == [0, 0.5, 1, 1.5]

    monkeypatch.setattr(
        train, "cyclical_learning_rate", lambda epoch, recipe: steps.append(epoch) or rate(epoch, recipe)
    )
    model = train.fit(*data, TINY, 3, tmp_path)
    assert [row["epoch"] for row in train.read_log(tmp_path / "log.csv")] == ["0", "1", "2"]
    assert steps[4:] == [1, 1.5, 2, 2.5]
    assert model.input_shape == (None, 224, 224, 3)
    with open(tmp_path / "log.csv", "a", encoding="utf-8") as log:
        log.write("2,0.5,0.25\n")  # as if the third had been killed when it was not saved yet
    assert [row["val_loss"] for row in train.read_log(tmp_path / "log.csv")][2:] == ["0.25"]
    with pytest.raises(InputError, match=r"width 0\.03, not 0\.5"):
        train.fit(*data, Recipe(width=0.5, tile=32, batch=4, half_cycle=1), 3, tmp_path)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    write_set("patch", 6, 50_000, folder, "few")
    return folder


def test_from_a_folder_of_images_to_masks(keras, images, tmp_path, monkeypatch, capsys):
    arguments = (
        *("--images", images / "img" / "few", "--labels", images / "gt" / "few" / "gt_labels.csv", "--name", "mine"),
        *("--data", tmp_path / "data", "--out", tmp_path / "out", "--epochs", 1, "--width", 0.03, "--bfloat16"),
    )
    assert command(monkeypatch, "train", *arguments) == 0
    out, err = capsys.readouterr()
    assert "mean AUC" in out
    assert "E.T.X" in err
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "log.csv",
        "classes.csv",
        "classes.png",
        "curves.png",
    }
    histonet = load_histonet(tmp_path / "data", "mine")
    assert histonet.closed_form
    assert {layer.dtype_policy.name for layer in histonet.model.layers} == {"float32"}
    image, _ = read_image(next((images / "img" / "few").iterdir()))
    masks = segment_image(image, histonet, [MORPH], {"morph": CRF()})["morph"].masks
    assert masks["CRF"].shape == (224, 224)


def test_crf_settings_are_searched(keras, images, root, monkeypatch, capsys):
    arguments = (
        *("--name", "toy", "--data", root / "data", "--out", root / "trials", "--label-sets", "func"),
        *("--images", images / "img" / "few", "--truth", images / "gt" / "few", "--trials", 4),
    )
    assert command(monkeypatch, "tune-crf", *arguments) == 0
    trials = (root / "trials" / "crf_func.csv").read_text().splitlines()
    assert len(trials) == 1 + 4
    best, *others = [float(line.split(",")[-2]) for line in trials[1:]]
    assert all(best >= other for other in others)
    settings = np.load(root / "data" / "toy_func_optimal_pcc.npy")
    assert settings.shape == (1, 6)
    assert [f"{value:g}" for value in settings[0, :5]] == [f"{float(value):g}" for value in trials[1].split(",")[:5]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--name", "x", "--epochs", "0"), "--epochs 0: expected a positive number"),
        (("train", "--name", "x", "--tile", "100"), "--tile 100: expected a multiple of 8"),
        (("train", "--name", "x", "--low", "2"), "expected 0 <= low <= high"),
        (("train", "--name", "x", "--images", "a"), "--images and --labels go together"),
        (("train", "--name", "x", "--images", "a", "--labels", "none.csv"), "none.csv: cannot be read"),
        (("tune-crf", "--name", "x", "--trials", "0"), "expected positive numbers"),
        (("tune-crf", "--name", "x", "--truth", "a"), "--images and --truth go together"),
        (("tune-crf", "--name", "none"), "none.json: no such file"),
    ],
)
def test_options_of_no_use_are_named(monkeypatch, capsys, arguments, message):
    assert command(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
