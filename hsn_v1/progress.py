"""Progress bars, which show the work done, its speed and the time left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich import get_console
from rich import progress as rich
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

Item = TypeVar("Item")

#: ``progress(stage, done, total)`` reports the work done on a stage of an input, in the stage's units.
Progress = Callable[[str, int, int], None]


def no_progress(stage: str, done: int, total: int) -> None:
    """Ignore the progress: a `Progress` that shows nothing."""


def track(items: Iterable[Item], what: str, total: int | None = None, quiet: bool = False) -> Iterator[Item]:
    """Yield items while a bar shows how many are done; `total` is their number if they have no length."""
    yield from items if quiet else rich.track(items, what, total)


def announce(text: str, quiet: bool) -> None:
    """Print a line in place of a bar, such as the reason why the bar takes longer to appear."""
    if not quiet:
        get_console().print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def download_bars(quiet: bool) -> Iterator[Progress]:
    """Show each file's downloaded bytes, speed and time left; yields a `Progress` whose stages are file names."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    bars = rich.Progress(*columns, _Left(), disable=quiet)
    tasks: dict[str, rich.TaskID] = {}

    def show(name: str, done: int, total: int) -> None:
        bars.start()  # not earlier, as the user may have to answer a question first
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=total, completed=done)
        bars.update(tasks[name], completed=done)

    try:
        yield show
    finally:
        bars.stop()


def progress_bars(quiet: bool) -> rich.Progress:
    """Return bars for inputs, and for the stages of the work on large inputs."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), _Done(), _Speed(), _Left()
    console = Console(quiet=True) if quiet else get_console()  # a bar that is only disabled still prints a line break
    return rich.Progress(*columns, console=console, disable=quiet, speed_estimate_period=120)


@contextlib.contextmanager
def progress_bar(total: int, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show the number of segmented images and the time left; yields a function that advances the bar by one image."""
    with progress_bars(quiet) as bars:
        task = bars.add_task("segmenting", total=total, unit="images")
        yield lambda: bars.advance(task)


@contextlib.contextmanager
def training_bar(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Show the number of batches done, and a line for each epoch; yields a `training.fit.OnBatch`."""
    with progress_bars(quiet) as bars:
        task = bars.add_task("training", total=None, unit="batches")

        def show(done: int, total: int, line: str) -> None:
            bars.update(task, completed=done, total=total)
            if line:
                bars.console.print(line, highlight=False)

        yield show


def reporter(bars: rich.Progress, name: str) -> Progress:
    """Return a `Progress` that shows an input's stages, one after another, in one bar.

    Work of an earlier run counts as done, but not for the speed.
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
    """Units done and in total, once the total is known."""

    def render(self, task: rich.Task) -> str:
        return "" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}"


class _Speed(rich.ProgressColumn):
    """Units per second, or seconds per unit; empty before the first one."""

    def render(self, task: rich.Task) -> str:
        speed, unit = task.speed, task.fields["unit"]
        if not speed:
            return ""
        return f"{speed:.1f} {unit}/s" if speed >= 1 else f"{1 / speed:.1f} s/{unit.removesuffix('s')}"


class _Left(TimeRemainingColumn):
    """Time left, once it can be estimated."""

    def render(self, task: rich.Task) -> str:
        return f"{super().render(task)} left" if task.speed and not task.finished else ""
