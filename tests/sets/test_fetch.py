"""Fetching: a server of the loopback plays Zenodo and the drive, and does to the files what networks do."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import types
import zipfile

import numpy as np
import pytest
from zenodo import Answer, played

from hsn_v1.errors import InputError
from hsn_v1.progress import no_progress
from hsn_v1.sets import fetch, unpack
from hsn_v1.sets.fetch import fetch_drive, fetch_record

CONTENT = np.random.default_rng(0).bytes(300_000)
QUOTA = "<!DOCTYPE html><title>Google Drive - Quota exceeded</title>Too many users have viewed this file"
VIRUS = "<html><title>Google Drive - Virus scan warning</title><form id=download-form></form></html>"


@pytest.fixture
def record(host):
    """Have a host whose record has three files, of which one is needed."""
    host.files = {"ADPdevkit.zip": CONTENT, "VOCdevkit.zip": b"v" * 9, "licence.txt": b"x"}
    return host


def fetched(record, folder, agree=lambda size, names: True):
    """Fetch, and return the content of what came, and the notes."""
    with pytest.warns() if record.answers else contextlib.nullcontext([]) as notes:
        (path,), _ = fetch_record(folder, agree, no_progress)
    assert [each.name for each in folder.iterdir()] == [path.name]
    return path.read_bytes(), [str(note.message) for note in notes or ()]


def test_what_is_needed_of_the_record_is_fetched_once(record, tmp_path):
    asked = []
    paths, left = fetch_record(tmp_path / "f", lambda *what: asked.append(what) or True, no_progress)
    assert [path.read_bytes() for path in paths] == [CONTENT] and left == ["VOCdevkit.zip", "licence.txt"]
    assert asked == [(len(CONTENT), "ADPdevkit.zip")]
    assert all(agent.startswith("hsn_v1/") for _, _, agent in record.asked)
    fetch_record(tmp_path / "f", None, no_progress)
    assert [path for path, *_ in record.asked].count("/files/ADPdevkit.zip") == 1


def test_nothing_is_fetched_without_consent_or_room(record, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="300,000 bytes were not fetched, as nobody agreed; give `yes`"):
        fetch_record(tmp_path, lambda size, names: False, no_progress)
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=599_999))
    with pytest.raises(InputError, match="599,999 bytes are free, 600,000 are needed"):
        fetch_record(tmp_path, None, no_progress)
    assert {path for path, *_ in record.asked} == {f"/api/records/{fetch.RECORD}"}


@pytest.mark.parametrize("ranges", [True, False])
def test_a_line_that_is_cut_goes_on_where_it_ended(record, tmp_path, ranges):
    record.answers, record.ranges = [100_000, 150_000], ranges
    content, notes = fetched(record, tmp_path)
    assert content == CONTENT
    assert len(notes) == 2 and "connection was cut; trying again in 1 s" in notes[0]
    offsets = [wanted for path, wanted, _ in record.asked if path.startswith("/files")]
    assert offsets == [None, "bytes=100000-", "bytes=250000-" if ranges else "bytes=150000-"]


def test_a_busy_host_is_waited_for_as_it_asks(record, tmp_path):
    record.answers = [(429, {"Retry_After": 7}), (503, {}), (503, {"Retry_After": "Fri, 01 Jan 2010 00:00:00 GMT"})]
    content, notes = fetched(record, tmp_path)
    assert content == CONTENT and record.waited == [7, 2, 0] and "429 Too Many Requests" in notes[0]
    record.answers = [(429, {"Retry_After": 7200})]
    (tmp_path / "ADPdevkit.zip").unlink()
    with pytest.raises(InputError, match=r"429 .*; run the same command again in 120 minutes: it goes on"):
        fetch_record(tmp_path, lambda *_: True, no_progress)


@pytest.mark.filterwarnings("ignore::hsn_v1.errors.Notice")
def test_a_host_that_is_down_is_given_up(record, tmp_path):
    record.answers = [(500, {})] * 9
    with pytest.raises(InputError, match=r"500 .*run the same command again later"):
        fetch_record(tmp_path, lambda *_: True, no_progress)
    assert record.waited == [1, 2, 4, 8]
    record.answers = [1000] * 3 + [(404, {})]
    with pytest.raises(InputError, match="404 Not Found"):
        fetch_record(tmp_path, lambda *_: True, no_progress)
    assert (tmp_path / "ADPdevkit.zip.part").read_bytes() == CONTENT[:3000]


def test_a_part_that_is_too_long_or_damaged_is_not_kept(record, tmp_path):
    part = tmp_path / "ADPdevkit.zip.part"
    part.write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match="not what the record has the MD5 of, and was removed; try again"):
        fetch_record(tmp_path, lambda *_: True, no_progress)
    assert not part.exists()
    tmp_path.mkdir(exist_ok=True)
    part.write_bytes(CONTENT + b"x")
    with pytest.raises(InputError, match="MD5"):
        fetch_record(tmp_path, lambda *_: True, no_progress)
    assert fetched(record, tmp_path)[0] == CONTENT


def test_what_the_record_must_not_say(record, tmp_path):
    for checksum, message in (("md5:0", "MD5 of"), ("sha1:0", "expected an MD5")):
        record.md5["ADPdevkit.zip"] = checksum
        with pytest.raises(InputError, match=message):
            fetch_record(tmp_path, lambda *_: True, no_progress)
    record.files = {"../ADP.zip": b""}
    with pytest.raises(InputError, match=r"'\.\./ADP\.zip' is no name of a file"):
        fetch_record(tmp_path, lambda *_: True, no_progress)
    record.files = {"ADP.7z": b""}
    with pytest.raises(InputError, match=r"has no \.zip but ADP\.7z; fetch and unpack it by hand"):
        fetch_record(tmp_path, lambda *_: True, no_progress)
    entry = {"key": "ADP.zip", "checksum": "md5:0"}
    for content in ({"message": "PID deleted"}, [], {"files": [entry]}, {"files": [{**entry, "size": "large"}]}):
        record.record = lambda content=content: content
        with pytest.raises(InputError, match="not a record of files"):
            fetch_record(tmp_path, lambda *_: True, no_progress)
    assert not list(tmp_path.glob("*"))


def test_no_other_host_is_asked(record, tmp_path):
    with played(record.files) as other:
        for status in (301, 302, 303, 307, 308):
            record.answers = [(status, {"Location": f"{other.url}/files/ADPdevkit.zip"})]
            with pytest.raises(InputError, match=f"leads to another host, {other.url}, which is not asked"):
                fetch_record(tmp_path, lambda *_: True, no_progress)
        record.record = other.record
        with pytest.raises(InputError, match="leads to another host"):
            fetch_record(tmp_path, lambda *_: True, no_progress)
    assert other.asked == []
    del record.record
    record.answers = [(302, {"Location": "/files/ADPdevkit.zip"})]
    (path,), _ = fetch_record(tmp_path, lambda *_: True, no_progress)
    assert path.read_bytes() == CONTENT


@pytest.mark.slow
def test_a_kill_loses_nothing(record, tmp_path):
    """The part grows while the process is killed; the next one asks for the rest."""
    record.answers, slow = [], threading.Event()

    def reply(self, status, content=b"", length=None, **headers):
        sent = Answer.reply
        if self.path.startswith("/files") and not self.headers.get("Range"):
            sent(self, status, content[:200_000], length, **headers)
            slow.wait(30)
        else:
            sent(self, status, content, length, **headers)

    record.RequestHandlerClass = type("Slow", (Answer,), {"reply": reply})
    code = f"""
from pathlib import Path
from hsn_v1.sets import fetch
fetch.ZENODO = {record.url!r}
fetch.fetch_record(Path({str(tmp_path)!r}), lambda *_: True, lambda *_: None)
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    part = tmp_path / "ADPdevkit.zip.part"
    end = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == 200_000) and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    slow.set()
    assert fetched(record, tmp_path)[0] == CONTENT
    assert record.asked[-1][1] == "bytes=200000-"


# --- The drive -------------------------------------------------------------------------------------------------------


def test_the_drive_s_file_and_its_pages(host, tmp_path, gdown):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("data/a", b"x")
    host.files = {"uc": (tmp_path / "a.zip").read_bytes()}
    folder = tmp_path / "f"
    for page, message in (
        (QUOTA, "the drive's page on a quota that is used up came instead of it; try again tomorrow"),
        (VIRUS, "the drive's virus warning came instead"),
        ("<html>sign in</html>", "a page came instead"),
        ("PK", "a file that is cut off, or no archive, came instead"),
    ):
        host.answers = [page]
        with pytest.raises(InputError, match=message):
            fetch_drive(folder, quiet=True)
        assert not list(folder.glob("*"))
    host.answers = []
    assert fetch_drive(folder, quiet=True).read_bytes() == host.files["uc"]
    asked = len(host.asked)
    fetch_drive(folder, quiet=True)
    assert len(host.asked) == asked


def test_what_gdown_says_of_a_page_is_told_in_one_line(tmp_path, gdown, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("Failed to retrieve file url:\n\n\tToo many users have viewed or downloaded this file")

    monkeypatch.setattr(gdown, "download", refuse)
    with pytest.raises(InputError, match=r"page on a quota that is used up came \(Failed to retrieve"):
        fetch_drive(tmp_path)


def test_without_gdown_the_link_and_the_command_are_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(
        InputError, match=r"pip install 'hsn_v1\[fetch\]' .*get https://drive.google.com/uc\?id=1jG1ojQK"
    ):
        fetch_drive(tmp_path)


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_fetches_unpacks_and_checks_both_papers_data(host, tmp_path, gdown, command, monkeypatch):
    names = {
        "database/models_cnn/ADP_X1.7/ADP_X1.7.json": b"{}",
        "database/models_cnn/VOC2012_VGG16/VOC2012_VGG16.json": b"{}",
        "database/ADPdevkit/ADPRelease1/ImageSets/Segmentation/tuning.txt": b"a#1\n",
        "database/ADPdevkit/ADPRelease1/JPEGImages/a.jpg": b"x",
    }
    for name, members in (("database.zip", names), ("uc", {"hsn_data/data/a": b"x"})):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        host.files[name] = (tmp_path / "a.zip").read_bytes()
    root = tmp_path / "root"
    status, out, err = command("data", "--fetch", "--root", root, "--quiet")
    assert (status, err) == (1, "")
    placed = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    assert sorted(placed) == [
        "data/a",
        "database/ADPdevkit/ADPRelease1/ImageSets/Segmentation/tuning.txt",
        "database/models_cnn/ADP_X1.7/ADP_X1.7.json",
        "download/database.zip",
        "download/hsn_data.zip",
    ]
    assert "skipped, as not needed: ADPdevkit/ADPRelease1, models_cnn/VOC2012_VGG16\n" in out

    monkeypatch.setitem(sys.modules, "gdown", None)
    host.answers = [(404, {})]
    for archive in (root / "download").iterdir():
        archive.unlink()
    status, _, err = command("data", "--fetch", "--root", root, "--quiet")
    assert status == 2
    assert [line.partition(":")[0] for line in err.splitlines()] == ["failed", "error"]
