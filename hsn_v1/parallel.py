"""Cores and worker processes: the classifier runs in this process, workers do the rest, on no more threads than cores.

The caller says how workers warm up, so that none of them loads a library it does not need.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

import loky

from .errors import InputError
from .keras_start import check_machine, environment

Image = TypeVar("Image")
Result = TypeVar("Result")

#: One thread per worker, as there is one worker per core. Loky must not take a worker's cached objects for a leak and
#: restart it. Glibc keeps up to half a GB of freed memory for the next window of a slide: getting memory from the
#: system takes longer than filling it.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "LOKY_MAX_MEMORY_LEAK_SIZE": str(1 << 50),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 29),
}

#: For small images, glibc keeps all freed memory.
SMALL_IMAGES = ENVIRONMENT | {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


def available_cores() -> int:
    """Return the number of cores that this process may use, within its container's or batch system's share."""
    return loky.cpu_count()


def classifier_threads(cores: int) -> int:
    """Return the number of cores for the classifier: half, rounded up, as it does about half of the work."""
    return -(-cores // 2)


def side_by_side(
    classified: Iterator[Image], submit: Callable[[Image], Future], workers: int, beside: int, ahead: int
) -> Iterator[tuple[Image, Future]]:
    """Classify images here while workers finish classified ones; yield each image and its future when it is done.

    The classifier has priority while few images wait for a worker. It runs in its own thread, which owns everything
    that `classified` touches until the image is yielded.

    Parameters
    ----------
    classified : iterator of images
        Classifies one image at each `next`.
    submit : callable
        Gives an image to a worker.
    workers, beside : int
        Most images with workers at once: in general, and while the classifier is busy.
    ahead : int
        Most images that wait for a worker, which bounds the memory.
    """
    waiting: deque[Image] = deque()
    running: dict[Future, Image] = {}
    coming: Future | None = None
    last, more = object(), True
    with ThreadPoolExecutor(1, "classifier") as here:
        while more or waiting or running:
            due = more and len(waiting) < ahead
            if due and not coming and len(running) <= beside:
                coming = here.submit(next, classified, last)
            while waiting and len(running) < (beside if due or coming else workers):
                image = waiting.popleft()
                running[submit(image)] = image
            for future in wait({*running, coming} - {None}, return_when=FIRST_COMPLETED).done:
                if future is not coming:
                    yield running.pop(future), future
                    continue
                coming, image = None, future.result()
                more = image is not last
                waiting.extend([image] * more)


def pool_of(workers: int, variables: Mapping[str, str] = ENVIRONMENT) -> loky.ProcessPoolExecutor:
    """Return the pool of worker processes; it is reused while their number, environment and working folder stay.

    Workers end within seconds of this process, however it ends, and leave Ctrl-C to it.
    """
    global _pool
    check_machine()
    with quiet_tracker():
        _pool = loky.get_reusable_executor(
            workers, timeout=300, env={**variables, "PWD": os.getcwd()}, initializer=follow, initargs=(os.getpid(),)
        )
        with interrupts_held():
            _pool.submit(int)  # starts all workers
    return _pool


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C while processes start: from them until they `follow`, from this one until all have started."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_workers(workers: int, warm_up: Callable[[bool], None], variables: Mapping[str, str] = ENVIRONMENT) -> None:
    """Start worker processes in the background.

    Each calls `warm_up` with a flag: whether to load the CRF's compiled code. It is off while another worker compiles.
    """
    from .densecrf import is_compiled

    pool, compiled = pool_of(workers, variables), is_compiled()
    for worker in range(workers):
        pool.submit(warm_up, compiled or worker == 0)


@contextlib.contextmanager
def quiet_tracker() -> Iterator[None]:
    """Silence the resource tracker of processes started here: it outlives a killed parent, and warns of semaphores."""
    before = os.environ.get("PYTHONWARNINGS")
    with environment({"PYTHONWARNINGS": ",".join(filter(None, [before, "ignore:resource_tracker"]))}):
        yield


_pool: loky.ProcessPoolExecutor | None = None


def stop_workers() -> None:
    """Kill the worker processes, busy or not, if there are any."""
    log = logging.getLogger("concurrent.futures")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)  # it would print the cancelled work
    try:
        if _pool:
            _pool.shutdown(wait=True, kill_workers=True)
    finally:
        log.setLevel(before)


@contextlib.contextmanager
def worker_pool(
    workers: int, out: Path, variables: Mapping[str, str] = ENVIRONMENT
) -> Iterator[loky.ProcessPoolExecutor]:
    """Yield a pool whose workers write to `out`; kill them on an error. A failed write or dead worker is InputError."""
    pool = pool_of(workers, variables)
    try:
        yield pool
    except BaseException as error:
        stop_workers()
        if isinstance(error, OSError):
            what = f"{error.filename or out}: {error.strerror or error}"
            raise InputError(f"{what}; results cannot be written: make room there, or choose another `out`") from error
        if isinstance(error, BrokenProcessPool):
            raise InputError(
                f"a worker process died, probably for lack of memory; run with fewer `workers` than {workers}"
            ) from error
        raise


def in_parallel(work: Callable[..., Result], jobs: Sequence[tuple], what: str, quiet: bool = False) -> Iterator[Result]:
    """Call a function with each job's arguments in worker processes; yield results in order, with a progress bar."""
    from .progress import track

    chunk = max(1, min(16, len(jobs) // 8))
    try:
        results = pool_of(available_cores()).map(work, *zip(*jobs, strict=True), chunksize=chunk)
        yield from track(results, what, len(jobs), quiet)
    except BrokenProcessPool as error:
        raise InputError("a worker process died, probably for lack of memory; free some, and begin again") from error


def follow(parent: int) -> None:
    """End this process once its parent is gone; leave Ctrl-C, which the whole process group gets, to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    is_there = presence_of(parent)

    def watch() -> None:
        while is_there():
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="follow the parent", daemon=True).start()


def presence_of(parent: int) -> Callable[[], bool]:
    """Return a function that tells whether the parent process is still alive."""
    if os.name != "nt":
        return lambda: os.getppid() == parent  # an orphan gets another parent
    import psutil

    # Windows keeps reporting the number of a dead parent, which a new process may take over; psutil also compares
    # their times of creation.
    try:
        return psutil.Process(parent).is_running
    except psutil.NoSuchProcess:
        return lambda: False
