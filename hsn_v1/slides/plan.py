"""The method that is the same for all inputs of a run, the task of one input, and the plan for its slide."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..classify import Classifier
from ..densecrf import CRF
from ..labels import LabelSet
from ..progress import Progress, no_progress
from ..slide_io.slide import Slide, open_slide
from .inputs import Input
from .job import SlideGrid

OWN_SCALE_PIXELS = 64_000_000  #: largest image that is segmented at its own scale, in px: its label maps are in memory
FEW_TILES = 9  #: most tiles of an image that is segmented as the demos do; see docs/measurements.md
FINEST = 1 / 2  #: its least mpp, as a share of the classifier's: the CRFs' widths in px are for such scales

#: Values of `Method.maps`, the maps that are averaged where tiles overlap: see `plan_for`.
MAPS = ("auto", "adjusted", "gradcam")


@dataclass(frozen=True)
class Method:
    """Settings of a segmentation: label sets, CRFs, maps, and the results to write."""

    label_sets: tuple[LabelSet, ...]  #: each gets results of its own
    crfs: Mapping[str, CRF]  #: by label set name
    batch_size: int = 8  #: number of tiles classified at once
    min_area: float = 100.0  #: smallest area of a polygon, in square microns; smaller ones are left out
    maps: str = "auto"  #: one of `MAPS`
    leave_out_pen: bool = False  #: count pen marks as no tissue, rather than only note them
    zarr: bool = False  #: write label maps as OME-Zarr, too


@dataclass(frozen=True)
class SlideTask:
    """An input to segment, with its classifier, method and folder for results."""

    item: Input
    classifier: Classifier
    method: Method
    out: Path  #: folder in which this input gets a results folder
    override: bool = False  #: use the input's `mpp` even if the file states another one
    workers: int = 1  #: number of worker processes, or, for an image, of threads
    force: bool = False  #: begin anew, and replace existing results
    progress: Progress = no_progress

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        return self.out / self.item.name

    def open(self) -> Slide:
        """Open the slide or image. Raises InputError if it cannot be read, or its scale is not known."""
        return open_slide(self.item.path, self.item.mpp, self.override)


@dataclass(frozen=True)
class Plan:
    """Way in which a slide or image is segmented, independent of its file's format."""

    kind: str  #: "image": in memory and at its own scale, as the demos do; "slide": tile by tile, at the classifier's
    maps: str  #: maps to average where tiles overlap: "adjusted" or "gradcam"
    tiles: int  #: number of tiles that cover it


def plan_for(slide: Slide, classifier: Classifier, method: Method) -> Plan:
    """Plan the segmentation of a slide or image by size and scale alone, so that its format makes no difference."""
    size, views = slide.size(classifier.mpp), classifier.labels.views
    tiles = math.prod(SlideGrid(*size, classifier.tile, stride=views.stride).tiles)
    few = math.prod(SlideGrid(*size, classifier.tile).tiles) <= FEW_TILES  # at the default stride
    as_demos = few and slide.mpp >= FINEST * classifier.mpp
    maps = method.maps if method.maps != "auto" else "gradcam" if as_demos or views.window else "adjusted"
    small = slide.height * slide.width <= OWN_SCALE_PIXELS
    whole = small and maps == "gradcam" and (as_demos or method.maps == "gradcam")
    return Plan("image" if whole else "slide", maps, tiles)
