"""A disk that is full at any write: one line that names the file, no half-written one, and the next run finishes.

`benchmarks/full_disk.py` does the same on real file systems, with all commands.
"""

import errno
import sys
from pathlib import Path

import pytest
from helpers import contents

from hsn_v1.phantoms import phantom, phantom_set


@pytest.fixture
def room(monkeypatch):
    """Let only so many files be written; return what was asked for."""
    left, write = [sys.maxsize], Path.write_bytes

    def limited(path, content):
        left[0] -= 1
        if left[0] < 0:
            write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")  # without a name, as a write raises it
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", limited)

    def limit(count):
        left[0] = count

    return limit


def phantoms(folder):
    return "phantom", "--kind", "patch", "--count", 2, "--out", folder


@pytest.fixture(scope="module", autouse=True)
def small():
    """Make phantoms of a few pixels: which file cannot be written is the same with any."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(phantom_set.KINDS, "patch", lambda seed: phantom.patch(seed, size=(32, 32)))
        yield


@pytest.fixture(scope="module")
def few(tmp_path_factory, small):
    folder = tmp_path_factory.mktemp("few")
    phantom_set.write_set("patch", 2, 0, folder, "01_phantom_patch")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("written", range(7))
def test_a_set_of_phantoms_is_finished_once_there_is_room(few, tmp_path, command, room, written):
    expected = contents(few)
    assert len(expected) == 7
    room(written)
    status, _, error = command(*phantoms(tmp_path))
    (line,) = error.splitlines()
    found = contents(tmp_path)
    assert (status, len(found)) == (2, written)
    assert found.items() <= expected.items()
    missing = line.removeprefix(f"error: {tmp_path}/").partition(":")[0]
    assert missing in expected.keys() - found.keys()
    assert line.endswith(": No space left on device; make room there, and run the same command again")
    room(sys.maxsize)
    assert command(*phantoms(tmp_path))[0] == 0
    assert contents(tmp_path) == expected


def test_a_single_file_stays_as_it_was(few, tmp_path, command, room):
    out = tmp_path / "old"
    out.write_bytes(b"old")
    truth = few / "gt" / "01_phantom_patch"
    model = ("--model", "histonet_X1.7_phantom", "--root", tmp_path, "--labels", "func", "--quiet")
    arguments = ("evaluate", "--prediction", truth, "--truth", truth, *model, "--csv", out)
    room(0)
    status, _, error = command(*arguments)
    assert (status, error.splitlines()[-1].partition(":")[0], f"{out}: No space" in error) == (2, "error", True)
    assert contents(tmp_path) == {"old": b"old"}
    room(sys.maxsize)
    assert command(*arguments)[0] == 0
    assert contents(tmp_path).keys() == {"old"} and out.read_bytes() != b"old"
