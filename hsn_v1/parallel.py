"""Cores and worker processes: the classifier runs in this process, workers do the rest, on no more threads than cores.

What workers do on start-up is up to the caller, so that none of them loads what it does not need.
"""

from __future__ import annotations

import contextlib
import gc
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

#: There is a process for each core, so that threads in it only wait for each other. And loky must not take what a
#: worker keeps for a leak, and start it anew. And glibc keeps what is freed of it for the next window of a slide, up to
#: half a GB: to get memory from the system takes longer than to fill it.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "LOKY_MAX_MEMORY_LEAK_SIZE": str(1 << 50),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 29),
}

#: For small images, it keeps all.
SMALL_IMAGES = ENVIRONMENT | {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


def available_cores() -> int:
    """Return the number of cores that this process may use: a container's share, or a batch system's, counts."""
    return loky.cpu_count()


def classifier_threads(cores: int) -> int:
    """Return how many of the cores classify: half of them, rounded up, as that is about half of the work."""
    return -(-cores // 2)


def side_by_side(
    classified: Iterator[Image], submit: Callable[[Image], Future], workers: int, beside: int, ahead: int
) -> Iterator[tuple[Image, Future]]:
    """Classify images here, while workers finish those that are classified; yield these as they are done.

    The classifier comes first as long as few images wait for a worker. It runs in a thread of its own: what
    `classified` touches belongs to that thread until the image is yielded.

    Parameters
    ----------
    classified : iterator of images
        Classifies when the next image is asked for.
    submit : callable
        Gives an image to a worker.
    workers, beside : int
        Images that workers may have at once, and while the classifier is at work.
    ahead : int
        Images that may wait for a worker: bounds the memory.
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
    """Return the pool of worker processes, the same as long as their number, environment and working folder are.

    Workers end within seconds if this process does, however it ends, and leave Ctrl-C to it.
    """
    global _pool
    check_machine()
    with quiet_tracker():
        _pool = loky.get_reusable_executor(
            workers, timeout=300, env={**variables, "PWD": os.getcwd()}, initializer=follow, initargs=(os.getpid(),)
        )
        with interrupts_held():
            _pool.submit(int)  # which starts all of them
    return _pool


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach before they `follow`; it reaches this one when they are started."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_workers(workers: int, warm_up: Callable[[bool], None], variables: Mapping[str, str] = ENVIRONMENT) -> None:
    """Start worker processes, beside whatever this process does next.

    Each calls `warm_up` with whether to load the CRF's compiled code: not while another worker compiles it.
    """
    from .densecrf import is_compiled

    pool, compiled = pool_of(workers, variables), is_compiled()
    for worker in range(workers):
        pool.submit(warm_up, compiled or worker == 0)


@contextlib.contextmanager
def quiet_tracker() -> Iterator[None]:
    """Start processes whose tracker, which outlives this one if that is killed, tells the screen of no semaphores."""
    before = os.environ.get("PYTHONWARNINGS")
    with environment({"PYTHONWARNINGS": ",".join(filter(None, [before, "ignore:resource_tracker"]))}):
        yield


_pool: loky.ProcessPoolExecutor | None = None


def stop_workers() -> None:
    """Kill the worker processes, if there are any, whatever they are doing."""
    log = logging.getLogger("concurrent.futures")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)  # it tells the screen of work that was cancelled meanwhile
    try:
        if _pool:
            _pool.shutdown(wait=True, kill_workers=True)
    finally:
        log.setLevel(before)


@contextlib.contextmanager
def worker_pool(
    workers: int, out: Path, variables: Mapping[str, str] = ENVIRONMENT
) -> Iterator[loky.ProcessPoolExecutor]:
    """Yield worker processes that write to a folder; if that breaks, say so in one line and leave no worker busy."""
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


@contextlib.contextmanager
def outside_garbage_collection() -> Iterator[None]:
    """Load what stays, such as libraries: the garbage collector will not search it again and again, and at exit."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def in_parallel(work: Callable[..., Result], jobs: Sequence[tuple], what: str, quiet: bool = False) -> Iterator[Result]:
    """Yield what a function gives for each job's arguments, in order, worked out in processes, with a progress bar."""
    from .progress import track

    chunk = max(1, min(16, len(jobs) // 8))
    try:
        results = pool_of(available_cores()).map(work, *zip(*jobs, strict=True), chunksize=chunk)
        yield from track(results, what, len(jobs), quiet)
    except BrokenProcessPool as error:
        raise InputError("a worker process died, probably for lack of memory; free some, and begin again") from error


def follow(parent: int) -> None:
    """End this process when its parent is gone; at Ctrl-C, which the whole process group gets, the parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    is_there = presence_of(parent)

    def watch() -> None:
        while is_there():
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="follow the parent", daemon=True).start()


def presence_of(parent: int) -> Callable[[], bool]:
    """Return what tells whether this process' parent is still there."""
    if os.name != "nt":
        return lambda: os.getppid() == parent  # else it is the child of another
    import psutil

    # Windows goes on to tell the number of a parent that is gone, which a new process may have: its time of creation
    # is another one.
    try:
        return psutil.Process(parent).is_running
    except psutil.NoSuchProcess:
        return lambda: False
