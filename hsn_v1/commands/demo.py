"""Command lines: the demo scripts' options, their closing table, and errors as one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..sets.report import Report


#: Where the phantom set and model lie that a demo falls back on.
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Source:
    """What a demo segments, with what, and where both lie.

    Attributes
    ----------
    root : Path
        Folder that has ``data``, ``img`` and ``gt``.
    params : mapping
        The published `params`; see `settings.PARAMS`.
    model_name : str
        Classifier in the folder ``data``.
    published : mapping of str to mapping of str to float
        Published metrics after the CRF, by the label set's name; empty for phantoms.
    is_official : bool
    """

    root: Path
    params: Mapping[str, Any]
    model_name: str
    published: Mapping[str, Mapping[str, float]]
    is_official: bool = True


def official_or_phantoms(
    root: Path,
    params: Mapping[str, Any],
    model_name: str,
    published: Mapping[str, Mapping[str, float]],
    phantom: tuple[str, str],
) -> Source:
    """Choose the official data where a folder has any, and else the phantoms of this repository.

    Parameters
    ----------
    root : Path
        Folder that may have ``data``, ``img`` and ``gt``.
    params, model_name, published, phantom
        As in `demo`.

    Returns
    -------
    Source
    """
    if (root / "img" / params["input_name"]).exists() or any((root / "data").glob(f"{model_name}.*")):
        return Source(root, params, model_name, published)
    name, model_name = phantom
    return Source(REPOSITORY, {**params, "input_name": name}, model_name, {}, is_official=False)


def demo(
    description: str,
    params: Mapping[str, Any],
    model_name: str,
    published: Mapping[str, Mapping[str, float]],
    phantom: tuple[str, str],
) -> int:
    """Run a demo script.

    Parameters
    ----------
    description : str
        For ``--help``.
    params : mapping
        The published `params`; see `settings.PARAMS`.
    model_name : str
        Classifier in the folder ``data``.
    published : mapping of str to mapping of str to float
        Published metrics after the CRF, by the label set's name.
    phantom : (str, str)
        Image set and classifier that serve where neither the one nor the other of the above is at hand.

    Returns
    -------
    int
        Exit status: 0 done, 1 an image failed, 2 nothing could be done.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=Path, default=Path(), help="folder with data, img and gt (default: this one)")
    parser.add_argument("--out", type=Path, help="folder to write to (default: ROOT/out/<input name>)")
    parser.add_argument("--workers", type=int, help="worker processes (default: one for each core)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")
    arguments = parser.parse_args()
    if arguments.quiet:
        params = {**params, "verbosity": "QUIET"}
    source = official_or_phantoms(arguments.root, params, model_name, published, phantom)
    if not source.is_official and not arguments.quiet:
        print(
            f"{arguments.root.resolve()} has no official data (see the README): phantoms, images made by this program, "
            "and a classifier trained on such serve instead",
            flush=True,
        )
    out = arguments.out or arguments.root / "out" / source.params["input_name"]
    return exit_status(lambda: _demo(source, out, arguments))


def _demo(source: Source, out: Path, arguments: argparse.Namespace) -> int:
    from ..sets.official import is_complete, reproduced
    from ..sets.page import PAGE
    from ..sets.published import HistoSegNetV1

    hsn = HistoSegNetV1(source.params, source.root, out, arguments.workers, source.published)
    hsn.find_img()
    hsn.analyze_img()
    hsn.load_histonet({"model_name": source.model_name})
    report = hsn.run_batch()
    if not arguments.quiet:
        print_table(report, source.published, len(hsn.settings.images))
        print_objects(report)
        complete = is_complete(report, source.root, source.params["input_name"], source.model_name)
        for line in reproduced(report, source.published, complete):
            print(line)
        print(f"results in {out / PAGE}")
        if pictures := sorted(out.glob("*/horizontal/*.png")):
            print(f"a picture to look at: {pictures[0]}")
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    for message in report.failures.values():
        print(f"failed: {message}", file=sys.stderr)
    return 1 if report.failures else 0


def exit_status(command: Callable[[], int]) -> int:
    """Run a command, and turn what the user can mend into one line on stderr and exit status 2."""
    try:
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def print_table(report: Report, published: Mapping[str, Mapping[str, float]], images: int) -> None:
    """Print fIoU and mIoU of each label set after each stage, beside the published number."""
    from rich.console import Console
    from rich.table import Table

    from ..hsn_v1 import STAGES

    if not report.confusions:
        return
    table = Table(title=f"{len(report.files)} of {images} images")
    for heading in ("label set", "metric", *(f"after {stage}" for stage in STAGES), "published"):
        table.add_column(heading, justify="left" if heading in ("label set", "metric") else "right")
    for row in report.metric_rows(published):
        table.add_row(*row)
    Console().print(table)


def print_objects(report: Report) -> None:
    """Print the object metrics of each label set that was compared with true objects, pooled over groups of images."""
    from rich.console import Console
    from rich.table import Table

    from ..object_metrics import METRICS

    for name in report.objects:
        table = Table("objects", "of", title=f"{name}: objects after CRF")
        for heading in ("images", *METRICS):
            table.add_column(heading, justify="right")
        for row in report.object_rows(name):
            table.add_row(*row)
        Console().print(table)
