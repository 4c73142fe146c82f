"""Test and time cohorts of phantom slides on a Dask scheduler and workers, all separate processes on this machine.

    python benchmarks/bench_cohort.py survive [--count 40] [--kills 10]
    python benchmarks/bench_cohort.py left
    python benchmarks/bench_cohort.py efficiency [--count 40]
    python benchmarks/bench_cohort.py threads

``survive`` segments a list of slides of mixed sizes, five of them bad in different ways, without Dask and then on three
workers. Meanwhile it kills (-9) workers at random moments, the client once and the scheduler once. Then it checks which
slides are done, that no finished slide was segmented again, that all files are equal, byte for byte except for the
seconds in ``run.json``, and that no process is left. ``left`` kills only the command, without Dask and with
``--dask local``, and prints which of its processes are left after a minute. ``efficiency`` times the list on one
worker of one core, on two, and without Dask on two cores; it needs an idle machine. ``threads`` prints how many cores a
worker of 1 or 2 declared threads keeps busy, and each thread's share of the time. Slides are made once, in --folder.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import tifffile
from measuring import REPOSITORY, environment, marked
from PIL import Image
from rich.console import Console
from rich.table import Table

from hsn_v1.commands.common import PHANTOM_MODEL
from hsn_v1.phantoms.phantom_slide import write_slide


@dataclass(frozen=True)
class Cohort:
    """A list of slides, the classifier to segment it with, and a mark of the processes.

    Attributes
    ----------
    table : Path
    good, bad : tuple of str
        Names of the slides.
    root : Path
        Folder with ``data``.
    model : str
    mark : str
        Mark of all processes, see `measuring.marked`.
    """

    table: Path
    good: tuple[str, ...]
    bad: tuple[str, ...]
    root: Path
    model: str
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)


def write_cohort(folder: Path, count: int, sizes: Sequence[int], root: Path, model: str) -> Cohort:
    """Write `count` slides, five of them bad, and their list; good slides that exist are kept."""
    good = [f"slide_{number:02d}.tif" for number in range(count - 5)]
    for number, name in enumerate(good):
        if not (folder / name).exists():
            write_slide(folder / name, sizes[number % len(sizes)], mpp=0.5, seed=number)
    bad = ["text.tif", "cut_off.tif", "no_scale.png", "deep.tif", "stack.tif"]
    whole = (folder / good[0]).read_bytes()
    (folder / bad[0]).write_text("no slide")
    (folder / bad[1]).write_bytes(whole[: len(whole) // 3])
    Image.new("RGB", (300, 300)).save(folder / bad[2])
    tifffile.imwrite(folder / bad[3], np.zeros((300, 300, 3), np.uint16), photometric="rgb")
    tifffile.imwrite(folder / bad[4], np.zeros((2, 300, 300, 3), np.uint8), photometric="rgb")
    table = folder / f"list_{count}.csv"
    names = sorted([*good, *bad], key=lambda name: uuid.uuid5(uuid.NAMESPACE_URL, name))
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "mpp", "patient"])
        writer.writerows([name, "0.5" if name in bad[3:] else "", f"P{i}"] for i, name in enumerate(names))
    return Cohort(table, tuple(good), tuple(bad), root, model)


def start(cohort: Cohort, *arguments: object, core: int | None = None, **options) -> subprocess.Popen:
    """Start a Python module as a marked process in a new session, pinned to `core` if given."""
    pin = ["taskset", "-c", str(core)] if core is not None else []
    return subprocess.Popen(
        [*pin, sys.executable, "-m", *map(str, arguments)],
        cwd=REPOSITORY,
        env=environment(cohort.mark),
        start_new_session=True,
        **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options},
    )


def start_command(cohort: Cohort, out: Path, *options: object) -> subprocess.Popen:
    """Start the command that segments the list; its stderr goes to ``OUT.log``."""
    fixed = ("--list", cohort.table, "--root", cohort.root, "--model", cohort.model, "--out", out, "--quiet")
    with Path(f"{out}.log").open("w") as log:
        return start(cohort, "hsn_v1", "segment", *fixed, *options, stderr=log)


def end_all(processes: list[subprocess.Popen]) -> None:
    """Kill processes and their sessions."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    processes.clear()


class Cluster:
    """A scheduler and its workers."""

    def __init__(self, cohort: Cohort, folder: Path, workers: int, cores: Sequence[int | None] = ()) -> None:
        self.cohort, self.file = cohort, folder / "scheduler.json"
        self.scheduler: list[subprocess.Popen] = []
        self.workers: list[subprocess.Popen] = []
        self.start_scheduler()
        for core in cores or [None] * workers:
            self.start_worker(core)

    def start_scheduler(self) -> None:
        """Start a scheduler, and wait for its file."""
        self.file.unlink(missing_ok=True)
        options = ("--host", "127.0.0.1", "--port", 0, "--dashboard-address", "127.0.0.1:0")
        self.scheduler.append(
            start(self.cohort, "distributed.cli.dask_scheduler", *options, "--scheduler-file", self.file)
        )
        while not self.file.exists():
            time.sleep(0.1)

    def start_worker(self, core: int | None = None) -> None:
        """Start a worker of one slide at a time."""
        options = (
            "--nthreads",
            1,
            "--death-timeout",
            30,
            "--no-dashboard",
            "--local-directory",
            self.file.parent / "scratch",
        )
        worker = start(self.cohort, "distributed.cli.dask_worker", "--scheduler-file", self.file, *options, core=core)
        self.workers.append(worker)

    def end(self) -> None:
        """Kill the scheduler and its workers."""
        end_all(self.workers)
        end_all(self.scheduler)


@contextlib.contextmanager
def cluster(cohort: Cohort, folder: Path, workers: int, cores: Sequence[int | None] = ()) -> Iterator[Cluster]:
    """Start a cluster, yield it, and kill it in the end."""
    running = Cluster(cohort, folder, workers, cores)
    try:
        yield running
    finally:
        running.end()


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """Return the finished slides of a folder, with inode and time of their records, which change if one is redone."""
    records = {}
    for record in out.glob("*/run.json"):
        state = record.stat()
        records[record.parent.name] = state.st_ino, state.st_mtime_ns
    return records


def contents(out: Path) -> dict[str, bytes]:
    """Return the contents of all result files, without the seconds in ``run.json``."""
    files = {}
    for path in out.glob("*/**/*"):
        if path.is_file() and not path.relative_to(out).parts[0].startswith("."):
            content = path.read_bytes()
            if path.name == "run.json":
                record = json.loads(content)
                record["facts"].pop("seconds")
                content = json.dumps(record).encode()
            files[path.relative_to(out).as_posix()] = content
    return files


def is_held(claim: Path) -> bool:
    """Return whether a claim's owner is alive; a killed worker's claim stays until its slide is resumed."""
    with contextlib.suppress(OSError, ValueError):
        return psutil.pid_exists(json.loads(claim.read_text())["pid"])
    return False


def statuses(out: Path) -> dict[str, tuple[str, str]]:
    """Return status and reason of each slide, by name, from ``status.csv``."""
    with (out / "status.csv").open(newline="", encoding="utf-8") as file:
        return {row["name"]: (row["status"], row["reason"]) for row in csv.DictReader(file)}


def wait_for(condition, seconds: float) -> float:
    """Wait until a condition holds; return the seconds, or infinity after a timeout."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            return float("inf")
        time.sleep(0.2)
    return time.monotonic() - began


def survive(cohort: Cohort, folder: Path, kills: int, workers: int, seed: int, console: Console) -> bool:
    """Segment a list while workers, client and scheduler are killed; return whether all checks held."""
    plain, out = folder / "plain", folder / "dask"
    for path in (plain, out):
        shutil.rmtree(path, ignore_errors=True)
    began = time.monotonic()
    if (status := start_command(cohort, plain).wait()) != 1:
        raise SystemExit(f"the run without Dask ended with {status}: {Path(f'{plain}.log').read_text()}")
    console.print(f"without Dask: {time.monotonic() - began:.0f} s")
    rng, seen, again = random.Random(seed), {}, set()
    events = ["worker"] * kills + ["client", "scheduler"]
    rng.shuffle(events)
    moments = sorted(rng.uniform(0, 0.9 * len(cohort.good)) for _ in events)
    held = []

    def check(what: str, holds: bool, more: str = "") -> None:
        held.append(holds)
        console.print(f"{'held' if holds else 'FAILED'}: {what}{more}", highlight=False, soft_wrap=True)

    def look() -> int:
        now = finished(out)
        again.update(name for name in seen if now.get(name) != seen[name])
        seen.update(now)
        return len(now)

    began = time.monotonic()
    with cluster(cohort, folder, workers) as running:
        client = start_command(cohort, out, "--dask", running.file)
        while client.poll() is None:
            if events and look() >= moments[0]:
                time.sleep(rng.uniform(0, 2))
                moments.pop(0)
                client = strike(events.pop(0), running, client, out, rng, check)
            time.sleep(0.1)
        look()
        check("exit status 1, as some slides are bad", client.returncode == 1, f" ({client.returncode})")
        check("all killed before the end", not events, f" ({len(events)} left)")
    console.print(f"on {workers} workers, killed again and again: {time.monotonic() - began:.0f} s")
    check("nothing that was finished was done again", not again, f" {sorted(again)}")
    actual, expected = statuses(out), statuses(plain)
    lost = [name for name in cohort.good if actual[name][0] not in ("done", "done before")]
    check("nothing lost", not lost, f" {[(name, *actual[name]) for name in lost]}")
    reasons = {name: actual[name] for name in cohort.bad}
    check("the bad ones are named", all(actual[name][0] == "failed" and actual[name][1] for name in cohort.bad))
    check("with the reasons of the run without Dask", reasons == {name: expected[name] for name in cohort.bad})
    for name, (_, reason) in reasons.items():
        console.print(f"    {name}: {reason}", highlight=False, soft_wrap=True)
    ours_now, theirs = contents(out), contents(plain)
    different = {path for path in ours_now | theirs if ours_now.get(path) != theirs.get(path)}
    check(
        f"{len(theirs)} files are the same, byte for byte",
        not different,
        f" but {sorted(different)[:5]}" * bool(different),
    )
    seconds = wait_for(lambda: not marked(cohort.mark), 60)
    check(
        "no process left", seconds < 60, f" {[process.cmdline() for process in marked(cohort.mark)]}" * (seconds > 60)
    )
    return all(held)


def strike(
    event: str, running: Cluster, client: subprocess.Popen, out: Path, rng: random.Random, check
) -> subprocess.Popen:
    """Kill a worker, the client or the scheduler, start a replacement, and return the client."""
    if event == "worker":
        nanny = rng.choice(running.workers)
        children = psutil.Process(nanny.pid).children()
        if rng.random() < 0.5 and children:  # the nanny restarts it
            with contextlib.suppress(psutil.Error):
                rng.choice(children).kill()
        else:
            running.workers.remove(nanny)
            end_all([nanny])
            running.start_worker()
        return client
    if event == "client":
        end_all([client])
        seconds = wait_for(lambda: not any(map(is_held, out.glob("*/.claim"))), 60)
        check("client killed: no worker has a slide", seconds <= 60, f" after {seconds:.1f} s")
    else:
        end_all(running.scheduler)
        seconds = wait_for(lambda: client.poll() is not None, 90)
        log = Path(f"{out}.log").read_text()
        holds = client.poll() == 2 and log.startswith("error: the Dask scheduler") and log.count("\n") == 1
        check("scheduler killed: the client says so in one line", holds, f" after {seconds:.1f} s: {log.strip()}")
        end_all([client])
        seconds = wait_for(lambda: all(worker.poll() is not None for worker in running.workers), 60)
        check("scheduler killed: its workers end", seconds <= 60, f" after {seconds:.1f} s")
        count = len(running.workers)
        end_all(running.workers)
        running.start_scheduler()
        for _ in range(count):
            running.start_worker()
    return start_command(running.cohort, out, "--dask", running.file)


def left(cohort: Cohort, folder: Path, console: Console) -> bool:
    """Kill the command while it works; print and return whether all its processes end."""
    held = True
    for options in ((), ("--dask", "local:2")):
        out = folder / "left"
        shutil.rmtree(out, ignore_errors=True)
        command = start_command(cohort, out, *options)
        wait_for(lambda out=out: list(out.glob("*/.claim")), 60)
        time.sleep(2)
        count = len(marked(cohort.mark))
        command.kill()
        command.wait()
        seconds = wait_for(lambda: not marked(cohort.mark), 60)
        log = Path(f"{out}.log").read_text()
        held &= seconds <= 60 and not log
        end_all([command])
        console.print(
            f"{' '.join(options) or 'without Dask'}: {count} processes gone after {seconds:.1f} s; said {log!r}"
        )
    return held


def timed(cohort: Cohort, out: Path, *options: object) -> float:
    """Segment the list; return the seconds."""
    shutil.rmtree(out, ignore_errors=True)
    began = time.monotonic()
    if (status := start_command(cohort, out, *options).wait()) != 1:
        raise SystemExit(f"exit status {status}: {Path(f'{out}.log').read_text()}")
    return time.monotonic() - began


def efficiency(cohort: Cohort, folder: Path, console: Console) -> None:
    """Time the list on one worker of one core, on two, and without Dask."""
    out, seconds = folder / "efficiency", {}
    for cores in ((0,), (0, 1)):
        with cluster(cohort, folder, len(cores), cores) as running:
            seconds[len(cores)] = timed(cohort, out, "--dask", running.file)
    seconds["local"] = timed(cohort, out, "--dask", "local:2")
    seconds["plain"] = timed(cohort, out, "--workers", 2)
    table = Table("", "seconds")
    table.add_row("one worker of one core", f"{seconds[1]:.1f}")
    table.add_row("two workers of one core", f"{seconds[2]:.1f}")
    table.add_row("--dask local:2", f"{seconds['local']:.1f}")
    table.add_row("without Dask, two cores", f"{seconds['plain']:.1f}")
    console.print(table)
    console.print(f"two workers take {seconds[2] / seconds[1]:.2f} of the time of one (target: at most 0.6)")
    console.print(f"Dask takes {seconds['local'] / seconds['plain'] - 1:+.0%} against none (target: at most +5 %)")


def threads(cohort: Cohort, folder: Path, console: Console) -> None:
    """Print how many cores a worker of 1 and of 2 threads keeps busy, its memory, and its threads' shares of time."""
    for count in (1, 2):
        out = folder / "threads"
        shutil.rmtree(out, ignore_errors=True)
        with cluster(cohort, folder, 1) as running:
            client = start_command(cohort, out, "--dask", running.file, "--workers", count)
            wait_for(lambda out=out: list(out.glob("*/.claim")), 60)
            (worker,) = [
                child
                for child in psutil.Process(running.workers[0].pid).children()
                if "spawn_main" in " ".join(child.cmdline())
            ]
            busy, peak, seconds = [], 0, {}
            worker.cpu_percent()
            while client.poll() is None:
                time.sleep(1)
                with contextlib.suppress(psutil.Error):
                    busy.append(worker.cpu_percent() / 100)
                    peak = max(peak, worker.memory_info().rss)
                    seconds |= {thread.id: thread.user_time + thread.system_time for thread in worker.threads()}
            shares = sorted((value / sum(seconds.values()) for value in seconds.values()), reverse=True)
            console.print(
                f"{count} declared: {np.mean(busy):.2f} cores busy on average, in 95 % of seconds at most "
                f"{np.quantile(busy, 0.95):.2f}, {peak / 1e9:.1f} GB; shares of its "
                f"{len(shares)} threads: {', '.join(f'{share:.0%}' for share in shares[:6])}"
            )


def main() -> int:
    """Run the chosen benchmark; return 1 if a check did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["survive", "left", "efficiency", "threads"])
    parser.add_argument("--count", type=int, default=40, help="slides, of which five are bad (default: 40)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[1000, 1500, 2000, 3000], help="sides, in px at 0.5 mpp"
    )
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10, help="of workers (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills")
    parser.add_argument("--model", default=PHANTOM_MODEL)
    parser.add_argument("--root", type=Path, default=REPOSITORY)
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "out" / "bench_cohort")
    arguments = parser.parse_args()
    folder, console = arguments.folder.resolve(), Console(width=120)
    cohort = write_cohort(folder, arguments.count, arguments.sizes, arguments.root.resolve(), arguments.model)
    if arguments.what == "survive":
        return not survive(cohort, folder, arguments.kills, arguments.workers, arguments.seed, console)
    if arguments.what == "left":
        return not left(cohort, folder, console)
    (efficiency if arguments.what == "efficiency" else threads)(cohort, folder, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
