import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import psutil
import pytest

from hsn_v1 import parallel
from hsn_v1.errors import InputError
from hsn_v1.parallel import classifier_threads, in_parallel, pool_of, presence_of, side_by_side
from hsn_v1.sets import settings
from hsn_v1.sets.settings import Settings


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 2), (16, 8)])
def test_half_of_the_cores_classify(cores, threads):
    assert classifier_threads(cores) == threads


def test_never_more_threads_than_cores(monkeypatch):
    for cores, images in product(range(1, 20), (1, 3, 100)):
        monkeypatch.setattr(settings, "available_cores", lambda cores=cores: cores)
        for workers in range(1, cores + 1):
            some = Settings(images=("",) * images, truth=None, out=None, label_sets=(), workers=workers)
            assert min(workers, images) * some.threads <= cores
            assert classifier_threads(cores) + some.beside * some.threads <= cores


class Watch:
    """Counts who is at work."""

    def __init__(self, images):
        self.images, self.lock = images, threading.Lock()
        self.classifying, self.finishing, self.seen = 0, 0, []

    def at_work(self, what):
        with self.lock:
            setattr(self, what, getattr(self, what) + 1)
            self.seen.append((self.classifying, self.finishing))
        time.sleep(0.001)
        with self.lock:
            setattr(self, what, getattr(self, what) - 1)

    def classify(self):
        for image in range(self.images):
            self.at_work("classifying")
            yield image

    def finish(self, image):
        self.at_work("finishing")
        return -image


@pytest.mark.parametrize(("workers", "beside", "ahead"), [(1, 0, 1), (2, 1, 4), (4, 2, 1), (5, 5, 3)])
def test_workers_make_way_for_the_classifier(workers, beside, ahead):
    watch = Watch(30)
    with ThreadPoolExecutor(workers) as pool:
        done = side_by_side(watch.classify(), lambda image: pool.submit(watch.finish, image), workers, beside, ahead)
        results = {image: future.result() for image, future in done}
    assert results == {image: -image for image in range(30)}
    assert max(finishing for _, finishing in watch.seen) <= workers
    assert max(finishing for classifying, finishing in watch.seen if classifying) <= beside


def test_few_images_wait():
    watch, classified = Watch(20), []
    with ThreadPoolExecutor(1) as pool:
        stream = (classified.append(image) or image for image in watch.classify())
        for number, _ in enumerate(side_by_side(stream, lambda image: pool.submit(watch.finish, image), 1, 1, 3)):
            assert len(classified) <= number + 1 + 1 + 3 + 1  # done, in the making, waiting, and one more coming


def test_what_goes_wrong_in_the_classifier_is_raised():
    def broken():
        yield 1
        raise ValueError("broken")

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="broken"):
        list(side_by_side(broken(), lambda image: pool.submit(abs, image), 1, 1, 2))


def test_no_images_at_all():
    assert list(side_by_side(iter(()), None, 1, 1, 1)) == []


def die(number):
    if number == 2:
        os._exit(9)
    return number


@pytest.mark.slow
def test_workers_are_in_the_folder_that_this_process_is_in(tmp_path, monkeypatch):
    pool_of(1).submit(int).result()
    monkeypatch.chdir(tmp_path)
    assert pool_of(1).submit(os.getcwd).result() == str(tmp_path)


@pytest.mark.slow
def test_a_worker_that_dies_is_one_line_and_the_next_work_is_done():
    with pytest.raises(InputError, match="a worker process died, probably for lack of memory; free some, and begin"):
        list(in_parallel(die, [(i,) for i in range(4)], "dying", quiet=True))
    assert list(in_parallel(abs, [(-1,), (2,)], "working", quiet=True)) == [1, 2]


def test_on_windows_a_parent_is_gone_when_another_process_has_its_number(monkeypatch):
    """There, getppid tells the number of a parent that is gone, too."""
    monkeypatch.setattr(parallel.os, "name", "nt")
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    is_there = presence_of(parent.pid)
    assert is_there()
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 0)  # another one's
    parent.communicate()
    assert not is_there()
    assert not presence_of(parent.pid)()
