"""Which classes labels speak of, and what is said of them before training."""

import numpy as np
import pytest

from hsn_v1.adp import ADP, CLASSIFIER_CODES
from hsn_v1.class_file import parse_taxonomy
from hsn_v1.errors import InputError
from hsn_v1.training.classes import check_classes, describe_classes, match_columns, mixture_of, targets_of
from hsn_v1.training.new_class_file import class_file
from hsn_v1.training.patch_labels import read_label_table

OWN = parse_taxonomy(class_file("m", {"tumour": None, "stroma": None}, 1, ([0], [1])), "m.toml")


def table(tmp_path, *columns):
    path = tmp_path / "t.csv"
    path.write_text(f"name,{','.join(columns)}\na.png,{','.join('1' * len(columns))}\n", encoding="utf-8")
    return read_label_table(path, [tmp_path / "a.png"])


def match(labels, classes=(), known=None):
    return match_columns(labels, classes, known, "m.toml")


def of(targets):
    return {code for code, target in zip(CLASSIFIER_CODES, targets, strict=True) if target}


def test_unknown_columns_are_new_classes(tmp_path):
    assert match(table(tmp_path, "tumour", "stroma")) == (None, ("tumour", "stroma"), [])


def test_classes_may_be_named(tmp_path):
    taxonomy, columns, notes = match(table(tmp_path, "T", "who", "S"), ("S", "T"))
    assert taxonomy is None and columns == ("S", "T") and "who" in notes[0]
    with pytest.raises(InputError, match="no column 'N'"):
        match(table(tmp_path, "T", "S"), ("T", "N"))


def test_letters_that_are_the_atlas_codes_are_listed_with_their_meaning(tmp_path):
    taxonomy, columns, notes = match(table(tmp_path, "T", "S", "N"))
    assert taxonomy is ADP and columns == ("T", "S", "N")
    assert "T transport vessel, S skeletal, N nervous" in notes[0] and "`classes` T S N" in notes[0]


def test_types_that_experts_could_not_tell_apart_count_for_their_parents(tmp_path):
    taxonomy, columns, notes = match(table(tmp_path, "E.M.S", "E.T.X", "G.X"))
    assert "E.T.X, G.X" in notes[-1] and "parents" in notes[-1]
    targets = targets_of(np.eye(3, dtype=bool), columns, taxonomy)
    assert [of(row) for row in targets] == [{"E", "E.M", "E.M.S"}, {"E", "E.T"}, {"G"}]


def test_a_mixture_is_no_guess(tmp_path):
    with pytest.raises(InputError, match=r"'E\.T\.V' is not \(do you mean E\.T.*`classes` E\.M\.S E\.T\.V"):
        match(table(tmp_path, "E.M.S", "E.T.V"))


def test_a_models_own_classes(tmp_path):
    taxonomy, columns, notes = match(table(tmp_path, "stroma", "tumor", "tumour"), known=OWN)
    assert taxonomy is OWN and columns == ("stroma", "tumour")
    assert "'tumor' is no class of m.toml" in notes[0] and "do you mean tumour?" in notes[0]
    with pytest.raises(InputError, match=r"m\.toml has tumour, stroma"):
        match(table(tmp_path, "a"), ("a",), OWN)
    with pytest.raises(InputError, match=r"no column is a class of m\.toml"):
        match(table(tmp_path, "a"), (), OWN)


def test_each_class_is_described_and_warned_of():
    three = parse_taxonomy(class_file("m", dict.fromkeys(["a", "b", "c", "d", "e"]), 1, ([0], [1])), "m")
    train = np.zeros((200, 5), np.float32)
    train[:100, 0], train[:, 1], train[:10, 2], train[:100, 4] = 1, 1, 1, 1
    validation = np.zeros((10, 5), np.float32)
    validation[:5, 0], validation[:, 1], validation[:5, 2], validation[:, 4] = 1, 1, 1, 1
    lines = describe_classes(three, train, validation)
    assert lines[1].split() == ["a", "100", "5", "50%"]
    assert [line.split()[:3] for line in lines[1:-1]] == [
        *(["a", "100", "5"], ["b", "200", "10"], ["c", "10", "5"], ["e", "100", "10"])
    ]
    notes = check_classes(three, train, validation)
    assert len(notes) == 4
    assert notes[0].startswith("b: every patch to train on has it")
    assert notes[1] == "c: only 10 patches to train on have it"
    assert notes[2].startswith("e: every validation patch has it")
    assert notes[3] == "in no patch at all, and therefore never found: d"


def test_training_that_nothing_can_judge_is_refused():
    with pytest.raises(InputError, match="none can be judged"):
        check_classes(OWN, np.ones((9, 2)), np.ones((3, 2)))


@pytest.mark.parametrize(
    ("rows", "shown", "notes"),
    [
        (["110", "110", "001"], "0% of them have every class; always together: a + b; never: a + c, b + c", 1),
        (["111", "111", "101"], "67% of them have every class; always together: a + c; never: -", 2),
        (["100", "010", "011"], "0% of them have every class; always together: -; never: a + b, a + c", 0),
        (["100", "100"], "0% of them have every class; always together: -; never: -", 0),
    ],
)
def test_how_far_patches_mix_their_classes(rows, shown, notes):
    mixture = mixture_of("abc", np.array([[bit == "1" for bit in row] for row in rows]))
    assert str(mixture) == shown
    warnings = mixture.warnings(lambda: 24)
    assert len(warnings) == notes and all("such as of 24 px" in warning for warning in warnings)


def test_a_kind_and_its_parent_are_no_mixture():
    targets = targets_of(np.ones((4, 1), bool), ["E.M.S"], ADP) > 0
    mixture = mixture_of(ADP.codes, targets, ADP)
    assert mixture.always == [] and mixture.full == 1
