"""What the demo scripts leave to the package: their options, their closing tables, and errors as one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import Source, add_precision, exit_status, official_or_phantoms, tell, usable_precision

if TYPE_CHECKING:
    from ..sets.report import Report


def demo(
    description: str,
    segment: Callable[..., Report],
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
    segment : callable
        ``segment(params, model_name, **options)`` makes the four published calls and returns the Report; the options
        are those of `HistoSegNetV1`.
    params : mapping
        The published `params`; see `settings.PARAMS`.
    model_name : str
        Classifier in the folder ``data``.
    published : mapping of str to mapping of str to float
        Published metrics after the CRF, by the label set's name.
    phantom : (str, str)
        Image set and classifier to use where neither the one nor the other of the above is at hand.

    Returns
    -------
    int
        Exit status: 0 done, 1 an image failed, 2 nothing could be done.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=Path, default=Path(), help="folder with data, img and gt (default: this one)")
    parser.add_argument("--out", type=Path, help="folder to write to (default: ROOT/out/<input name>)")
    parser.add_argument("--workers", type=int, help="worker processes (default: one for each core)")
    add_precision(parser)
    parser.add_argument("--self-contained", action="store_true", help="results page as one file, that can be mailed")
    parser.add_argument("--grad-cams", action="store_true", help="also write Grad-CAMs as before the adjustment")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")
    arguments = parser.parse_args()
    if arguments.quiet:
        params = {**params, "verbosity": "QUIET"}
    return exit_status(
        lambda: _demo(segment, official_or_phantoms(arguments.root, params, model_name, published, phantom), arguments)
    )


def _demo(segment: Callable[..., Report], source: Source, arguments: argparse.Namespace) -> int:
    if not source.is_official and not arguments.quiet:
        print(
            f"{arguments.root.resolve()} has no official data (see the README): phantoms, images made by this program, "
            "are segmented instead, by a classifier trained on such",
            flush=True,
        )
    out = arguments.out or arguments.root / "out" / source.params["input_name"]
    report = segment(
        source.params,
        source.model_name,
        root=source.root,
        out=out,
        workers=arguments.workers,
        published=source.published,
        precision=usable_precision(arguments.precision),
        self_contained=arguments.self_contained,
        grad_cams=arguments.grad_cams,
    )
    if not arguments.quiet:
        _tell(report, source, out)
    return tell(report.notes, report.failures.values())


def _tell(report: Report, source: Source, out: Path) -> None:
    from ..io.models import find_model, read_taxonomy
    from ..sets.official import is_complete, reproduced
    from ..show.html import PAGE

    labels = read_taxonomy(find_model(source.root, source.model_name), source.model_name)
    print_table(report, source.published, labels.caveat)
    print_objects(report)
    complete = is_complete(report, source.root, source.params["input_name"], source.model_name)
    for line in reproduced(report, source.published, complete):
        print(line)
    print(f"results in {out / PAGE}")
    if summaries := sorted(out.glob("*/horizontal/*.png")):
        print(f"a summary to look at: {summaries[0]}")


def print_table(report: Report, published: Mapping[str, Mapping[str, float]], caveat: str = "") -> None:
    """Print the metrics of each label set after each stage, next to the published ones where there are any."""
    from rich.console import Console
    from rich.table import Table

    from ..sets.results_page import metric_tables

    for metrics in metric_tables(report, published):
        table = Table(title=f"{len(report.files)} of {len(report.files) + len(report.failures)} images", caption=caveat)
        for number, heading in enumerate(metrics.header):
            table.add_column(heading, justify="left" if number < metrics.words else "right")
        for row in metrics.rows:
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
