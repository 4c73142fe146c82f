"""The phantoms: what their ground truth promises of their images."""

import numpy as np
import pytest
from scipy import ndimage

from hsn_v1.adp import CLASSIFIER_MPP, FUNC, MORPH
from hsn_v1.phantoms import phantom

pytestmark = pytest.mark.slow

FIELD = {"size": (136, 136), "mpp": 2.0}  #: what a patch of 224 px shows, with fewer px

BACKGROUND, OTHER, EXOCRINE, ENDOCRINE, VESSEL = range(5)


@pytest.fixture(scope="module")
def patches():
    return [phantom.patch(seed, **FIELD) for seed in range(90)]


@pytest.fixture(scope="module")
def sections():
    return [phantom.glas(seed, size=(261, 387), mpp=1.24) for seed in range(8)]


def same(a, b):
    arrays = [(a.image, b.image), *((a.labels[name], b.labels[name]) for name in a.labels)]
    return all(np.array_equal(*pair) for pair in arrays)


def test_a_seed_gives_the_same_bytes_whatever_was_made_before(patches, sections):
    assert same(phantom.patch(7, **FIELD), patches[7])
    assert same(phantom.glas(3, size=(261, 387), mpp=1.24), sections[3])


def test_seeds_and_kinds_differ(patches, sections):
    assert not same(patches[0], patches[1])
    assert not same(sections[0], sections[1])
    kinds = phantom.patch(5, size=(64, 64), mpp=1).image, phantom.glas(5, size=(64, 64), mpp=1).image
    assert not np.array_equal(*kinds)


@pytest.mark.parametrize(("size", "mpp"), [((224, 224), CLASSIFIER_MPP), ((90, 31), 0.25), ((2, 7), 2.0)])
def test_shapes_and_types(size, mpp):
    made = phantom.patch(2, size=size, mpp=mpp)
    assert made.image.shape == (*size, 3) and made.image.dtype == np.uint8 and made.instances is None
    for label_set in (MORPH, FUNC):
        labels = made.labels[label_set.name]
        assert labels.shape == size and labels.dtype == np.uint8 and labels.max() < len(label_set)


@pytest.mark.parametrize(
    "code",
    ["E.M.U", "E.M.O", "E.T.U", "C.D.I", "C.D.R", "C.L", "H.E", "H.Y", "A.W", "M.M", "S.C.H", "N.P", "G.O", "G.N", "T"],
)
def test_every_class_is_now_there_and_now_not(patches, code):
    presence = [code in phantom.present(made) for made in patches]
    assert 0.04 < np.mean(presence) < 0.6


def test_label_sets_agree(patches):
    for made in patches:
        morph, func = made.labels["morph"], made.labels["func"]
        assert set(np.unique(func[morph == BACKGROUND])) <= {BACKGROUND, EXOCRINE, VESSEL}
        assert (morph[func == BACKGROUND] == BACKGROUND).all()
        assert (morph[func == ENDOCRINE] == MORPH.codes.index("E.M.U")).all()
        assert set(np.unique(morph[func == VESSEL])) <= set(MORPH.indices(["Background", "M.M", "H.E"]))


def test_glass_is_brighter_than_240_and_tissue_is_not(patches):
    glass, tissue = [], []
    empty = MORPH.indices(["Background", "A.W"])
    for made in patches:
        brightness, morph = made.image.mean(-1), made.labels["morph"]
        glass.append(brightness[ndimage.binary_erosion(morph == BACKGROUND, iterations=3)])
        tissue.append(brightness[ndimage.binary_erosion(~np.isin(morph, empty), iterations=3)])
    assert (np.concatenate(glass) > 240).mean() > 0.99
    assert (np.concatenate(tissue) < 240).mean() > 0.98


def test_the_same_field_at_half_the_pixel_size(patches):
    for seed in range(4):
        fine = phantom.patch(seed, size=(272, 272), mpp=1.0)
        for name, labels in patches[seed].labels.items():
            assert (fine.labels[name][::2, ::2] == labels).mean() > 0.97
        reduced = fine.image.reshape(136, 2, 136, 2, 3).mean((1, 3))
        assert np.corrcoef(reduced.ravel(), patches[seed].image.ravel())[0, 1] > 0.9


def test_nuclei_are_5_to_10_um_at_any_pixel_size(patches):
    seed = next(seed for seed, made in enumerate(patches) if phantom.present(made) == ("N.P",))
    counts = []
    for mpp in (0.5, 0.25):
        red = phantom.patch(seed, size=(int(200 / mpp),) * 2, mpp=mpp).image[..., 0].astype(float)
        smooth = ndimage.gaussian_filter(red, 0.7 / mpp)
        nuclei, _ = ndimage.label(smooth < np.median(smooth) - 35)
        diameter = 2 * mpp * np.sqrt(np.bincount(nuclei.ravel())[1:] / np.pi)
        counts.append((diameter > 3).sum())
        assert 5 < np.median(diameter[diameter > 3]) < 10
    assert counts[0] > 40 and counts[1] == pytest.approx(counts[0], rel=0.1)


def test_instances_are_the_glands(sections):
    for made in sections:
        assert made.instances.dtype == np.int32 and made.instances.shape == made.labels["glas"].shape
        assert np.array_equal(made.instances > 0, made.labels["glas"] == 1)
        assert phantom.present(made) in [(), ("G.O",)]
    assert max(len(np.unique(made.instances)) for made in sections) > 10


def test_glands_keep_apart(sections):
    for made in sections:
        right, below = (made.instances[:, :-1], made.instances[:, 1:]), (made.instances[:-1], made.instances[1:])
        touching = [((a != b) & (a > 0) & (b > 0)).sum() for a, b in (right, below)]
        assert sum(touching) < 0.002 * made.instances.size


def test_colour_alone_does_not_tell_connective_tissue_from_muscle(patches):
    codes = ["C.D.I", "C.D.R", "M.M"]
    colours = [
        [made.image[made.labels["morph"] == i].mean(0) for made in patches if (made.labels["morph"] == i).mean() > 0.03]
        for i in MORPH.indices(codes)
    ]
    means = np.array([np.mean(colour, 0) for colour in colours])
    spread = np.mean([np.std(colour, 0) for colour in colours], 0)
    assert (np.ptp(means, 0) < 2 * spread).all()


@pytest.mark.parametrize("bad", [{"seed": -1}, {"size": (1, 10)}, {"mpp": 0}, {"mpp": 5}, {"mpp": float("nan")}])
@pytest.mark.parametrize("make", [phantom.patch, phantom.glas])
def test_bad_arguments(make, bad):
    with pytest.raises(ValueError, match="expected seed"):
        make(**({"seed": 0} | bad))
