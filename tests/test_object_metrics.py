import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import directed_hausdorff

from hsn_v1.io.masks import read_objects
from hsn_v1.object_metrics import object_metrics, object_sums, pool, pool_groups


def metrics(prediction, truth):
    return tuple(object_metrics(object_sums(np.asarray(prediction), np.asarray(truth))).values())


def row(text):
    """Return a label map of two equal rows, one digit per column."""
    return np.array([list(text), list(text)]).astype(int)


def close(*values):
    return pytest.approx(values, rel=1e-12)


def test_truth_against_itself_is_exact():
    truth = row("0110222000333033")  # 3 lies in two pieces
    assert metrics(truth, truth) == (1, 1, 0)


def test_shifted():
    assert metrics(row("0111100"), row("1111000")) == close(1, 2 * 6 / (8 + 8), 1)
    assert metrics(row("0001111"), row("1111000")) == close(0, 2 * 2 / (8 + 8), 3)  # covers a quarter


def test_merged():
    # the prediction meets both glands alike, covers both and is one true positive
    assert metrics(row("111111"), row("110022")) == close(2 / 3, 2 * 4 / (12 + 4), 4)


def test_split():
    # 1 has a third, 2 a half of the gland, which meets 2
    dice = ((4 * 8 / 16 + 6 * 12 / 18) / 10 + 12 / 18) / 2
    hausdorff = ((4 * 4 + 6 * 3) / 10 + 3) / 2
    assert metrics(row("110222"), row("111111")) == close(2 / 3, dice, hausdorff)


def test_half_is_enough_but_once():
    assert metrics(row("1100"), row("1111"))[0] == 1
    assert metrics(row("1122"), row("1111"))[0] == pytest.approx(2 / 3)
    assert metrics(row("11000"), row("11111"))[0] == 0


def test_without_overlap_the_least_hausdorff_distance_counts():
    # the gland next to the prediction is long; the other lies farther away, but none of its pixels does
    prediction, truth = row("00000000100000"), row("11111111000220")
    far, near = 8, 4
    dice = 0
    # true 1 meets the prediction at 8, true 2 at 4
    assert metrics(prediction, truth) == close(0, dice, (near + (16 * far + 4 * near) / 20) / 2)


def test_a_hole_counts_in_the_hausdorff_distance():
    filled, ring = np.ones((9, 9), int), np.ones((9, 9), int)
    ring[1:-1, 1:-1] = 0
    assert metrics(ring, filled)[2] == 4
    assert metrics(filled, ring)[2] == 4


def test_one_pixel():
    pixel, gland = np.zeros((3, 5), int), np.zeros((3, 5), int)
    pixel[0, 0] = 7
    assert metrics(pixel, pixel) == (1, 1, 0)
    gland[2, 4] = 1
    assert metrics(pixel, gland) == close(0, 0, np.hypot(2, 4))


def test_objects_on_one_side_only_are_as_far_as_the_image_is_long():
    nothing, something = np.zeros((2, 6), int), row("110022")
    assert metrics(nothing, something) == close(0, 0, np.hypot(2, 6))
    assert metrics(something, nothing) == close(0, 0, np.hypot(2, 6))
    assert metrics(nothing, nothing) == (1, 1, 0)


def test_different_shapes_are_an_error():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        object_sums(row("110"), row("1100"))


def test_pooling_weights_all_objects_by_area_at_once():
    perfect, missed = object_sums(row("1110"), row("1110")), object_sums(row("000000"), row("100000"))
    f1, dice, hausdorff = object_metrics(pool([perfect, missed])).values()
    assert f1 == 2 * 1 / (1 + 2)
    assert dice == pytest.approx((6 / 6 + (6 * 1 + 2 * 0) / 8) / 2)
    assert hausdorff == pytest.approx((0 / 6 + (6 * 0 + 2 * np.hypot(2, 6)) / 8) / 2)
    assert pool([perfect, missed]).images == 2


def test_groups_that_occur_are_pooled_apart():
    good, bad = object_sums(row("11"), row("11")), object_sums(row("00"), row("11"))
    groups = pool_groups({"testA_1.png": good, "testA_2.png": good, "train_1.png": bad})
    assert {group: (sums.images, object_metrics(sums)["F1"]) for group, sums in groups.items()} == {
        "all": (3, 4 / 5),
        "test A": (2, 1),
    }


def by_definition(prediction, truth):
    """Return the sums of one image from the challenge's definitions, with all pairs of objects and of pixels."""
    sides = [[np.argwhere(labels == k) for k in np.unique(labels[labels > 0])] for labels in (prediction, truth)]
    sums = []
    for objects, others in (sides, sides[::-1]):
        sums.append(np.zeros(2))
        for one in objects:
            pixels = set(map(tuple, one))
            shared = [len(pixels & set(map(tuple, other))) for other in others]
            best = [other for other, n in zip(others, shared, strict=True) if n == max(shared)]
            dice = max((2 * max(shared) / (len(one) + len(other)) for other in best), default=0)
            far = [max(directed_hausdorff(one, other)[0], directed_hausdorff(other, one)[0]) for other in best]
            sums[-1] += len(one) * dice, len(one) * min(far, default=np.hypot(*truth.shape))
    return sums


def maps():
    """Return pairs of label maps: blocks, and specks on some of them."""
    shape = (11, 14)
    coarse = arrays(np.uint8, (4, 5), elements=st.integers(0, 4))
    specks = arrays(np.uint8, shape, elements=st.integers(1, 6), fill=st.just(0))

    def grown(blocks, specks):
        labels = np.kron(blocks, np.ones((3, 3), np.uint8))[: shape[0], : shape[1]]
        return np.where(specks > 0, specks - 1, labels)

    return st.tuples(*[st.builds(grown, coarse, specks)] * 2)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(maps())
def test_sums_are_those_of_the_definition(pair):
    sums = object_sums(*pair)
    np.testing.assert_allclose(np.stack([sums.dice, sums.hausdorff], axis=1), by_definition(*pair), rtol=1e-12)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(maps(), st.permutations(range(1, 7)))
def test_neither_labels_nor_mirroring_matter(pair, order):
    expected = close(*metrics(*pair))
    relabelled = np.array([0, *order])
    assert metrics(relabelled[pair[0]], 3 * pair[1].astype(int)) == expected
    assert metrics(*(labels[::-1] for labels in pair)) == expected
    assert metrics(*(labels[:, ::-1] for labels in pair)) == expected
    assert metrics(*(labels.T for labels in pair)) == expected


def test_distances_of_winding_objects_are_exact():
    rows, columns = np.mgrid[:90, :120]
    winding = (np.hypot(rows - 40, columns - 60) + 6 * np.arctan2(rows - 40, columns - 60)) % 30 < 9
    blob = np.hypot(rows - 50, (columns - 70) / 1.5) < 30
    (one, other), sums = (np.argwhere(mask) for mask in (winding, blob)), object_sums(winding * 1, blob * 1)
    distance = max(directed_hausdorff(one, other)[0], directed_hausdorff(other, one)[0])
    assert sums.hausdorff.tolist() == [len(one) * distance, len(other) * distance]


def test_true_objects_against_themselves(reference):
    files = sorted((reference / "real" / "gt" / "02_glas_full" / "glas_multi_gland").glob("*.bmp"))
    truths = [read_objects(file, 522, 775) for file in files]
    sums = [object_sums(truth, truth) for truth in truths]
    assert tuple(object_metrics(pool(sums)).values()) == (1, 1, 0)
