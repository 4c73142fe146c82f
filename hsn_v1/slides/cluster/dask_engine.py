"""Slides side by side on the workers of a Dask cluster: on this machine, on several, or under a batch system.

Dask gives each slide to a worker, and to another one if that worker dies. What a worker finishes lies on the file
system that all share; nothing but names and outcomes travels over the network. Whoever is left alone, a worker by its
scheduler or its client, a client by its scheduler, notices and ends.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ...errors import InputError
from ...parallel import quiet_tracker
from ..status_table import this_process
from .dask_workers import lost, tell_of_unfit, where_fit

if TYPE_CHECKING:
    from dask_jobqueue.core import JobQueueCluster
    from distributed import Client, Worker

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

#: Batch systems that ``dask-jobqueue`` knows, by the name of the option, with its class for each.
BATCH_SYSTEMS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "moab": "MoabCluster",
    "oar": "OARCluster",
    "htcondor": "HTCondorCluster",
}

DAY = 86400.0
ANSWER = 10.0  #: seconds that a scheduler has to answer
DEATHS = 3  #: workers that one slide may kill before it is given up
NO_DASHBOARD = "127.0.0.1:0"  #: Dask has none turned off: one that no other machine sees, on whichever port is free
BEGUN = "hsn_v1-begun"  #: topic of the events that tell which worker begins an item


class Unwanted(BaseException):
    """Nobody waits any more for what a worker is doing: not an Exception, so that nothing takes it for a failure."""


@contextlib.contextmanager
def cluster_client(where: str, workers: int) -> Iterator[Client]:
    """Connect to a Dask scheduler, which is started if need be, and ended with what was started.

    Parameters
    ----------
    where : str
        ``local`` or ``local:N`` (N processes of one thread on this machine), a batch system as ``dask-jobqueue`` is
        configured for it, with the number of jobs (``slurm:20``), the address of a scheduler that runs
        (``tcp://host:8786``), or the path of its scheduler file (``*.json``).
    workers : int
        Number of workers where `where` names none.

    Raises
    ------
    InputError
        If the libraries are missing, or there is no such scheduler.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise InputError("--dask needs Dask, which is not installed: pip install 'hsn_v1[cluster]'") from error
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what has to be told is told in a line of ours
    kind, _, number = where.partition(":")
    count = int(number) if number.isdecimal() else workers
    with contextlib.ExitStack() as stack:
        if kind == "local":
            # One slide at a time: what only waits on a worker that dies would be blamed for its death.
            stack.enter_context(dask.config.set({"distributed.scheduler.worker-saturation": 1.0}))
            options = {"dashboard_address": NO_DASHBOARD, "silence_logs": logging.CRITICAL, "preload": [__name__]}
            with quiet_tracker():
                cluster = LocalCluster(n_workers=count, threads_per_worker=1, **options)
            yield stack.enter_context(Client(stack.enter_context(cluster)))
        elif kind in BATCH_SYSTEMS:
            outcomes: list[str] = []
            cluster = stack.enter_context(_batch_cluster(kind, outcomes))
            cluster.adapt(minimum_jobs=count, maximum_jobs=count)  # also when jobs end at their time limit
            _wait_for_jobs(kind, outcomes)
            yield stack.enter_context(Client(cluster))
        else:
            yield stack.enter_context(_client_of(where))


def dask_setup(_: Worker) -> None:
    """Leave Ctrl-C, which the whole process group gets, to the client. Dask calls this in workers of local clusters."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _client_of(where: str) -> Client:
    from distributed import Client

    is_file = "://" not in where and (where.endswith(".json") or Path(where).is_file())
    if is_file and not Path(where).is_file():
        raise InputError(f"{where}: no such file; start a scheduler: dask scheduler --scheduler-file {where}")
    place = {"scheduler_file": where} if is_file else {"address": where}
    try:
        return Client(**place, timeout=ANSWER)
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: no scheduler answers there ({error}); start one: dask scheduler") from error


def _batch_cluster(kind: str, outcomes: list[str]) -> JobQueueCluster:
    try:
        import dask_jobqueue
    except ImportError as error:
        raise InputError(f"--dask {kind} needs dask-jobqueue: pip install 'hsn_v1[cluster]'") from error
    cluster = getattr(dask_jobqueue, BATCH_SYSTEMS[kind])
    submit = cluster.job_cls.submit_command.split()[0]
    if not shutil.which(submit):
        raise InputError(f"--dask {kind}: no command {submit} here; run it where jobs can be submitted")
    try:
        job_cls = _telling(cluster.job_cls, outcomes)
        return cluster(job_cls=job_cls, scheduler_options={"dashboard_address": NO_DASHBOARD})
    except (ValueError, TypeError) as error:
        raise InputError(f"--dask {kind}: {error}; see docs/cluster.md on how dask-jobqueue is configured") from error


def _telling(job_cls: type, outcomes: list[str]) -> type:
    """Return a class of jobs that note how they were submitted, "" or what went wrong: Dask's own only log it."""
    from distributed.core import Status

    class Job(job_cls):
        async def start(self) -> None:
            try:
                await super().start()
            except (RuntimeError, OSError, ValueError) as error:
                said = " ".join(str(error).split("stderr:")[-1].split())
                outcomes.append(said or type(error).__name__)
                print(f"note: a job cannot be submitted ({outcomes[-1]})", file=sys.stderr)
                self.status = Status.running  # else it is tried again at once, and for ever
            else:
                outcomes.append("")

    return Job


def _wait_for_jobs(kind: str, outcomes: list[str], patience: float = 60) -> None:
    """Wait until a job is submitted, and raise InputError if it cannot be."""
    deadline = time.monotonic() + patience
    while not outcomes and time.monotonic() < deadline:
        time.sleep(0.1)
    if outcomes and outcomes[0]:
        raise InputError(f"--dask {kind}: jobs cannot be submitted ({outcomes[0]}); see docs/cluster.md")


def run_on_dask(
    client: Client,
    function: Callable[[Item, Callable[[], None]], Outcome],
    items: Iterable[Item],
    folder: Path,
    on_begin: Callable[[Item, str], None] = lambda item, where: None,
) -> Iterator[tuple[Item, Outcome | str]]:
    """Call a function of each item on the cluster's workers, as many at a time as they have threads.

    Parameters
    ----------
    client : Client
    function : callable
        ``function(item, check)`` returns an outcome; must not raise for what is wrong with the item. It calls
        ``check()`` at least every few seconds, which raises `Unwanted` if it has to stop.
    items : iterable
    folder : Path
        Folder that all workers share, where it is counted how many workers an item has killed.
    on_begin : callable
        Called, from another thread, with each item as it begins, and with the process that works on it.

    Yields
    ------
    (item, outcome)
        As they are done, in any order; instead of the outcome, the reason in words if there is none.

    Raises
    ------
    InputError
        If the scheduler is gone.
    """
    from distributed import CancelledError, KilledWorker, as_completed

    run, items = uuid.uuid4().hex[:8], list(items)
    marks = Path(folder).resolve() / f".deaths.{run}"
    marks.mkdir(parents=True)
    for old in marks.parent.glob(".deaths.*"):  # of clients that were killed
        if old.stat().st_mtime < marks.stat().st_mtime - DAY:
            shutil.rmtree(old, ignore_errors=True)
    address = client.scheduler.address

    def submit(number: int, item: Item):
        key = f"slide-{number}-{uuid.uuid4().hex}"
        task = partial(_begin, function, item, marks / str(number), run)
        return client.submit(where_fit(marks, task), key=key, pure=False)

    def begun(event: tuple[float, dict]) -> None:
        if event[1]["run"] == run:
            on_begin(items[event[1]["number"]], event[1]["where"])

    client.subscribe_topic(BEGUN, begun)
    tell_of_unfit(client, marks)
    try:
        futures = {submit(number, item): (number, item) for number, item in enumerate(items)}
        done = as_completed(list(futures))
        for future in done:
            number, item = futures.pop(future)
            try:
                outcome = future.result()
            except KilledWorker:  # Dask also blames what only waited on a worker that died
                outcome = _given_up() if _deaths(marks / str(number)) >= DEATHS else None
            except CancelledError as error:
                raise lost(address) from error
            except Exception as error:
                outcome = " ".join(f"{type(error).__name__}: {error}".split())
            future.release()
            if outcome is None:
                again = submit(number, item)
                futures[again] = number, item
                done.add(again)
            else:
                yield item, outcome
    finally:
        shutil.rmtree(marks, ignore_errors=True)


def _begin(function: Callable[[Item, Callable[[], None]], Outcome], item: Item, mark: Path, run: str) -> Outcome | str:
    from distributed import Reschedule, get_worker

    if _deaths(mark) >= DEATHS:
        return _given_up()
    worker, own = get_worker(), mark.with_name(f"{mark.name}.{uuid.uuid4().hex}")
    own.touch()
    worker.log_event(BEGUN, {"run": run, "number": int(mark.name), "where": this_process()})
    try:
        return function(item, partial(_check, worker, worker.get_current_task()))
    except Unwanted:
        raise Reschedule from None
    finally:
        own.unlink(missing_ok=True)  # what is left of those that end otherwise is of workers that died


def _check(worker: Worker, key: str) -> None:
    """Raise Unwanted in a worker that is about to end, or whose client is gone, which releases its tasks."""
    task = worker.state.tasks.get(key)
    if worker.status.name not in ("running", "paused") or task is None or task.state != "executing":
        raise Unwanted


def _deaths(mark: Path) -> int:
    return len(list(mark.parent.glob(f"{mark.name}.*")))


def _given_up() -> str:
    return f"its worker died {DEATHS} times, probably for lack of memory: give workers more, or leave it out"
