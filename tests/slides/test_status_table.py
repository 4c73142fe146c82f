"""The table of what has become of a list's slides."""

import csv

import pytest

from hsn_v1.errors import InputError
from hsn_v1.slides.plan import Outcome
from hsn_v1.slides.slide_list import Entry
from hsn_v1.slides.status_table import failed_before, status_table, status_writer


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def entries(tmp_path):
    names = ["a.svs", "=b, c", "d\ud800.svs", "e"]  # a formula, to a spreadsheet; and no Unicode
    return [Entry(tmp_path / name, name, columns={"patient": f"P{i}"}) for i, name in enumerate(names)]


def test_each_change_is_in_the_table_at_once(entries, tmp_path):
    note = status_writer(tmp_path / "status.csv", entries)
    assert [row["status"] for row in read(tmp_path / "status.csv")] == ["waiting"] * 4
    note(Outcome(entries[1].path, tmp_path / entries[1].name, "running", where="process 1 on node1"))
    row = read(tmp_path / "status.csv")[1]
    assert (row["status"], row["where"], row["patient"]) == ("running", "process 1 on node1", "P1")
    note(Outcome(entries[1].path, tmp_path / entries[1].name, "failed", "damaged", {"tiles": 7}, ("a", "b")))
    row = read(tmp_path / "status.csv")[1]
    assert row["where"] == "process 1 on node1" and row["reason"] == "damaged" and row["path"] == str(entries[1].path)
    assert (row["tiles"], row["notes"]) == ("7", "a b")


def test_what_failed_is_found_again_whatever_its_name(entries, tmp_path):
    note = status_writer(tmp_path / "status.csv", entries)
    for entry, status in zip(entries, ("done", "failed", "failed", "running"), strict=True):
        note(Outcome(entry.path, tmp_path / entry.name, status, "bad" if status == "failed" else ""))
    failed, before = failed_before(tmp_path, None, [*entries, Entry(tmp_path / "new", "new")])
    assert failed == entries[1:3]
    before_again = status_writer(tmp_path / "status.csv", entries, before) and read(tmp_path / "status.csv")
    assert [row["status"] for row in before_again] == ["done", "waiting", "waiting", "running"]


def test_the_newest_of_the_shards_tables_counts(entries, tmp_path):
    first, second = status_table(tmp_path, "1/2"), status_table(tmp_path, "2/2")
    for table, part in ((first, entries[::2]), (second, entries[1::2])):
        note = status_writer(table, part)
        for entry in part:
            note(Outcome(entry.path, tmp_path / entry.name, "failed", "bad"))
    assert failed_before(tmp_path, "2/2", entries)[0] == entries[1::2]
    assert failed_before(tmp_path, None, entries)[0] == entries
    status_writer(tmp_path / "status.csv", entries)(Outcome(entries[0].path, tmp_path / entries[0].name, "failed"))
    assert failed_before(tmp_path, None, entries)[0] == entries[:1]


@pytest.mark.parametrize("content", [b"name,other\na,b\n", b"\xff\xfe", b""])
def test_a_table_of_something_else_is_named(entries, tmp_path, content):
    (tmp_path / "status.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"status\.csv"):
        failed_before(tmp_path, None, entries)
