"""Colours that look alike, and the lines that tell them apart."""

from dataclasses import replace

import numpy as np
import pytest

from hsn_v1.adp import FUNC, GLAS, MORPH
from hsn_v1.show.hatching import LINES, hatch, hatches, ink_on, lines, lookalikes


def test_published_colours_that_look_alike_are_found():
    pairs = lookalikes(MORPH)
    assert {("E.M.O", "S.M.C"), ("E.T.U", "H.E"), ("N.P", "N.G.W")} <= set(pairs)
    assert ("S.E", "C.X") in pairs  # a class and a colour of no class
    assert ("E.M.S", "E.M.U") not in pairs and ("H.Y", "H.E") not in pairs
    assert lookalikes(FUNC) == lookalikes(GLAS) == []


def test_no_two_lookalikes_are_hatched_alike_and_the_first_is_plain():
    kinds = hatches(MORPH)
    assert all(kinds[one] != kinds[other] for one, other in lookalikes(MORPH))
    assert (kinds["E.M.O"], kinds["S.M.C"], kinds["Background"]) == (0, 1, 0)


@pytest.mark.parametrize(("classes", "expected"), [(2, [0, 1]), (4, [0, 1, 2, 3]), (6, [0, 1, 2, 3, 3, 3])])
def test_greys_that_are_all_alike_get_all_kinds_of_lines(classes, expected):
    greys = {str(i): (100 + i, 100 + i, 100 + i) for i in range(classes)}
    assert list(hatches(replace(GLAS, colours=greys, unlabelled={"palette": 7})).values()) == expected


def test_lines_cover_a_part_and_run_as_their_kind_says():
    plain, rising, falling, crossed = (lines(14, 14, kind) for kind in range(len(LINES)))
    assert not plain.any() and 0 < rising.mean() < 0.3
    np.testing.assert_array_equal(rising[1:, :-1], rising[:-1, 1:])
    np.testing.assert_array_equal(falling[1:, 1:], falling[:-1, :-1])
    np.testing.assert_array_equal(crossed, rising | falling)


def test_only_pixels_of_the_hatched_class_change_and_ink_shows():
    labels = np.full((14, 14), MORPH.codes.index("E.M.O"), np.uint8)
    labels[:, 7:] = MORPH.codes.index("S.M.C")
    labels[0] = len(MORPH)  # unlabelled
    figure = np.full((14, 14, 3), 50, np.uint8)
    changed = (hatch(figure, labels, MORPH) != figure).any(axis=-1)
    np.testing.assert_array_equal(changed, lines(14, 14, 1) & (labels == MORPH.codes.index("S.M.C")))
    assert (figure == 50).all()
    assert ink_on((255, 255, 0)) == (0, 0, 0) and ink_on((0, 0, 128)) == (255, 255, 255)
