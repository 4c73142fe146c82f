"""Slides side by side on the workers of a Dask cluster: on this machine, on several, or under a batch system.

Dask gives each slide to a worker, and to another one if that worker dies. What a worker finishes lies on the file
system that all share; nothing but names and outcomes travels over the network.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import InputError
from ..files.writing import write_bytes

if TYPE_CHECKING:
    from distributed import Client

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

DEATHS = 3  #: workers that one slide may kill before it is given up


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
    kind, _, number = where.partition(":")
    count = int(number) if number.isdecimal() else workers
    with contextlib.ExitStack() as stack:
        if kind == "local":
            # One slide at a time: what only waits on a worker that dies would be blamed for its death.
            stack.enter_context(dask.config.set({"distributed.scheduler.worker-saturation": 1.0}))
            cluster = LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None)
            yield stack.enter_context(Client(stack.enter_context(cluster)))
        elif kind in BATCH_SYSTEMS:
            cluster = stack.enter_context(_batch_cluster(kind))
            cluster.scale(jobs=count)
            yield stack.enter_context(Client(cluster))
        else:
            yield stack.enter_context(_client_of(where))


def _client_of(where: str) -> Client:
    from distributed import Client

    if where.endswith(".json") and not Path(where).is_file():
        raise InputError(f"{where}: no such file; start a scheduler: dask scheduler --scheduler-file {where}")
    place = {"scheduler_file": where} if where.endswith(".json") else {"address": where}
    try:
        return Client(**place, timeout=10)
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: no scheduler answers there ({error}); start one: dask scheduler") from error


def _batch_cluster(kind: str):
    try:
        import dask_jobqueue
    except ImportError as error:
        raise InputError(f"--dask {kind} needs dask-jobqueue: pip install 'hsn_v1[cluster]'") from error
    try:
        return getattr(dask_jobqueue, BATCH_SYSTEMS[kind])(scheduler_options={"dashboard_address": None})
    except (ValueError, TypeError) as error:
        raise InputError(f"--dask {kind}: {error}; see docs/cluster.md on how dask-jobqueue is configured") from error


def check_workers(client: Client, folder: Path, timeout: float = 300) -> int:
    """Wait for the first worker, and make sure that all see what is written to a folder; return their number.

    Raises
    ------
    InputError
        If there is no worker, or one that does not see the folder: named, before anything is computed.
    """
    try:
        client.wait_for_workers(1, timeout=timeout)
    except TimeoutError as error:
        raise InputError(
            f"no Dask worker within {timeout:g} s; start some: dask worker ADDRESS --nthreads 1"
        ) from error
    token = Path(folder).resolve() / f".seen.{uuid.uuid4().hex}"
    write_bytes(token, token.name.encode())
    try:
        sees = client.run(_reads, str(token), on_error="return")
    finally:
        token.unlink()
    for address, answer in sees.items():
        if answer is not True:
            reason = f" ({answer})" if isinstance(answer, Exception) else ""
            raise InputError(
                f"{folder}: worker {address} does not see it{reason}; inputs and results must lie on a file system "
                "that all workers share under the same path"
            )
    return len(sees)


def _reads(token: str) -> bool:
    path = Path(token)
    return path.is_file() and path.read_text() == path.name


def run_on_dask(
    client: Client,
    function: Callable[[Item], Outcome],
    items: Iterable[Item],
    folder: Path,
    setup: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Item, Outcome | str]]:
    """Call a function of each item on the cluster's workers, as many at a time as they have threads.

    Parameters
    ----------
    client : Client
    function : callable
        Returns an outcome; must not raise for what is wrong with the item.
    items : iterable
    folder : Path
        Folder that all workers share, where it is counted how often an item was begun.
    setup : callable
        Called once in each worker before its first item, also in workers that come later.

    Yields
    ------
    (item, outcome)
        As they are done, in any order; instead of the outcome, the reason in words if there is none.
    """
    from distributed import KilledWorker, as_completed

    run = uuid.uuid4().hex[:8]
    marks = Path(folder).resolve() / f".begun.{run}"
    marks.mkdir(parents=True)
    client.register_plugin(_setup_plugin(setup), name="hsn_v1")

    def submit(number: int, item: Item):
        return client.submit(
            _begin, function, item, marks / str(number), key=f"slide-{number}-{uuid.uuid4().hex}", pure=False
        )

    try:
        futures = {submit(number, item): (number, item) for number, item in enumerate(items)}
        done = as_completed(list(futures))
        for future in done:
            number, item = futures.pop(future)
            try:
                outcome = future.result()
            except KilledWorker:  # Dask also blames what only waited on a worker that died
                outcome = _given_up() if _begun(marks / str(number)) >= DEATHS else None
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


def _begin(function: Callable[[Item], Outcome], item: Item, mark: Path) -> Outcome | str:
    if _begun(mark) >= DEATHS:
        return _given_up()
    mark.with_name(f"{mark.name}.{uuid.uuid4().hex}").touch()
    return function(item)


def _begun(mark: Path) -> int:
    return len(list(mark.parent.glob(f"{mark.name}.*")))


def _given_up() -> str:
    return f"its worker died {DEATHS} times, probably for lack of memory: give workers more, or leave it out"


def _setup_plugin(setup: Callable[[], None]):
    from distributed import WorkerPlugin

    class Setup(WorkerPlugin):
        """Prepares a worker process."""

        idempotent = True

        def setup(self, worker) -> None:
            setup()

    return Setup()
