"""Patch labels of tables and of file names."""

import numpy as np
import pytest

from hsn_v1.errors import InputError
from hsn_v1.training.patch_labels import labels_per_name, read_names, read_table


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table(tmp_path):
    labels = read_table(write(tmp_path / "t.csv", "\ufeffpatch,tumour,who, stroma\na.png,1,Jane,0\n\nb.png,0.0,,1.0\n"))
    assert labels.columns == ("tumour", "who", "stroma") and list(labels.cells) == ["a.png", "b.png"]
    np.testing.assert_array_equal(labels.of(["stroma", "tumour"]), [[0, 1], [1, 0]])
    with pytest.raises(InputError, match=r"line 2: 'Jane' in column 'who'; expected 0 or 1"):
        labels.of(["who"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no label"),
        ("name\na.png\n", "no label"),
        ("name,A,\na.png,1,0\n", "one without a name"),
        ("a.png,1,0\nb.png,0,1\n", "no header"),
        ("name,A\n", "no rows"),
        ("name,A,A\na.png,1,0\n", "'A' comes twice"),
        ("name,A\na.png,1\na.png,0\n", "line 3: 'a.png' is in .*line 2 already"),
        ("name,A,B\na.png,1\n", "line 2: 1 labels for 2 columns"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_table(write(tmp_path / "t.csv", text))


@pytest.mark.parametrize("cell", ["2", "", "yes", "-1"])
def test_cells_that_are_not_binary(tmp_path, cell):
    labels = read_table(write(tmp_path / "t.csv", f"name,A\na.png,{cell}\n"))
    with pytest.raises(InputError, match=r"line 2: '.*' in column 'A'; expected 0 or 1"):
        labels.of(["A"])


def test_tables_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"no\.csv: cannot be read"):
        read_table(tmp_path / "no.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00,A.W")
    with pytest.raises(InputError, match=r"binary\.csv: cannot be read"):
        read_table(tmp_path / "binary.csv")


@pytest.mark.parametrize(
    "name", ["1031280-2300-27920-[1 0 0 1].png", "TCGA-A_MPP-0.2500+0[1001].png", "436219-9328-56427-[1, 0, 0, 1].PNG"]
)
def test_the_three_spellings_of_benchmarks(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    assert labels_per_name(tmp_path) == 4
    labels = read_names(tmp_path, "abcd")
    assert list(labels.cells) == [name]
    np.testing.assert_array_equal(labels.of("abcd"), [[1, 0, 0, 1]])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x-[1 0].png", "2 labels in its name for 3 classes"),
        ("x-[1 0 2].png", "labels '1 0 2' in its name; expected 0 and 1"),
        ("x-[].png", "0 labels in its name"),
        ("x.png", "no labels in its name"),
        ("[1 0 1]-x.png", "no labels in its name"),
        ("x.txt", "no images"),
    ],
)
def test_bad_names(tmp_path, name, message):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=message):
        read_names(tmp_path, ["a", "b", "c"])


def test_no_folder_of_names(tmp_path):
    assert labels_per_name(tmp_path / "no") == 0
    with pytest.raises(InputError, match="no such folder"):
        read_names(tmp_path / "no", ["a"])
