"""What Dask workers do in tests, and a client of theirs: loaded in many processes, so that it loads little."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from hsn_v1.commands.common import exit_status, note
from hsn_v1.slides.cluster.connect import cluster_client
from hsn_v1.slides.cluster.dask_engine import outcomes_of
from hsn_v1.slides.inputs import Input
from hsn_v1.slides.results_folder import Outcome


def numbered(count):
    """Return inputs whose names are numbers."""
    return [Input(Path(f"/in/{number}"), str(number)) for number in range(count)]


def work(folder, item, check):
    """Be done with a number; 3 kills its worker at first, 4 always, 5 raises."""
    check()
    number = int(item.name)
    tried = Path(folder, f"{number}.{len(list(Path(folder).glob(f'{number}.*')))}")
    tried.touch()
    if number == 4 or (number == 3 and tried.name == "3.0"):
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        raise ValueError("not\nthis")
    return Outcome(item.path, Path(folder) / item.name, "done")


def linger(folder, item, check):
    """Go on until `check` says that it is enough."""
    Path(folder, "begun").touch()
    try:
        while True:
            check()
            time.sleep(0.05)
    finally:
        Path(folder, "stopped").touch()


def client(where, folder):
    """End as a command does that has two inputs segmented without end."""

    def command():
        with cluster_client(where, 1, note) as connected:
            return len(list(outcomes_of(connected, partial(linger, folder), numbered(2), Path(folder), note)))

    sys.exit(exit_status(command))
