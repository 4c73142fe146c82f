"""A new file of classes: complete, readable, with colours that can be told apart."""

import numpy as np
import pytest

from hsn_v1.class_file import parse_taxonomy
from hsn_v1.errors import InputError
from hsn_v1.labels import BACKGROUND_RULES
from hsn_v1.training.new_class_file import class_file, distinct_colours, parse_classes


def test_what_is_written_is_read():
    classes = {"tumour": None, 'a "b" \\ c': (1, 2, 3), "é": None}
    text = class_file("mine", classes, 0.5, ([1, 2, 3.25], [4, 5, 6]), "grey")
    known = parse_taxonomy(text, "mine.toml")
    (tissue,) = known.label_sets.values()
    assert known.codes == tuple(classes) and known.mpp == 0.5
    assert known.mean == (1, 2, 3.25) and known.std == (4, 5, 6)
    assert tissue.codes == (*classes, "Background")  # last, as benchmarks number it
    assert tissue.outputs(tissue.classified) == [0, 1, 2]
    assert tissue.background_rule == BACKGROUND_RULES[1]
    assert tissue.colours['a "b" \\ c'] == (1, 2, 3)


def test_without_background_white_counts_as_unlabelled():
    (tissue,) = parse_taxonomy(class_file("m", {"a": None, "b": None}, 1, ([0], [1]), None), "m").label_sets.values()
    assert tissue.background is None and tissue.codes == ("a", "b")
    assert set(tissue.unlabelled.values()) == {(255, 255, 255), 2}


def test_a_class_that_is_called_background_is_the_classifiers():
    (tissue,) = parse_taxonomy(class_file("m", {"a": None, "Background": None}, 1, ([0], [1])), "m").label_sets.values()
    assert tissue.background is None and len(tissue.classified) == 2


def test_comments_explain_keys_that_can_be_switched_on():
    """Each line that is commented out is valid where it stands."""
    text = class_file("m", {"a": None, "b": None}, 1, ([0], [1]), None)
    text = text.replace('# objects = "..."', 'objects = "a"').replace(
        '# always_present = ["..."]', 'always_present = ["b"]'
    )
    (tissue,) = parse_taxonomy(text, "m").label_sets.values()
    assert tissue.objects == "a" and tissue.always_present == ("b",)


def test_colours_are_distinct():
    taken = [(255, 255, 255), distinct_colours(1)[0]]
    few = np.array([*distinct_colours(8, taken), *taken], int)
    assert min(np.abs(a - b).sum() for i, a in enumerate(few) for b in few[:i]) > 40
    assert len(set(distinct_colours(253, taken)) | set(taken)) == 255


@pytest.mark.parametrize(
    ("text", "expected"),
    [("tumour", ("tumour", None)), ("a=#004080", ("a", (0, 64, 128))), ("a b=FFFFFF", ("a b", (255, 255, 255)))],
)
def test_options_of_classes(text, expected):
    assert parse_classes([text]) == dict([expected])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        *(
            ([text], "expected a name, or a name with a")
            for text in ("", "a=", "=#004080", "a=#00408", "a=red", "a=#0040800", "a\nb=#004080", "a\x1b[31m")
        ),
        *((texts, "is there already") for texts in (("a", "a"), ("a=#004080", "b=#004080"), ("e\u0301", "\xe9"))),
    ],
)
def test_bad_options_of_classes(texts, message):
    with pytest.raises(InputError, match=message):
        parse_classes(texts)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "no class"),
        ({"a": (1, 2, 3), "b": (1, 2, 3)}, "a value of its own"),
        ({"a": (255, 255, 255)}, "a value of its own"),  # which background has
        ({str(i): None for i in range(255)}, "1 to 254"),
    ],
)
def test_impossible_files(classes, message):
    with pytest.raises(InputError, match=message):
        class_file("m", classes, 1, ([0], [1]))
