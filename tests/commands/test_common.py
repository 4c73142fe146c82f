"""However a command ends, it says so in one line, and nothing of it is left."""

import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
from helpers import left_of

from hsn_v1.commands.common import exit_status, tell
from hsn_v1.errors import InputError, Notice

BUSY = """
import sys, time
from hsn_v1.commands.common import exit_status
from hsn_v1.parallel import pool_of

def work():
    pool = pool_of(2)
    started = [pool.submit(time.sleep, 60) for _ in range(2)]
    while not all(future.running() for future in started):
        time.sleep(0.05)
    print("busy", flush=True)
    time.sleep(60)

sys.exit(exit_status(work))
"""

COLLECTING = """
import sys, time
from hsn_v1.commands.common import exit_status

class Slow:
    def __del__(self):
        print("collecting", flush=True)
        time.sleep(2)

def work():
    Slow()
    time.sleep(60)

sys.exit(exit_status(work))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "message"),
    [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "terminated\n"), (signal.SIGKILL, -9, "")],
)
def test_a_busy_command_that_is_stopped_leaves_no_process_and_no_noise(tmp_path, number, status, message):
    environment = {**os.environ, "HSN_TEST_MARKER": str(tmp_path)}
    command = subprocess.Popen(
        [sys.executable, "-c", BUSY], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout.readline() == "busy\n"
    assert len(left_of(str(tmp_path))) > 2
    command.send_signal(number)
    _, error = command.communicate(timeout=30)  # until all that share its stderr are gone
    assert (command.returncode, error) == (status, message)
    deadline = time.monotonic() + 10
    while left_of(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left_of(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "message"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "terminated\n")]
)
def test_a_signal_that_comes_where_python_ignores_exceptions_is_not_lost(number, status, message):
    command = subprocess.Popen(
        [sys.executable, "-c", COLLECTING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout.readline() == "collecting\n"
    command.send_signal(number)
    _, error = command.communicate(timeout=30)
    assert (command.returncode, error) == (status, message)


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("x.png: no image"), "error: x.png: no image\n"),
        (PermissionError(13, "Permission denied", "a folder"), "error: a folder: Permission denied\n"),
        (OSError(28, "No space left", "a.png"), "error: a.png: No space left; make room there, and run the same "),
    ],
)
def test_what_the_user_can_mend_is_one_line(capsys, error, line):
    assert exit_status(raising(error)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(line) and err.count("\n") == 1


def test_a_notice_of_a_library_module_is_a_note(capsys):
    def command():
        warnings.warn(Notice("a.png: odd"), stacklevel=1)
        return 0

    assert exit_status(command) == 0
    assert capsys.readouterr() == ("", "note: a.png: odd\n")


def test_notes_come_before_failures_which_make_the_status_1(capsys):
    assert (tell(["a"]), tell(["b"], ["c"])) == (0, 1)
    assert capsys.readouterr().err == "note: a\nnote: b\nfailed: c\n"


def test_a_fault_of_ours_has_a_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_status(lambda: 1 / 0)
