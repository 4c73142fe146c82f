"""Any text names a file, of its own, inside its folder, on every system."""

import itertools
import unicodedata

import pytest
from helpers import NAMES

from hsn_v1.adp import ADP
from hsn_v1.file_names import LONGEST, file_name

STRANGE = [
    *NAMES,
    *("", ".", "x/../../y", "C:\\x", "Tumor: Positive", "a*", "a?", "a|b", "a\0b", "end.", "end ", " start", ".hidden"),
    *("CON", "nul.txt", "com1", "LPT9.x", "COM¹", "con .x", "a\u202eb", "ü" * 200, "x~0123456789"),
]


def test_ordinary_names_stay_as_they_are():
    ordinary = [
        "E.M.S",
        "tumour",
        "Tumor epithelium (2)",
        "größe",
        "肿瘤",
        "a#1",
        "x-[1 0 0]",
        "-",
        "console",
        "nulls.txt",
    ]
    for label_set in ADP.label_sets.values():
        assert [file_name(code, label_set.codes) for code in label_set.codes] == [*label_set.codes]
    assert [file_name(name, tuple(ordinary)) for name in ordinary] == ordinary


@pytest.mark.parametrize("name", STRANGE)
def test_others_become_the_name_of_a_file(tmp_path, name):
    made = file_name(name)
    assert made == name or made[-11] == "~"
    assert not set(made) & set('/\\:*?"<>|') and made.isprintable()
    assert made[0] not in ". " and made[-1] not in ". " and len(made.encode()) <= LONGEST
    assert made.partition(".")[0].rstrip().lower() not in ("con", "nul", "com1", "lpt9", "com¹")
    path = tmp_path / made
    path.write_bytes(b"x")
    assert list(tmp_path.iterdir()) == [path]


def test_different_names_stay_different_where_case_and_form_do_not_count():
    names = [*STRANGE, *map(file_name, STRANGE), "Tumour", "tumour", "TUMOUR", "e\u0301", "é", "ß", "ss"]
    made = [file_name(name, tuple(names)) for name in dict.fromkeys(names)]
    for one, other in itertools.combinations(made, 2):
        assert unicodedata.normalize("NFD", one).casefold() != unicodedata.normalize("NFD", other).casefold()
