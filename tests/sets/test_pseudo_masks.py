"""Pseudo-masks: the known classes compete, and no others."""

from dataclasses import replace

import numpy as np
import pytest
from invented import INVENTED, TISSUE, ChannelClassifier, draw, write_set
from PIL import Image

from hsn_v1.adp import GLAS
from hsn_v1.classify import ClassifiedTiles, classify
from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.io.masks import read_mask
from hsn_v1.sets.pseudo_masks import MAPS, pseudo_mask, write_pseudo_masks
from hsn_v1.sets.settings import settings_of_folder
from hsn_v1.tiles import TileGrid

pytestmark = pytest.mark.slow

WEAK = CRF(bilat_compat=1, gauss_compat=1)


def classified(image):
    ((_, _, tiles),) = classify([(None, image)], ChannelClassifier())
    return tiles


def test_only_known_classes_and_background_are_in_a_mask():
    image, labels = draw(np.random.default_rng(0))  # red, green, bare
    mask, maps = pseudo_mask(image, classified(image), TISSUE, WEAK, ["GREEN", "BLUE"])
    assert set(np.unique(mask)) <= {1, 2, 3}
    assert set(maps) == set(MAPS)
    for stage in maps.values():
        assert stage.shape == (4, 32, 32) and not stage[0].any()
    mask, _ = pseudo_mask(image, classified(image), TISSUE, WEAK, ["RED", "GREEN"])
    assert (mask == labels).mean() > 0.9


def test_a_known_class_competes_whatever_its_score():
    image, _ = draw(np.random.default_rng(0))
    tiles = replace(classified(image), thresholds=np.full(3, 2.0))
    mask, _ = pseudo_mask(image, tiles, TISSUE, WEAK, ["RED", "GREEN"])
    assert {0, 1} <= set(np.unique(mask))


def test_a_known_class_competes_where_its_score_reaches_the_threshold():
    scores = np.zeros((2, 51))
    scores[:, GLAS.outputs_of["G.O"]] = 0.9, 0.2
    tiles = ClassifiedTiles(TileGrid(32, 64, 1, 32), scores, np.full(51, 0.5), np.ones((2, 51, 4, 4), np.float32))
    image = np.full((32, 64, 3), 90, np.uint8)
    for threshold, expected in ((0.5, [1, 0]), (0.1, [1, 1]), (0.95, [1, 0])):  # never nowhere
        lowered = replace(tiles, thresholds=np.full(51, threshold))
        maps = pseudo_mask(image, lowered, GLAS, WEAK, ["G.O"])[1]["gradcam"][GLAS.codes.index("G.O")]
        assert [bool(part.any()) for part in (maps[:, :32], maps[:, 32:])] == [bool(each) for each in expected]


def test_a_class_that_is_always_present_is_not_where_the_labels_lack_it():
    tiles = ClassifiedTiles(TileGrid(32, 32, 1, 32), np.ones((1, 51)), np.zeros(51), np.ones((1, 51, 4, 4), np.float32))
    image = np.full((32, 32, 3), 90, np.uint8)
    assert not pseudo_mask(image, tiles, GLAS, WEAK, [])[0].any()  # other
    assert pseudo_mask(image, tiles, GLAS, WEAK, ["G.O"])[0].all()


def test_without_a_class_there_is_no_mask():
    image, _ = draw(np.random.default_rng(0))
    label_set = replace(TISSUE, colours={"RED": (1, 0, 0), "GREEN": (0, 1, 0)}, background=None)
    assert pseudo_mask(image, classified(image), label_set, WEAK, ["BLUE"])[0] is None


@pytest.fixture
def settings(tmp_path):
    write_set(tmp_path, ["a.png", "b.jpg", "c.png"])
    found = settings_of_folder(tmp_path / "img", INVENTED, (TISSUE,), tmp_path / "out", workers=1, resume=True)
    return replace(found, crfs={"tissue": WEAK})


KNOWN = {"a.png": ["RED", "GREEN"], "b.jpg": ["RED"]}


def test_palette_masks_and_maps_are_written(settings):
    calls = []
    failures = write_pseudo_masks(settings, ChannelClassifier(), KNOWN, ["masks", *MAPS], lambda: calls.append(1))
    assert len(calls) == 3
    assert list(failures) == ["c.png"] and "no labels of it" in failures["c.png"]
    with Image.open(settings.out / "masks" / "b.jpg.png") as mask:
        assert mask.mode == "P"
        indices = np.asarray(mask)
    np.testing.assert_array_equal(indices, read_mask(settings.out / "masks" / "b.jpg.png", TISSUE).labels)
    assert set(np.unique(indices)) == {0, 3}
    for stage in MAPS:
        maps = np.load(settings.out / stage / "a.npy")
        assert (maps.shape, maps.dtype) == ((4, 32, 32), np.float16)
    assert (
        np.load(settings.out / "crf" / "a.npy").argmax(axis=0).tolist()
        == read_mask(settings.out / "masks" / "a.png", TISSUE).labels.tolist()
    )


def test_what_is_there_is_kept_unless_labels_change(settings):
    mask = settings.out / "masks" / "a.png"
    write_pseudo_masks(settings, ChannelClassifier(), KNOWN, ["masks"])
    mask.write_bytes(b"kept")
    write_pseudo_masks(settings, ChannelClassifier(), KNOWN, ["masks"])
    assert mask.read_bytes() == b"kept"
    write_pseudo_masks(replace(settings, resume=False), ChannelClassifier(), KNOWN, ["masks"])
    assert mask.read_bytes() != b"kept"
    write_pseudo_masks(settings, ChannelClassifier(), KNOWN, ["crf"])
    write_pseudo_masks(settings, ChannelClassifier(), {**KNOWN, "a.png": ["GREEN"]}, ["masks"])
    assert not (settings.out / "crf" / "a.npy").exists()  # of other labels
    assert set(np.unique(read_mask(mask, TISSUE).labels)) == {1, 3}


def test_when_no_image_has_labels_it_fails(settings):
    with pytest.raises(InputError, match=r"a\.png: no labels of it"):
        write_pseudo_masks(settings, ChannelClassifier(), {}, ["masks"])


def test_two_images_of_one_name_are_named(settings, tmp_path):
    twice = replace(settings, images=(*settings.images, tmp_path / "mask" / "a.png"))
    with pytest.raises(InputError, match=r"mask/a\.png and a\.png: their results would have the same name"):
        write_pseudo_masks(twice, ChannelClassifier(), KNOWN, ["masks"])
