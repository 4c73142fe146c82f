"""Segment many inputs in one run: images side by side, slides one by one. A failed input does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InputError
from ..io import locks
from ..io.locks import LockedError
from ..io.model_files import find_model, model_files, read_crfs, read_taxonomy
from ..io.models import load_histonet
from ..parallel import start_workers
from ..progress import Progress, no_progress, progress_bars, reporter
from ..slide_io.formats import SLIDE_ENDINGS
from .in_memory import WHOLE_PIXELS
from .inputs import Input
from .plan import Method, SlideTask, plan_for
from .results_folder import Outcome, outcome_of, this_process
from .segment_slide import segment_opened
from .tiled import warm_up

if TYPE_CHECKING:
    from ..classify import Classifier
    from ..labels import Taxonomy
    from ..slide_io.slide import Slide

Result = TypeVar("Result")

#: Largest number of images that are segmented side by side: each may take 2 GB.
SIDE_BY_SIDE = 4

#: Seconds after which the locks of a run that died on another machine have expired for sure.
PATIENCE = 1.5 * locks.PATIENCE


@dataclass(frozen=True)
class RunOptions:
    """Options of all inputs of a run. All paths are absolute, as workers on other machines get them, too."""

    root: Path  #: folder that contains ``data``
    out: Path  #: folder in which each input gets a results folder
    model: str  #: classifier of inputs that name none
    method: Method  #: without label sets and CRFs, which come from an input's classifier
    labels: str | None = None  #: label set of inputs that name none; None for the classifier's default
    mpp: float | None = None  #: microns per pixel of inputs that state none
    override: bool = False  #: use `mpp` even if a file states another one
    precision: str = "float32"  #: see `load_histonet`
    workers: int = 1  #: worker processes of a slide, or threads of an image
    force: bool = False  #: begin anew, and replace existing results
    patience: float = 0.0  #: seconds to wait for a slide that another run holds; see `once_free`
    views: tuple[tuple[str, Any], ...] = ()  #: replace those in the classifier's file; see `with_views`

    def kind_of(self, item: Input) -> tuple[str, str | None]:
        """Return the classifier and the label set of an input."""
        return item.model or self.model, item.labels or self.labels

    def method_for(self, taxonomy: Taxonomy, model: str, labels: str | None) -> tuple[Method, tuple[str, ...]]:
        """Return the method for a label set, or for the classifier's default one, and notes on its CRFs."""
        label_sets = taxonomy.group(labels or taxonomy.default_group)
        crfs, notes = read_crfs(find_model(self.root, model), model, label_sets)
        return replace(self.method, label_sets=label_sets, crfs=crfs), notes

    def task(self, item: Input, progress: Progress = no_progress) -> SlideTask:
        """Return an input's task; each process loads the input's classifier once."""
        model, labels = self.kind_of(item)
        classifier = classifier_of(self.root, model, self.precision, self.workers, self.views)
        method, _ = self.method_for(classifier.labels, model, labels)
        item = replace(item, mpp=item.mpp or self.mpp)
        return SlideTask(item, classifier, method, self.out, self.override, self.workers, self.force, progress)


@lru_cache(maxsize=2)
def classifier_of(
    root: Path, model: str, precision: str, threads: int, views: tuple[tuple[str, Any], ...] = ()
) -> Classifier:
    """Return a classifier; each process loads it once."""
    return load_histonet(find_model(root, model), model, threads, precision).with_views(**dict(views))


def check_methods(options: RunOptions, inputs: Sequence[Input]) -> tuple[dict[str, str], list[str]]:
    """Return problems of classifiers and label sets, by the first input that uses them, and notes on the others."""
    problems, notes = {}, []
    for model, labels in dict.fromkeys(map(options.kind_of, inputs)):
        try:
            model_files(find_model(options.root, model), model)
            taxonomy = read_taxonomy(find_model(options.root, model), model)
            views = replace(taxonomy.views, **dict(options.views))
            notes += [*options.method_for(taxonomy, model, labels)[1], *views.notes]
        except InputError as error:
            first = next(item for item in inputs if options.kind_of(item) == (model, labels))
            problems[first.name] = str(error)
    return problems, notes


def segment_many(
    inputs: Sequence[Input],
    options: RunOptions,
    quiet: bool = False,
    on_change: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Segment inputs in this process and its workers, grouped by classifier and label set.

    `on_change` gets an outcome when an input begins to run, and another one when it ends, from several threads.
    """
    if any(item.path.suffix.lower() in (*SLIDE_ENDINGS, ".tif", ".tiff") for item in inputs):
        start_workers(options.workers, warm_up)  # while the classifier loads, which takes seconds
    outcomes: list[Outcome] = []
    beside = max(1, min(options.workers, SIDE_BY_SIDE, len(inputs)))
    with progress_bars(quiet) as bars, ThreadPoolExecutor(beside) as pool:
        counted, running = bars.add_task("inputs", total=len(inputs), unit="inputs"), set()

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            on_change(outcome)
            bars.advance(counted)

        def segment(slide: Slide, task: SlideTask) -> None:
            with slide:
                on_change(outcome_of(task.item, options.out, "running", where=this_process()))
                work = partial(once_free, partial(segment_opened, slide, task), patience=options.patience)
                done(attempt(task.item, options.out, work))

        for opened in _opened(inputs, options):
            if isinstance(opened, Outcome):
                done(opened)
                continue
            slide, task = opened
            if plan_for(slide, task.classifier, task.method).kind == "image":
                if slide.height * slide.width > WHOLE_PIXELS:
                    task = replace(task, progress=reporter(bars, task.item.name))
                if len(running) >= beside:
                    running = _wait_for(running, FIRST_COMPLETED)
                running.add(pool.submit(segment, slide, replace(task, workers=max(1, task.workers // beside))))
            else:
                running = _wait_for(running)
                segment(slide, replace(task, progress=reporter(bars, task.item.name)))
        _wait_for(running)
    return outcomes


def _wait_for(running: set[Future], until: str = "ALL_COMPLETED") -> set[Future]:
    done, left = wait(running, return_when=until)
    for future in done:
        future.result()
    return left


def _opened(inputs: Sequence[Input], options: RunOptions) -> Iterator[tuple[Slide, SlideTask] | Outcome]:
    """Yield each input's opened slide and task, or its failed outcome."""
    named: dict[str, Input] = {}
    kinds = list(dict.fromkeys(map(options.kind_of, inputs)))
    usable = [item for item in inputs if not item.problem]
    if len(kinds) == 1 and usable:
        options.task(usable[0])  # a problem of the only classifier ends the run

    def opened(item: Input) -> tuple[Slide, SlideTask]:
        if item.problem:
            raise InputError(item.problem)
        if named.setdefault(item.name, item) != item:
            raise InputError(
                f"{item.path}: has the same name as {named[item.name].path}; segment it into another folder"
            )
        task = options.task(item)
        return task.open(), task

    for item in sorted(inputs, key=lambda item: kinds.index(options.kind_of(item))):
        yield attempt(item, options.out, partial(opened, item))


def attempt(item: Input, out: Path, work: Callable[[], Result]) -> Result | Outcome:
    """Call a function; return its result, or, on any exception, the input's failed outcome."""
    file, folder = item.path, out / item.name
    try:
        return work()
    except InputError as error:
        reason = str(error)
    except MemoryError:
        reason = f"{file}: not enough memory; free some, or segment it by itself with one worker"
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror or error}; make room, or choose another folder"
    except Exception as error:
        reason = f"{file}: {type(error).__name__}: {' '.join(str(error).split())}; please report this"
    return outcome_of(item, out, "failed", reason)


def once_free(
    work: Callable[[], Outcome],
    check: Callable[[], None] = lambda: None,
    patience: float = PATIENCE,
    pause: float = 1.0,
) -> Outcome:
    """Call `work` as soon as its folder is free: the lock of a worker that died elsewhere lasts for a minute.

    LockedError means that another run holds the folder. It is raised if that lasts for `patience` seconds. `check` is
    called between two attempts; an exception that it raises ends the work.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return work()
        except LockedError:
            if time.monotonic() > deadline:
                raise
        check()
        time.sleep(pause)
