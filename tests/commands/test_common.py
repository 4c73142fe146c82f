"""However a command ends, it says so in one line, and nothing of it is left."""

import os
import shlex
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from helpers import left_of
from PIL import Image

from hsn_v1 import __main__
from hsn_v1.commands import common
from hsn_v1.commands.common import exit_status, tell
from hsn_v1.errors import InputError, Notice

REPOSITORY = Path(__file__).parents[2]

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


def started(program, **environment):
    """Start a program with its output in pipes."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", program], env={**os.environ, **environment}, **pipes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "message"),
    [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "terminated\n"), (signal.SIGKILL, -9, "")],
)
def test_a_busy_command_that_is_stopped_leaves_no_process_and_no_noise(tmp_path, number, status, message):
    command = started(BUSY, HSN_TEST_MARKER=str(tmp_path))
    assert command.stdout.readline() == "busy\n"
    assert len(left_of(str(tmp_path))) > 2
    command.send_signal(number)
    _, error = command.communicate(timeout=30)  # until all that share its stderr are gone
    assert (command.returncode, error) == (status, message)
    deadline = time.monotonic() + 10
    while left_of(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left_of(str(tmp_path))


LIBRARY = """
import sys, time
from hsn_v1.commands.common import exit_status

def work():
    try:
        print("importing", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        raise ImportError("initialization failed")  # as libraries do that are interrupted while they load

sys.exit(exit_status(work))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "first", "number", "status", "message"),
    [
        (LIBRARY, "importing\n", signal.SIGINT, 130, "interrupted\n"),
        (COLLECTING, "collecting\n", signal.SIGINT, 130, "interrupted\n"),  # where Python ignores exceptions
        (COLLECTING, "collecting\n", signal.SIGTERM, 143, "terminated\n"),
    ],
)
def test_a_signal_that_a_library_or_python_would_swallow_is_not_lost(program, first, number, status, message):
    command = started(program)
    assert command.stdout.readline() == first
    command.send_signal(number)
    _, error = command.communicate(timeout=30)
    assert (command.returncode, error) == (status, message)


@pytest.mark.slow
def test_ctrl_c_while_a_command_starts_is_one_line(tmp_path):
    """As a terminal sends it: to the command, its workers and readers; the image is large, so that it is not done."""
    Image.new("RGB", (3000, 3000), "pink").save(tmp_path / "a.png")
    command = [sys.executable, "-m", "hsn_v1", "segment", tmp_path / "a.png", "--mpp", "1", "--out", tmp_path / "out"]
    for seconds in (0.5, 1.5, 3):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=REPOSITORY)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)
        lines = [line for line in error.splitlines() if not line.startswith("note: ")]
        assert lines in (["interrupted"], [f"interrupted; {AGAIN}"]) and process.returncode in (130, -signal.SIGINT)


AGAIN = "the same command goes on where it stopped"


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        (["segment", "a.png"], [AGAIN]),
        (["segment", "a.png", "--force"], [AGAIN.replace("command", "command without --force")]),
        (["doctor"], None),  # has nothing to resume
    ],
)
@pytest.mark.parametrize("stop", [KeyboardInterrupt, common.Terminated])
def test_a_command_that_resumes_says_so_when_it_is_interrupted(monkeypatch, stop, options, notes):
    for module in ("segment", "doctor"):
        monkeypatch.setattr(f"hsn_v1.commands.{module}._run", mock.Mock(side_effect=stop))
    monkeypatch.setattr(sys, "argv", ["hsn-v1", *options])
    with pytest.raises(stop) as stopped:
        __main__._run()
    assert getattr(stopped.value, "__notes__", None) == notes


def test_on_windows_a_signal_is_sent_again_within_the_process(monkeypatch):
    sent = []
    monkeypatch.setattr(common.os, "name", "nt")
    monkeypatch.setattr(common.signal, "raise_signal", sent.append)
    monkeypatch.setattr(common.os, "kill", lambda *_: sent.append("ended"))
    monkeypatch.setattr(
        common.threading, "Timer", lambda _, send, arguments: SimpleNamespace(start=lambda: send(*arguments))
    )
    common._again(sent.append, SimpleNamespace(exc_type=KeyboardInterrupt))
    assert sent == [signal.SIGINT]


PRINTING = """
import sys
from hsn_v1.commands.common import exit_status, note

def work():
    note("\u75c5.png")
    for number in range(20000):
        print(number, "\u75c5")
    open(sys.argv[1], "w").write("done")
    return 0

sys.exit(exit_status(work))
"""


@pytest.mark.skipif(os.name == "nt", reason="redirections of a shell")
@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [
        ("| head -1", 0, "note: \\u75c5.png\n"),
        (">&-", 0, "note: \\u75c5.png\n"),
        ("<&- >&- 2>&-", 0, ""),
        ("> /dev/null 2> /dev/full", 0, ""),
        ("> /dev/full", 1, "note: \\u75c5.png\nerror: what was to be printed is lost: No space left on device\n"),
    ],
)
def test_no_letter_and_no_end_of_the_output_stops_the_work(tmp_path, redirection, status, message):
    shell = f"({shlex.join([sys.executable, '-c', PRINTING, 'done'])}; echo $? > status) {redirection}"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ((tmp_path / "status").exists() or redirection.startswith("<")) and done.stderr == message
    assert (tmp_path / "done").read_text() == "done"
    if (tmp_path / "status").exists():
        assert (tmp_path / "status").read_text() == f"{status}\n"


def test_a_working_folder_that_was_deleted_is_a_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert exit_status(lambda: 0) == 2
    assert capsys.readouterr().err == "error: the working folder was deleted: change to another one\n"


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


@pytest.mark.parametrize("words", [("--dask", ""), ("--dask=",), ("--dask", " ")])
def test_an_option_that_is_empty_is_not_one_that_is_left_out(capsys, monkeypatch, words):
    """As of a variable of the shell's that is not set."""
    monkeypatch.setattr(sys, "argv", ["hsn-v1", "segment", "x.png", *words])
    assert exit_status(lambda: 0) == 2
    assert capsys.readouterr().err == "error: --dask '': nothing is given; give a value, or leave it out\n"


@pytest.mark.parametrize("error", [ImportError("failed to map segment"), MemoryError(), OSError(12, "No memory")])
def test_too_little_memory_is_one_line(monkeypatch, capsys, error):
    monkeypatch.setattr(common, "narrow_memory", lambda least=0: "" if least else "raise the limit")
    assert exit_status(raising(error)) == 2
    assert capsys.readouterr().err == "error: raise the limit\n"
    monkeypatch.setattr(common, "narrow_memory", lambda least=0: "")
    with pytest.raises(type(error)):
        exit_status(raising(error))
    monkeypatch.setattr(common, "narrow_memory", lambda least=0: f"{least}")  # as soon as a command begins
    assert exit_status(lambda: 0) == 2
    assert capsys.readouterr().err == f"error: {common.LEAST_ADDRESS_SPACE}\n"


def test_help_ends_well_and_a_wrong_option_does_not():
    assert exit_status(raising(SystemExit(0))) == 0
    with pytest.raises(SystemExit, match="2"):
        exit_status(raising(SystemExit(2)))


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_end_is_no_traceback(number):
    program = (
        "import os, sys, threading; from hsn_v1.commands.common import exit_status; status = exit_status(lambda: 0);"
        f"threading._register_atexit(os.kill, os.getpid(), {int(number)}); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-number, "")


def test_a_name_that_would_break_the_line_or_command_the_terminal_is_escaped(capsys):
    tell(["a\nb\x1b[31m.png: damaged"], ["\u202egnp.exe: damaged", "naïve 图.png: damaged"])
    assert capsys.readouterr().err == (
        "note: a\\nb\\x1b[31m.png: damaged\nfailed: \\u202egnp.exe: damaged\nfailed: naïve 图.png: damaged\n"
    )
