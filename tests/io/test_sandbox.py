"""Files that kill, hang or overfill what reads them: one line each, and nothing else suffers."""

import contextlib
import gc
import os
import struct
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from hsn_v1.errors import InputError
from hsn_v1.io import sandbox
from hsn_v1.io.sandbox import available_memory, sandbox_for
from hsn_v1.slide_io.slide import open_slide
from hsn_v1.tiles import Window

IMAGE = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)


def with_tags(path, **tags):
    """Write a tiled TIFF, and overwrite values of its tags by their numbers."""
    tifffile.imwrite(path, IMAGE, photometric="rgb", tile=(64, 64), compression="jpeg", metadata=None)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for name, value in tags.items():
            at = file.pages[0].tags[name].offset
            content[at + 2 : at + 4], content[at + 8 : at + 12] = struct.pack("<H", 4), struct.pack("<I", value)
    path.write_bytes(content)
    return path


def readers():
    found = set()
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it ended just now
            if any("hsn_v1.io.sandbox" in part for part in process.cmdline()):
                found.add(process.pid)
    return found


def echo(path: Path, value):
    """Return a value as it came, and what arrays become of it."""
    return {"value": value, "arrays": [np.arange(3), np.zeros((0, 2), np.float32), np.eye(2, dtype=bool)]}


def cpu_bound(path: Path):
    """Spin."""
    while True:
        pass


def greedy(path: Path):
    """Ask for more memory than the limit."""
    return np.ones(sandbox.MEMORY // 8 + 1).sum()


def exits(path: Path):
    """Die as a library does that aborts."""
    os.abort()


def test_values_and_arrays_come_back_as_they_were(tmp_path):
    (tmp_path / "a").touch()
    odd = ["ü\n\udcff", 1.5, {"array": None}, {"array": ["x"], "b": []}]
    with sandbox_for(tmp_path / "a") as ask:
        found = ask(echo, odd)
    assert found["value"] == odd
    for array, expected in zip(found["arrays"], echo(None, None)["arrays"], strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (cpu_bound, "could not be read in [02] s"),  # of the processor or, on a busy machine, by the clock
        pytest.param(greedy, "more memory", marks=pytest.mark.skipif(os.name == "nt", reason="no limits there")),
        (exits, "its reader died"),
    ],
)
def test_a_reader_that_spins_swallows_memory_or_dies_is_one_line(tmp_path, monkeypatch, function, message):
    monkeypatch.setattr(sandbox, "_time_for", lambda path: 0.5)
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match=message) as caught, sandbox_for(tmp_path / "a") as ask:
        ask(function)
    assert str(tmp_path / "a") in str(caught.value) and "\n" not in str(caught.value)


def test_readers_are_used_again_and_end_with_what_went_wrong(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    for _ in range(3):
        with open_slide(tmp_path / "a.png", 0.5) as slide:
            np.testing.assert_array_equal(slide.pixels(), IMAGE)
    before = readers()
    with open_slide(tmp_path / "a.png", 0.5) as slide:
        slide.pixels()
        assert readers() == before
    left_open = open_slide(tmp_path / "a.png", 0.5)
    assert readers() == before
    del left_open
    assert len(readers()) == len(before) - 1


@pytest.mark.slow
def test_a_reader_that_was_killed_while_idle_is_replaced(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", 0.5):
        pass
    for pid in readers():
        psutil.Process(pid).kill()
        psutil.Process(pid).wait()
    with open_slide(tmp_path / "a.png", 0.5) as slide:
        np.testing.assert_array_equal(slide.pixels(), IMAGE)
    gc.collect()  # which complains of pipes that were left open


def test_relative_paths_are_those_of_this_process(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 30), {"a": "red", "b": "blue"}[name]).save(tmp_path / name / "x.png")
        monkeypatch.chdir(tmp_path / name)
        with open_slide("x.png", 0.5) as slide:
            assert slide.pixels()[0, 0].tolist() == {"a": [255, 0, 0], "b": [0, 0, 255]}[name]


FRAME = b"\xff\xc0\x00\x11\x08"  #: how a JPEG's header begins, before its height and width
ABSURD = {
    "tiles": ({"TileWidth": 65_536, "TileLength": 65_536}, 64),
    "image": ({"ImageWidth": 2**31 - 1, "ImageLength": 2**31 - 1}, 64),
    "narrow tiles": ({"TileWidth": 1}, 64),
    "a tile's JPEG": ({}, 65_500),
}


@pytest.mark.slow
@pytest.mark.parametrize(("tags", "side"), ABSURD.values(), ids=ABSURD)
def test_tiffs_that_claim_absurd_sizes_are_refused_in_one_line(tmp_path, tags, side):
    path = with_tags(tmp_path / "a.tif", **tags)
    content = path.read_bytes()
    assert FRAME + struct.pack(">HH", 64, 64) in content
    path.write_bytes(content.replace(FRAME + struct.pack(">HH", 64, 64), FRAME + struct.pack(">HH", side, side)))
    with pytest.raises(InputError, match=r"a\.tif: ") as caught, open_slide(path, 0.5) as slide:
        slide.read(Window(0, 0, 100, 100), 1.0)
    assert "\n" not in str(caught.value)


def test_no_program_is_started_for_an_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(InputError, match="not a slide or image"):
        open_slide(tmp_path / "a.png", 0.5)


def test_memory_is_what_the_machine_and_the_groups_leave(tmp_path):
    groups, free = tmp_path / "cgroup", psutil.virtual_memory().available
    groups.write_text("5:cpu:/x\n4:memory:/job/step\n0::/unified\n")
    assert available_memory(str(groups), str(tmp_path)) == pytest.approx(free, rel=0.2)
    for folder, limit in (("memory/job", "900"), ("memory/job/step", "9000000"), ("unified", "max")):
        names = sandbox.NAMES["" if folder == "unified" else "memory"]
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / names[0]).write_text(limit)
        (tmp_path / folder / names[1]).write_text("500")
        (tmp_path / folder / "memory.stat").write_text(f"anon 1\n{names[2]} 200\n")
    assert available_memory(str(groups), str(tmp_path)) == 600
