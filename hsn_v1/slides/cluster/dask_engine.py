"""Slides side by side on the workers of a Dask cluster, each of which segments a slide at a time.

Dask gives each slide to a worker, and to another one if that worker dies. What a worker finishes lies on the file
system that all share; nothing but names and outcomes travels over the network. Whoever is left alone, a worker by its
scheduler or its client, a client by its scheduler, notices and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from ... import __version__
from ..inputs import Input
from ..results_folder import Outcome
from ..segment_many import RunOptions, attempt, once_free, outcome_of, this_process
from ..segment_slide import segment_opened
from .connect import UNSEEN, Note, check_workers, cluster_client, lost

if TYPE_CHECKING:
    from distributed import Client, Worker

DAY = 86400.0
DEATHS = 3  #: workers that one slide may kill before it is given up
BEGUN, UNFIT = "begun", "unfit"  #: topics of a run's events; see `Begun` and `Unfit`

#: glibc's numbers of two options of ``mallopt``.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3

GIVEN_UP = f"its worker died {DEATHS} times, probably for lack of memory: give workers more, or leave it out"

#: ``segment(item, check)`` segments an input on a worker; it calls ``check()`` at least every few seconds, which raises
#: `Unwanted` if it has to stop. It must not raise for what is wrong with the input.
Segment = Callable[[Input, Callable[[], None]], Outcome]


class Unwanted(BaseException):
    """Nobody waits any more for what a worker is doing: not an Exception, so that nothing takes it for a failure."""


@dataclass(frozen=True)
class Begun:
    """A process begins with an input."""

    number: int  #: of the input in the run
    where: str  #: the process, in words


@dataclass(frozen=True)
class Unfit:
    """A worker was sent away."""

    worker: str  #: its address
    reason: str


def segment_on_dask(
    inputs: Sequence[Input],
    options: RunOptions,
    where: str,
    workers: int,
    note: Note,
    on_change: Callable[[Outcome], None] = lambda outcome: None,
) -> Iterator[Outcome]:
    """Segment inputs on a Dask cluster (see `connect.cluster_client`); yield outcomes as they are done.

    Of the options, `workers` are the threads that a slide may use on a worker. `on_change` is called with each outcome
    as an input begins to run and as it ends, from several threads.
    """
    with cluster_client(where, workers, note) as client:
        check_workers(client, options.out)
        yield from outcomes_of(client, partial(segment_on_worker, options), inputs, options.out, note, on_change)


def segment_on_worker(options: RunOptions, item: Input, check: Callable[[], None] = lambda: None) -> Outcome:
    """Segment an input in this process; a `Segment`."""
    keep_freed_memory()
    cv2.setNumThreads(1)  # the declared threads are those of the classifier and of the CRF

    def segment() -> Outcome:
        task = options.task(item, lambda stage, done, total: check())
        with task.open() as slide:
            return segment_opened(slide, task)

    return attempt(item, options.out, lambda: once_free(segment, check))


@cache
def keep_freed_memory(kept: int = 1 << 28, largest: int = 1 << 25) -> None:
    """Have glibc keep what this process frees for its next arrays; does nothing on other systems.

    Dask starts its workers so that they give back all at once, and a slide's arrays then cost more to get than to fill.
    `kept` bytes stay free; the memory of arrays of `largest` bytes (up to 32 MiB) or more is given back at once.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(TRIM_THRESHOLD, kept)
        set_option(MMAP_THRESHOLD, largest)


def outcomes_of(
    client: Client,
    segment: Segment,
    inputs: Sequence[Input],
    out: Path,
    note: Note,
    on_change: Callable[[Outcome], None] = lambda outcome: None,
) -> Iterator[Outcome]:
    """Segment inputs on a cluster's workers, as many at a time as they have threads; yield outcomes in any order.

    In a folder of marks in `out`, which all workers share, it is counted how many workers an input has killed. Raises
    InputError if the scheduler is gone.
    """
    from distributed import CancelledError, KilledWorker, as_completed

    marks, address = _new_marks(out), client.scheduler.address

    def submit(number: int):
        work = partial(_begin, segment, inputs[number], marks / str(number))
        return client.submit(where_fit(marks, work), key=f"slide-{number}-{uuid.uuid4().hex}", pure=False)

    try:
        _listen(client, marks, inputs, note, on_change)
        futures = {submit(number): number for number in range(len(inputs))}
        done = as_completed(list(futures))
        for future in done:
            number, reason, outcome = futures.pop(future), GIVEN_UP, None
            try:
                outcome = future.result()
            except KilledWorker:  # Dask also blames what only waited on a worker that died
                if deaths(marks / str(number)) < DEATHS:
                    reason = ""
            except CancelledError as error:
                raise lost(address) from error
            except Exception as error:
                reason = " ".join(f"{type(error).__name__}: {error}".split())
            future.release()
            if outcome or reason:
                outcome = outcome or outcome_of(inputs[number], out, "failed", reason)
                on_change(outcome)
                yield outcome
            else:
                again = submit(number)
                futures[again] = number
                done.add(again)
    finally:
        shutil.rmtree(marks, ignore_errors=True)


def _new_marks(out: Path) -> Path:
    marks = out.resolve() / f".deaths.{uuid.uuid4().hex[:8]}"
    marks.mkdir(parents=True)
    for old in marks.parent.glob(".deaths.*"):  # of clients that were killed
        if old.stat().st_mtime < marks.stat().st_mtime - DAY:
            shutil.rmtree(old, ignore_errors=True)
    return marks


def _listen(
    client: Client, marks: Path, inputs: Sequence[Input], note: Note, on_change: Callable[[Outcome], None]
) -> None:
    """Tell which of the run's inputs begin, and note which workers were sent away, once for each reason."""
    told = set()

    def begun(event: tuple[float, dict[str, Any]]) -> None:
        message = Begun(**event[1]["message"])
        on_change(outcome_of(inputs[message.number], marks.parent, "running", where=message.where))

    def unfit(event: tuple[float, dict[str, Any]]) -> None:
        message = Unfit(**event[1]["message"])
        if message.reason not in told:
            told.add(message.reason)
            note(f"worker {message.worker} was ended: {message.reason}")

    client.subscribe_topic(_topic(BEGUN, marks), begun)
    client.subscribe_topic(_topic(UNFIT, marks), unfit)


def _topic(kind: str, marks: Path) -> str:
    """Return the name of a run's events: other clients of the scheduler have their own."""
    return f"hsn_v1{marks.name}-{kind}"


def deaths(mark: Path) -> int:
    """Return how many workers an input has killed."""
    return len(list(mark.parent.glob(f"{mark.name}.*")))


# --- On a worker ------------------------------------------------------------------------------------------------------


def _begin(segment: Segment, item: Input, mark: Path) -> Outcome | None:
    """Segment an input on a worker; return None if it has killed too many."""
    from distributed import Reschedule, get_worker

    if deaths(mark) >= DEATHS:
        return None
    worker, attempt_mark = get_worker(), mark.with_name(f"{mark.name}.{uuid.uuid4().hex}")
    attempt_mark.touch()
    worker.log_event(_topic(BEGUN, mark.parent), {"message": asdict(Begun(int(mark.name), this_process()))})
    try:
        return segment(item, partial(_check, worker, worker.get_current_task()))
    except Unwanted:
        raise Reschedule from None
    finally:
        attempt_mark.unlink(missing_ok=True)  # what is left of those that end otherwise is of workers that died


def _check(worker: Worker, key: str) -> None:
    """Raise Unwanted in a worker that is about to end, or whose client is gone, which releases its tasks."""
    task = worker.state.tasks.get(key)
    if worker.status.name not in ("running", "paused") or task is None or task.state != "executing":
        raise Unwanted


def where_fit(marks: Path, work: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function for any worker, also one without this package: a worker that is not fit tells so, and ends.

    Workers may join at any time, and what they cannot do would fail there, slide after slide. The folder of marks is
    there as long as somebody waits, for workers that see it.
    """
    from distributed.protocol import pickle

    # All that `begin` refers to is bytes and text, so that a worker can read it, whatever it lacks.
    seen, expected, unseen, content = str(marks), __version__, UNSEEN, pickle.dumps(work)
    topic = _topic(UNFIT, marks)

    def begin() -> Any:
        import os
        import time

        from distributed import Reschedule, get_worker
        from distributed.protocol import pickle

        worker = get_worker()
        try:
            from hsn_v1 import __version__ as version
        except ImportError as error:
            reason = f"cannot run hsn_v1 {expected} ({error}): install it there"
        else:
            same = version == expected
            reason = "" if same else f"has hsn_v1 {version}, not {expected}: install the same everywhere"
        if not reason and not os.path.isdir(seen):
            time.sleep(2)  # if the client just ended, it took the folder with it, and soon the task
            here = worker.state.tasks.get(worker.get_current_task())
            if here is None or here.state != "executing":
                raise Reschedule
            reason = f"{os.path.dirname(seen)}: {unseen}"
        if not reason:
            return pickle.loads(content)()
        worker.log_event(topic, {"message": {"worker": worker.address, "reason": reason}})  # an `Unfit`
        worker.loop.add_callback(worker.close_gracefully, reason="hsn_v1: not fit")
        for _ in range(100):
            if worker.status.name != "running":
                break
            time.sleep(0.1)
        raise Reschedule

    return begin
