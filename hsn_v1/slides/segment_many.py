"""Many images and slides in one run: side by side where they are small, and a table and a page of all results."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InputError
from ..io import locks
from ..io.locks import LockedError
from ..io.reading import read_table
from ..io.writing import write_table
from ..progress import Progress, progress_bars, reporter
from ..show.html import PAGE, Table
from ..slide_io.slide import open_slide
from .in_memory import WHOLE_PIXELS
from .index_page import write_inputs_page
from .plan import Outcome, Plan, plan_for
from .results_folder import records
from .segment_slide import segment_opened
from .slide_list import Entry
from .status_table import this_process

if TYPE_CHECKING:
    from ..classify import Classifier
    from ..slide_io.slide import Slide
    from .plan import Method

Result = TypeVar("Result")

#: Images that are segmented side by side at most: each may take 2 GB.
SIDE_BY_SIDE = 4

#: Seconds after which a run that died on another machine has lost its slides for sure.
PATIENCE = 1.5 * locks.PATIENCE

#: The table's columns of facts; see `Outcome`.
FACTS = ("kind", "maps", "height", "width", "mpp", "tiles", "seconds")


@dataclass(frozen=True)
class Scale:
    """What the user says about the inputs' scale.

    Attributes
    ----------
    mpp : float or None
        Microns per pixel at full resolution.
    override : bool
        It counts also where a file states another one.
    """

    mpp: float | None = None
    override: bool = False


def segment_files(
    entries: Sequence[Entry],
    classifier: Classifier,
    method: Method,
    out: Path,
    scale: Scale,
    workers: int,
    force: bool = False,
    quiet: bool = False,
    patience: float = 0.0,
    on_change: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Segment images side by side, and slides one after another; what fails does not stop the rest.

    Parameters
    ----------
    entries : sequence of Entry
    classifier, method, out
        See `own_file.segment_slide`.
    scale : Scale
        Of entries that say nothing of it.
    workers, force
        See `own_file.segment_opened`.
    quiet : bool
        No progress bars.
    patience : float
        Seconds to wait for an input that another run holds; see `once_free`.
    on_change : callable
        Called with each outcome as an input begins to run and as it ends, from several threads.

    Returns
    -------
    list of Outcome
        In the order of the entries.
    """
    outcomes: dict[int, Outcome] = {}
    side_by_side = max(1, min(workers, SIDE_BY_SIDE, len(entries)))
    with progress_bars(quiet) as bars, ThreadPoolExecutor(side_by_side) as pool:
        inputs, running = bars.add_task("inputs", total=len(entries), unit="inputs"), set()

        def done(number: int, outcome: Outcome) -> None:
            outcomes[number] = outcome
            on_change(outcome)
            bars.advance(inputs)

        def segment(number: int, entry: Entry, slide: Slide, workers: int, progress: Progress) -> None:
            with slide:
                on_change(now_running(entry, out, this_process()))
                options = {"workers": workers, "force": force, "progress": progress, "patience": patience}
                done(number, segment_entry(entry, slide, classifier, method, out, **options))

        named: dict[str, Entry] = {}
        for number, entry in enumerate(entries):
            opened = attempt(entry, out, lambda entry=entry: _open(entry, scale, classifier, method, named))
            if isinstance(opened, Outcome):
                done(number, opened)
                continue
            slide, plan = opened
            small = plan.kind == "image" and slide.height * slide.width <= WHOLE_PIXELS
            progress = (lambda stage, done, total: None) if small else reporter(bars, entry.name)
            if plan.kind == "image":
                if len(running) >= side_by_side:
                    running = wait(running, return_when=FIRST_COMPLETED).not_done
                running.add(pool.submit(segment, number, entry, slide, max(1, workers // side_by_side), progress))
            else:
                wait(running)
                segment(number, entry, slide, workers, progress)
    return [outcomes[number] for number in range(len(entries))]


def _open(
    entry: Entry, scale: Scale, classifier: Classifier, method: Method, named: dict[str, Entry]
) -> tuple[Slide, Plan]:
    if named.setdefault(entry.name, entry) != entry:
        raise InputError(f"{entry.path}: has the same name as {named[entry.name].path}; give it another --out")
    slide = open_slide(entry.path, entry.mpp or scale.mpp, scale.override)
    return slide, plan_for(slide, classifier, method)


def now_running(entry: Entry, out: Path, where: str) -> Outcome:
    """Return the outcome, for now, of an entry that is worked on."""
    return Outcome(entry.path, out / entry.name, "running", where=where)


def segment_entry(
    entry: Entry, slide: Slide, classifier: Classifier, method: Method, out: Path, patience: float = 0.0, **options: Any
) -> Outcome:
    """Segment an entry whose slide is open; whatever goes wrong with it is its failed outcome."""
    options |= {"name": entry.name, "columns": entry.columns}
    task = partial(segment_opened, slide, classifier, method, out, **options)
    return attempt(entry, out, lambda: once_free(task, patience=patience))


def attempt(entry: Entry, out: Path, task: Callable[[], Result]) -> Result | Outcome:
    """Return what a task returns, or a failed outcome with the reason, whatever went wrong."""
    file, folder = entry.path, out / entry.name
    try:
        return task()
    except InputError as error:
        reason = str(error)
    except MemoryError:
        reason = f"{file}: not enough memory; free some, or segment it by itself with --workers 1"
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror or error}; make room, or choose another --out"
    except Exception as error:
        reason = f"{file}: {type(error).__name__}: {' '.join(str(error).split())}; please report this"
    return Outcome(file, folder, "failed", reason, columns=entry.columns)


def once_free(
    task: Callable[[], Outcome],
    check: Callable[[], None] = lambda: None,
    patience: float = PATIENCE,
    pause: float = 1.0,
) -> Outcome:
    """Carry out a task as soon as its folder is free: a worker that died elsewhere holds its claim for a minute.

    Parameters
    ----------
    task : callable
    check : callable
        Called while it waits; what it raises ends the work.
    patience, pause : float
        Seconds after which to give up, and between two trials.

    Raises
    ------
    LockedError
        If it stays another's.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return task()
        except LockedError:
            if time.monotonic() > deadline:
                raise
        check()
        time.sleep(pause)


def report(outcomes: list[Outcome], method: Method, model: str, out: Path, self_contained: bool = False) -> int:
    """Write the table and the page of all results in a folder, say what failed; return the exit status.

    Parameters
    ----------
    outcomes : list of Outcome
        Of this run.
    method : Method
    model : str
        The classifier's name.
    out : Path
    self_contained : bool
        Whether the page holds thumbnails, and links to no file.
    """
    known = all_results(out, outcomes)
    header, rows = table_of(known)
    label_sets = {label_set.name: label_set for one in known for label_set in one.label_sets}
    shown = replace(method, label_sets=tuple(label_sets.values()))
    try:
        write_table(out / "segmented.csv", [header, *rows])
        write_all_areas(out / "areas.csv", known)
        caveat = " ".join(dict.fromkeys(one.caveat for one in known if one.caveat))
        table = Table("", header, rows, words=3)
        write_inputs_page(out, known, table, shown, model, caveat=caveat, self_contained=self_contained)
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}; make room there, or choose another --out") from error
    for note in dict.fromkeys(note for one in outcomes for note in (one.caveat, *one.notes) if note):
        print(f"note: {note}", file=sys.stderr)
    for one in outcomes:
        if one.status == "failed":
            print(f"failed: {one.reason}", file=sys.stderr)
    finished = [one for one in outcomes if one.status != "failed"]
    if finished:
        print(f"{len(finished)} of {len(outcomes)} inputs segmented; results in {out / PAGE}")
        print(f"a picture to look at: {next(finished[0].folder.glob('*/overview.png'))}")
    return 0 if len(finished) == len(outcomes) else 1 if finished else 2


def all_results(out: Path, outcomes: list[Outcome]) -> list[Outcome]:
    """Return the results that a folder has, of this run and earlier ones, and what failed in this one.

    Where an input failed that has results of an earlier run, these stay, with the reason.
    """
    found = {folder: Outcome.of_record(folder, record, "done before") for folder, record in records(out).items()}
    found |= {one.folder: one for one in outcomes if one.status != "failed"}
    others = []
    for one in outcomes:
        if one.status != "failed":
            continue
        if one.folder in found:
            found[one.folder] = replace(found[one.folder], reason=f"not segmented again: {one.reason}")
        else:
            others.append(one)
    return sorted([*found.values(), *others], key=lambda one: one.folder.name)


def table_of(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of outcomes, the columns of the user's own list last."""
    own = list(dict.fromkeys(column for one in outcomes for column in one.columns))
    rows = [
        [str(one.source), one.status, one.reason]
        + [str(one.facts.get(fact, "")) for fact in FACTS]
        + [one.caveat, str(one.folder)]
        + [one.columns.get(column, "") for column in own]
        for one in outcomes
    ]
    return ["input", "status", "reason", *FACTS, "caveat", "folder", *own], rows


def write_all_areas(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Join the areas of all inputs into one table: a row for each class of an input, with the list's columns."""
    own = list(dict.fromkeys(column for one in outcomes for column in one.columns))
    rows: list[list[str]] = []
    header: list[str] = []
    for one in outcomes:
        for label_set in one.label_sets:
            areas = one.folder / label_set.name / "areas.csv"
            if areas.exists():
                table = read_table(areas)
                header = list(table[0]) if table else header
                before, after = [one.folder.name, label_set.name], [one.columns.get(column, "") for column in own]
                rows += [[*before, *row, *after] for row in (each.values() for each in table)]
    if rows:
        write_table(path, [["input", "label set", *header, *own], *rows])
