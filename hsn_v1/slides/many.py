"""``python -m hsn_v1 segment``: segment the user's own images and whole slides."""

from __future__ import annotations

import argparse
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

from ..adp import HTT_MODES
from ..commands.demo import REPOSITORY
from ..errors import InputError
from ..files.images import write_bytes, write_table
from ..sets.official import MODEL
from ..sets.page import PAGE, Table, crf_facts, link_to, render, versions

if TYPE_CHECKING:
    from ..histonet import HistoNet
    from .own_file import Method, Outcome

#: Classifiers trained on phantoms, by the label sets that they serve best.
PHANTOM_MODELS = dict.fromkeys(HTT_MODES, "histonet_X1.7_phantom") | {"glas": "histonet_X1.7_phantom56"}

#: Images that are segmented side by side at most: each may take 2 GB.
BESIDE = 4

#: Files that are taken from a folder.
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"),
    *(".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm"),
)


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``segment``."""
    parser = subparsers.add_parser(
        "segment",
        help="segment your own images and whole slides",
        epilog="exit status: 0 done, 1 an input failed and the others are done, 2 nothing could be done",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="image, slide, or a folder of such")
    parser.add_argument(
        "--labels", choices=HTT_MODES, default="both", help="label sets (default: both, morph and func)"
    )
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--mpp", type=float, help="microns per pixel at full resolution (default: the file's)")
    scale.add_argument("--objective", metavar="20x", help="magnification, where mpp is unknown: a rough substitute")
    parser.add_argument("--model", help=f"classifier in ROOT/data (default: {MODEL}, or one trained on phantoms)")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that has data (default: this one)")
    parser.add_argument("--out", type=Path, help="folder that gets one for each input (default: ROOT/out/segmented)")
    parser.add_argument("--batch-size", type=int, default=8, help="tiles that are classified at once (default: 8)")
    parser.add_argument("--workers", type=int, help="worker processes (default: one for each core)")
    parser.add_argument("--min-area", type=float, default=100, help="smallest polygon in um2 (default: 100)")
    parser.add_argument(
        "--feather",
        action="store_true",
        help="let a slide's tiles count less towards their borders where they overlap (default: alike, as the paper)",
    )
    parser.add_argument("--force", action="store_true", help="begin anew where results are")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from ..files.slides import mpp_of_objective
    from ..histonet import load_histonet
    from ..sets.outputs import check_writable
    from ..sets.settings import read_crfs
    from ..workers import available_cores
    from .own_file import Method

    for option, value in (("batch-size", arguments.batch_size), ("workers", arguments.workers)):
        if value is not None and value < 1:
            raise InputError(f"--{option} {value}: expected a positive whole number")
    if not 0 <= arguments.min_area < float("inf"):
        raise InputError(f"--min-area {arguments.min_area}: expected 0 or more, in square microns")
    mpp = mpp_of_objective(arguments.objective) if arguments.objective else arguments.mpp
    if arguments.objective:
        print(f"note: {arguments.objective} is taken as {mpp:.3g} mpp, which is approximate", file=sys.stderr)
    files = expand(arguments.inputs)
    name, folder = arguments.model or MODEL, arguments.root / "data"
    if not arguments.model and not (folder / f"{MODEL}.h5").exists():
        name, folder = PHANTOM_MODELS[arguments.labels], REPOSITORY / "data"
        print(
            f"note: {arguments.root / 'data'} has no {MODEL}: a classifier trained on phantoms serves, which knows no "
            "real tissue; what it says of any is worth nothing (see the README, Official data)",
            file=sys.stderr,
        )
    label_sets = HTT_MODES[arguments.labels]
    crfs, notes = read_crfs(folder, name, label_sets)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    method = Method(label_sets, crfs, arguments.batch_size, arguments.min_area, arguments.feather)
    out = arguments.out or arguments.root / "out" / "segmented"
    check_writable(out)
    workers = arguments.workers or available_cores()
    outcomes = segment_files(
        files, load_histonet(folder, name), method, out, mpp, workers, arguments.force, arguments.quiet
    )
    return report(outcomes, method, name, out)


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
    histonet: HistoNet,
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
        outcomes[file] = attempt(file, task, histonet, method, out, **options) or outcomes[file]

    kinds = {file: attempt(file, kind_of, mpp) for file in files}
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


def write_inputs_page(out: Path, outcomes: list[Outcome], table: Table, method: Method, model: str) -> None:
    """Write the page that lists what was segmented, with each input's overviews and links to its files."""

    def links(folder: Path) -> dict[str, str]:
        return {path.name: link_to(path, out) for path in sorted(folder.iterdir()) if path.is_file()}

    inputs = [
        {
            "name": one.source.name,
            "reason": one.reason,
            "notes": one.notes,
            "sets": [
                {"name": s.name, "overview": link_to(overview, out), "files": links(overview.parent)}
                for s in method.label_sets
                if (overview := one.folder / s.name / "overview.png").exists() and one.status != "failed"
            ],
        }
        for one in outcomes
    ]
    blending = "less towards their borders" if method.feather else "alike, as in the paper"
    facts = {"classifier": model, **crf_facts(method.crfs), "overlapping tiles count": blending, **versions()}
    page = render("segmented.html", title="Segmented", table=table, inputs=inputs, facts=facts)
    write_bytes(out / PAGE, page.encode(errors="replace"))
