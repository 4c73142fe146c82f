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

from hsn_v1.io.locks import FILE, ClaimedError, claimed, claimed_name, is_claimed

HOLD = "import sys, time; from pathlib import Path; from hsn_v1.io.locks import claimed\n"
HOLD += "with claimed(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_claim_is_held_and_given_up(tmp_path):
    with claimed(tmp_path / "new") as claim:
        claim.check()
        assert files(tmp_path / "new") == [FILE]
        us = rf"new: another run \(process {os.getpid()} on .*\) is working there"
        with pytest.raises(ClaimedError, match=us), claimed(tmp_path / "new"):
            pass
        claim.check()
    assert not (tmp_path / "new").exists()


def test_an_owner_that_was_killed_loses_its_claim(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ClaimedError, match=f"process {holder.pid} on"), claimed(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with claimed(tmp_path) as claim:
        claim.check()


def write_claim(folder, age, **changes):
    content = {"owner": "them", "host": "another machine", "pid": 1, "began": 0.0, **changes}
    (folder / FILE).write_text(json.dumps(content))
    then = time.time() - age
    os.utime(folder / FILE, (then, then))


def test_an_owner_elsewhere_loses_its_claim_after_a_minute_of_silence(tmp_path):
    write_claim(tmp_path, age=50)
    with pytest.raises(ClaimedError, match="process 1 on another machine"), claimed(tmp_path):
        pass
    write_claim(tmp_path, age=70)
    with claimed(tmp_path) as claim:
        claim.check()
    assert not tmp_path.exists()


def test_onlookers_tell_whether_a_folder_is_held_and_write_nothing(tmp_path):
    assert not is_claimed(tmp_path)
    with claimed(tmp_path):
        before = sorted(tmp_path.iterdir())
        assert is_claimed(tmp_path) and sorted(tmp_path.iterdir()) == before
    tmp_path.mkdir(exist_ok=True)
    for age, held in ((120, True), (3600, False)):  # another machine's clock may be minutes off
        write_claim(tmp_path, age)
        assert is_claimed(tmp_path) == held
    write_claim(tmp_path, 0, host=socket.gethostname(), pid=1, began=-1.0)
    assert not is_claimed(tmp_path)


def test_a_claim_that_cannot_be_read_is_nobodys(tmp_path):
    (tmp_path / FILE).write_bytes(b"\xff{")
    with claimed(tmp_path) as claim:
        claim.check()


def test_signs_of_life_keep_a_claim(tmp_path):
    with claimed(tmp_path, beat=0.02):
        os.utime(tmp_path / FILE, (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / FILE).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / FILE).stat().st_mtime > 0


def test_an_owner_that_was_silent_notices_and_leaves_the_new_owner_alone(tmp_path):
    with claimed(tmp_path, beat=0.02) as claim:
        write_claim(tmp_path, age=0)
        assert claim.lost.wait(10)
        with pytest.raises(ClaimedError, match="was taken by another run"):
            claim.check()
    assert json.loads((tmp_path / FILE).read_text())["owner"] == "them"


def test_of_many_that_find_a_dead_claim_one_takes_it(tmp_path):
    for _ in range(20):
        tmp_path.mkdir(exist_ok=True)
        write_claim(tmp_path, age=3600)
        ready, refused, over, taken = threading.Barrier(8), threading.Semaphore(0), threading.Event(), []

        def take(ready=ready, refused=refused, over=over, taken=taken):
            ready.wait()
            try:
                with claimed(tmp_path) as claim:
                    taken.append(claim)
                    over.wait(10)
                    claim.check()
            except ClaimedError:
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


def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_claim(tmp_path, age=70)
    with claimed(tmp_path) as claim:
        claim.check()
        assert files(tmp_path) == [FILE]
        with pytest.raises(ClaimedError, match="is working there"), claimed(tmp_path):
            pass
        claim.check()
    assert not tmp_path.exists()


def test_a_name_in_a_folder_is_held_and_others_are_free(tmp_path):
    with claimed_name(tmp_path, "m"):
        held = rf"^{tmp_path / 'm'}: another run .* is working there; wait for its end, or choose another --name$"
        with pytest.raises(ClaimedError, match=held), claimed_name(tmp_path, "m"):
            pass
        with claimed_name(tmp_path, "n"), claimed(tmp_path):
            pass
    assert not tmp_path.exists() or files(tmp_path) == []


def test_what_runs_left_that_were_killed_while_they_claimed_is_removed(tmp_path):
    for name, age in ((".claim.old", 3600), (".claim.new", 0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with claimed(tmp_path):
        pass
    assert files(tmp_path) == [".claim.new"]
