"""A list of slides on a Dask cluster: each worker loads the classifier once, and segments a slide at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from ..classify import Classifier
from ..files.models import find_model, load_histonet, read_crfs
from ..files.slide import open_slide
from ..labels import Taxonomy
from .dask_engine import check_workers, cluster_client, run_on_dask
from .many import Scale, attempt, segment_entry
from .method import Method, Outcome
from .slide_list import Entry


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


def segment_on_worker(job: Job, entry: Entry) -> Outcome:
    """Segment an entry in this process; whatever goes wrong with it is its failed outcome."""

    def task() -> Outcome:
        model = entry.model or job.model
        classifier = classifier_of(job.root, model, job.precision, job.threads)
        method, _ = method_for(job.root, classifier.labels, model, entry.labels or job.labels, job.options)
        with open_slide(entry.path, entry.mpp or job.scale.mpp, job.scale.override) as slide:
            options = {"workers": job.threads, "force": job.force}
            return segment_entry(entry, slide, classifier, method, job.out, **options)

    return attempt(entry, job.out, task)


def segment_on_dask(
    entries: Sequence[Entry], job: Job, where: str, workers: int, on_start: Callable[[int], None] = lambda count: None
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
    on_start : callable
        Called with the number of workers, before anything is computed.
    """
    with cluster_client(where, workers) as client:
        on_start(check_workers(client, job.out))
        setup = partial(classifier_of, job.root, job.model, job.precision, job.threads)
        for entry, outcome in run_on_dask(client, partial(segment_on_worker, job), entries, job.out, setup):
            if isinstance(outcome, str):
                outcome = Outcome(entry.path, job.out / entry.name, "failed", outcome, columns=entry.columns)
            yield outcome
