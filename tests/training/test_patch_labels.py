"""Patch labels of tables, as people have them, and of file names."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from hsn_v1.errors import InputError
from hsn_v1.training.patch_labels import read_label_table, read_names, read_patch_labels

IMAGES = [Path("p", name) for name in ("a.png", "b.PNG", unicodedata.normalize("NFD", "é.png"))]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_a_table(tmp_path):
    text = "\ufeffpatch,tumour,who, stroma\na.png,1,Jane,0\n\nb.png,0.0,,1.0\n"
    labels = read_label_table(write(tmp_path / "t.csv", text), IMAGES[:2])
    assert labels.columns == ("tumour", "who", "stroma") and list(labels.cells) == IMAGES[:2]
    assert labels.notes == []
    np.testing.assert_array_equal(labels.of(["stroma", "tumour"]), [[0, 1], [1, 0]])
    with pytest.raises(InputError, match=r"line 2: 'Jane' in column 'who'; expected 0 or 1"):
        labels.of(["who"])


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("patch;tumour;stroma\na.png;1;0\nb.png;0;1\né.png;1;1\n", "cp1252"),
        ("patch\ttumour\tstroma\na.png\t1\t0\nb.png\t0\t1\né.png\t1\t1\n", "utf-16"),  # of Excel
        ("patch,tumour,stroma\na.png,TRUE,FALSE\nb.png,false,true\né.png,True,True\n", "utf-8"),
        ("patch,tumour,stroma\na.png,yes,no\nb.png,N,Y\né.png,YES,y\n", "utf-8"),
        ("patch,tumour,stroma\na.png,x,\nb.png,,X\né.png,x,x\n", "utf-8"),
        ("patch;tumour;stroma\na.png;1,0;0,0\nb.png;0,0;1,0\né.png;1,0;1,0\n", "utf-8"),  # decimal commas
        ('"patch","tumour","stroma"\n"a.png","1","0"\n\n"b.png","0","1"\n"é.png","1","1"\n', "utf-8"),
        (r"patch,tumour,stroma" "\nall\\a.png,1,0\nall\\b.png,0,1\nall\\é.png,1,1\n", "utf-8"),
        ("patch,tumour,stroma\na,1,0\nb,0,1\né,1,1\n", "utf-8"),
        ("patch,tumour,stroma\n/x/p/a.png,1,0\n/x/p/b.png,0,1\n/x/p/é.png,1,1\n", "utf-8"),
        (",patch,tumour,stroma\n0,a.png,1,0\n1,b.png,0,1\n2,é.png,1,1\n", "utf-8"),  # with pandas' index
        ("patch,tumour,stroma,,\na.png,1,0,,\nb.png,0,1,,\né.png,1,1,,\n", "utf-8"),
        ("patch,tumour,stroma\na.png,1,0\na.png,1,0\nb.png,0,1\né.png,1,1\n", "utf-8"),  # the same row twice
    ],
)
def test_tables_as_people_have_them(tmp_path, text, encoding):
    labels = read_label_table(write(tmp_path / "t.csv", text, encoding), IMAGES)
    assert labels.columns == ("tumour", "stroma") and list(labels.cells) == IMAGES and labels.notes == []
    np.testing.assert_array_equal(labels.of(labels.columns), [[1, 0], [0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("file,label\na.png,tumour\nb.png,stroma\né.png,stroma;tumour\n", ()),
        ("file;label\na.png;tumour\nb.png;stroma\né.png;tumour | stroma\n", ()),
        ("file,kind\na.png,tumour\nb.png,['stroma']\né.png,\"['tumour', 'stroma']\"\n", ()),
        ("file,label\na.png,tumour\nb.png,stroma\né.png,stroma\né.png,tumour\n", ()),
        ("file,label,patient\na.png,tumour,Jane\nb.png,stroma,Joe\né.png,stroma;tumour,Ann\n", ()),
        ("file,what,patient\na.png,tumour,Jane\nb.png,stroma,Joe\né.png,stroma;tumour,Ann\n", ("stroma", "tumour")),
    ],
)
def test_a_column_of_class_names(tmp_path, text, classes):
    labels = read_label_table(write(tmp_path / "t.csv", text), IMAGES, classes)
    assert labels.columns == ("stroma", "tumour")
    (note,) = labels.notes
    assert "holds names of classes: stroma, tumour" in note
    np.testing.assert_array_equal(labels.of(labels.columns), [[0, 1], [1, 0], [1, 1]])


def test_class_names_that_no_patch_has_are_columns_if_they_are_known(tmp_path):
    table = write(tmp_path / "t.csv", 'file,label\na.png,a\nb.png,"b, c"\n')
    assert read_label_table(table, IMAGES[:2], ("b, c", "a", "z")).columns == ("b, c", "a", "z")
    assert read_label_table(table, IMAGES[:2]).columns == ("a", "b", "c")


def test_images_that_are_not_there_and_those_that_the_table_lacks_are_counted(tmp_path):
    table = write(tmp_path / "t.csv", "file,A\na.png,1\nz.png,0\ny.png,0\n")
    labels = read_label_table(table, IMAGES)
    assert list(labels.cells) == IMAGES[:1]
    assert "2 of its 3 images are not there: z.png, y.png" in labels.notes[0]
    assert f"2 images that {table} lacks" in labels.notes[1]
    with pytest.raises(InputError, match=r"none of its 3 images is there: it names 'a\.png', .* such as 'q\.png'"):
        read_label_table(table, [Path("q.png")])
    with pytest.raises(InputError, match="there is no image"):
        read_label_table(table, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no label"),
        ("name\na.png\n", "no label"),
        ("name,A,\na.png,1,0\n", "2 labels for 1 columns"),
        ("name,,A\na.png,1,0\n", "one without a name"),
        ("a.png,1,0\nb.png,0,1\n", "no header"),
        ("a.png,tumour\nb.png,stroma\n", "no header"),
        ("name,A\n", "no rows"),
        ("name,A,A\na.png,1,0\n", "'A' comes twice"),
        ("name,A\na.png,1\na.png,0\n", r"line 3: 'a\.png' is in .*line 2 already, with other labels"),
        ("name,A\na.png,1\nA,0\n", r"line 3: 'a\.png' is in .*line 2 already"),
        ("name,A,B\na.png,1\n", "line 2: 1 labels for 2 columns"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_label_table(write(tmp_path / "t.csv", text), IMAGES)


@pytest.mark.parametrize("cell", ["2", "", "perhaps", "-1", "0.7", "0,5"])
def test_cells_that_say_neither_yes_nor_no(tmp_path, cell):
    labels = read_label_table(write(tmp_path / "t.csv", f"name;A;B\na.png;{cell};1\nb.png;0;0\n"), IMAGES)
    with pytest.raises(InputError, match=r"line 2: '.*' in column 'A'; expected 0 or 1"):
        labels.of(["A"])


def test_where_labels_are_looked_for(tmp_path):
    for classes in ((), "abc"):
        with pytest.raises(
            InputError, match=r"no images; expected patches and labels\.csv, as `hsn-v1 patches` writes"
        ):
            read_patch_labels(tmp_path, None, classes)
    (tmp_path / "x.png").touch()
    with pytest.raises(InputError, match="give a table by `labels`"):
        read_patch_labels(tmp_path, None, ())
    (tmp_path / "x.png").rename(tmp_path / "x-[1 0 1].png")
    with pytest.raises(InputError, match="carry 3 labels each; say what they are: `classes` CLASS1 CLASS2 CLASS3"):
        read_patch_labels(tmp_path, None, ())
    assert read_patch_labels(tmp_path, None, "abc").columns == ("a", "b", "c")
    (tmp_path / "labels.csv").write_text("name,z\nx-[1 0 1].png,1\n")
    assert read_patch_labels(tmp_path, None, "abc").columns == ("z",)
    assert read_patch_labels(tmp_path, "names", "abc").columns == ("a", "b", "c")
    assert read_patch_labels(tmp_path, str(tmp_path / "labels.csv"), ()).columns == ("z",)
    with pytest.raises(InputError, match="no such folder"):
        read_patch_labels(tmp_path / "no", str(tmp_path / "labels.csv"), ())


def test_a_folder_for_each_class(tmp_path):
    for name in ("b/0.png", "b/deeper/1.png", "a/0.png", "c/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    labels = read_patch_labels(tmp_path, None, ())
    assert labels.columns == ("a", "b") and "each patch has one: a, b" in labels.notes[0]
    assert [path.name for path in labels.cells] == ["0.png", "0.png", "1.png"]
    np.testing.assert_array_equal(labels.of(labels.columns), [[1, 0], [0, 1], [0, 1]])
    assert read_patch_labels(tmp_path, None, ("z", "b")).columns == ("z", "b", "a")
    (tmp_path / "x-[1 0].png").touch()  # beside the folders
    assert list(read_patch_labels(tmp_path, None, "ab").cells) == [tmp_path / "x-[1 0].png"]
    assert len(read_patch_labels(tmp_path, "folders", "ab").cells) == 3
    (tmp_path / "b" / "labels.csv").touch()
    with pytest.raises(InputError, match=r"no folder of patches, but .*b is one"):
        read_patch_labels(tmp_path, "folders", ())
    with pytest.raises(InputError, match="no folders of patches"):
        read_patch_labels(tmp_path / "a", "folders", ())


def test_patches_may_be_in_folders_in_the_folder(tmp_path):
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "0.png").touch()
    write(tmp_path / "labels.csv", "file,A\na/0.png,1\nb\\0.png,0\n")
    labels = read_patch_labels(tmp_path, None, ())
    assert list(labels.cells) == [tmp_path / "a" / "0.png", tmp_path / "b" / "0.png"]


@pytest.mark.parametrize(
    "name", ["1031280-2300-27920-[1 0 0 1].png", "TCGA-A_MPP-0.2500+0[1001].png", "436219-9328-56427-[1, 0, 0, 1].PNG"]
)
def test_the_three_spellings_of_benchmarks(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="carry 4 labels each"):
        read_patch_labels(tmp_path, None, ())
    labels = read_names(tmp_path, "abcd")
    assert list(labels.cells) == [tmp_path / name]
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
    with pytest.raises(InputError, match="no such folder"):
        read_names(tmp_path / "no", ["a"])
