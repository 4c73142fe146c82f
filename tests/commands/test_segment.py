"""The command: a list of slides on one machine, in shards, or on a Dask cluster, with the same results; bad inputs."""

import contextlib
import json
import os
import signal
import threading

import numpy as np
import pytest
from helpers import carry_out, rows

from hsn_v1.commands.segment import counted
from hsn_v1.io.writing import write_picture

pytestmark = pytest.mark.slow

LIST = "path,mpp,patient,name\n{a},1.2143,P1,\n{b},1.2143,P2,second\n{c},1.2143,P3,\n"


@pytest.fixture
def call(root, tmp_path):
    rng = np.random.default_rng(5)
    for number, name in enumerate("ab"):
        write_picture(tmp_path / f"{name}.png", rng.integers(0, 230, (90 + 10 * number, 120, 3), np.uint8))
    (tmp_path / "c.png").write_text("no image")
    (tmp_path / "list.csv").write_text(LIST.format(a="a.png", b="b.png", c="c.png"))

    fixed = ("--list", tmp_path / "list.csv", "--model", "toy", "--root", root, "--quiet")
    return lambda *options: carry_out("segment", *fixed, *options)


def results(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.parent != out and path.name != "run.json"
    }


def test_a_list_is_done_but_for_what_fails_and_its_columns_come_back(call, tmp_path, capsys):
    out = tmp_path / "results"
    assert call("--out", out, "--workers", 1) == 1
    status = {row["name"]: (row["status"], row["patient"]) for row in rows(out / "status.csv")}
    assert status == {"a.png": ("done", "P1"), "second": ("done", "P2"), "c.png": ("failed", "P3")}
    assert {(row["input"], row["patient"]) for row in rows(out / "areas.csv")} == {("a.png", "P1"), ("second", "P2")}
    assert {row["patient"] for row in rows(out / "segmented.csv")} == {"P1", "P2", "P3"}
    assert "c.png: not a slide or image" in capsys.readouterr().err


def test_what_failed_is_tried_again_by_the_same_command(call, tmp_path, capsys):
    out = tmp_path / "results"
    assert call("--out", out, "--workers", 1) == 1
    write_picture(tmp_path / "c.png", np.full((50, 60, 3), 120, np.uint8))
    assert call("--out", out, "--workers", 1) == 0
    assert [row["status"] for row in rows(out / "status.csv")] == ["done before", "done before", "done"]


def test_shards_make_the_whole(call, tmp_path):
    statuses = [call("--out", tmp_path / "parts", "--workers", 1, "--shard", f"{number}/2") for number in (1, 2)]
    assert statuses == [1, 0]  # what fails is in the first
    call("--out", tmp_path / "whole", "--workers", 1)
    assert results(tmp_path / "parts") == results(tmp_path / "whole") != {}
    assert (tmp_path / "parts" / "status-1-of-2.csv").exists()


def test_a_dask_cluster_gives_the_same_bytes_even_if_a_worker_dies(call, tmp_path, forked_workers):
    assert call("--out", tmp_path / "here", "--workers", 1) == 1
    killed, done = [], threading.Event()
    killer = threading.Thread(target=kill_one, args=(tmp_path / "there", killed, done), daemon=True)
    killer.start()
    try:
        assert call("--out", tmp_path / "there", "--dask", "local:2") == 1
    finally:
        done.set()
    killer.join()
    assert killed
    assert results(tmp_path / "here") == results(tmp_path / "there") != {}
    assert not list((tmp_path / "there").rglob(".*"))


def kill_one(out, killed, done):
    """Kill the first process that has locked a slide's folder, unless all is done before."""
    while not done.wait(0.005):
        for claim in out.glob("*/.claim"):
            with contextlib.suppress(OSError, ValueError):  # it is gone again, or not yet written
                killed.append(json.loads(claim.read_text())["pid"])
                os.kill(killed[0], signal.SIGKILL)
                return


def test_a_list_is_checked_before_anything_starts(call, tmp_path, capsys):
    assert call("--out", tmp_path / "out", "--check") == 0
    with (tmp_path / "list.csv").open("a") as file:
        file.write("none.svs,1,P4,\na.png,x,P5,\n")
    assert call("--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("problem: ") == 2 and "2 problems; nothing was started" in error
    assert not (tmp_path / "out").exists()
    (tmp_path / "list.csv").write_text("path,labels,model\na.png,glas,\nb.png,nails,\nc.png,,other\n")
    assert call("--out", tmp_path / "out", "--check") == 2
    error = capsys.readouterr().err
    assert error.count("problem: ") == 2 and "b.png: nails: no label set" in error and "other" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_shard_that_is_none_is_refused(call, tmp_path, capsys, shard):
    assert call("--out", tmp_path / "out", "--shard", shard) == 2
    assert f"--shard {shard}: expected I/N" in capsys.readouterr().err


@pytest.mark.parametrize("dask", [(), ("--dask", "local:2")])
def test_an_empty_shard_is_a_line_and_no_error(call, tmp_path, capsys, dask):
    assert call("--out", tmp_path / "out", "--shard", "7/20", *dask) == 0
    assert capsys.readouterr().out == "no inputs in shard 7/20: nothing to do\n"


def test_one_bad_input_does_not_end_the_others(root, command, tmp_path):
    write_picture(tmp_path / "a.png", np.full((50, 60, 3), 120, np.uint8))
    (tmp_path / "empty").mkdir()
    bad = ["l" * 300, "x/" * 2500, tmp_path / "empty", tmp_path / "nowhere.png"]
    options = ("--mpp", 1, "--model", "toy", "--root", root, "--out", tmp_path / "out", "--quiet", "--labels", "glas")
    status, out, error = command("segment", *bad, tmp_path / "a.png", *options)
    assert status == 1 and "1 of 5 inputs segmented" in out
    assert error.count("failed: ") == 4 and "no images or slides in this folder" in error
    assert len(rows(tmp_path / "out" / "segmented.csv")) == 5
    status, _, error = command("segment", *bad, *options)
    assert (status, error.count("failed: ")) == (2, 4)


def test_a_run_that_cannot_begin_leaves_no_folder(root, command, tmp_path):
    (root / "data/toy.h5").write_bytes(b"damaged")
    image = next((root / "img").glob("*/*.png"))
    status, _, errors = command(
        "segment", image, "--root", root, "--model", "toy", "--mpp", 1, "--quiet", "--out", tmp_path / "new/out"
    )
    assert status == 2 and "toy.h5: not a file of Keras weights" in errors
    assert not (tmp_path / "new").exists()


def test_the_same_of_many_inputs_is_said_once_with_a_count():
    lines = [f"{n}.png: {90 + n}.0 % of it counts as tissue" for n in range(9)] + ["a.png: grey", "b.png: dark"]
    first = "0.png: 90.0 % of it counts as tissue"
    assert counted(lines, 1) == [f"{first} (and the same of 8 other inputs)", "a.png: grey", "b.png: dark"]
    assert counted(lines, 9) == lines
    assert counted(lines[:2], 1) == [f"{first} (and the same of 1 other input)"]
