"""The published forms of the method: the paper's subtraction, and the authors' later code, against what it gave."""

import csv

import numpy as np
import pytest
from helpers import randomise

from hsn_v1.adjust import subtract, subtract_at_once, subtract_classes, unsubtracted_maps
from hsn_v1.adp import ADP
from hsn_v1.class_file import parse_taxonomy
from hsn_v1.classify import ClassifiedTiles
from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.evaluate import class_ious, confusion_matrix
from hsn_v1.gradcam import gradient_weights, localise, unit_weights
from hsn_v1.histonet import HistoNet
from hsn_v1.hsn_v1 import segment_image
from hsn_v1.io.images import read_image
from hsn_v1.io.masks import read_mask
from hsn_v1.io.models import load_histonet
from hsn_v1.tiles import TileGrid

IJCV = parse_taxonomy('extends = "adp_ijcv2020"', "ijcv.toml")


def at(*values):
    return np.float32(values)[:, np.newaxis, np.newaxis]


@pytest.mark.parametrize(
    ("values", "keep", "changed"),
    [
        ((0.9, 0.8, 0.1), None, (0.1, 0, 0)),
        ((0, 0, 0.5), None, (0, 0, 0.5)),
        ((0.4, 0.4, 0.1), None, (0, 0, 0)),
        ((0.3, -0.2), None, (0.5, 0)),
        ((0.7,), None, (0.7,)),
        ((0.9, 0.5, 0.1), 1, (0.4, 0.5, 0)),  # "other" takes part, and stays as it is
        ((0.2, 0.5, 0.1), 1, (0, 0.5, 0)),
    ],
)
def test_the_paper_s_formula_leaves_the_winner_what_it_is_ahead_by(values, keep, changed):
    np.testing.assert_allclose(subtract_at_once(at(*values), keep), at(*changed), atol=1e-7)


def test_the_paper_s_formula_has_no_order_and_the_released_loop_has():
    maps = np.random.default_rng(0).random((4, 5, 6), np.float32)
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(subtract_at_once(maps)[order], subtract_at_once(maps[order]))
    assert (subtract_classes(maps)[order] != subtract_classes(maps[order])).any()


def test_a_label_set_chooses_its_adjustment():
    text = "mpp = 1\nmean = 0\nstd = 1\n[outputs]\na = 'a'\nb = 'b'\n[label_sets.x]\n{}\n"
    text += "[label_sets.x.classes]\na = [1, 1, 1]\nb = [2, 2, 2]\n"
    maps = at(0.9, 0.8)
    for key, changed in (("", (0.1, 0.7)), ("adjustment = 'paper'", (0.1, 0)), ("adjustment = 'released'", (0.1, 0.7))):
        label_set = parse_taxonomy(text.format(key), "x.toml").label_sets["x"]
        np.testing.assert_allclose(subtract(maps, label_set), at(*changed), atol=1e-6)
    with pytest.raises(InputError, match=r"x.toml: label_sets.x.adjustment is 'at once'; expected .*released, paper"):
        parse_taxonomy(text.format("adjustment = 'at once'"), "x.toml")


def test_a_file_of_classes_may_extend_a_shipped_one():
    assert IJCV.outputs == ADP.outputs and IJCV.mpp == ADP.mpp
    assert IJCV.label_sets["func"].borrowed == ("S.R", "A.W", "A.B")
    assert IJCV.label_sets["func"].colours == ADP.label_sets["func"].colours
    vgg16 = parse_taxonomy('extends = "adp_ijcv2020_vgg16"', "vgg16.toml")
    assert len(vgg16.outputs) == 31 and round(1088 * 0.25 / vgg16.mpp) == 321
    assert vgg16.label_sets["morph"].variant == IJCV.label_sets["morph"].variant
    assert len(vgg16.label_sets["morph"].classified) == 28
    with pytest.raises(InputError, match=r"x.toml: extends is '../adp'; expected one of adp, "):
        parse_taxonomy("extends = '../adp'", "x.toml")


@pytest.mark.slow
def test_unit_weights_are_the_gradient_over_its_root_mean_square(toy_model, keras):
    model = keras.models.clone_model(toy_model)
    randomise(model, 5)
    weights = unit_weights(model)
    gradient = gradient_weights(model, np.zeros((1, *model.input_shape[1:]), np.float32))[0]
    norms = (np.linalg.norm(array, axis=0) for array in (weights, gradient))
    np.testing.assert_allclose(weights / next(norms), gradient / next(norms), rtol=1e-5)
    area = 16 * 16  # each channel's gradient lies at one of these positions: global maximum
    np.testing.assert_allclose(np.sqrt((weights**2).sum(axis=0) * area / len(weights)), 1, rtol=1e-2)


@pytest.mark.slow
def test_a_tile_s_maps_share_the_maximum_of_all_outputs(toy_model):
    tile = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    histonet = HistoNet.of(toy_model, np.zeros(51), IJCV)
    scores, cams = histonet(tile)
    tiles = ClassifiedTiles(TileGrid(32, 32, 1, 32), np.ones_like(scores), np.zeros(51), cams)
    maps = {name: localise(tiles, IJCV.label_sets[name]) for name in ("morph", "func")}
    highest = max(float(each.max()) for each in maps.values())
    assert 0 < highest <= 1
    assert sum(each.max() == 1 for maps_of_set in maps.values() for each in maps_of_set) <= 2
    own = localise(tiles, ADP.label_sets["morph"])
    np.testing.assert_allclose([each.max() for each in own if each.any()], 1, rtol=1e-6)


def test_background_may_be_negative_before_the_classes_compete():
    image = np.zeros((8, 8, 3), np.uint8)
    for taxonomy, lowest in ((IJCV, -0.5), (ADP, 0)):
        morph = taxonomy.label_sets["morph"]
        cams = np.zeros((len(morph), 8, 8), np.float32)
        cams[morph.codes.index("A.W")] = 0.5
        assert unsubtracted_maps(cams, image, morph)[0].min() == pytest.approx(lowest, abs=1e-6)


@pytest.fixture(scope="module")
def later(reference, tmp_path_factory):
    """Load the stand-in weights with the classes of IJCV 2020."""
    folder = tmp_path_factory.mktemp("data")
    for file in (reference / "real" / "data").iterdir():
        (folder / file.name.replace("histonet_X1.7_clrdecay_5", "ADP_X1.7")).symlink_to(file.resolve())
    (folder / "ADP_X1.7.toml").write_text('extends = "adp_ijcv2020"')
    return load_histonet(folder, "ADP_X1.7")


def test_equals_the_authors_later_code(later, reference):
    folder = reference / "ijcv"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    real = reference / "real"
    sets = [later.labels.label_sets[name] for name in ("morph", "func")]
    crfs = {s.name: CRF.from_file(real / "data" / f"{s.name}_optimal_pcc.npy", file_iterations=True) for s in sets}
    equal, counts = {}, {s.name: 0 for s in sets}
    for file in sorted(folder.glob("*.npz")):
        wanted, name = np.load(file), file.stem
        image, _ = read_image(real / "img" / "01_tuning_patch" / name)
        found = segment_image(image, later, sets, crfs)
        for label_set in sets:
            segmentation = found[label_set.name]
            for stage in ("Adjust", "CRF"):
                same = segmentation.masks[stage] == wanted[f"{label_set.name}_{stage}"]
                equal.setdefault((label_set.name, stage), []).append(same.mean())
            if f"{label_set.name}_adjusted" in wanted:
                np.testing.assert_allclose(segmentation.maps, wanted[f"{label_set.name}_adjusted"], atol=1e-5)
            truth = read_mask(real / "gt" / "01_tuning_patch" / label_set.name / name, label_set).labels
            height, width = truth.shape
            rows, columns = np.arange(height) * 224 // height, np.arange(width) * 224 // width
            enlarged = segmentation.masks["CRF"][np.ix_(rows, columns)]
            counts[label_set.name] = counts[label_set.name] + confusion_matrix(truth, enlarged, len(label_set))
    assert len(next(iter(equal.values()))) == 25
    assert min(np.mean(shares) for shares in equal.values()) >= 0.9999
    for label_set in sets:
        with open(folder / f"metrics_{label_set.name}.csv", newline="") as table:
            rows = {row["Class"]: float(row["IoU"]) for row in csv.DictReader(table)}
        published = [rows[code] for code in label_set.codes]
        np.testing.assert_allclose(class_ious(counts[label_set.name]), published, atol=1e-6)
