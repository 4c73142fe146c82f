"""A classifier's file of classes: what it says, and what it may not say."""

import pytest

from hsn_v1.class_file import parse_taxonomy
from hsn_v1.errors import InputError

LUNG = """
mpp = 0.5
mean = [200, 150.5, 180]
std = 40

[outputs]
TUM = "tumour"
STR = { name = "tumour stroma", parent = "TIS" }
TIS = "tissue"
"LYM.B" = "B cells"

[names]
white = "background"

[label_sets.lung]
background = "white"
background_rule = "grey above 200"
bright = ["STR"]
set_aside = ["white"]

[label_sets.lung.classes]
TUM = [0, 64, 128]
STR = [64, 128, 0]
white = [255, 255, 255]

[label_sets.lung.unlabelled]
excluded = 3
artefact = [1, 2, 3]

[label_sets.cells]
other = "rest"
lender = "lung"
borrowed = ["STR"]

[label_sets.cells.classes]
"LYM.B" = [9, 9, 9]
rest = [8, 8, 8]

[groups]
both = ["lung", "cells"]
"""


def test_a_file_says_all_that_the_weights_do_not():
    taxonomy = parse_taxonomy(LUNG, "lung.toml")
    lung, cells = taxonomy.label_sets.values()
    assert (taxonomy.mpp, taxonomy.mean, taxonomy.std) == (0.5, (200, 150.5, 180), (40,))
    assert taxonomy.codes == ("TUM", "STR", "TIS", "LYM.B")
    assert lung.codes == ("TUM", "STR", "white")
    assert (lung.classified, lung.outputs(lung.classified), lung.foreground) == ([0, 1], [0, 1], [0, 1])
    assert lung.unlabelled == {"excluded": 3, "artefact": (1, 2, 3)}
    assert [*map(lung.describe, ("TUM", "white", "artefact"))] == ["TUM tumour", "background", "artefact"]
    assert cells.lender == lung and cells.borrowed_indices == [1]
    assert cells.outputs_of == {"LYM.B": 3}
    assert taxonomy.groups == {"lung": (lung,), "cells": (cells,), "both": (lung, cells)}
    assert taxonomy.group("both") == (lung, cells)


def test_parents_are_named_or_follow_from_dots():
    taxonomy = parse_taxonomy(LUNG, "lung.toml")
    assert taxonomy.with_parents(["STR"]) == [1, 2]
    assert taxonomy.with_parents(["LYM.B", "TUM"]) == [0, 3]  # no output is LYM
    assert taxonomy.with_parents(["LYM.B.X"]) == [3]


CHANGES = {
    "no TOML": ("mpp = 0.5", "mpp = ", "lung.toml: not TOML .*line 2"),
    "no scale": ("mpp = 0.5", "", "mpp is missing; expected microns per pixel from 0.05 to 10"),
    "a scale of 0": ("mpp = 0.5", "mpp = 0", "mpp is 0; expected microns per pixel from 0.05 to 10"),
    "an infinite scale": ("mpp = 0.5", "mpp = inf", "mpp is inf; expected microns per pixel from 0.05 to 10"),
    "a scale in words": ("mpp = 0.5", 'mpp = "20x"', "mpp is '20x'"),
    "two means": ("[200, 150.5, 180]", "[200, 150]", r"mean is \[200, 150\]; expected a number, or three for R, G and"),
    "an unknown key": ("std = 40", "std = 40\nsdt = 3", "sdt is unknown; expected one of .*mpp, mean, std"),
    "an unknown key of a set": ("bright =", "brigth =", "label_sets.lung.brigth is unknown; expected one of classes"),
    "no class": ("[0, 64, 128]", "[0, 64]", r"label_sets.lung.classes.TUM is \[0, 64\]; expected a colour as"),
    "a colour of 256": ("[0, 64, 128]", "[0, 64, 256]", "expected a colour as"),
    "a colour in words": ("[0, 64, 128]", '"blue"', "label_sets.lung.classes.TUM is 'blue'; expected a colour as"),
    "two classes of one colour": ("[64, 128, 0]", "[0, 64, 128]", r"STR has \[0, 64, 128\], which TUM has"),
    "a class of the colour of none": ("[1, 2, 3]", "[0, 64, 128]", r"TUM has \[0, 64, 128\], which artefact has"),
    "an index that a class has": (
        "excluded = 3",
        "excluded = 2",
        "excluded is 2; expected a colour as .*, or an index from 3 to 255",
    ),
    "a class without output": ("TUM = [0, 64", "TUN = [0, 64", "lung.classes.TUN is no output of the classifier"),
    "a background that is no class": ('background = "white"', 'background = "glass"', "white is no output"),
    "an unknown rule": ('"grey above 200"', '"grey"', "background_rule is 'grey'; expected one of brightness, grey"),
    "an unknown bright class": ('["STR"]\nset', '["FAT"]\nset', "bright has 'FAT'; expected a class out of TUM"),
    "a lender that comes later": ('lender = "lung"', 'lender = "late"', "cells.lender is 'late'; expected one of lung"),
    "a class that is not the lender's": ('borrowed = ["STR"]', 'borrowed = ["rest"]', "borrowed has 'rest'"),
    "a set that is not there": ('["lung", "cells"]', '["lungs"]', "groups.both has 'lungs'; expected a la"),
    "a code of two lines": ('TIS = "t', '"a\\nb" = "x"\nTIS = "t', r"outputs.'a\\nb' cannot be printed; expected"),
    "its own ancestor": ('TIS = "tissue"', 'TIS = { name = "tissue", parent = "STR" }', "is its own ancestor"),
    "an output without name": ('TUM = "tumour"', "TUM = 1", "outputs.TUM is 1; expected words in quotes"),
    "a parent that is no output": ('parent = "TIS"', 'parent = "ALL"', "outputs.STR.parent is 'ALL'; expected another"),
    "a name that leads elsewhere": ("[label_sets.cells", '[label_sets."../cells"', "names folders and files"),
    "a name that a run's record has": ("[label_sets.cells", '[label_sets."run.json"', "names folders and files"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_wrong_is_one_line_with_the_key(change):
    old, new, message = CHANGES[change]
    assert old in LUNG
    text = LUNG.replace(old, new, -1 if change.startswith("a name that") else 1)
    with pytest.raises(InputError, match=message) as caught:
        parse_taxonomy(text, "lung.toml")
    assert str(caught.value).startswith("lung.toml: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stride = 0", "views.stride is 0; expected a whole number from 1 to 100,000"),
        ("stride = 0.5", "views.stride is 0.5; expected a whole number from 1 to 100,000"),
        ("window = 1e9", r"views.window is 1000000000.0; expected a whole number from 1 to 100,000"),
        ("scales = [1, 1e9]", r"scales is \[1, 1000000000.0\]; expected a number above 0.2, below 8, or up to eight"),
        ("scales = 0.2", "scales is 0.2; expected a number above 0.2, below 8"),
        ("flips = 1", "views.flips is 1; expected"),
    ],
)
def test_views_that_nobody_can_want_are_refused(line, message):
    with pytest.raises(InputError, match=message):
        parse_taxonomy(f"{LUNG}\n[views]\n{line}", "lung.toml")


def test_objects_are_a_class_or_a_table_that_says_from_where_on_they_are_cut():
    def parse(value):
        text = LUNG.replace('bright = ["STR"]', f'bright = ["STR"]\nobjects = {value}')
        label_set = parse_taxonomy(text, "lung.toml").label_sets["lung"]
        return label_set.objects, label_set.split_objects

    assert parse('"TUM"') == ("TUM", None) and parse('{ class = "TUM", split = 40 }') == ("TUM", 40)
    for wrong, message in {
        '{ class = "TUM" }': "lung.objects.split is missing; expected a whole number from 2 to 100,000",
        "{ split = 40 }": "lung.objects.class is missing; expected one of TUM",
        '{ class = "FAT", split = 40 }': "lung.objects.class is 'FAT'; expected one of TUM",
        '{ class = "TUM", split = 40, by = 1 }': "lung.objects.by is unknown",
    }.items():
        with pytest.raises(InputError, match=message):
            parse(wrong)


def test_more_classes_than_a_label_map_has_values_are_refused():
    outputs = "\n".join(f'c{i} = "class {i}"' for i in range(255))
    classes = "\n".join(f"c{i} = [{i}, 0, 0]" for i in range(255))
    text = f"mpp = 1\nmean = 0\nstd = 1\n[outputs]\n{outputs}\n[label_sets.x]\n[label_sets.x.classes]\n{classes}"
    with pytest.raises(InputError, match="has 255 classes; expected 1 to 254"):
        parse_taxonomy(text, "x.toml")
