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


def demo(
    description: str, params: Mapping[str, Any], model_name: str, published: Mapping[str, Mapping[str, float]]
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
    return exit_status(lambda: _demo(params, model_name, published, arguments))


def _demo(params: Mapping[str, Any], model_name: str, published: Mapping, arguments: argparse.Namespace) -> int:
    from .official import is_complete, reproduced
    from .published import HistoSegNetV1

    hsn = HistoSegNetV1(params, arguments.root, arguments.out, arguments.workers)
    hsn.find_img()
    hsn.analyze_img()
    hsn.load_histonet({"model_name": model_name})
    report = hsn.run_batch()
    if not arguments.quiet:
        print_table(report, published, len(hsn.settings.images))
        print(f"results in {hsn.settings.out}")
        complete = is_complete(report, arguments.root, params["input_name"], model_name)
        for line in reproduced(report, published, complete):
            print(line)
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
    for name in report.weights:
        for metric in ("fIoU", "mIoU"):
            values = [report.metrics(name, stage)[metric] for stage in STAGES]
            known = published.get(name, {}).get(metric)
            table.add_row(name, metric, *(f"{value:.4f}" for value in values), f"{known:.4f}" if known else "-")
    Console().print(table)
