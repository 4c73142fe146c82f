import pytest

from hsn_v1.errors import InputError
from hsn_v1.slides.slide_list import Entry, read_list, shard


@pytest.fixture
def write(tmp_path):
    for name in ("a.svs", "b.tif", "c #1.png"):
        (tmp_path / name).write_bytes(b"")

    def write(text, encoding="utf-8"):
        (tmp_path / "list.csv").write_bytes(text.encode(encoding))
        return tmp_path / "list.csv"

    return write


def test_a_list_says_what_to_segment_and_keeps_the_users_columns(write, tmp_path):
    table = write("patient,path,mpp,name,labels,model\nP1,a.svs,0.25,first,func,mine\nP2,b.tif,,,,\n\n", "utf-8-sig")
    entries, problems = read_list(table)
    assert problems == []
    assert entries == [
        Entry(tmp_path / "a.svs", "first", 0.25, "func", "mine", {"patient": "P1"}),
        Entry(tmp_path / "b.tif", "b.tif", None, None, None, {"patient": "P2"}),
    ]


def test_all_that_is_wrong_is_told_at_once(write, tmp_path):
    table = write(
        "path,mpp,name\na.svs,,x\nb.tif,,x\nnone.svs,,\nb.tif,20x,\nb.tif,nan,\nb.tif,-1,\n,,y\nb.tif\na.svs,,../up\nb.tif,,\n"
    )
    entries, problems = read_list(table)
    assert [entry.name for entry in entries] == ["x", "b.tif"]
    expected = [
        "line 3: the name 'x' is on line 2 already",
        f"line 4: {tmp_path / 'none.svs'}: no such file",
        "line 5: mpp is '20x'; expected microns per pixel",
        "line 6: mpp is 'nan'",
        "line 7: mpp is '-1'",
        "line 8: no path",
        "line 9: more or fewer cells",
        "line 10: the name '../up' is not that of a folder",
    ]
    assert len(problems) == len(expected)
    for problem, start in zip(problems, expected, strict=True):
        assert problem.startswith(f"{table}, {start}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'"),
        ("file,mpp\na.svs,1\n", "no column 'path'; its columns are file, mpp"),
        ("path\n", "no ro"),
    ],
)
def test_what_is_no_list_is_refused(write, text, message):
    with pytest.raises(InputError, match=message):
        read_list(write(text))


def test_a_table_that_cannot_be_read_is_named(tmp_path, write):
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        read_list(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"list\.csv: cannot be read"):
        read_list(write("path\nä.png\n", "latin-1"))


def test_shards_are_a_partition():
    entries = [Entry(None, str(number)) for number in range(10)]
    parts = [shard(entries, number, 3) for number in (1, 2, 3)]
    assert sorted((entry for part in parts for entry in part), key=lambda entry: int(entry.name)) == entries
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
