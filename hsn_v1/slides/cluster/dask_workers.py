"""Which Dask workers may take part: those that see the folder of results, and have this version of the package."""

from __future__ import annotations

import contextlib
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...errors import InputError
from ...io.writing import write_bytes

if TYPE_CHECKING:
    from distributed import Client

UNFIT = "hsn_v1-unfit"  #: topic of the events that tell which worker was sent away, and why
ALONE = 30.0  #: seconds without any worker after which the user is told
PAUSE = 5.0  #: seconds between two looks for workers

UNSEEN = "does not see it; inputs and results must lie on a file system that all workers share under the same path"


def check_workers(client: Client, folder: Path, timeout: float = 300) -> int:
    """Wait for the first worker, and make sure that all see what is written to a folder; return their number.

    A batch system's jobs may wait in its queue for as long as they do.

    Raises
    ------
    InputError
        If the scheduler is gone, there is no worker, or one that does not see the folder or lacks this version: named,
        before anything is computed.
    """
    from distributed.comm import CommClosedError

    address = client.scheduler.address
    try:
        with telling_of_no_workers(client):
            client.wait_for_workers(1, timeout=None if client.cluster else timeout)
    except CommClosedError as error:
        raise lost(address) from error
    except TimeoutError as error:
        raise InputError(
            f"no Dask worker within {timeout:g} s; start some: dask worker ADDRESS --nthreads 1"
        ) from error
    token = Path(folder).resolve() / f".seen.{uuid.uuid4().hex}"
    write_bytes(token, token.name.encode())
    try:
        sees = client.run(_version_if_seen, str(token), on_error="return")
    finally:
        token.unlink()
    for address, answer in sees.items():
        if isinstance(answer, CommClosedError):  # it died just now
            continue
        if isinstance(answer, Exception):
            raise InputError(f"worker {address} cannot run hsn_v1 {__version__} ({answer}): install it there")
        if answer != __version__:
            raise InputError(
                f"{folder}: worker {address} {UNSEEN}"
                if answer is None
                else f"worker {address} has hsn_v1 {answer}, here is {__version__}: install the same everywhere"
            )
    return len(sees)


def _version_if_seen(token: str) -> str | None:
    path = Path(token)
    return __version__ if path.is_file() and path.read_text() == path.name else None


def lost(address: str) -> InputError:
    """Return the error of a scheduler that is gone."""
    return InputError(
        f"the Dask scheduler {address} is gone; what is done is kept: run the same command again once "
        "there is a scheduler"
    )


def where_fit(folder: Path, task: Callable[[], Any]) -> Callable[[], Any]:
    """Return a task for any worker, also one without this package: where a worker is not fit, it tells so, and ends.

    Workers may join at any time, and what they cannot do would fail there, slide after slide.

    Parameters
    ----------
    folder : Path
        Folder that is there as long as somebody waits for the task, for workers that see it.
    task : callable
        Without arguments.
    """
    from distributed.protocol import pickle

    # All that `begin` refers to is bytes and text, so that a worker can read it, whatever it lacks.
    seen, expected, topic, unseen, content = str(folder), __version__, UNFIT, UNSEEN, pickle.dumps(task)

    def begin() -> Any:
        import os
        import time

        from distributed import Reschedule, get_worker
        from distributed.protocol import pickle

        worker = get_worker()
        try:
            from hsn_v1 import __version__ as found
        except ImportError as error:
            reason = f"cannot run hsn_v1 {expected} ({error}): install it there"
        else:
            reason = "" if found == expected else f"has hsn_v1 {found}, not {expected}: install the same everywhere"
        if not reason and not os.path.isdir(seen):
            time.sleep(2)  # if the client just ended, it took the folder with it, and soon the task
            here = worker.state.tasks.get(worker.get_current_task())
            if here is None or here.state != "executing":
                raise Reschedule
            reason = f"{os.path.dirname(seen)}: {unseen}"
        if not reason:
            return pickle.loads(content)()
        worker.log_event(topic, {"folder": seen, "worker": worker.address, "reason": reason})
        worker.loop.add_callback(worker.close_gracefully, reason="hsn_v1: not fit")
        for _ in range(100):
            if worker.status.name != "running":
                break
            time.sleep(0.1)
        raise Reschedule

    return begin


def tell_of_unfit(client: Client, folder: Path) -> None:
    """Say on the screen which workers were sent away from tasks of `where_fit`, once for each reason."""
    told = set()

    def tell(event: tuple[float, dict]) -> None:
        facts = event[1]
        if facts["folder"] == str(folder) and facts["reason"] not in told:
            told.add(facts["reason"])
            print(f"note: worker {facts['worker']} was ended: {facts['reason']}", file=sys.stderr)

    client.subscribe_topic(UNFIT, tell)


@contextlib.contextmanager
def telling_of_no_workers(client: Client, alone: float = ALONE, pause: float = PAUSE) -> Iterator[None]:
    """Say on the screen if there is no worker for a while: the command waits for one, and nothing else tells."""
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
                print("note: there is no Dask worker; waiting for one", file=sys.stderr)

    thread = threading.Thread(target=watch, name="workers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
