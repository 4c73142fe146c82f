"""The commands beside the demos: ``python -m hsn_v1 <command> --help`` says what each one does."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from .commands.demo import exit_status

#: Modules whose `add_command(subparsers)` adds a command; its parser's default `run` carries it out.
COMMANDS = (
    "sets.official",
    "phantoms.phantom_set",
    "commands.picture",
    "slides.many",
    "training.fit",
    "training.tune_crf",
)


def main() -> int:
    """Carry out the command line, and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m hsn_v1", description=__doc__.partition(":")[0] + ".")
    subparsers = parser.add_subparsers(required=True, metavar="command")
    for module in COMMANDS:
        import_module(f".{module}", __package__).add_command(subparsers)
    arguments = parser.parse_args()
    return exit_status(lambda: arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
