"""Connect to a Dask cluster, on this machine, on several, or under a batch system, and check its workers."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from ... import __version__
from ...errors import InputError
from ...io.reading import is_there, read_json
from ...io.writing import write_bytes
from ...parallel import quiet_tracker

if TYPE_CHECKING:
    from dask_jobqueue.core import JobQueueCluster
    from distributed import Client, Worker

#: Classes of ``dask-jobqueue`` for batch systems, by the system's name in `cluster_client`.
BATCH_SYSTEMS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "moab": "MoabCluster",
    "oar": "OARCluster",
    "htcondor": "HTCondorCluster",
}

ANSWER = 10.0  #: seconds that a scheduler has to answer
SUBMISSION = 60.0  #: seconds that a batch system has to take the first job
ALONE = 30.0  #: seconds without any worker after which the user is told
PAUSE = 5.0  #: seconds between two looks for workers
LONGEST_FILE = 1 << 20  #: largest size of a scheduler's file, in bytes
NO_DASHBOARD = "127.0.0.1:0"  #: Dask cannot turn it off: hide it from other machines, on any free port

UNSEEN = "does not see it; inputs and results must lie on a file system that all workers share under the same path"

Note = Callable[[str], None]  #: called with a line for the user


# --- Client -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def cluster_client(where: str, workers: int, note: Note) -> Iterator[Client]:
    """Connect to a Dask scheduler; start one if need be, and end all processes that were started.

    `where` is ``local`` or ``local:N`` (N processes of one thread on this machine), a batch system that
    ``dask-jobqueue`` is configured for, with the number of jobs (``slurm:20``), the address of a running scheduler
    (``tcp://host:8786``), or the path of its scheduler file (``*.json``). Without a number, `workers` workers are
    started. `note` is called if there is no worker for a while. Raises InputError if libraries are missing or wrongly
    configured, or no such scheduler answers.
    """
    kind, colon, number = where.partition(":")
    starts = kind == "local" or kind in BATCH_SYSTEMS
    if starts and colon and not (number.isdecimal() and int(number) > 0):
        raise InputError(f"Dask, {where}: expected {kind} or {kind}:N, with a number of workers from 1, as {kind}:4")
    count = int(number) if starts and colon else workers
    dask = _dask()
    gc.collect()  # a failed client closes itself when collected; during another's start, both would wait for ever
    with contextlib.ExitStack() as stack:
        if kind == "local":
            # One slide at a time: a slide that only waits on a worker that dies would be blamed for its death.
            stack.enter_context(dask.config.set({"distributed.scheduler.worker-saturation": 1.0}))
        try:
            client = stack.enter_context(_client(kind, where, count, stack, note))
        except InputError:
            raise
        except Exception as error:  # Dask raises others for each library that it connects with
            advice = "see docs/cluster.md on how Dask is configured" if starts else "start one: dask scheduler"
            problem = "cannot be started" if starts else "no scheduler answers there"
            raise InputError(f"{where}: {problem} ({_line(error)}); {advice}") from error
        with noting_missing_workers(client, note):
            yield client


def _dask():
    """Import Dask, and keep its log off the screen: this module writes the lines that the user needs."""
    if pipe := next((path for path in _settings() if path.exists() and not path.is_file()), None):
        raise InputError(f"{pipe}: not a regular file, but a pipe or a device; Dask's settings are files")
    try:
        import dask
        import distributed  # noqa: F401
    except ImportError as error:
        raise InputError("a Dask cluster needs Dask, which is not installed: pip install 'hsn_v1[cluster]'") from error
    except Exception as error:  # the import reads settings, which may hold anything
        raise InputError(f"Dask's settings cannot be read ({_line(error)}); mend them, in ~/.config/dask") from error
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return dask


def _settings() -> Iterator[Path]:
    """Yield the files from which Dask reads its settings when it is imported."""
    shared = [
        os.environ.get("DASK_ROOT_CONFIG", "/etc/dask"),
        *(f"{p}/etc/dask" for p in (sys.prefix, sys.base_prefix)),
    ]
    for place in [*shared, "~/.config/dask", os.environ.get("DASK_CONFIG", "~/.config/dask")]:
        place = Path(place).expanduser()
        if place.is_dir():
            yield from (path for path in place.iterdir() if path.suffix in (".yaml", ".yml", ".json"))
        else:
            yield place


def _client(kind: str, where: str, count: int, stack: contextlib.ExitStack, note: Note) -> Client:
    from distributed import Client, LocalCluster

    if kind == "local":
        options = {"dashboard_address": NO_DASHBOARD, "silence_logs": logging.CRITICAL, "preload": [__name__]}
        with quiet_tracker():
            return Client(stack.enter_context(LocalCluster(n_workers=count, threads_per_worker=1, **options)))
    if kind in BATCH_SYSTEMS:
        submitted: SimpleQueue[str] = SimpleQueue()
        cluster = stack.enter_context(_batch_cluster(kind, submitted, note))
        cluster.adapt(minimum_jobs=count, maximum_jobs=count)  # replaces jobs that end at their time limit
        with contextlib.suppress(Empty):  # a slow batch system may answer later
            if reason := submitted.get(timeout=SUBMISSION):
                raise InputError(f"Dask on {kind}: jobs cannot be submitted ({reason}); see docs/cluster.md")
        return Client(cluster)
    if "://" in where or not (where.endswith(".json") or Path(where).is_file()):
        return Client(where, timeout=ANSWER)
    return Client(_address_in(Path(where)), timeout=ANSWER)


def _address_in(file: Path) -> str:
    """Return a scheduler's address from the file that it wrote."""
    if not is_there(file):
        raise InputError(f"{file}: no such file; start a scheduler: dask scheduler --scheduler-file {file}")
    try:
        address = read_json(file, LONGEST_FILE)["address"]
    except (InputError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: no scheduler file, which is the JSON that `dask scheduler --scheduler-file {file}` writes; "
            "Dask's own settings, which are YAML, belong into ~/.config/dask"
        ) from error
    return str(address)


def dask_setup(_: Worker) -> None:
    """Ignore Ctrl-C, which the whole process group gets: the client ends workers. Dask calls this in local workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _batch_cluster(kind: str, submitted: SimpleQueue[str], note: Note) -> JobQueueCluster:
    try:
        import dask_jobqueue
    except ImportError as error:
        raise InputError(f"Dask on {kind} needs dask-jobqueue: pip install 'hsn_v1[cluster]'") from error
    cluster = getattr(dask_jobqueue, BATCH_SYSTEMS[kind])
    submit = cluster.job_cls.submit_command.split()[0]
    if not shutil.which(submit):
        raise InputError(f"Dask on {kind}: no command {submit} here; run it where jobs can be submitted")
    job_cls = _noting_jobs(cluster.job_cls, submitted, note)
    return cluster(job_cls=job_cls, scheduler_options={"dashboard_address": NO_DASHBOARD})


def _noting_jobs(job_cls: type, submitted: SimpleQueue[str], note: Note) -> type:
    """Return a class of jobs that put "" or the reason of a failed submission into a queue: Dask only logs it."""
    from distributed.core import Status

    class NotingJob(job_cls):
        async def start(self) -> None:
            try:
                await super().start()
            except (RuntimeError, OSError, ValueError) as error:
                reason = " ".join(str(error).split("stderr:")[-1].split()) or type(error).__name__
                submitted.put(reason)
                note(f"a job cannot be submitted ({reason})")
                self.status = Status.running  # otherwise Dask tries again at once, and for ever
            else:
                submitted.put("")

    return NotingJob


def _line(error: Exception) -> str:
    return " ".join(f"{error}".split()) or type(error).__name__


# --- Workers ----------------------------------------------------------------------------------------------------------


def check_workers(client: Client, folder: Path, timeout: float = 300) -> int:
    """Wait for the first worker, check that all workers see files written to a folder, and return their number.

    Jobs may wait in a batch system's queue without limit. Raises InputError, before anything is computed, if the
    scheduler is gone, there is no worker, or a worker, which is named, does not see the folder or lacks this version.
    """
    from distributed.comm import CommClosedError

    address = client.scheduler.address
    try:
        client.wait_for_workers(1, timeout=None if client.cluster else timeout)
    except CommClosedError as error:
        raise lost_scheduler(address) from error
    except TimeoutError as error:
        raise InputError(
            f"no Dask worker within {timeout:g} s; start some: dask worker ADDRESS --nthreads 1"
        ) from error
    token = Path(folder).resolve() / f".seen.{uuid.uuid4().hex}"
    write_bytes(token, token.name.encode())
    try:
        versions = client.run(_version_if_seen, str(token), on_error="return")
    finally:
        token.unlink()
    for worker, version in versions.items():
        if isinstance(version, CommClosedError):  # it died just now
            continue
        if isinstance(version, Exception):
            raise InputError(f"worker {worker} cannot run hsn_v1 {__version__} ({version}): install it there")
        if version is None:
            raise InputError(f"{folder}: worker {worker} {UNSEEN}")
        if version != __version__:
            raise InputError(
                f"worker {worker} has hsn_v1 {version}, here is {__version__}: install the same everywhere"
            )
    return len(versions)


def _version_if_seen(token: str) -> str | None:
    path = Path(token)
    return __version__ if path.is_file() and path.read_text() == path.name else None


def lost_scheduler(address: str) -> InputError:
    """Return the error to raise when a scheduler is gone."""
    return InputError(
        f"the Dask scheduler {address} is gone; what is done is kept: run the same command again once "
        "there is a scheduler"
    )


@contextlib.contextmanager
def noting_missing_workers(client: Client, note: Note, alone: float = ALONE, pause: float = PAUSE) -> Iterator[None]:
    """Call `note` if there is no worker for a while: the command waits for one, and nothing else tells the user."""
    done = threading.Event()

    def watch() -> None:
        waited = 0.0
        while not done.wait(pause):
            try:
                workers = client.nthreads()
            except Exception:  # the client is closed, or its scheduler gone, which ends the command
                return
            before, waited = waited, 0.0 if workers else waited + pause
            if before < alone <= waited:
                note("there is no Dask worker; waiting for one")

    thread = threading.Thread(target=watch, name="workers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
