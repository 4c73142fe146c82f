"""A folder belongs to one run at a time."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from hsn_v1.io.locks import FILE, LockedError, is_locked, locked, locked_name

HOLD = "import sys, time; from pathlib import Path; from hsn_v1.io.locks import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_lock_is_held_and_released(tmp_path):
    with locked(tmp_path / "new") as lock:
        lock.check()
        assert files(tmp_path / "new") == [FILE]
        us = rf"new: another run \(process {os.getpid()} on .*\) is working there"
        with pytest.raises(LockedError, match=us), locked(tmp_path / "new"):
            pass
        lock.check()
    assert not (tmp_path / "new").exists()


def test_a_holder_that_was_killed_loses_its_lock(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=f"process {holder.pid} on"), locked(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with locked(tmp_path) as lock:
        lock.check()


def write_lock(folder, age, **changes):
    content = {"owner": "them", "host": "another machine", "pid": 1, "began": 0.0, **changes}
    (folder / FILE).write_text(json.dumps(content))
    then = time.time() - age
    os.utime(folder / FILE, (then, then))


def test_a_holder_elsewhere_loses_its_lock_after_an_unresponsive_minute(tmp_path):
    write_lock(tmp_path, age=50)
    with pytest.raises(LockedError, match="process 1 on another machine"), locked(tmp_path):
        pass
    write_lock(tmp_path, age=70)
    with locked(tmp_path) as lock:
        lock.check()
    assert not tmp_path.exists()
    tmp_path.mkdir()
    (tmp_path / FILE).write_bytes(b"\xff{")  # which cannot be read, and is nobody's
    with locked(tmp_path) as lock:
        lock.check()


def test_onlookers_tell_whether_a_folder_is_held_and_write_nothing(tmp_path):
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        before = sorted(tmp_path.iterdir())
        assert is_locked(tmp_path) and sorted(tmp_path.iterdir()) == before
    tmp_path.mkdir(exist_ok=True)
    for age, held in ((120, True), (3600, False)):  # another machine's clock may be minutes off
        write_lock(tmp_path, age)
        assert is_locked(tmp_path) == held
    write_lock(tmp_path, 0, host=socket.gethostname(), pid=1, began=-1.0)
    assert not is_locked(tmp_path)


def test_signs_of_life_keep_a_lock(tmp_path, monkeypatch):
    monkeypatch.setattr("hsn_v1.io.locks.BEAT", 0.02)
    with locked(tmp_path):
        os.utime(tmp_path / FILE, (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / FILE).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / FILE).stat().st_mtime > 0


def test_a_holder_that_hung_notices_and_leaves_the_new_one_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("hsn_v1.io.locks.BEAT", 0.02)
    with locked(tmp_path) as lock:
        write_lock(tmp_path, age=0)
        assert lock.lost.wait(10)
        with pytest.raises(LockedError, match="was taken by another run"):
            lock.check()
    assert json.loads((tmp_path / FILE).read_text())["owner"] == "them"


@pytest.mark.slow
def test_of_many_that_find_a_dead_lock_one_takes_it(tmp_path):
    for _ in range(20):
        tmp_path.mkdir(exist_ok=True)
        write_lock(tmp_path, age=3600)
        ready, refused, over, taken = threading.Barrier(8), threading.Semaphore(0), threading.Event(), []

        def take(ready=ready, refused=refused, over=over, taken=taken):
            ready.wait()
            try:
                with locked(tmp_path) as lock:
                    taken.append(lock)
                    over.wait(10)
                    lock.check()
            except LockedError:
                refused.release()

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(7):
            assert refused.acquire(timeout=10)
        over.set()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
        assert not tmp_path.exists()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK])
def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    write_lock(tmp_path, age=70)
    with locked(tmp_path) as lock:
        lock.check()
        assert files(tmp_path) == [FILE]
        with pytest.raises(LockedError, match="is working there"), locked(tmp_path):
            pass
        lock.check()
    assert not tmp_path.exists()


def test_folders_that_were_made_for_a_lock_go_with_it_unless_they_are_used(tmp_path):
    with locked_name(tmp_path / "root/data", "m"), locked(tmp_path / "root/out/m"):
        (tmp_path / "root/out/kept").touch()
    assert files(tmp_path / "root") == ["out"]


def test_a_name_in_a_folder_is_held_and_others_are_free(tmp_path):
    with locked_name(tmp_path, "m"):
        held = rf"^{tmp_path / 'm'}: another run .* is working there; wait for its end, or choose another `name`$"
        with pytest.raises(LockedError, match=held), locked_name(tmp_path, "m"):
            pass
        with locked_name(tmp_path, "n"), locked(tmp_path):
            pass
    assert not tmp_path.exists() or files(tmp_path) == []


def test_what_runs_left_that_were_killed_while_they_locked_is_removed(tmp_path):
    for name, age in ((".claim.old", 3600), (".claim.new", 0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with locked(tmp_path):
        pass
    assert files(tmp_path) == [".claim.new"]
