"""Shared parts of the demo scripts: their options, the note on phantoms, and the report at the end."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import tell
from .options import Parser, add_precision, add_workers, usable_precision

if TYPE_CHECKING:
    from ..sets.published import DemoData, HistoSegNetV1
    from ..sets.report import Report


def demo_options(description: str) -> argparse.Namespace:
    """Parse the command line of a demo."""
    parser = Parser(description=description)
    parser.add_argument("--root", type=Path, help="folder with data, img and gt (default: this one, or phantoms)")
    parser.add_argument("--out", type=Path, help="folder to write to (default: ROOT/out/<input name>)")
    add_workers(parser)
    add_precision(parser)
    parser.add_argument("--self-contained", action="store_true", help="make the page one file that can be mailed")
    parser.add_argument("--grad-cams", action="store_true", help="also write the Grad-CAMs before adjustment")
    parser.add_argument("--protocols", action="store_true", help="also print the metrics of benchmarks")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")
    return parser.parse_args()


def demo_data(
    options: argparse.Namespace, params: Mapping[str, Any], model_name: str, phantom: tuple[str, str]
) -> DemoData:
    """Choose a demo's data, see `choose_data`, and print a note if they are phantoms."""
    from ..sets.published import choose_data

    if options.quiet:
        params = {**params, "verbosity": "QUIET"}
    data = choose_data(params, model_name, phantom, options.root)
    if data.note and not options.quiet:
        print(data.note, flush=True)
    return data


def run_options(options: argparse.Namespace, data: DemoData) -> dict[str, Any]:
    """Return the keyword arguments of `HistoSegNetV1`."""
    return {
        "root": data.root,
        "out": options.out or data.out,
        "workers": options.workers,
        "precision": usable_precision(options.precision),
        "self_contained": options.self_contained,
        "grad_cams": options.grad_cams,
    }


def print_report(hsn: HistoSegNetV1, report: Report, protocols: bool = False) -> int:
    """Print a run's tables, verdict and paths of results, unless it is quiet; and print all notes and failures.

    Parameters
    ----------
    hsn : HistoSegNetV1
    report : Report
    protocols : bool
        Also print the metrics as benchmarks score.

    Returns
    -------
    int
        Exit status: 0 done, 1 an image failed.
    """
    from rich.console import Console

    from ..sets.official import verdicts
    from ..sets.report import tables_of
    from ..show.html import PAGE, for_terminal

    if hsn.params["verbosity"] != "QUIET":
        out = hsn.settings.out
        print(f"{len(report.files)} of {len(hsn.settings.images)} images")
        for table in tables_of(report):
            if protocols or not table.folded:
                Console().print(for_terminal(table, hsn.settings.caveat), table.note, highlight=False)
        for line in verdicts(report):
            print(line)
        print(f"results in {out / PAGE}")
        if summaries := sorted(out.glob("*/horizontal/*.png")):
            print(f"a summary to look at: {summaries[0]}")
    return tell(report.notes, report.failures.values())
