"""Segment slides side by side on the workers of a Dask cluster, one slide at a time on each worker.

Dask gives each slide to a worker, and to another one if that worker dies. Workers write results to the shared file
system; only names and outcomes travel over the network. A worker ends once its scheduler or its client is gone, and a
client once its scheduler is gone.
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
from ..results_folder import Outcome, outcome_of, this_process
from .connect import UNSEEN, Note, check_workers, cluster_client, lost_scheduler

if TYPE_CHECKING:
    from distributed import Client, Worker

    from ..segment_many import RunOptions

DAY = 86400.0
DEATHS = 3  #: number of workers that a slide may kill before it is given up
BEGUN, UNFIT = "begun", "unfit"  #: topics of a run's events; see `Begun` and `Unfit`

#: Numbers of two options of glibc's ``mallopt``.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3

GIVEN_UP = f"its worker died {DEATHS} times, probably for lack of memory: give workers more, or leave it out"

#: ``segment(item, check)`` segments an input on a worker. It calls ``check()`` at least every few seconds, which raises
#: `Unwanted` if the work has to stop. A problem of the input must not raise; it is a failed outcome.
Segment = Callable[[Input, Callable[[], None]], Outcome]


class Unwanted(BaseException):
    """Raised in a worker whose task nobody waits for any more; no Exception, so that it does not pass for a failure."""


@dataclass(frozen=True)
class Begun:
    """Event: a process begins with an input."""

    number: int  #: index of the input in the run
    where: str  #: the process, in words


@dataclass(frozen=True)
class Unfit:
    """Event: a worker that cannot do the work was ended."""

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

    ``options.workers`` is the number of threads that a slide may use on a worker. `on_change` gets an outcome when an
    input begins to run, and another one when it ends, from several threads.
    """
    with cluster_client(where, workers, note) as client:
        check_workers(client, options.out)
        yield from outcomes_of(client, partial(segment_on_worker, options), inputs, options.out, note, on_change)


def segment_on_worker(options: RunOptions, item: Input, check: Callable[[], None] = lambda: None) -> Outcome:
    """Segment an input in this process; a `Segment`."""
    # Loaded here: a worker joins without them, so sooner.
    from ..segment_many import attempt, once_free
    from ..segment_slide import segment_opened

    keep_freed_memory()
    cv2.setNumThreads(1)  # the declared threads are for the classifier and the CRF

    def segment() -> Outcome:
        task = options.task(item, lambda stage, done, total: check())
        with task.open() as slide:
            return segment_opened(slide, task)

    return attempt(item, options.out, lambda: once_free(segment, check))


@cache
def keep_freed_memory(kept: int = 1 << 28, largest: int = 1 << 25) -> None:
    """Make glibc keep freed memory for the next arrays of this process; does nothing on other systems.

    Dask's workers give all memory back at once, so that a slide's arrays take longer to allocate than to fill. Up to
    `kept` bytes stay allocated. Arrays of `largest` bytes (at most 32 MiB) or more are given back at once.
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

    A folder of marks in `out`, which all workers share, counts the workers that each input has killed. Raises
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
            except KilledWorker:  # Dask also blames slides that only waited on a worker that died
                if deaths(marks / str(number)) < DEATHS:
                    reason = ""
            except CancelledError as error:
                raise lost_scheduler(address) from error
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
    for old in marks.parent.glob(".deaths.*"):  # left by clients that were killed
        if old.stat().st_mtime < marks.stat().st_mtime - DAY:
            shutil.rmtree(old, ignore_errors=True)
    return marks


def _listen(
    client: Client, marks: Path, inputs: Sequence[Input], note: Note, on_change: Callable[[Outcome], None]
) -> None:
    """Call `on_change` when an input begins, and `note` when a worker was ended, once for each reason."""
    reasons = set()

    def begun(event: tuple[float, dict[str, Any]]) -> None:
        message = Begun(**event[1]["message"])
        on_change(outcome_of(inputs[message.number], marks.parent, "running", where=message.where))

    def unfit(event: tuple[float, dict[str, Any]]) -> None:
        message = Unfit(**event[1]["message"])
        if message.reason not in reasons:
            reasons.add(message.reason)
            note(f"worker {message.worker} was ended: {message.reason}")

    client.subscribe_topic(_topic(BEGUN, marks), begun)
    client.subscribe_topic(_topic(UNFIT, marks), unfit)


def _topic(kind: str, marks: Path) -> str:
    """Return the topic of a run's events, which differs from those of the scheduler's other clients."""
    return f"hsn_v1{marks.name}-{kind}"


def deaths(mark: Path) -> int:
    """Return the number of workers that an input has killed."""
    return len(list(mark.parent.glob(f"{mark.name}.*")))


# --- On a worker ------------------------------------------------------------------------------------------------------


def _begin(segment: Segment, item: Input, mark: Path) -> Outcome | None:
    """Segment an input on a worker; return None if it has killed too many workers."""
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
        attempt_mark.unlink(missing_ok=True)  # so that only workers that died leave a mark


def _check(worker: Worker, key: str) -> None:
    """Raise Unwanted if the worker is about to end, or its task was released because the client is gone."""
    task = worker.state.tasks.get(key)
    if worker.status.name not in ("running", "paused") or task is None or task.state != "executing":
        raise Unwanted


def where_fit(marks: Path, work: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function for any worker, even one without this package: an unfit worker reports its reason, and ends.

    Workers may join at any time, and slide after slide would fail on an unfit one. The folder of marks exists as long
    as the client waits; a worker that does not see it is unfit.
    """
    from distributed.protocol import pickle

    # `begin` refers to nothing but bytes and text, so that a worker without this package can read it, too.
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
            time.sleep(2)  # a client that just ended has removed the folder, and its task ends soon
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
