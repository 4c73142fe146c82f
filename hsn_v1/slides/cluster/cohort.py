"""A list of slides on a Dask cluster: each worker loads the classifier once, and segments a slide at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import cv2

from ...classify import Classifier
from ...errors import InputError
from ...io.memory import keep_freed_memory
from ...io.models import find_model, load_histonet, model_files, read_crfs, read_taxonomy
from ...labels import Taxonomy
from ...slide_io.slide import open_slide
from ..plan import Method, Outcome
from ..segment_many import Scale, attempt, now_running, once_free
from ..segment_slide import segment_opened
from ..slide_list import Entry
from .dask_engine import cluster_client, run_on_dask
from .dask_workers import check_workers, telling_of_no_workers


@dataclass(frozen=True)
class Job:
    """What a worker needs to segment an entry of a list; all paths are absolute, on a file system that all share.

    Attributes
    ----------
    root : Path
        Folder that has ``data``.
    out : Path
    model : str
        Classifier of entries that name none.
    labels : str or None
        Label set of entries that name none; None for the classifier's default.
    scale : Scale
        Of entries that say nothing of it.
    options : tuple
        `Method`'s, after its CRFs.
    precision : str
    threads : int
        Threads that a slide may use.
    force : bool
    """

    root: Path
    out: Path
    model: str
    labels: str | None
    scale: Scale
    options: tuple = ()
    precision: str = "float32"
    threads: int = 1
    force: bool = False


@lru_cache(maxsize=2)
def classifier_of(root: Path, model: str, precision: str, threads: int) -> Classifier:
    """Return a classifier, loaded once in a process."""
    return load_histonet(find_model(root, model), model, threads, precision)


def method_for(
    root: Path, taxonomy: Taxonomy, model: str, labels: str | None, options: tuple
) -> tuple[Method, tuple[str, ...]]:
    """Return how a label set, or the classifier's default, is segmented, and what the user should know."""
    label_sets = taxonomy.group(labels or taxonomy.default_group)
    crfs, notes = read_crfs(find_model(root, model), model, label_sets)
    return Method(label_sets, crfs, *options), notes


def unknown_methods(job: Job, entries: Sequence[Entry]) -> list[str]:
    """Return what is wrong with the classifiers and label sets that entries name: one line each."""
    problems = {}
    for entry in entries:
        model, labels = entry.model or job.model, entry.labels or job.labels
        if (model, labels) in problems:
            continue
        folder = find_model(job.root, model)
        try:
            model_files(folder, model)
            method_for(job.root, read_taxonomy(folder, model), model, labels, job.options)
            problems[model, labels] = ""
        except InputError as error:
            problems[model, labels] = f"{entry.name}: {error}"
    return [problem for problem in problems.values() if problem]


def segment_on_worker(job: Job, entry: Entry, check: Callable[[], None] = lambda: None) -> Outcome:
    """Segment an entry in this process; whatever goes wrong with it is its failed outcome.

    Parameters
    ----------
    job : Job
    entry : Entry
    check : callable
        Called every now and then; what it raises ends the work.
    """
    keep_freed_memory()
    cv2.setNumThreads(1)  # the declared threads are those of the classifier and of the CRF

    def task() -> Outcome:
        model = entry.model or job.model
        classifier = classifier_of(job.root, model, job.precision, job.threads)
        method, _ = method_for(job.root, classifier.labels, model, entry.labels or job.labels, job.options)
        with open_slide(entry.path, entry.mpp or job.scale.mpp, job.scale.override) as slide:
            options = {"workers": job.threads, "force": job.force, "name": entry.name, "columns": entry.columns}
            return segment_opened(
                slide, classifier, method, job.out, progress=lambda stage, done, total: check(), **options
            )

    return attempt(entry, job.out, lambda: once_free(task, check))


def segment_on_dask(
    entries: Sequence[Entry],
    job: Job,
    where: str,
    workers: int,
    on_change: Callable[[Outcome], None] = lambda outcome: None,
) -> Iterator[Outcome]:
    """Segment entries on a Dask cluster; yield outcomes as they are done.

    Parameters
    ----------
    entries : sequence of Entry
    job : Job
    where : str
        See `dask_engine.cluster_client`.
    workers : int
        Number of workers where `where` names none.
    on_change : callable
        Called with each outcome as an entry begins to run and as it ends, from several threads.
    """
    with cluster_client(where, workers) as client:
        check_workers(client, job.out)

        def begun(entry: Entry, place: str) -> None:
            on_change(now_running(entry, job.out, place))

        with telling_of_no_workers(client):
            for entry, outcome in run_on_dask(client, partial(segment_on_worker, job), entries, job.out, begun):
                if isinstance(outcome, str):
                    outcome = Outcome(entry.path, job.out / entry.name, "failed", outcome, columns=entry.columns)
                on_change(outcome)
                yield outcome
