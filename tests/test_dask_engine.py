"""Slides on the workers of a Dask cluster: nothing is lost with a worker, and what kills every worker is given up."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from hsn_v1.errors import InputError
from hsn_v1.slides.dask_engine import check_workers, cluster_client, run_on_dask

pytestmark = pytest.mark.slow

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    with cluster_client("local:2", workers=1) as client:
        yield client


def work(folder, number, check):
    """Square a number; 3 kills its worker at first, 4 always, 5 raises."""
    check()
    tried = Path(folder, f"{number}.{len(list(Path(folder).glob(f'{number}.*')))}")
    tried.touch()
    if number == 4 or (number == 3 and tried.name == "3.0"):
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        raise ValueError("not\nthis")
    return number**2


def prepare(folder):
    Path(folder, f"setup.{os.getpid()}").touch()


def test_all_is_done_or_named_whatever_dies(client, tmp_path):
    assert check_workers(client, tmp_path) == 2
    begun = []
    setup, note = partial(prepare, tmp_path), lambda number, where: begun.append((number, where))
    found = dict(run_on_dask(client, partial(work, tmp_path), range(8), tmp_path, setup, note))
    squares = {number: number**2 for number in range(8) if number not in (4, 5)}
    assert {number: found[number] for number in squares} == squares
    assert found[4].startswith("its worker died 3 times") and len(list(tmp_path.glob("4.*"))) == 3
    assert found[5] == "ValueError: not this"
    assert {number for number, _ in begun} == set(range(8)) and len({where for _, where in begun}) >= 3
    assert len(list(tmp_path.glob("setup.*"))) >= 3  # new workers are prepared, too


def test_a_worker_that_does_not_see_the_folder_is_named(client, tmp_path, monkeypatch):
    deadline = time.monotonic() + 30
    while len(client.scheduler_info()["workers"]) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    monkeypatch.setattr("hsn_v1.slides.dask_engine._reads", lambda token: False)
    with pytest.raises(InputError, match=r"worker tcp://.* does not see it; inputs and results must lie on a file sys"):
        check_workers(client, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_that_does_not_answer_is_named():
    with pytest.raises(InputError, match=r"tcp://127.0.0.1:9: no scheduler"), cluster_client("tcp://127.0.0.1:9", 1):
        pass
    with pytest.raises(InputError, match=r"none\.json: no such file"), cluster_client("none.json", workers=1):
        pass
