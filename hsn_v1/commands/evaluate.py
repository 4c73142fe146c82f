"""``hsn-v1 evaluate``: score masks, whichever program made them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import tell

if TYPE_CHECKING:
    from ..labels import LabelSet, Taxonomy
    from ..sets.score import Score


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``evaluate``."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score masks, of this program or of another one",
        epilog="exit status: 0 done, 1 some masks could not be compared, 2 nothing could be done",
    )
    parser.add_argument("--prediction", type=Path, required=True, metavar="DIR", help="masks, or a run's folder")
    parser.add_argument("--truth", type=Path, required=True, metavar="DIR", help="ground truth, by the same names")
    parser.add_argument("--model", required=True, metavar="NAME", help="model whose file of classes is theirs")
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="folder that has data (default: here)")
    parser.add_argument("--labels", metavar="SET", help="label set (default: the model's only one)")
    parser.add_argument(
        "--protocol",
        choices=("excluded", "background", "both"),
        default="both",
        help="whether pixels count whose truth is excluded: not at all, or as a class of its own (default: both)",
    )
    parser.add_argument("--resize", action="store_true", help="resize ground truth to its mask, as the paper did")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write all values to a table")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from ..evaluate import PROTOCOLS
    from ..io.models import taxonomy_of
    from ..progress import track
    from ..sets.score import score_folder

    label_set = only_label_set(taxonomy_of(arguments.root, arguments.model), arguments.labels)
    protocols = PROTOCOLS if arguments.protocol == "both" else (arguments.protocol,)
    score = score_folder(
        arguments.prediction,
        arguments.truth,
        label_set,
        arguments.resize,
        lambda files: track(files, "comparing", quiet=arguments.quiet),
    )
    print_score(score, label_set, protocols)
    if arguments.csv:
        write_score(arguments.csv, score, label_set, protocols)
        print(f"all values in {arguments.csv}")
    return tell(score.notes, score.failures)


def only_label_set(labels: Taxonomy, name: str | None) -> LabelSet:
    """Return the label set of a name, or a classifier's only one if there is no name; else raise InputError."""
    label_sets = labels.group(name) if name else tuple(labels.label_sets.values())
    if len(label_sets) > 1:
        raise InputError(f"--labels: expected one label set, out of {', '.join(labels.label_sets)}")
    return label_sets[0]


def print_score(score: Score, label_set: LabelSet, protocols: tuple[str, ...]) -> None:
    """Print all metrics, a column for each protocol."""
    from rich.console import Console

    from ..evaluate import excluded_index
    from ..sets.score import PUBLISHED
    from ..show.html import Table, for_terminal

    columns = (*protocols, PUBLISHED)
    rows = []
    for (metric, code), values in score.table(label_set, protocols).items():
        cells = [f"{values[column]:.4f}".replace("nan", "-") if column in values else "" for column in columns]
        rows.append((metric, label_set.describe(code) if code else "", *cells))
    title = f"{score.images} images, label set {label_set.name}"
    Console().print(for_terminal(Table(title, ("metric", "class", *columns), rows, words=2)))
    if absent := [label_set.describe(label_set.codes[c]) for c in score.absent()]:
        print(f"neither in the truth nor predicted, and left out of the first means: {', '.join(absent)}")
    excluded = excluded_index(label_set)
    name = label_set.describe(label_set.codes[excluded]) if excluded < len(label_set) else "unlabelled"
    print(f"excluded: pixels whose truth is {name} do not count")
    print(f"background: {name} is a class of its own, which the means leave out")
    print(f"{PUBLISHED}: as in the paper, absent classes count as 0")
    print("numbers of different protocols cannot be compared")


def write_score(path: Path, score: Score, label_set: LabelSet, protocols: tuple[str, ...]) -> None:
    """Write all metrics as a table, a row for each value; empty where a class does not occur."""
    from ..io.writing import remove_leftovers, write_table

    remove_leftovers(path.parent, path.name)
    rows = [
        (protocol, metric, code, "" if value != value else value)
        for (metric, code), values in score.table(label_set, protocols).items()
        for protocol, value in values.items()
    ]
    write_table(path, [("protocol", "metric", "class", "value"), *rows])
