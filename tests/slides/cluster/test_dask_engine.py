"""Slides on the workers of a Dask cluster: nothing is lost with a worker, and what kills every worker is given up."""

import contextlib
import gc
import os
import platform
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from dask_work import numbered, work

from hsn_v1.errors import InputError
from hsn_v1.slides.cluster import connect
from hsn_v1.slides.cluster.connect import check_workers, cluster_client, noting_missing_workers
from hsn_v1.slides.cluster.dask_engine import outcomes_of

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[2]
REPOSITORY = TESTS.parent
DASK_WORKER = "distributed.cli.dask_worker"

pytest.importorskip("distributed")
dask = pytest.importorskip("dask")


@pytest.fixture(scope="module")
def local(forked_workers):
    with cluster_client("local:2", 1, print) as client:
        yield client


def outcomes(client, segment, count, folder, on_change=lambda outcome: None):
    """Return what comes of numbered inputs, by their numbers."""
    done = outcomes_of(client, segment, numbered(count), folder, pytest.fail, on_change)
    return {int(outcome.folder.name): outcome.reason or outcome.status for outcome in done}


def test_all_is_done_or_named_whatever_dies(local, tmp_path):
    local.wait_for_workers(2)
    assert check_workers(local, tmp_path) == 2
    begun = []

    def on_change(outcome):
        if outcome.status == "running":
            begun.append((int(outcome.folder.name), outcome.where))

    found = outcomes(local, partial(work, tmp_path), 8, tmp_path, on_change)
    assert {number for number, status in found.items() if status == "done"} == {*range(8)} - {4, 5}
    assert found[4].startswith("its worker died 3 times") and len(list(tmp_path.glob("4.*"))) == 3
    assert found[5] == "ValueError: not this"
    # It is told by another way than the outcomes, which may be slower.
    assert soon(lambda: {number for number, _ in begun} >= {*range(8)} - {4})
    assert len({where for _, where in begun}) >= 3


def test_a_worker_that_does_not_see_the_folder_is_named(local, tmp_path, monkeypatch):
    local.wait_for_workers(2)
    for answer, message in (
        (None, "does not see it; inputs and results must lie on a file sys"),
        ("0.1", r"has hsn_v1 0\.1, here is .*: install the same everywhere"),
    ):
        monkeypatch.setattr("hsn_v1.slides.cluster.connect._version_if_seen", lambda token, answer=answer: answer)
        with pytest.raises(InputError, match=rf"worker tcp://.* {message}"):
            check_workers(local, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("tcp://127.0.0.1:9", r"tcp://127.0.0.1:9: no scheduler answers there"),
        ("tls://127.0.0.1:9", r"tls://127.0.0.1:9: no scheduler answers there \(.*TLS"),
        ("ucx://127.0.0.1:9", r"ucx://127.0.0.1:9: no scheduler answers there"),
        ("nonsense://x", r"nonsense://x: no scheduler answers there"),
        ("nonsense", r"nonsense: no scheduler answers there"),
        ("tcp://127.0.0.1:port", r"tcp://127.0.0.1:port: no scheduler answers there"),
        ("none.json", r"none\.json: no such file; start a scheduler"),
        ("list.json", r"list\.json: no scheduler file, which is the JSON that"),
        ("dask.yaml", r"dask\.yaml: no scheduler file, which is the JSON that"),
        ("folder.json", r"folder\.json: no scheduler file"),
        ("local:0", "local:0: expected local or local:N, with a number of workers from 1"),
        ("local:abc", "local:abc: expected local or local:N"),
        ("local:", "local:: expected local or local:N"),
        ("local:-1", "local:-1: expected local or local:N"),
        ("slurm:0", "slurm:0: expected slurm or slurm:N"),
        ("slurm:2x", "slurm:2x: expected slurm or slurm:N"),
    ],
)
def test_what_is_no_scheduler_is_one_line(tmp_path, monkeypatch, where, message):
    monkeypatch.setattr("hsn_v1.slides.cluster.connect.ANSWER", 0.3)
    monkeypatch.chdir(tmp_path)
    Path("dask.yaml").write_text("distributed:\n  comm: tcp\n")
    Path("list.json").write_text("[1]")
    Path("folder.json").mkdir()
    with pytest.raises(InputError, match=message) as raised, cluster_client(where, 1, pytest.fail):
        pass
    assert "\n" not in str(raised.value)


def test_a_client_that_failed_is_gone_before_another_starts(monkeypatch):
    """It closes itself when it is collected; while another starts, it would wait for ever for the lock of that one."""
    from distributed import Client

    def clients():
        return [thing for thing in gc.get_objects() if type(thing) is Client]

    monkeypatch.setattr(connect, "ANSWER", 0.3)
    gc.collect()
    gc.disable()
    before = len(clients())
    try:
        for _ in range(2):
            with contextlib.suppress(InputError), cluster_client("tcp://127.0.0.1:1", 1, pytest.fail):
                pass
        monkeypatch.setattr(connect, "_client", lambda *_: contextlib.nullcontext(len(clients())))
        with cluster_client("tcp://127.0.0.1:1", 1, pytest.fail) as count:
            assert count == before
    finally:
        gc.enable()


def test_settings_of_dask_that_cannot_be_read_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "dask.yaml").write_text("a: [1\nb: : c")
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path))
    program = "from hsn_v1.slides.cluster.connect import cluster_client as c\nwith c('local', 1, print): pass"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert re.search(r"InputError: Dask's settings cannot be read \(.*dask\.yaml.*\); mend them", done.stderr)


CLIENT = "import sys, dask_work; dask_work.client(*sys.argv[1:])"


@pytest.fixture(scope="module")
def start():
    """Return a function that starts Python in a group of its own, which is ended with the module."""
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{REPOSITORY}"}
    started = []

    def start(*arguments, stderr=subprocess.DEVNULL):
        options = {"start_new_session": True, "stderr": stderr, "text": True, "env": environment}
        started.append(subprocess.Popen([sys.executable, *map(str, arguments)], **options))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def scheduler(start, tmp_path_factory):
    """Start a scheduler; return it with its file and with what starts workers of it."""
    folder = tmp_path_factory.mktemp("cluster")
    file = folder / "scheduler.json"
    options = ("--host", "127.0.0.1", "--port", 0, "--dashboard-address", "127.0.0.1:0", "--scheduler-file", file)
    process = start("-m", "distributed.cli.dask_scheduler", *options)
    assert appears(file)
    options = ("--nthreads", 1, "--no-dashboard", "--local-directory", folder / "scratch", "--scheduler-file", file)
    return SimpleNamespace(process=process, file=file, worker=partial(start, "-m", DASK_WORKER, *options))


@pytest.fixture
def clients(start, scheduler, tmp_path):
    """Return a function that starts clients whose items go on for ever, each with a folder of its own, side by side."""

    def begin(*names, where=scheduler.file):
        for name in names:
            (tmp_path / name).mkdir()
        options = {"stderr": subprocess.PIPE}
        return {tmp_path / name: start("-c", CLIENT, where, tmp_path / name, **options) for name in names}

    return begin


def soon(check, seconds=60):
    """Wait until a check is true, and return whether it came to be."""
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(check())


def appears(path):
    return soon(path.exists)


STOPS = (signal.SIGKILL, -9, ""), (signal.SIGTERM, 143, "terminated\n"), (signal.SIGINT, 130, "interrupted\n")


def test_clients_workers_and_schedulers_that_end_free_each_other(scheduler, clients, tmp_path):
    worker, stopped = scheduler.worker(), clients("1", "2", "3")
    for number, status, message in STOPS:  # one of them has the worker, the others wait for it
        assert soon(lambda: any((folder / "begun").exists() for folder in stopped))
        folder = next(folder for folder in stopped if (folder / "begun").exists())
        process = stopped.pop(folder)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (status, message)
        assert appears(folder / "stopped")
        assert worker.poll() is None  # ready for the next

    ((folder, waiting),) = clients("waiting").items()
    assert appears(folder / "begun")
    worker.terminate()
    assert appears(folder / "stopped")
    worker.wait(timeout=60)
    assert waiting.poll() is None  # waits for another worker
    assert not list(folder.glob(".deaths.*/*"))

    (folder / "begun").unlink()
    unfit = []
    for number, preload in enumerate(UNFIT.values()):
        (tmp_path / f"unfit_{number}.py").write_text(preload)
        alone = ["--no-nanny"] * (number > 0)  # a nanny must not start it again, either
        unfit.append(scheduler.worker("--preload", tmp_path / f"unfit_{number}.py", *alone))
    for process in unfit:
        process.wait(timeout=60)  # sent away
    assert waiting.poll() is None and not (folder / "begun").exists()
    (folder / "stopped").unlink()
    fit = scheduler.worker("--no-nanny")
    assert appears(folder / "begun")
    scheduler.process.kill()
    _, said = waiting.communicate(timeout=60)
    for reason in UNFIT:
        assert re.search(rf"note: worker tcp://\S+ was ended: .*{reason}", said)
    assert re.search(r"\nerror: the Dask scheduler tcp://\S+ is gone; what is done is kept: .*\n\Z", said), said
    assert said.count("error: ") == 1 and waiting.returncode == 2
    assert appears(folder / "stopped")
    fit.wait(timeout=60)


#: What makes a worker unfit, by the reason that is given for it.
UNFIT = {
    r"cannot run hsn_v1 .*: install it there": "import sys; sys.modules['hsn_v1'] = None",
    r"has hsn_v1 0\.1, not .*: install the same everywhere": "import hsn_v1; hsn_v1.__version__ = '0.1'",
    "does not see it; inputs and results must lie on a file system": (
        "import os, genericpath as g; os.path.isdir = lambda path: '.deaths' not in str(path) and g.isdir(path)"
    ),
}


def test_a_local_cluster_ends_with_its_client(clients):
    started = clients("killed", "interrupted", where="local:1")
    for (folder, local), (number, status, message) in zip(started.items(), STOPS[::2], strict=True):
        assert appears(folder / "begun")
        (os.kill if number == signal.SIGKILL else os.killpg)(local.pid, number)  # Ctrl-C is for the whole group
        _, said = local.communicate(timeout=60)  # until all that share its stderr are gone
        assert (local.returncode, said) == (status, message)


def test_it_is_told_that_there_is_no_worker():
    class Client:
        workers: ClassVar = [{}, {}, {}, {"tcp://here": 1}, {}, {}]

        def nthreads(self):
            return self.workers.pop(0)

    client, notes = Client(), []
    with noting_missing_workers(client, notes.append, alone=0.02, pause=0.01):
        assert soon(lambda: not client.workers)
    assert notes == 2 * ["there is no Dask worker; waiting for one"]


SBATCH = """#!/bin/sh
job=$(mktemp "$HSN_JOBS/job.XXXXXX")
cp "$1" "$job"
setsid sh "$job" >>"$HSN_JOBS/log" 2>&1 &
echo "Submitted batch job $!"
echo $! >>"$HSN_JOBS/jobs"
"""
SCANCEL = """#!/bin/sh
kill -TERM -- "-$1"
"""


@pytest.fixture
def batch_system(tmp_path, monkeypatch):
    """Put commands on the path that run jobs here, in the background, as SLURM's are called."""
    pytest.importorskip("dask_jobqueue")  # before what it adds to Dask's settings would be taken back
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(text)
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("HSN_JOBS", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}:{REPOSITORY}")  # for jobs to find `work`
    settings = {"cores": 1, "processes": 1, "memory": "2GB", "local_directory": str(tmp_path / "scratch")}
    settings = {f"jobqueue.slurm.{name.replace('_', '-')}": value for name, value in settings.items()}
    with dask.config.set({**settings, "distributed.deploy.lost-worker-timeout": "1s"}):
        yield tmp_path / "jobs"


def groups(jobs):
    """Return the process groups of jobs that run."""
    alive = set()
    for job in map(int, jobs.read_text().split()):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job, 0)
            alive.add(job)
    return alive


def test_jobs_of_a_batch_system_are_submitted_again_when_they_end(batch_system, tmp_path):
    (tmp_path / "out").mkdir()
    with cluster_client("slurm:2", 1, pytest.fail) as client:
        client.wait_for_workers(2, timeout=60)
        jobs = [int(line) for line in batch_system.read_text().split()]
        assert len(jobs) == 2
        os.killpg(jobs[0], signal.SIGKILL)
        found = outcomes(client, partial(work, tmp_path / "out"), 3, tmp_path)
        assert found == dict.fromkeys(range(3), "done")
        assert soon(lambda: len(batch_system.read_text().split()) == 3)
        client.wait_for_workers(2, timeout=60)
    assert soon(lambda: not groups(batch_system))


def test_jobs_that_cannot_be_submitted_are_named(batch_system, tmp_path):
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho 'invalid partition: abnormal' >&2\nexit 1\n")
    message, notes = r"Dask on slurm: jobs cannot be submitted \(.*invalid partition: abnormal", []
    with pytest.raises(InputError, match=message), cluster_client("slurm:2", 1, notes.append):
        pass
    assert set(notes) == {"a job cannot be submitted (invalid partition: abnormal)"}


def test_a_network_or_a_batch_system_that_is_not_there_is_one_line(batch_system, monkeypatch):
    message = r"slurm:1: cannot be started \(.*ib0.*\); see docs/cluster\.md"
    with dask.config.set({"jobqueue.slurm.interface": "ib0"}), pytest.raises(InputError, match=message):
        cluster_client("slurm:1", 1, pytest.fail).__enter__()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="Dask on slurm: no command sbatch here"):
        cluster_client("slurm", 1, pytest.fail).__enter__()


FREED = """
import resource
import numpy as np
from hsn_v1.slides.cluster.dask_engine import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(1 << 22, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_freed_memory() or faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc")
def test_freed_memory_is_used_again_though_dask_has_it_given_back():
    # In huge pages there are few faults either way.
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536", "NUMPY_MADVISE_HUGEPAGE": "0"}
    given_back, kept = subprocess.check_output([sys.executable, "-c", FREED], env=environment, text=True).split()
    assert int(kept) < int(given_back) / 4
