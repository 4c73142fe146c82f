"""Many images and slides in one run: side by side where they are small, and a table and a page of all results."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..files.slide import open_slide
from ..files.writing import write_table
from ..show.html import PAGE, Table
from .method import Outcome, plan_for
from .own_file import segment_opened
from .page import write_inputs_page
from .progress import Report, progress_bars, reporter
from .record import records
from .whole_image import WHOLE_PIXELS

if TYPE_CHECKING:
    from ..classify import Classifier
    from ..files.slide import Slide
    from .method import Method

#: Images that are segmented side by side at most: each may take 2 GB.
SIDE_BY_SIDE = 4

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
    files: list[Path],
    classifier: Classifier,
    method: Method,
    out: Path,
    scale: Scale,
    workers: int,
    force: bool = False,
    quiet: bool = False,
) -> list[Outcome]:
    """Segment images side by side, and slides one after another; what fails does not stop the rest.

    Returns
    -------
    list of Outcome
        In the order of the files.
    """
    outcomes: dict[Path, Outcome] = {}
    side_by_side = max(1, min(workers, SIDE_BY_SIDE, len(files)))
    with progress_bars(quiet) as bars, ThreadPoolExecutor(side_by_side) as pool:
        inputs, running = bars.add_task("inputs", total=len(files), unit="inputs"), set()

        def segment(file: Path, slide: Slide, workers: int, progress: Report) -> None:
            with _attempt(file, out, outcomes), slide:
                outcomes[file] = segment_opened(
                    slide, classifier, method, out, workers=workers, force=force, progress=progress
                )
            bars.advance(inputs)

        named: dict[str, Path] = {}
        for file in files:
            with _attempt(file, out, outcomes):
                if named.setdefault(file.name, file) != file:
                    raise InputError(f"{file}: has the same name as {named[file.name]}; give it another --out")
                slide = open_slide(file, scale.mpp, scale.override)
                plan = plan_for(slide, classifier, method)
            if file in outcomes:
                bars.advance(inputs)
                continue
            small = plan.kind == "image" and slide.height * slide.width <= WHOLE_PIXELS
            progress = (lambda stage, done, total: None) if small else reporter(bars, file.name)
            if plan.kind == "image":
                if len(running) >= side_by_side:
                    running = wait(running, return_when=FIRST_COMPLETED).not_done
                running.add(pool.submit(segment, file, slide, max(1, workers // side_by_side), progress))
            else:
                wait(running)
                segment(file, slide, workers, progress)
    return [outcomes[file] for file in files]


@contextlib.contextmanager
def _attempt(file: Path, out: Path, outcomes: dict[Path, Outcome]) -> Iterator[None]:
    """Turn whatever goes wrong with an input into its failed outcome."""
    try:
        yield
    except InputError as error:
        reason = str(error)
    except MemoryError:
        reason = f"{file}: not enough memory; free some, or segment it by itself with --workers 1"
    except OSError as error:
        where = f"{error.filename or out / file.name}: {error.strerror or error}"
        reason = f"{where}; make room, or choose another --out"
    except Exception as error:
        reason = f"{file}: {type(error).__name__}: {' '.join(str(error).split())}; please report this"
    else:
        return
    outcomes[file] = Outcome(file, out / file.name, "failed", reason)


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
    header = ("input", "status", "reason", *FACTS, "caveat", "folder")
    rows = [
        [str(one.source), one.status, one.reason]
        + [str(one.facts.get(fact, "")) for fact in FACTS]
        + [one.caveat, str(one.folder)]
        for one in known
    ]
    label_sets = {label_set.name: label_set for one in known for label_set in one.label_sets}
    shown = replace(method, label_sets=tuple(label_sets.values()))
    try:
        write_table(out / "segmented.csv", [header, *rows])
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
