"""Options that several commands share, and the ranges of their numbers; a wrong value is one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from ..errors import InputError
from ..io.reading import no_folder
from ..keras_start import MOST_WORKERS
from ..labels import LARGEST, PLAUSIBLE_MPP
from ..views import SCALE_RANGE
from .common import note


class Parser(argparse.ArgumentParser):
    """A parser of command lines that raises InputErrors; its arguments have it as `parser`, for `is_given`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.set_defaults(parser=self)

    def error(self, message: str) -> NoReturn:
        """Raise InputError instead of printing the usage."""
        raise InputError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def whole(least: int, most: int = LARGEST) -> Callable[[str], int]:
    """Return the type of an option that is a whole number in a range, both ends included."""
    return _in_range(int, "a whole number", least, most)


def decimal(least: float, most: float, kind: str = "a number") -> Callable[[str], float]:
    """Return the type of an option that is a number in a range, both ends included."""
    return _in_range(float, kind, least, most)


def _in_range(parse: type, kind: str, least: float, most: float) -> Callable[[str], float]:
    def checked(text: str) -> float:
        try:
            value = parse(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            form = ",d" if parse is int else "g"
            raise argparse.ArgumentTypeError(f"expected {kind} from {least:{form}} to {most:{form}}, not {text!r}")
        return value

    return checked


#: Types of options.
MPP = decimal(*PLAUSIBLE_MPP, "microns per pixel")
SHARE = decimal(1e-6, 1, "a share")
REST = decimal(0, 0.99, "a share")  # none, or a share that leaves a rest
SEED = whole(0, 2**31 - 1001)  # leaves room for the seeds of `repeats`
WORKERS = whole(1, MOST_WORKERS)


def folder(text: str) -> Path:
    """Return the path of an existing folder."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: {no_folder(Path(text))}")
    return Path(text)


def is_given(arguments: argparse.Namespace, name: str) -> bool:
    """Whether an option has another value than its parser's default."""
    return getattr(arguments, name) != arguments.parser.get_default(name)


def check_unused(arguments: argparse.Namespace, names: Iterable[str], kind: str) -> None:
    """Raise InputError for the first of some options that is given, though it would be ignored beside `kind`."""
    for name in names:
        if is_given(arguments, name):
            raise InputError(f"--{name.replace('_', '-')} does not go with {kind}")


def add_root(parser: argparse.ArgumentParser, holds: str = "data", new: bool = False) -> None:
    """Add the option for the folder of models and results; with `new`, the folder need not exist yet."""
    kind = Path if new else folder
    parser.add_argument(
        "--root", type=kind, default=Path(), metavar="DIR", help=f"folder that has {holds} (default: this one)"
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the option for the number of worker processes."""
    parser.add_argument("--workers", type=WORKERS, help="worker processes (default: one for each core)")


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add the option for the classifier's precision."""
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="precision of the classifier: bfloat16 is not exact, but faster on processors that support it "
        "(default: float32)",
    )


def usable_precision(precision: str) -> str:
    """Return the requested precision, or float32, with a note, if bfloat16 would be slow here."""
    from ..keras_start import has_fast_bfloat16

    if precision == "bfloat16" and not has_fast_bfloat16():
        note("this processor has no instructions for bfloat16: computing in float32")
        return "float32"
    return precision


def add_views(parser: argparse.ArgumentParser) -> None:
    """Add the options for test-time views: overlapping tiles, turns and scales, whose predictions are averaged."""
    add = parser.add_argument_group("views, instead of those in the classifier's class file").add_argument
    add("--stride", type=whole(1), metavar="PX", help="px from one tile to the next, at the classifier's scale")
    add("--flips", action=argparse.BooleanOptionalAction, default=None, help="average over 8 turns and mirror images")
    add("--scales", type=decimal(*SCALE_RANGE), nargs="+", metavar="FACTOR", help="average over several scales")


def views_of(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the views given as options, for `HistoNet.with_views`."""
    scales = tuple(arguments.scales) if arguments.scales else None
    views = {"stride": arguments.stride, "flips": arguments.flips, "scales": scales}
    return {name: value for name, value in views.items() if value is not None}
