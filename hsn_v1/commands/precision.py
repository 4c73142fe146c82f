"""The option ``--precision``, which several commands have."""

from __future__ import annotations

import argparse
import sys


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add the option to a parser."""
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="how the classifier computes: bfloat16 is faster on processors that know it, and not exact "
        "(default: float32)",
    )


def usable_precision(precision: str) -> str:
    """Return the precision that was asked for, or float32 with a note where that would be slow."""
    from ..histonet import has_fast_bfloat16

    if precision == "bfloat16" and not has_fast_bfloat16():
        print("note: this processor has no instructions for bfloat16: computing in float32", file=sys.stderr)
        return "float32"
    return precision
