"""Command lines: the demo scripts' options, their closing table, and errors as one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    from .report import Report


#: Where the phantom set and model lie that a demo falls back on.
REPOSITORY = Path(__file__).parents[1]


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
    root = arguments.root
    if not (root / "img" / params["input_name"]).exists() and not any((root / "data").glob(f"{model_name}.*")):
        if not arguments.quiet:
            print(
                f"{root.resolve()} has no official data (see the README): phantoms, images made by this program, "
                "and a classifier trained on such serve instead",
                flush=True,
            )
        name, model_name = phantom
        params, published, root = {**params, "input_name": name}, {}, REPOSITORY
    out = arguments.out or arguments.root / "out" / params["input_name"]
    return exit_status(lambda: _demo(params, model_name, published, root, out, arguments))


def _demo(
    params: Mapping[str, Any],
    model_name: str,
    published: Mapping[str, Mapping[str, float]],
    root: Path,
    out: Path,
    arguments: argparse.Namespace,
) -> int:
    from .official import is_complete, reproduced
    from .page import PAGE
    from .published import HistoSegNetV1

    hsn = HistoSegNetV1(params, root, out, arguments.workers, published)
    hsn.find_img()
    hsn.analyze_img()
    hsn.load_histonet({"model_name": model_name})
    report = hsn.run_batch()
    if not arguments.quiet:
        print_table(report, published, len(hsn.settings.images))
        complete = is_complete(report, root, params["input_name"], model_name)
        for line in reproduced(report, published, complete):
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

    from .hsn_v1 import STAGES

    if not report.confusions:
        return
    table = Table(title=f"{len(report.files)} of {images} images")
    for heading in ("label set", "metric", *(f"after {stage}" for stage in STAGES), "published"):
        table.add_column(heading, justify="left" if heading in ("label set", "metric") else "right")
    for row in report.metric_rows(published):
        table.add_row(*row)
    Console().print(table)
