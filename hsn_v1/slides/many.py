"""Many images and slides in one run: side by side where they are small, and a table and a page of all."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)

from ..errors import InputError
from ..files.writing import write_table
from ..show.html import PAGE, Table
from .page import write_inputs_page

if TYPE_CHECKING:
    from ..classify import Classifier
    from .own_file import Method, Outcome

#: Images that are segmented side by side at most: each may take 2 GB.
BESIDE = 4

#: Files that are taken from a folder.
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"),
    *(".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm"),
)


def expand(inputs: list[Path]) -> list[Path]:
    """Return the files to segment: folders are replaced by the images and slides in them, in order of their names.

    Raises
    ------
    InputError
        If a folder has none, or two files have the same name, which their results would be written under.
    """
    files = []
    for path in inputs:
        found = sorted(file for file in path.iterdir() if _is_picture(file)) if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: no images or slides in this folder; expected {', '.join(SUFFIXES)}")
        files += found
    names = {}
    for file in files:
        if names.setdefault(file.name, file) != file:
            raise InputError(f"{file} and {names[file.name]} have the same name; segment them with another --out each")
    return list(names.values())


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


def segment_files(
    files: list[Path],
    classifier: Classifier,
    method: Method,
    out: Path,
    mpp: float | None,
    workers: int,
    force: bool,
    quiet: bool,
) -> list[Outcome]:
    """Segment small images side by side, then others one after another; what fails is reported, the rest goes on."""
    from rasterio.errors import NotGeoreferencedWarning

    from .own_file import Outcome, kind_of, segment_picture, segment_slide

    # Once for all threads: where each silences it for itself, one lets through what another silences.
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    outcomes: dict[Path, Outcome] = {}

    def attempt(file: Path, task: Callable, *args: Any, **options: Any) -> Any:
        try:
            return task(file, *args, **options)
        except InputError as error:
            outcomes[file] = Outcome(file, out / file.name, "failed", str(error))
        except OSError as error:
            reason = f"{error.filename or out / file.name}: {error.strerror or error}"
            outcomes[file] = Outcome(file, out / file.name, "failed", f"{reason}; make room, or choose another --out")

    def one(file: Path, task: Callable, workers: int, **options: Any) -> None:
        options |= {"mpp": mpp, "workers": workers, "force": force}
        outcomes[file] = attempt(file, task, classifier, method, out, **options) or outcomes[file]

    kinds = {file: attempt(file, kind_of, classifier.mpp, mpp) for file in files}
    images = [file for file, kind in kinds.items() if kind == "image"]
    with progress_bars(quiet) as bars:
        if images:
            beside = min(workers, BESIDE, len(images))
            task = bars.add_task(f"{len(images)} images", total=len(images), unit="images")
            with ThreadPoolExecutor(beside) as pool:
                for _ in pool.map(lambda file: one(file, segment_picture, workers // beside), images):
                    bars.advance(task)
        for file in (file for file, kind in kinds.items() if kind in ("large image", "slide")):
            segment, unit = (segment_slide, "tiles") if kinds[file] == "slide" else (segment_picture, "windows")
            task = bars.add_task(file.name, total=None, unit=unit)

            def advance(done: int, total: int, task: int = task) -> None:
                bars.update(task, completed=done, total=total)

            one(file, segment, workers, progress=advance)
    return [outcomes[file] for file in files]


def progress_bars(quiet: bool) -> Progress:
    """Return bars that tell how much is done, how fast it goes, and how long the rest takes."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, disable=quiet, speed_estimate_period=120)


class Speed(ProgressColumn):
    """Units done in a second."""

    def render(self, task: Task) -> str:
        """Return the column's text."""
        return f"{task.speed or 0:.1f} {task.fields['unit']}/s"


def report(outcomes: list[Outcome], method: Method, model: str, out: Path) -> int:
    """Write the table and the page of all inputs, say what failed and where results are; return the exit status."""
    facts = ("kind", "height", "width", "mpp", "tiles", "seconds")
    header = ("input", "status", "reason", *facts, "folder")
    rows = [
        [str(one.source), one.status, one.reason, *(str(one.facts.get(fact, "")) for fact in facts), str(one.folder)]
        for one in outcomes
    ]
    try:
        write_table(out / "segmented.csv", [header, *rows])
        write_inputs_page(out, outcomes, Table("", header, rows, words=3), method, model)
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}; make room there, or choose another --out") from error
    for one in outcomes:
        for note in one.notes:
            print(f"note: {note}", file=sys.stderr)
        if one.status == "failed":
            print(f"failed: {one.reason}", file=sys.stderr)
    finished = [one for one in outcomes if one.status != "failed"]
    if finished:
        print(f"{len(finished)} of {len(outcomes)} inputs segmented; results in {out / PAGE}")
        print(f"a picture to look at: {next(finished[0].folder.glob('*/overview.png'))}")
    return 0 if len(finished) == len(outcomes) else 1 if finished else 2
