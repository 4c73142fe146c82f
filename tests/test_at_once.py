"""Two runs do not work on one thing: the second says who holds it, touches nothing, and ends."""

import os
import zipfile

import numpy as np
import pytest

from hsn_v1.io.locks import locked, locked_name
from hsn_v1.io.writing import write_picture


@pytest.fixture
def root(tmp_path):
    """Make a folder with images and masks in parts, a model's files, and an archive."""
    for part in ("train", "val"):
        for folder in ("img", "mask"):
            write_picture(tmp_path / "set" / part / folder / "a.png", np.zeros((16, 16, 3), np.uint8))
    (tmp_path / "data").mkdir()
    for suffix in (".json", ".h5", ".mat"):
        (tmp_path / "data" / f"m{suffix}").touch()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("data/a", b"x")
    return tmp_path


CUT = ("--size", 8, "--mpp", 1, "--classes", "a=#000000")

#: Arguments, with {root}, the folder or the name that is held, and what it is called.
COMMANDS = {
    "training by name": (("train", "--name", "m", "--root", "{root}", "--out", "{root}/o"), "data", "m"),
    "training by folder": (("train", "--name", "m", "--root", "{root}", "--out", "{root}/o"), "o", None),
    "tuning": (("tune-crf", "--model", "m", "--root", "{root}"), "data", "m"),
    "tuning into a folder": (("tune-crf", "--model", "m", "--root", "{root}", "--out", "{root}/o"), "o", None),
    "patches": (
        ("patches", "--images", "{root}/set/train/img", "--truth", "{root}/set/train/mask", "--out", "{root}/o", *CUT),
        "o",
        None,
    ),
    "phantoms": (("phantom", "--kind", "glas", "--name", "n", "--out", "{root}"), "img/n", None),
    "a slide": (("phantom", "--kind", "slide", "--out", "{root}"), "", "phantom_slide_000000.tif"),
    "a benchmark": (
        ("benchmark", "{root}/set", "--mpp", 1, "--classes", "a=#000000", "--root", "{root}", "--out", "{root}/o"),
        "o",
        None,
    ),
    "the download": (("data", "{root}/a.zip", "--root", "{root}"), ".hsn_data", None),
}


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*")}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_says_who_holds_it(root, command, name):
    arguments, folder, held = COMMANDS[name]
    arguments = [str(argument).replace("{root}", str(root)) for argument in arguments]
    before = tree(root)
    with locked_name(root / folder, held) if held else locked(root / folder):
        during = tree(root)
        status, out, error = command(*arguments)
        assert tree(root).keys() == during.keys()
    assert (status, out) == (2, "")
    (line,) = error.splitlines()
    assert f"another run (process {os.getpid()} on " in line and ") is working there; wait for its end, or " in line
    assert str(root / folder / (held or "")).removesuffix(".hsn_data").rstrip("/") in line
    assert {name for name in tree(root) if name not in before} <= {"img"}


def test_commands_give_up_what_they_held_however_they_end(root, command):
    """A download that is there, one that is broken, images that are none: nothing hidden is left."""
    assert command("data", root / "a.zip", "--root", root)[0] == 1
    (root / "b.zip").write_bytes((root / "a.zip").read_bytes()[:-30])
    assert command("data", root / "b.zip", "--root", root / "new")[0] == 2
    arguments = ("patches", "--images", root / "none", "--truth", root, "--out", root / "o", *CUT)
    assert command(*arguments)[0] == 2
    assert not [name for name in tree(root) if "/." in f"/{name}"]
    assert not (root / "o").exists() and (root / "data" / "a").read_bytes() == b"x"


def test_what_a_killed_unpacking_left_is_removed_by_the_next(root, command):
    left = root / ".hsn_data" / "img" / "half.png"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    assert command("data", root / "a.zip", "--root", root)[0] == 1
    assert not (root / ".hsn_data").exists() and not (root / "img").exists()
