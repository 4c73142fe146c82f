"""Slides side by side on the workers of a Dask cluster, each of which segments a slide at a time.

Dask gives each slide to a worker, and to another one if that worker dies. What a worker finishes lies on the file
system that all share; nothing but names and outcomes travels over the network. Whoever is left alone, a worker by its
scheduler or its client, a client by its scheduler, notices and ends.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import cv2

from ... import __version__
from ...io.memory import keep_freed_memory
from ...slide_io.slide import open_slide
from ..inputs import Input
from ..results_folder import Outcome
from ..segment_many import RunOptions, attempt, now_running, once_free, this_process
from ..segment_slide import segment_opened
from .connect import UNSEEN, Note, check_workers, cluster_client, lost, telling_of_no_workers

if TYPE_CHECKING:
    from distributed import Client, Worker

DAY = 86400.0
DEATHS = 3  #: workers that one slide may kill before it is given up
BEGUN = "hsn_v1-begun"  #: topic of the events that tell which worker begins an input; see `Begun`
UNFIT = "hsn_v1-unfit"  #: topic of the events that tell which worker was sent away; see `Unfit`

GIVEN_UP = f"its worker died {DEATHS} times, probably for lack of memory: give workers more, or leave it out"

#: ``segment(item, check)`` segments an input on a worker; it calls ``check()`` at least every few seconds, which raises
#: `Unwanted` if it has to stop. It must not raise for what is wrong with the input.
Segment = Callable[[Input, Callable[[], None]], Outcome]


class Unwanted(BaseException):
    """Nobody waits any more for what a worker is doing: not an Exception, so that nothing takes it for a failure."""


@dataclass(frozen=True)
class Begun:
    """A process begins with an input: the run's name, the input's number in it, and the process."""

    run: str
    number: int
    where: str


@dataclass(frozen=True)
class Unfit:
    """A worker was sent away: its run's folder of marks, its address, and the reason."""

    marks: str
    worker: str
    reason: str


Message = TypeVar("Message", Begun, Unfit)


def segment_on_dask(
    inputs: Sequence[Input],
    options: RunOptions,
    where: str,
    workers: int,
    note: Note,
    on_change: Callable[[Outcome], None] = lambda outcome: None,
) -> Iterator[Outcome]:
    """Segment inputs on a Dask cluster; yield outcomes as they are done.

    Parameters
    ----------
    inputs : sequence of Input
    options : RunOptions
        Its `workers` are the threads that a slide may use on a worker.
    where : str
        See `connect.cluster_client`.
    workers : int
        Number of workers where `where` names none.
    note : callable
        Called, from other threads too, with what the user should know.
    on_change : callable
        Called with each outcome as an input begins to run and as it ends, from several threads.
    """
    with cluster_client(where, workers, note) as client:
        check_workers(client, options.out, note)

        def begun(item: Input, place: str) -> None:
            on_change(now_running(item, options.out, place))

        with telling_of_no_workers(client, note):
            run = DaskRun(client, partial(segment_on_worker, options), options.out)
            for outcome in run.outcomes(inputs, begun, note):
                on_change(outcome)
                yield outcome


def segment_on_worker(options: RunOptions, item: Input, check: Callable[[], None] = lambda: None) -> Outcome:
    """Segment an input in this process; whatever goes wrong with it is its failed outcome.

    Parameters
    ----------
    options : RunOptions
    item : Input
    check : callable
        Called every now and then; what it raises ends the work.
    """
    keep_freed_memory()
    cv2.setNumThreads(1)  # the declared threads are those of the classifier and of the CRF

    def segment() -> Outcome:
        task = options.task(item, lambda stage, done, total: check())
        with open_slide(task.path, task.mpp, task.override) as slide:
            return segment_opened(slide, task)

    return attempt(item, options.out, lambda: once_free(segment, check))


class DaskRun:
    """Inputs that are segmented on a cluster's workers, as many at a time as they have threads.

    Parameters
    ----------
    client : Client
    segment : callable
        See `Segment`.
    out : Path
        Folder that all workers share; there it is counted, in a folder of marks, how many workers an input has killed.
    """

    def __init__(self, client: Client, segment: Segment, out: Path):
        self.client, self.segment, self.out = client, segment, out
        self.name = uuid.uuid4().hex[:8]
        self.marks = Path(out).resolve() / f".deaths.{self.name}"

    def outcomes(
        self, inputs: Sequence[Input], on_begin: Callable[[Input, str], None], note: Note
    ) -> Iterator[Outcome]:
        """Yield outcomes as they are done, in any order.

        Parameters
        ----------
        inputs : sequence of Input
        on_begin : callable
            Called, from another thread, with each input as it begins, and with the process that works on it.
        note : callable
            Called, from another thread, with which workers were sent away, once for each reason.

        Raises
        ------
        InputError
            If the scheduler is gone.
        """
        from distributed import CancelledError, KilledWorker, as_completed

        self._make_marks()
        self._listen(inputs, on_begin, note)
        address = self.client.scheduler.address
        try:
            futures = {self._submit(number, item): (number, item) for number, item in enumerate(inputs)}
            done = as_completed(list(futures))
            for future in done:
                number, item = futures.pop(future)
                try:
                    outcome = future.result() or self._failed(item, GIVEN_UP)
                except KilledWorker:  # Dask also blames what only waited on a worker that died
                    outcome = self._failed(item, GIVEN_UP) if deaths(self.marks / str(number)) >= DEATHS else None
                except CancelledError as error:
                    raise lost(address) from error
                except Exception as error:
                    outcome = self._failed(item, " ".join(f"{type(error).__name__}: {error}".split()))
                future.release()
                if outcome:
                    yield outcome
                else:
                    again = self._submit(number, item)
                    futures[again] = number, item
                    done.add(again)
        finally:
            shutil.rmtree(self.marks, ignore_errors=True)

    def _make_marks(self) -> None:
        self.marks.mkdir(parents=True)
        for old in self.marks.parent.glob(".deaths.*"):  # of clients that were killed
            if old.stat().st_mtime < self.marks.stat().st_mtime - DAY:
                shutil.rmtree(old, ignore_errors=True)

    def _listen(self, inputs: Sequence[Input], on_begin: Callable[[Input, str], None], note: Note) -> None:
        told = set()

        def begun(event: tuple[float, dict[str, Any]]) -> None:
            message = _message(Begun, event)
            if message.run == self.name:
                on_begin(inputs[message.number], message.where)

        def unfit(event: tuple[float, dict[str, Any]]) -> None:
            message = _message(Unfit, event)
            if message.marks == str(self.marks) and message.reason not in told:
                told.add(message.reason)
                note(f"worker {message.worker} was ended: {message.reason}")

        self.client.subscribe_topic(BEGUN, begun)
        self.client.subscribe_topic(UNFIT, unfit)

    def _submit(self, number: int, item: Input):
        begun = Begun(self.name, number, "")
        work = partial(_begin, self.segment, item, begun, self.marks / str(number))
        key = f"slide-{number}-{uuid.uuid4().hex}"
        return self.client.submit(where_fit(self.marks, work), key=key, pure=False)

    def _failed(self, item: Input, reason: str) -> Outcome:
        return Outcome(item.path, self.out / item.name, "failed", reason, columns=item.columns)


def _message(kind: type[Message], event: tuple[float, dict[str, Any]]) -> Message:
    """Return what an event says; Dask adds facts of its own."""
    return kind(**{field.name: event[1][field.name] for field in fields(kind)})


def deaths(mark: Path) -> int:
    """Return how many workers an input has killed."""
    return len(list(mark.parent.glob(f"{mark.name}.*")))


# --- On a worker ------------------------------------------------------------------------------------------------------


def _begin(segment: Segment, item: Input, begun: Begun, mark: Path) -> Outcome | None:
    """Segment an input on a worker; return None if it has killed too many."""
    from distributed import Reschedule, get_worker

    if deaths(mark) >= DEATHS:
        return None
    worker, attempt_mark = get_worker(), mark.with_name(f"{mark.name}.{uuid.uuid4().hex}")
    attempt_mark.touch()
    worker.log_event(BEGUN, {**asdict(begun), "where": this_process()})
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

    Workers may join at any time, and what they cannot do would fail there, slide after slide.

    Parameters
    ----------
    marks : Path
        Folder that is there as long as somebody waits, for workers that see it.
    work : callable
        Without arguments.
    """
    from distributed.protocol import pickle

    # All that `begin` refers to is bytes and text, so that a worker can read it, whatever it lacks.
    seen, expected, topic, unseen, content = str(marks), __version__, UNFIT, UNSEEN, pickle.dumps(work)

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
        worker.log_event(topic, {"marks": seen, "worker": worker.address, "reason": reason})  # an `Unfit`
        worker.loop.add_callback(worker.close_gracefully, reason="hsn_v1: not fit")
        for _ in range(100):
            if worker.status.name != "running":
                break
            time.sleep(0.1)
        raise Reschedule

    return begin
