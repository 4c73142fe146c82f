import pytest

from hsn_v1.adp import CLASSIFIER_CODES, FUNC, GLAS, LABEL_SETS, MORPH, NAMES, describe, lenders_first


def test_every_code_has_a_name():
    codes = {*CLASSIFIER_CODES}
    codes |= {code for label_set in LABEL_SETS.values() for code in (*label_set.colours, *label_set.unlabelled)}
    assert codes == set(NAMES)
    assert describe("C.D.I") == "C.D.I dense irregular connective"
    assert describe("Background") == "background"


@pytest.mark.parametrize("label_set", LABEL_SETS.values(), ids=LABEL_SETS)
def test_colours_tell_classes_apart(label_set):
    colours = [*label_set.colours.values(), *label_set.unlabelled.values()]
    assert len(set(colours)) == len(colours)


def test_31_level_3_classes_are_scored():
    assert len(MORPH.classified) == 28
    assert len(FUNC.classified) == 3
    assert [CLASSIFIER_CODES[i] for i in FUNC.outputs(FUNC.classified)] == ["G.O", "G.N", "T"]


def test_lenders_come_first_and_once():
    assert lenders_first([FUNC]) == [MORPH, FUNC]
    assert lenders_first([MORPH, FUNC]) == [MORPH, FUNC]
    assert lenders_first([GLAS]) == [GLAS]
    assert [MORPH.codes[i] for i in FUNC.borrowed_indices] == ["A.W", "A.B", "A.M"]
