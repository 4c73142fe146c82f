"""Shares the cores between the classifier, in this process, and the workers: never more threads than cores."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Image = TypeVar("Image")


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def classifier_threads(cores: int) -> int:
    """Return how many of the cores classify: half of them, rounded up, as that is about half of the work."""
    return -(-cores // 2)


def side_by_side(
    classified: Iterator[Image], submit: Callable[[Image], Future], workers: int, beside: int, ahead: int
) -> Iterator[tuple[Image, Future]]:
    """Classify images here, while workers finish those that are classified.

    The classifier has precedence as long as few images wait for a worker.

    Parameters
    ----------
    classified : iterator of images
        Classifies when the next image is asked for.
    submit : callable
        Gives an image to a worker.
    workers, beside : int
        Images that workers may have at once, and those that they may have beside the classifier when it is at work.
    ahead : int
        Images that may wait for a worker: bounds the memory.

    Yields
    ------
    (image, Future)
        As they are done, in any order.
    """
    waiting: deque[Image] = deque()
    running: dict[Future, Image] = {}
    coming: Future | None = None
    last, more = object(), True
    with ThreadPoolExecutor(1, "classifier") as here:
        while more or waiting or running:
            due = more and len(waiting) < ahead
            if due and not coming and len(running) <= beside:
                coming = here.submit(next, classified, last)
            while waiting and len(running) < (beside if due or coming else workers):
                image = waiting.popleft()
                running[submit(image)] = image
            for future in wait({*running, coming} - {None}, return_when=FIRST_COMPLETED).done:
                if future is coming:
                    coming = None
                    more = (image := future.result()) is not last
                    waiting.extend([image] if more else [])
                else:
                    yield running.pop(future), future
