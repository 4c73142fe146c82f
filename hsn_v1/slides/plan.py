"""What is segmented and how: a slide's task, the method that is the same for all, and the plan for one slide."""

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

OWN_SCALE_PIXELS = 64_000_000  #: largest image that is segmented at its own scale, as its label maps are in memory
FEW_TILES = 9  #: tiles up to which an image is segmented as the demos do; see docs/slides.md for what was measured
FINEST = 1 / 2  #: share of the classifier's mpp down to which it is: the CRFs' widths in px are for such scales

#: Which maps are averaged where tiles overlap: see `plan_for`.
MAPS = ("auto", "adjusted", "gradcam")


@dataclass(frozen=True)
class Method:
    """How classified tiles become labels, and what of these is written."""

    label_sets: tuple[LabelSet, ...]  #: each gets results of its own
    crfs: Mapping[str, CRF]  #: by the label set's name
    batch_size: int = 8  #: number of tiles that the classifier takes at once
    min_area: float = 100.0  #: area under which a polygon is left out, in square microns
    maps: str = "auto"  #: one of `MAPS`
    leave_out_pen: bool = False  #: pen marks are no tissue; else they are only noted
    zarr: bool = False  #: label maps are written as OME-Zarr, too


@dataclass(frozen=True)
class SlideTask:
    """An input to segment, how, and where its results go."""

    item: Input
    classifier: Classifier
    method: Method
    out: Path  #: gets a folder of this input's results
    override: bool = False  #: the input's `mpp` counts whatever the file states
    workers: int = 1  #: worker processes, or, of an image, threads
    force: bool = False  #: begin anew, and replace results that are there
    progress: Progress = no_progress

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        return self.out / self.item.name

    def open(self) -> Slide:
        """Open the slide or image; raises InputError if it cannot be read, or its scale is not known."""
        return open_slide(self.item.path, self.item.mpp, self.override)


@dataclass(frozen=True)
class Plan:
    """How a slide or image is segmented, whatever its file's format."""

    kind: str  #: "image": in memory and at its own scale, as the demos do; "slide": tile by tile, at the classifier's
    maps: str  #: which maps are averaged where tiles overlap: "adjusted" or "gradcam"
    tiles: int  #: number of tiles that cover it


def plan_for(slide: Slide, classifier: Classifier, method: Method) -> Plan:
    """Decide how a slide or image is segmented: by size and scale alone, so that no format makes a difference."""
    size, views = slide.size(classifier.mpp), classifier.labels.views
    tiles = math.prod(SlideGrid(*size, classifier.tile, stride=views.stride).tiles)
    few = math.prod(SlideGrid(*size, classifier.tile).tiles) <= FEW_TILES  # whatever the views
    as_demos = few and slide.mpp >= FINEST * classifier.mpp
    maps = method.maps if method.maps != "auto" else "gradcam" if as_demos or views.window else "adjusted"
    small = slide.height * slide.width <= OWN_SCALE_PIXELS
    whole = small and maps == "gradcam" and (as_demos or method.maps == "gradcam")
    return Plan("image" if whole else "slide", maps, tiles)
