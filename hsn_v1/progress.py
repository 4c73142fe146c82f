"""Bars that show how much is done, how fast it goes, and how long the rest takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich import get_console
from rich import progress as rich
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

Item = TypeVar("Item")

#: ``progress(stage, done, total)``: how much of a stage of the work on an input is done, in the stage's units.
Progress = Callable[[str, int, int], None]


def no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing: a `Progress`."""


def track(items: Iterable[Item], what: str, total: int | None = None, quiet: bool = False) -> Iterator[Item]:
    """Yield items, while a bar shows how many of them are done; `total` is their number where they have no length."""
    yield from items if quiet else rich.track(items, what, total)


def announce(text: str, quiet: bool) -> None:
    """Say, where a bar would be, why it takes longer until there is one."""
    if not quiet:
        get_console().print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def download_bars(quiet: bool) -> Iterator[Progress]:
    """Show how many bytes of each file came, how fast, and how long the rest takes; yields a `Progress` of files."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    bars = rich.Progress(*columns, _Left(), disable=quiet)
    tasks: dict[str, rich.TaskID] = {}

    def show(name: str, done: int, total: int) -> None:
        bars.start()  # not before: the user may be asked something
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=total, completed=done)
        bars.update(tasks[name], completed=done)

    try:
        yield show
    finally:
        bars.stop()


def progress_bars(quiet: bool) -> rich.Progress:
    """Return bars for inputs and for the stages of the work on large ones."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), _Done(), _Speed(), _Left()
    console = Console(quiet=True) if quiet else get_console()  # of a bar that is only disabled, the line still ends
    return rich.Progress(*columns, console=console, disable=quiet, speed_estimate_period=120)


@contextlib.contextmanager
def progress_bar(total: int, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show how many images are segmented and how long the rest takes; yields what advances it by one image."""
    with progress_bars(quiet) as bars:
        task = bars.add_task("segmenting", total=total, unit="images")
        yield lambda: bars.advance(task)


@contextlib.contextmanager
def training_bar(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Show how many batches are done, and a line for each epoch; yields a `training.fit.OnBatch`."""
    with progress_bars(quiet) as bars:
        task = bars.add_task("training", total=None, unit="batches")

        def show(done: int, total: int, line: str) -> None:
            bars.update(task, completed=done, total=total)
            if line:
                bars.console.print(line, highlight=False)

        yield show


def reporter(bars: rich.Progress, name: str) -> Progress:
    """Return a `Progress` that shows an input's stages, one after another, in a bar.

    What an earlier run did counts as done, but not for the speed.
    """
    task, shown = bars.add_task(name, total=None, unit=""), []

    def report(stage: str, done: int, total: int) -> None:
        if shown != [stage]:
            shown[:] = [stage]
            if stage == "tiles" and 0 < done < total:
                bars.console.print(f"{name}: resuming, {done} of {total} tiles done", markup=False, highlight=False)
            bars.reset(task, total=total, completed=done, description=f"{name}: {stage}", unit=stage.rpartition(" ")[2])
        else:
            bars.update(task, completed=done, total=total)

    return report


class _Done(rich.ProgressColumn):
    """How many units are done of how many, once that is known."""

    def render(self, task: rich.Task) -> str:
        return "" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}"


class _Speed(rich.ProgressColumn):
    """Units done in a second, or seconds for a unit; nothing before one was done."""

    def render(self, task: rich.Task) -> str:
        speed, unit = task.speed, task.fields["unit"]
        if not speed:
            return ""
        return f"{speed:.1f} {unit}/s" if speed >= 1 else f"{1 / speed:.1f} s/{unit.removesuffix('s')}"


class _Left(TimeRemainingColumn):
    """Time left, once it can be estimated."""

    def render(self, task: rich.Task) -> str:
        return f"{super().render(task)} left" if task.speed and not task.finished else ""
