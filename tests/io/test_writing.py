"""Files are whole or not there, whatever they are called and whenever writing ends."""

import contextlib
import csv
import os
import subprocess
import sys

import pytest
from helpers import NAMES, contents

from hsn_v1.io.writing import remove_leftovers, replacing, write_bytes, write_table, write_together


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("name", NAMES)
def test_tables_hold_names_of_any_kind_and_no_formula(tmp_path, name):
    write_table(tmp_path / "x.csv", [["input", "count"], [name, -3], ["b", 1e-5]])
    header, (found, count), *_ = read(tmp_path / "x.csv")
    assert header == ["input", "count"]
    assert not found.startswith(("=", "+", "-", "@", "\t"))
    assert found.removeprefix("'") == name.encode(errors="backslashreplace").decode()
    assert float(count) == -3


def test_numbers_in_words_stay_numbers(tmp_path):
    write_table(tmp_path / "x.csv", [["-0.5", "+3", "-inf", -2, None, "", "nan"]])
    assert read(tmp_path / "x.csv") == [["-0.5", "+3", "-inf", "-2", "", "", "nan"]]


def test_names_as_long_as_a_folder_allows_are_written(tmp_path):
    path = tmp_path / f"{'ü' * 125}.csv"
    write_bytes(path, b"x")
    assert path.read_bytes() == b"x"
    assert os.listdir(tmp_path) == [path.name]


def test_content_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    path, order = tmp_path / "x", []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: order.append("flush") or fsync(descriptor))
    monkeypatch.setattr(type(path), "replace", lambda one, other: order.append("rename") or replace(one, other))
    with replacing(path) as temporary:
        temporary.write_bytes(b"x")
    assert order[:2] == ["flush", "rename"]
    order.clear()
    write_together({path: b"x", tmp_path / "y": b"y"})
    assert order[:2] == ["flush", "flush"]
    assert order.count("rename") == 2


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("last", range(9))
def test_files_that_belong_together_are_never_mixed(tmp_path, monkeypatch, existing, last):
    """A death at any step leaves old files, new files, or none that is read: the first one is missing."""
    paths = [tmp_path / name for name in ("a.json", "a.h5", "a.mat")]
    for path in paths if existing else ():
        path.write_bytes(b"old")
    kind, steps = type(tmp_path), []

    def dying(method):
        def step(*arguments, **options):
            steps.append(method.__name__)
            if len(steps) > last:
                raise KeyboardInterrupt
            return method(*arguments, **options)

        return step

    for name in ("write_bytes", "replace", "unlink"):
        monkeypatch.setattr(kind, name, dying(getattr(kind, name)))
    with contextlib.suppress(KeyboardInterrupt):
        write_together(dict.fromkeys(paths, b"new"))
    monkeypatch.undo()
    found = [path.read_bytes() if path.exists() else None for path in paths]
    assert found[0] is None or len(set(found)) == 1
    assert (found[0] == b"new") == (last >= 7)


WRITERS = [
    lambda path: write_bytes(path, b"new"),
    lambda path: write_together({path.with_name("a"): b"new", path: b"new"}),
]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, write):
    old = {"a": b"old", "b": b"old"}
    write_together({tmp_path / name: content for name, content in old.items()})
    kind, write_whole = type(tmp_path), type(tmp_path).write_bytes

    def fill(path, content):
        if ".b." in path.name:
            path.touch()
            raise OSError(28, "No space left on device", str(path))
        return write_whole(path, content)

    monkeypatch.setattr(kind, "write_bytes", fill)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "b")
    assert contents(tmp_path) == old


HALF = "import os, sys; from pathlib import Path; from hsn_v1.io.writing import replacing\n"
HALF += "with replacing(Path(sys.argv[1])) as file:\n"
HALF += "    file.write_text('half'); print('half', flush=True); input(); os._exit(9)"


def test_what_a_killed_process_was_writing_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "below" / "[a].png"
    writer = subprocess.Popen(
        [sys.executable, "-c", HALF, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "half\n"
    (part,) = path.parent.iterdir()
    (tmp_path / "below" / ".other.part").touch()
    remove_leftovers(tmp_path)
    assert part.exists()
    writer.communicate("\n")
    for folder, name in ((tmp_path, ""), (path.parent, "b"), (path.parent, "a")):
        remove_leftovers(folder, name)
        assert part.exists()
    remove_leftovers(path.parent, "[a]")
    assert [left.name for left in path.parent.iterdir()] == [".other.part"]


def test_an_error_names_the_file_and_not_its_temporary_name(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder") as caught:
        write_bytes(tmp_path / "folder", b"x")
    assert caught.value.filename == str(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("write", [write_bytes, lambda path, content: write_together({path: content})])
def test_files_that_a_virus_scanner_holds_are_renamed_a_little_later(tmp_path, monkeypatch, write):
    kind, replace, refused = type(tmp_path), type(tmp_path).replace, []

    def held(path, target):
        if len(refused) < 2:
            refused.append(target)
            raise PermissionError(13, "The process cannot access the file", str(path))
        return replace(path, target)

    monkeypatch.setattr("hsn_v1.io.writing.PAUSES", (0, 0, 0))
    monkeypatch.setattr(kind, "replace", held)
    write(tmp_path / "x", b"x")
    assert len(refused) == 2 and (tmp_path / "x").read_bytes() == b"x"
    refused[:] = []
    monkeypatch.setattr("hsn_v1.io.writing.PAUSES", (0,))
    with pytest.raises(PermissionError, match="cannot access"):
        write(tmp_path / "y", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
