"""Kill each command at random moments, let the same command finish, and count leftovers and lost results.

    python benchmarks/kills.py [--kills 10] [--seed 0] [--only "segment slide" demo ...]

Victims are the main process, by SIGKILL, SIGTERM and SIGINT, and one of its workers, by SIGKILL. Within 10 seconds of
each kill, no process, semaphore or shared memory of the command may be left, and it may have printed one line at most.
Then the same command resumes in the same folder until it is killed again. Whenever it finishes, no temporary file may
be left, and all bytes must equal those of a run that was never killed, if the command can repeat them. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import psutil
from cases import Case, cases, digests, leftovers, make_inputs
from measuring import REPOSITORY, environment, marked
from rich.console import Console
from rich.table import Table

VICTIMS = {
    "main -9": signal.SIGKILL,
    "main TERM": signal.SIGTERM,
    "main INT": signal.SIGINT,
    "worker -9": signal.SIGKILL,
}
#: Exit statuses by victim. -15 and -2 occur while Python is starting or ending: nothing is begun, or all is done.
EXPECTED = {"main -9": (-9,), "main TERM": (143, -15), "main INT": (130, -2), "worker -9": (0, 1, 2)}
COLUMNS = ("kills", "finished", "status", "noise", "processes", "semaphores", "leftovers", "differ")


def semaphores(pids: set[int]) -> list[str]:
    """Return the names in shared memory that processes left behind: names contain the process's number."""
    return [path.name for path in Path("/dev/shm").iterdir() if any(f"-{pid}-" in path.name for pid in pids)]


def kill(command: subprocess.Popen, victim: str, seen: set[int]) -> bool:
    """Kill a victim; return whether there was one."""
    main = psutil.Process(command.pid)
    children = main.children(recursive=True)
    seen.update(child.pid for child in children)
    workers = [child for child in children if "LokyProcess" in " ".join(child.cmdline())]
    if victim == "worker -9":
        if not workers:
            return False
        random.choice(workers).kill()
    else:
        main.send_signal(VICTIMS[victim])
    return True


def noise(text: str) -> list[str]:
    """Return the unexpected lines of a killed command's screen: all if there is a traceback, or more than one line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("note: ")]
    return lines if "Traceback" in text or len(lines) > 1 else []


def attempt(case: Case, out: Path, victim: str, delay: float, counts: Counter, details: list[str]) -> bool:
    """Start a command and kill it after `delay` seconds; return whether it finished before."""
    mark = uuid.uuid4().hex
    out.mkdir(exist_ok=True)
    log = out.with_suffix(".log")
    with log.open("w") as screen:
        command = subprocess.Popen(
            case.command(out), cwd=REPOSITORY, env=environment(mark), stdout=subprocess.DEVNULL, stderr=screen
        )
        seen, killed, end = {command.pid}, False, time.monotonic() + delay
        while command.poll() is None and not killed:
            with contextlib.suppress(psutil.NoSuchProcess):
                killed = time.monotonic() > end and kill(command, victim, seen)
            time.sleep(0.02)
        try:
            status = command.wait(60)
        except subprocess.TimeoutExpired:
            status = "hangs"
            command.kill()
    wrong = {}
    if killed:
        counts["kills"] += 1
        wrong["status"] = [] if status in EXPECTED[victim] or status == case.status else [str(status)]
    elif status != case.status:
        wrong["status"] = [f"{status}, not killed"]
    deadline = time.monotonic() + 10
    while (marked(mark) or semaphores(seen)) and time.monotonic() < deadline:
        time.sleep(0.1)
    wrong["processes"] = [" ".join(process.cmdline())[:80] for process in marked(mark)]
    wrong["semaphores"] = semaphores(seen)
    wrong["noise"] = noise(log.read_text(errors="replace"))
    for kind, problems in wrong.items():
        if problems:
            counts[kind] += 1
            details.append(f"{case.name}, {victim} after {delay:.1f} s: {kind}: {' | '.join(problems)[:600]}")
    for process in marked(mark):
        process.kill()
    return not killed or status == case.status


def check_finished(case: Case, out: Path, expected: dict[str, str], counts: Counter, details: list[str]) -> None:
    """Compare the files of a finished command with those of a run that was never killed; count faults."""
    counts["finished"] += 1
    left, written = leftovers(out), digests(out)
    if left:
        counts["leftovers"] += 1
        details.append(f"{case.name}: left over: {', '.join(left[:6])}")
    names = expected.keys() ^ written.keys()
    differ = [name for name in expected.keys() & written.keys() if expected[name] != written[name]]
    if names or (differ and case.repeats):
        counts["differ"] += 1
        details.append(f"{case.name}: differ: {', '.join(sorted({*names, *differ})[:8])}")


def try_case(case: Case, folder: Path, kills: int, rng: random.Random, details: list[str]) -> Counter:
    """Kill a command `kills` times, and let it finish in between and in the end; count faults."""
    counts = Counter()
    clean, out = folder / "clean", folder / "out"
    folder.mkdir(exist_ok=True)
    began = time.monotonic()
    if attempt(case, clean, "main -9", 1e9, (first := Counter()), details) and first["status"]:
        raise SystemExit("\n".join(details))
    seconds, expected = time.monotonic() - began, digests(clean)
    victims = [list(VICTIMS)[number % len(VICTIMS)] for number in range(kills)]
    while victims:
        before = counts["kills"]
        if attempt(case, out, victims[0], rng.uniform(0.5, seconds), counts, details):
            check_finished(case, out, expected, counts, details)
            shutil.rmtree(out)
        if counts["kills"] > before:
            victims.pop(0)
        elif victims[0] == "worker -9":  # no worker was running at that moment, or the command has none
            victims = [*victims[1:], "main -9"]
    attempt(case, out, "main -9", 1e9, counts, details)
    check_finished(case, out, expected, counts, details)
    shutil.rmtree(clean)
    shutil.rmtree(out)
    return counts


def main() -> int:
    """Kill all commands, and print the table; return 1 if there was any fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="of each command (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--only", nargs="+", help="commands (default: all)")
    arguments = parser.parse_args()
    table, details, wrong = Table("command", *COLUMNS), [], 0
    with tempfile.TemporaryDirectory() as folder:
        make_inputs(Path(folder))
        for case in cases(Path(folder)):
            if not arguments.only or case.name in arguments.only:
                rng = random.Random(f"{arguments.seed} {case.name}")
                counts = try_case(case, Path(folder, "run"), arguments.kills, rng, details)
                table.add_row(case.name, *(str(counts[column]) for column in COLUMNS))
                wrong += sum(counts[column] for column in COLUMNS[2:])
                print(f"{case.name}: {dict(counts)}", flush=True)
    Console(width=140).print(table)
    print("\n".join(details))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
