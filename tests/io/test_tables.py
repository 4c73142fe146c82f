"""Tables of any separator and encoding, and the files that they name."""

import unicodedata
from pathlib import Path

import pytest

from hsn_v1.errors import InputError
from hsn_v1.io.tables import find_files, read_rows

ROWS = [["patch", "tumour", "stroma"], ["é 0.png", "1", "0"], ["b.png", "0", "1"]]


def text_of(separator=",", end="\n"):
    return end.join(separator.join(row) for row in ROWS) + end


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " , ", "; "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_separators_and_encodings(tmp_path, separator, encoding):
    (tmp_path / "t.csv").write_bytes(text_of(separator).encode(encoding))
    assert read_rows(tmp_path / "t.csv") == list(zip([1, 2, 3], ROWS, strict=True))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (text_of(end="\r"), ROWS),
        (text_of(end="\r\n"), ROWS),
        ("sep=;\n" + text_of(";"), ROWS),
        ("\n,,\n" + text_of() + ",,\n", ROWS),
        ("a b\nc.png 1\nd.png   0\n", [["a", "b"], ["c.png", "1"], ["d.png", "0"]]),  # spaces
        ('"a;b";c\n"d ""e""";"1,5"\n', [["a;b", "c"], ['d "e"', "1,5"]]),
        ("a,b,,\nc,1,,\n", [["a", "b"], ["c", "1"]]),  # columns that are empty from the header on
        ("a;b\nc.png;x,y,z\nd.png;x\n", [["a", "b"], ["c.png", "x,y,z"], ["d.png", "x"]]),
        ("a,b\nc.png,x;y\nd.png,x;z\n", [["a", "b"], ["c.png", "x;y"], ["d.png", "x;z"]]),
        ("a;b,c;d\ne;1;0\n", [["a", "b,c", "d"], ["e", "1", "0"]]),
        ("a;b\nc;0,5\n", [["a", "b"], ["c", "0,5"]]),
        ("", []),
    ],
)
def test_forms(tmp_path, text, rows):
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert [row for _, row in read_rows(tmp_path / "t.csv")] == rows


def test_lines_are_those_of_the_file(tmp_path):
    (tmp_path / "t.csv").write_text('sep=,\na,b\n\n"c\nd",1\n', encoding="utf-8")
    assert [line for line, _ in read_rows(tmp_path / "t.csv")] == [2, 5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04...", "save it as CSV"),
        (b"\xff\xfe\x00,A.W", "cannot be read as text"),
        (b"a,b\n\x00\x01\x02\x03", "cannot be read as text"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_rows(tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"no\.csv: cannot be read"):
        read_rows(tmp_path / "no.csv")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("0.png", "0.png"),
        ("patches\\0.png", "0.png"),
        ("C:\\Users\\me\\0.png", "0.png"),
        ("/home/me/patches/0.png", "0.png"),
        ("b/1.png", "b/1.png"),  # and not a/1.png
        ("1.png", None),  # either
        (unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")),
        ("UP.PNG", "up.png"),
        ("0", "0.png"),
        ("y", "y.ome.tif"),
        ("0.tif", "0.png"),
        ("x-[1 0].v2", "x-[1 0].v2.jpg"),
        ("'=2.png", "=2.png"),  # as `write_table` keeps a spreadsheet from calculating
        (" 0.png ", "0.png"),
        ("2.png", None),
        ("", None),
    ],
)
def test_files_are_found_by_the_names_that_people_give_them(name, file):
    there = [
        "0.png",
        "y.ome.tif",
        "a/1.png",
        "b/1.png",
        "up.png",
        "x-[1 0].v2.jpg",
        "=2.png",
        unicodedata.normalize("NFD", "é.png"),
    ]
    found = find_files([name], [Path("patches", path) for path in there])
    assert found == ({name: Path("patches", file)} if file else {})
