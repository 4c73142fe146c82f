"""The commands beside the demos: ``hsn-v1 COMMAND --help`` says what each one does."""

from __future__ import annotations

import sys


def _tell_interrupt(kind: type[BaseException], error: BaseException, trace: object) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell_interrupt  # until `exit_status` takes over

import argparse  # noqa: E402
from importlib import import_module  # noqa: E402

from . import __version__  # noqa: E402
from .commands.common import Terminated, exit_status  # noqa: E402
from .commands.options import Parser  # noqa: E402

#: Modules of `commands`. Each one's `add_command(subparsers)` adds a command, whose parser's default `run` carries it
#: out; its default `resumes` tells whether the same command resumes an interrupted one. They import their libraries
#: only then.
COMMANDS = (
    "segment",
    "view",
    "train",
    "patches",
    "tune_crf",
    "evaluate",
    "benchmark",
    "phantom",
    "data",
    "reproduce",
    "doctor",
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; its arguments have `run`, which carries the command out, and `resumes`."""
    parser = Parser(prog="hsn-v1", description=__doc__.partition(":")[0] + ".")
    parser.add_argument("--version", action="version", version=f"hsn_v1 {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="command")
    parser.set_defaults(resumes=False)
    for module in COMMANDS:
        import_module(f".commands.{module}", __package__).add_command(subparsers)
    return parser


def main() -> int:
    """Carry out the command line, and return its exit status."""
    return exit_status(_run)


def _run() -> int:
    arguments = build_parser().parse_args()
    try:
        return arguments.run(arguments)
    except (KeyboardInterrupt, Terminated) as stopped:
        if arguments.resumes:
            command = "the same command" + " without --force" * getattr(arguments, "force", False)
            stopped.add_note(f"{command} goes on where it stopped")
        raise


if __name__ == "__main__":
    sys.exit(main())
