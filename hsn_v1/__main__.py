"""Commands: ``python -m hsn_v1 COMMAND --help`` tells what each one takes."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from .cli import exit_status

#: Modules that bring a command each: `add_command(subparsers)` adds its parser, whose default `run` carries it out.
COMMANDS = ("phantom_set", "train", "tune_crf")


def main() -> int:
    """Run the command that the arguments name; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m hsn_v1", description=sys.modules[__package__].__doc__)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        import_module(f".{module}", __package__).add_command(subparsers)
    arguments = parser.parse_args()
    return exit_status(lambda: arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
