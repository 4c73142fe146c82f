"""The archives here are small, but for one built from the reference; all of what is published is set to fit them."""

import errno
import hashlib
import json
import os
import shutil
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import carry_out, contents
from scipy.io import savemat

from hsn_v1.adp import CLASSIFIER_CODES, GLAS, LABEL_SETS
from hsn_v1.errors import InputError
from hsn_v1.io.writing import write_picture
from hsn_v1.sets import official, unpack
from hsn_v1.sets.official import PublishedSet, inspect, obstacle, verdicts
from hsn_v1.sets.report import ImageResult, summarise
from hsn_v1.sets.run import with_published
from hsn_v1.sets.settings import Settings
from hsn_v1.sets.unpack import find_members, install
from hsn_v1.show.figures import colourise

HALVES = np.array([[0, 0, 0, 0], [1, 1, 1, 1]], np.uint8)  # the first two classes weigh the same
OTHER_HALVES = np.array([[0, 0, 0, 1], [1, 1, 1, 1]], np.uint8)


@pytest.fixture
def download(tmp_path, monkeypatch):
    """Make a folder like the authors', two images each, and take it for what was published."""
    folder = tmp_path / "download"
    sets = {
        "01_tuning_patch": PublishedSet(2, ("morph", "func")),
        "02_glas_full": PublishedSet(2, ("glas",), "glas_multi_gland"),
    }
    for name, image_set in sets.items():
        for file in ("a#1.png", "ü[b].png"):
            write_picture(folder / "img" / name / file, np.full((2, 4, 3), 200, np.uint8))
            for label_set in image_set.label_sets:
                write_picture(folder / "gt" / name / label_set / file, colourise(HALVES, LABEL_SETS[label_set]))
            if image_set.bitmaps:
                write_picture(folder / "gt" / name / image_set.bitmaps / f"{Path(file).stem}.bmp", HALVES)
    write_model(folder / "data")
    for name, settings in official.CRFS.items():
        np.save(folder / "data" / f"{name}_optimal_pcc.npy", np.array([[*settings, 5.0]]))
    monkeypatch.setattr(official, "SETS", sets)
    monkeypatch.setattr(official, "PARAMETERS", 2 * 3 + 3)
    halves = {name: dict.fromkeys(label_set.codes[:2], 0.5) for name, label_set in LABEL_SETS.items()}
    monkeypatch.setattr(official, "FIOU_WEIGHTS", halves)
    return folder


def write_model(data, units=3, **thresholds):
    data.mkdir(parents=True, exist_ok=True)
    values = {"G.O": 0.7778476, "T": 0.5538014, "E": 0.7208437, **thresholds}
    table = [[values.get(code, 0.4) for code in CLASSIFIER_CODES]]
    savemat(data / f"{official.MODEL}.mat", {"optimalScoreThresh": table})
    (data / f"{official.MODEL}.json").write_text(json.dumps({"class_name": "Sequential", "config": [{}]}))
    with h5py.File(data / f"{official.MODEL}.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense_1"]
        group = file.create_group("dense_1")
        group.attrs["weight_names"] = [b"dense_1/kernel:0", b"dense_1/bias:0"]
        group["dense_1/kernel:0"], group["dense_1/bias:0"] = np.zeros((2, units)), np.zeros(units)


def packed(archive, folder, top="", compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(archive, "w", compression) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, top + path.relative_to(folder).as_posix())
    return archive


def archive_of(path, *members):
    """Write members given by name, by (name, content), or as (ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member in members:
            file.writestr(*(member if isinstance(member, tuple) else (member, b"x")))
    return path


def differing(root):
    return {finding.subject: finding.found for finding in inspect(root) if not finding.ok}


# Putting it in place


@pytest.mark.parametrize("top", ["", "hsn_data/", "data/"])
def test_an_archive_is_put_in_place_without_the_folder_around_it(top, tmp_path, download):
    archive, root = packed(tmp_path / "hsn_data.zip", download, top), tmp_path / "new" / "root"
    installed = install(archive, root)
    assert contents(root) == contents(download)
    assert set(installed.placed) == set(contents(download))
    assert sorted(path.name for path in root.iterdir()) == ["data", "gt", "img"]  # nothing temporary


def test_a_folder_is_copied(tmp_path, download):
    install(tmp_path / "download", tmp_path / "root")
    assert contents(tmp_path / "root") == contents(download)
    shutil.move(download, tmp_path / "outer" / "hsn_data")
    assert not install(tmp_path / "outer", tmp_path / "root").placed


def test_a_folder_put_into_itself_stays_as_it_is(download):
    before = contents(download)
    assert set(install(download, download).unchanged) == set(before)
    assert contents(download) == before


def test_rubbish_and_files_beside_the_folders_are_left_out(tmp_path):
    rubbish = "__MACOSX/top/data/._a", "top/.DS_Store", "top/img/.DS_Store", "top/gt/._b", "top/img/Thumbs.db"
    archive = archive_of(tmp_path / "a.zip", *rubbish, "top/data/a", "top/README", "top/src/b", "about.txt")
    installed = install(archive, tmp_path / "root")
    assert contents(tmp_path / "root") == {"data/a": b"x"}
    assert installed.skipped == ("README", "about.txt", "src")


def test_names_written_on_windows_are_understood(tmp_path):
    install(archive_of(tmp_path / "a.zip", "hsn_data\\img\\s\\a.png"), tmp_path / "root")
    assert contents(tmp_path / "root") == {"img/s/a.png": b"x"}


def test_what_is_there_already_stays_and_what_differs_is_refused_before_anything_is_written(tmp_path):
    archive, root = archive_of(tmp_path / "a.zip", ("data/a", b"1234"), ("gt/b", b"1"), ("img/c", b"1")), tmp_path / "r"
    (root / "data").mkdir(parents=True)
    (root / "data" / "a").write_bytes(b"1234")
    kept = (root / "data" / "a").stat().st_mtime_ns
    assert install(archive, root).unchanged == ("data/a",)
    assert (root / "data" / "a").stat().st_mtime_ns == kept

    (root / "data" / "a").write_bytes(b"4321")  # same size
    (root / "gt" / "b").write_bytes(b"own")
    shutil.rmtree(root / "img")
    before = contents(root)
    with pytest.raises(InputError, match=r"r/data/a and 1 more files: not the same as in .*a\.zip.*`force`"):
        install(archive, root)
    assert contents(root) == before
    assert set(install(archive, root, force=True).placed) == {"data/a", "gt/b", "img/c"}
    assert contents(root) == {"data/a": b"1234", "gt/b": b"1", "img/c": b"1"}


def test_a_folder_or_file_in_the_way_is_not_forced(tmp_path):
    archive = archive_of(tmp_path / "a.zip", "img/s/a.png")
    (tmp_path / "one" / "img" / "s" / "a.png").mkdir(parents=True)
    with pytest.raises(InputError, match=r"a\.png: is a folder, expected a file"):
        install(archive, tmp_path / "one", force=True)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "img").touch()
    with pytest.raises(InputError, match="img: is a file, expected a folder"):
        install(archive, tmp_path / "two", force=True)
    with pytest.raises(InputError, match=r"a\.zip: is a file, expected a folder"):
        install(archive, archive)


def test_links_in_root_lead_nowhere_else(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root" / "img").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"img/a: leads out of .*root by a link"):
        install(archive_of(tmp_path / "a.zip", "img/a"), tmp_path / "root", force=True)
    assert not contents(tmp_path / "elsewhere")


# Broken and hostile downloads


def entry(name, mode=0, **attributes):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, b"x"


HOSTILE = {
    "up": (["data/../../evil"], r"'data/../../evil' leads out"),
    "up beside the folders": (["data/a", "../evil"], "leads out"),
    "up by backslashes": (["data\\..\\..\\evil"], "leads out"),
    "absolute": (["data/a", "/data/evil"], "'/data/evil' leads out"),
    "drive": (["C:\\data\\evil"], "leads out"),
    "drive, relative": (["C:data/evil"], "leads out"),
    "share": (["\\\\host\\share\\data\\evil"], "leads out"),
    "link": ([entry("gt/link", stat.S_IFLNK | 0o777)], "'gt/link' is a link"),
    "link for a folder": ([entry("img", stat.S_IFLNK | 0o777), "img/a"], "'img' is a link"),
    "pipe": ([entry("gt/pipe", stat.S_IFIFO | 0o666)], "'gt/pipe' is a link or a device"),
    "same twice": (["data/a", "data//./a"], "'data//./a' comes twice, also as 'data/a'"),
    "same but for the case": (["img/a.PNG", "img/A.png"], r"'img/A\.png' comes twice"),
    "file as a folder": (["data/a", "data/a/b"], "cannot be put there"),
    "file for a folder": (["data", "img/a"], "'data' is a file, expected a folder"),
    "bomb": ([("data/bomb", bytes(10 << 20)), "img/a"], r"would grow to 10,485,761 bytes \('data/bomb'"),
    "none of the folders": (["readme"], "no files in data, gt or img; expected the authors' hsn_data.zip"),
    "empty": ([], "no files in data, gt or img"),
}


@pytest.mark.parametrize(("members", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives_are_refused_whole(members, message, tmp_path):
    archive = archive_of(tmp_path / "a.zip", *members)
    with pytest.raises(InputError, match=message):
        install(archive, tmp_path / "root", force=True)
    assert {path.name for path in tmp_path.iterdir()} <= {"a.zip", "root"}
    assert not list(tmp_path.glob("root/*"))


def test_encrypted_members_are_refused(tmp_path):
    content = bytearray(archive_of(tmp_path / "a.zip", "data/a").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match="'data/a' is encrypted"):
        install(tmp_path / "a.zip", tmp_path / "root")


def test_an_archive_of_honest_ratio_may_still_be_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_BYTES", 3)
    with pytest.raises(InputError, match="expected at most 3, and 200 times"):
        install(archive_of(tmp_path / "a.zip", ("data/a", b"1234")), tmp_path / "root")


def test_links_in_a_folder_are_refused(tmp_path, download):
    (download / "data" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="'data/link' is a link"):
        find_members(download)


def test_broken_archives_are_refused_whole(tmp_path, download):
    content = packed(tmp_path / "a.zip", download, compression=zipfile.ZIP_STORED).read_bytes()
    flipped = bytearray(content)
    flipped[content.index(b"IDAT") + 6] ^= 0xFF  # inside an image, found by its checksum
    for broken in (b"", b"no archive", content[: len(content) // 2], content[:-30], content[1000:], bytes(flipped)):
        (tmp_path / "a.zip").write_bytes(broken)
        with pytest.raises(InputError, match=r"cannot be read.*get the authors' download again"):
            install(tmp_path / "a.zip", tmp_path / "root")
        assert not list(tmp_path.glob("root/*"))
    with pytest.raises(InputError, match=r"none\.zip: no such file; expected the authors' hsn_data\.zip"):
        install(tmp_path / "none.zip", tmp_path / "root")


@pytest.mark.slow
def test_whatever_byte_is_broken_nothing_half_written_is_left(tmp_path):
    content = archive_of(tmp_path / "a.zip", ("h/data/a", b"abc" * 20), "h/gt/b").read_bytes()
    rng, root = np.random.default_rng(4), tmp_path / "root"
    for position in range(0, len(content), 2):
        broken = bytearray(content)
        broken[position] ^= int(rng.integers(1, 256))
        (tmp_path / "a.zip").write_bytes(broken)
        try:
            placed = install(tmp_path / "a.zip", root).placed
        except InputError:
            placed = ()
        assert set(contents(root) if root.exists() else ()) == set(placed)
        shutil.rmtree(root, ignore_errors=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip"}


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_interrupted_unpacking_leaves_nothing_behind(failure, tmp_path, monkeypatch):
    archive, root, done = archive_of(tmp_path / "a.zip", "data/a", "img/b"), tmp_path / "root", []

    def interrupted(member, path):
        if done:
            raise failure
        done.append(unpack_one(member, path))

    unpack_one = unpack._unpack
    monkeypatch.setattr(unpack, "_unpack", interrupted)
    with pytest.raises((InputError, KeyboardInterrupt), match=r"root: No space left on device; .*make room|"):
        install(archive, root)
    assert done
    assert not list(root.glob("*"))  # nothing, nor the folder itself where it was not there


def test_a_root_that_cannot_be_written_to_is_one_line(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "root")

    monkeypatch.setattr(os, "mkdir", refuse)
    archive = archive_of(tmp_path / "a.zip", "data/a")
    assert carry_out("data", archive, "--root", tmp_path / "root") == 2
    expected = f"error: {tmp_path / 'root'}: cannot be written to (Permission denied); choose another folder\n"
    assert capsys.readouterr().err.startswith(expected)


# Holding it against what was published


@pytest.mark.slow
def test_published_numbers_are_found_again(download):
    findings = inspect(download)
    assert [finding for finding in findings if not finding.ok] == []
    assert len(findings) == 15


def test_missing_and_broken_files_are_found(download):
    gt, images = download / "gt", download / "img"
    (gt / "01_tuning_patch" / "morph" / "a#1.png").unlink()
    (gt / "02_glas_full" / "glas" / "ü[b].png").write_bytes(b"cut off")
    (gt / "02_glas_full" / "glas_multi_gland" / "a#1.bmp").rename(gt / "02_glas_full" / "glas_multi_gland" / "c.bmp")
    (images / "02_glas_full" / "a#1.png").write_bytes(b"cut off")
    (download / "data" / f"{official.MODEL}.json").unlink()
    (download / "data" / "func_optimal_pcc.npy").write_bytes(b"cut off")
    found = differing(download)
    assert found["gt/01_tuning_patch/morph"] == "a#1.png is missing"
    assert "ü[b].png: not an image, or cut off" in found["gt/02_glas_full/glas"]
    assert found["gt/02_glas_full/glas_multi_gland"] == "a#1.bmp is missing\nc.bmp belongs to no image"
    assert found["img/02_glas_full"].startswith("2 images\n")
    assert found[f"data/{official.MODEL}.json: architecture"] == "no such file"
    assert "not a file of NumPy's" in found["data/func_optimal_pcc.npy: CRF settings"]
    assert len(found) == 6


def test_missing_folders_are_found(download):
    shutil.rmtree(download / "gt")
    shutil.rmtree(download / "img" / "01_tuning_patch")
    found = differing(download)
    assert found["gt/02_glas_full/glas"] == "no files"
    assert found["gt/02_glas_full/glas: weights in fIoU"] == "none"
    assert found["img/01_tuning_patch"] == "0 images"
    with pytest.raises(InputError, match="none: no such folder; expected the one that has data, gt and img"):
        inspect(download / "none")


def test_other_counts_models_settings_and_weights_are_found(download):
    (download / "img" / "01_tuning_patch" / "a#1.png").unlink()
    truth = download / "gt" / "02_glas_full" / "glas" / "a#1.png"
    write_picture(truth, colourise(OTHER_HALVES, LABEL_SETS["glas"]))
    write_model(download / "data", units=4, T=0.5538)
    np.save(download / "data" / "glas_optimal_pcc.npy", np.array([[3, 40, 10, 4, 26, 5]]))
    found = differing(download)
    assert found["img/01_tuning_patch"] == "1 images"
    assert found["gt/01_tuning_patch/func"] == "a#1.png belongs to no image"
    assert found["gt/02_glas_full/glas: weights in fIoU"] == "Other 0.530329\nG.O 0.469671"  # ln 9 : ln 7
    assert found[f"data/{official.MODEL}.h5: parameters"] == "12"
    assert found[f"data/{official.MODEL}.mat: thresholds"] == "G.O 0.777848\nT 0.553800\nE 0.720844"
    assert found["data/glas_optimal_pcc.npy: CRF settings"] == "3, 40, 10, 4, 26"


@pytest.mark.slow
def test_the_reference_subset_has_the_official_model_and_its_own_weights(reference, tmp_path, monkeypatch):
    archive = packed(tmp_path / "hsn_data.zip", reference / "real", "hsn_data/", zipfile.ZIP_STORED)
    install(archive, tmp_path / "root")
    assert contents(tmp_path / "root") == contents(reference / "real")
    assert all("img" in what or "weights in fIoU" in what for what in differing(tmp_path / "root"))

    metrics = json.loads((reference / "reference" / "metrics.json").read_text())
    counts = {"01_tuning_patch": 25, "02_glas_full": 12}
    for name, image_set in official.SETS.items():
        monkeypatch.setitem(official.SETS, name, PublishedSet(counts[name], image_set.label_sets, image_set.bitmaps))
        for label_set, values in metrics[name].items():
            weights = dict(zip(values["classes"], values["fiou_weights"], strict=True))
            monkeypatch.setitem(official.FIOU_WEIGHTS, label_set, weights)
    assert differing(tmp_path / "root") == {}


# The command line


@pytest.mark.slow
def test_the_command_tells_whether_all_is_as_published(tmp_path, capsys, download):
    archive, root = packed(tmp_path / "hsn_data.zip", download, "hsn_data/"), tmp_path / "root"
    (download / "notes[1].txt").touch()
    assert carry_out("data", archive, "--root", root) == 0
    out = capsys.readouterr().out
    assert f"{len(contents(root))} files placed in {root}, 0 there already" in out
    assert out.endswith("all as published, as far as can be told\n")
    assert "parameters: whether they are the authors' cannot be told" in out
    assert carry_out("data", download, "--root", root) == 0
    assert "skipped, as not needed: notes[1].txt\n" in capsys.readouterr().out

    (root / "gt" / "01_tuning_patch" / "func" / "ü[b].png").unlink()
    assert carry_out("data", "--check", "--root", root) == 1
    out = capsys.readouterr().out
    assert "ü[b].png is missing" in " ".join(out.split())
    assert out.endswith("1 of 15 checks (✗): missing or different\n")

    (root / "data" / "morph_optimal_pcc.npy").write_bytes(b"own")
    assert carry_out("data", archive, "--root", root) == 2
    assert "morph_optimal_pcc.npy: not the same as in" in capsys.readouterr().err
    assert carry_out("data", archive, "--root", root, "--force") == 0


@pytest.mark.parametrize("arguments", [[], ["a.zip", "--check"]])
def test_a_source_or_check_is_asked_for(arguments, capsys):
    assert carry_out("data", *arguments) == 2
    assert "--check" in capsys.readouterr().err


# Results


PUBLISHED = {"glas": {"fIoU": 0.5, "mIoU": 0.25}}


def report_of(files=2, pixels=(8, 8), **changes):
    empty = ImageResult("", (2, 4), {}, {}, {}, {})
    confusions = {("glas", "CRF"): np.diag([1, 1, 0])}
    first = replace(empty, file="a", confusions=confusions, pixels={"glas": np.array(pixels)})
    return replace(summarise([first, *(replace(empty, file=f"{i}") for i in range(1, files))], {}, []), **changes)


def settings_of(download, name="02_glas_full", model=official.MODEL):
    return Settings((download / "img" / name / "a.png",), None, download, (GLAS,), model=model, published=PUBLISHED)


@pytest.mark.slow
def test_only_a_run_over_all_of_the_official_set_compares(download):
    settings = settings_of(download)
    assert obstacle(settings, report_of()) == ""
    assert obstacle(settings, report_of(files=1)) == "1 of 2 images"
    assert obstacle(settings, report_of(pixels=(8, 9))) == "the ground truth of glas is not the authors'"
    assert obstacle(settings_of(download, "own"), report_of()) == "own is not the authors' set"
    assert obstacle(settings_of(download, model="own"), report_of()) == "own is not the authors' classifier"
    write_model(download / "data", E=0.5)
    assert obstacle(settings, report_of()) == f"data/{official.MODEL}.mat: thresholds are not the authors'"


@pytest.mark.slow
def test_weights_are_told_by_their_digest_once_it_is_known(download, monkeypatch):
    settings = settings_of(download)
    report = with_published(settings, report_of())
    assert report.published == PUBLISHED and "cannot be told" in report.comparison
    assert [finding.doubt for finding in inspect(download) if finding.doubt] == [official.UNTOLD]
    content = (download / "data" / f"{official.MODEL}.h5").read_bytes()
    monkeypatch.setattr(official, "WEIGHTS_SHA256", hashlib.sha256(content).hexdigest())
    assert "cannot be told" not in with_published(settings, report_of()).comparison
    assert not [finding for finding in inspect(download) if finding.doubt or not finding.ok]
    monkeypatch.setattr(official, "WEIGHTS_SHA256", hashlib.sha256(b"others").hexdigest())
    report = with_published(settings, report_of())
    assert report.published == {} and "parameters are not the authors'" in report.comparison
    assert differing(download) == {f"data/{official.MODEL}.h5: parameters": "9 of other values"}


MIOUS = [(0.99991, "reproduced"), (1.00009, "reproduced"), (0.9998, "not reproduced")]


@pytest.mark.parametrize(("miou", "verdict"), MIOUS)
def test_each_label_set_gets_its_verdict(miou, verdict):
    report = report_of(published={"glas": {"mIoU": miou}})
    difference = f"glas: mIoU 1.000000 (published {miou:.6f}, difference {1 - miou:+.6f}): {verdict} within 1e-4"
    assert verdicts(report) == [difference]
    assert verdicts(report_of()) == []
