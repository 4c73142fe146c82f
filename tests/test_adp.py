import pytest

from hsn_v1.adp import ADP, CLASSIFIER_CODES, FUNC, GLAS, LABEL_SETS, MORPH
from hsn_v1.labels import lenders_first


def test_every_code_has_a_name():
    assert set(ADP.outputs) == set(CLASSIFIER_CODES) and all(ADP.outputs.values())
    for label_set in LABEL_SETS.values():
        assert set(label_set.names) == {*label_set.colours, *label_set.unlabelled}
    assert MORPH.describe("C.D.I") == "C.D.I dense irregular connective"
    assert MORPH.describe("Background") == "background"


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


def test_parents_are_implied():
    assert [ADP.codes[i] for i in ADP.with_parents(["E.M.U", "T"])] == ["E", "E.M", "E.M.U", "T"]
    assert [ADP.codes[i] for i in ADP.with_parents(["E.T.X"])] == ["E", "E.T"]
