"""``hsn-v1 evaluate``: score masks of this program or of any other one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import tell
from .options import SEED, add_root, is_given, whole

if TYPE_CHECKING:
    from ..io.masks import Mask
    from ..labels import LabelSet, Taxonomy
    from ..sets.comparison import Pooling, Result
    from ..sets.score import Score


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``evaluate``."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score masks, of this program or of another one",
        epilog="exit status: 0 done, 1 some masks could not be compared, 2 nothing could be done",
    )
    add = parser.add_argument
    add("--prediction", type=Path, required=True, metavar="DIR", help="masks, or a run's folder")
    add("--truth", type=Path, required=True, metavar="DIR", help="ground truth, with the same names: masks, or GeoJSON")
    add("--model", required=True, metavar="NAME", help="model whose classes the masks have")
    add_root(parser)
    add("--labels", metavar="SET", help="label set (default: the model's only one)")
    add(
        "--protocol",
        choices=("excluded", "background", "both"),
        default="both",
        help="pixels whose truth is excluded: do not count, or count as a class of their own (default: both)",
    )
    add(
        "--resize",
        action="store_true",
        help="stretch ground truth to its mask, as the paper did, or a label map of segment to its ground truth",
    )
    add("--csv", type=Path, metavar="FILE", help="also write all values to a table")
    add("--per-image", type=Path, metavar="FILE", help="write a table of the images, worst first")
    add("--quiet", action="store_true", help="no progress bar")
    more = parser.add_argument_group("intervals, groups and comparisons").add_argument
    more(
        "--interval",
        choices=("images", "groups", "none"),
        default="images",
        help="95 %% bootstrap intervals, over images or over groups of them, such as cases (default: images)",
    )
    more("--seed", type=SEED, default=0, help="seed of the intervals' draws (default: 0)")
    more(
        "--group",
        metavar="PATTERN|COLUMN",
        help="groups of images: a regular expression for a part of their names, such as '^test[AB]', or a column",
    )
    more("--group-table", type=Path, metavar="CSV", help="table with that column, and the images' names")
    more("--against", type=Path, metavar="DIR", help="other masks of the same images: print differences")
    more("--baselines", action="store_true", help="also score masks that need no classifier")
    more("--images", type=Path, metavar="DIR", help="the images, for the baseline by a colour threshold")
    more("--patch", type=whole(1), default=80, metavar="PX", help="side of windows painted by true label (default: 80)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from ..evaluate import PROTOCOLS
    from ..io.model_files import taxonomy_of
    from ..io.writing import remove_leftovers, write_table
    from ..sets.comparison import Pooling, image_groups, image_rows, results_of, value_rows

    _check_options(arguments)
    label_set = only_label_set(taxonomy_of(arguments.root, arguments.model), arguments.labels)
    score, others = _scores(arguments, label_set)
    groups = image_groups(score.names, arguments.group, arguments.group_table) if arguments.group else {}
    protocols = PROTOCOLS if arguments.protocol == "both" else (arguments.protocol,)
    pooling = Pooling(protocols, groups, arguments.interval, arguments.seed)
    results = results_of(score, others, pooling, str(arguments.against or ""))
    print_results(results, score, pooling)
    for path, rows in ((arguments.csv, value_rows(results)), (arguments.per_image, image_rows(score, pooling))):
        if path:
            remove_leftovers(path.parent, path.name)
            write_table(path, rows)
            print(f"all values in {path}" if path == arguments.csv else f"each image in {path}")
    failures = [failure for scored in (score, *others.values()) for failure in scored.failures]
    return tell(score.notes, dict.fromkeys(failures))


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.interval == "groups" and not arguments.group:
        raise InputError("--interval groups goes with --group, which says what the groups are")
    if arguments.group_table and not arguments.group:
        raise InputError("--group-table goes with --group, one of its columns")
    if (arguments.images or is_given(arguments, "patch")) and not arguments.baselines:
        raise InputError("--images and --patch go with --baselines")
    for path in filter(None, (arguments.csv, arguments.per_image)):
        if path.is_dir():
            raise InputError(f"{path}: a folder; expected a file to write, such as {path / 'scores.csv'}")


def _scores(arguments: argparse.Namespace, label_set: LabelSet) -> tuple[Score, dict[str, Score]]:
    """Return the prediction's score, and the scores of other masks of the same images, by name."""
    from ..io.images import find_images
    from ..progress import track
    from ..sets.baselines import Truth, baseline_scores, measure_truth
    from ..sets.score import name_of, score_folder

    truths: list[Truth] = []
    images = {name_of(path.name): path for path in find_images(arguments.images, "any")} if arguments.images else {}

    def gather(name: str, mask: Mask) -> None:
        if images and name not in images:
            raise InputError(f"{arguments.images}: no image {name}; put it there, or take its truth away")
        truths.append(measure_truth(name, mask, label_set, arguments.patch, images.get(name)))

    def score_of(folder: Path, *on_truth: Callable[[str, Mask], None]) -> Score:
        shown = lambda files: track(files, "comparing", quiet=arguments.quiet)  # noqa: E731
        return score_folder(folder, arguments.truth, label_set, arguments.resize, shown, *on_truth)

    score, others = score_of(arguments.prediction, *([gather] if arguments.baselines else [])), {}
    if arguments.against:
        other = score_of(arguments.against)
        score, other = score.of(other.names), other.of(score.names)
        if not score.images:
            raise InputError(f"{arguments.against}: no mask of an image of which {arguments.prediction} has one")
        others[str(arguments.against)] = other
    if arguments.baselines:
        compared = [truth for truth in truths if truth.name in score.names]
        others |= baseline_scores(compared, label_set, arguments.patch)
    return score, others


def only_label_set(labels: Taxonomy, name: str | None) -> LabelSet:
    """Return the named label set or, without a name, the only one. Raises InputError if there are several."""
    label_sets = labels.group(name) if name else tuple(labels.label_sets.values())
    if len(label_sets) > 1:
        raise InputError(f"--labels: expected one label set, out of {', '.join(labels.label_sets)}")
    return label_sets[0]


def print_results(results: Sequence[Result], score: Score, pooling: Pooling) -> None:
    """Print all metrics of the first result and of the difference, mIoU of the others, and a legend."""
    from rich.console import Console

    from ..sets.comparison import tables_of
    from ..show.html import for_terminal

    console = Console(width=None if sys.stdout.isatty() else 200)  # tables are only as wide as they need to be
    for table in tables_of(results, score.label_set, pooling):
        console.print(for_terminal(table))
    print("\n".join(_legend(score, pooling)))


def _legend(score: Score, pooling: Pooling) -> Iterator[str]:
    """Yield lines on the compared masks and on the meaning of the columns."""
    from ..evaluate import PUBLISHED, excluded_index

    label_set = score.label_set
    yield f"compared: {score.comparison()}"
    if intervals := pooling.describe(score):
        yield f"in brackets: {intervals}"
    if absent := [label_set.describe(label_set.codes[c]) for c in score.absent()]:
        yield f"neither in the truth nor predicted, and left out of the first means: {', '.join(absent)}"
    excluded = excluded_index(label_set)
    name = label_set.describe(label_set.codes[excluded]) if excluded < len(label_set) else "unlabelled"
    meanings = {
        "excluded": f"pixels whose truth is {name} do not count",
        "background": f"{name} is a class of its own, which the means leave out",
    }
    yield from (f"{protocol}: {meanings[protocol]}" for protocol in pooling.protocols)
    yield f"{PUBLISHED}: as in the paper, absent classes count as 0"
    yield "numbers of different protocols cannot be compared"
