"""How an input is segmented, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..classify import Classifier
from ..densecrf import CRF
from ..io.run_json import label_set_of
from ..labels import LabelSet
from ..slide_io.slide import Slide
from .grid import SlideGrid

OWN_SCALE_PIXELS = 64_000_000  #: largest image that is segmented at its own scale, as its label maps are in memory
FEW_TILES = 9  #: tiles up to which an image is segmented as the demos do; see docs/slides.md for what was measured
FINEST = 1 / 2  #: share of the classifier's mpp down to which it is: the CRFs' widths in px are for such scales

#: Which maps are averaged where tiles overlap: see `plan_for`.
MAPS = ("auto", "adjusted", "gradcam")


@dataclass(frozen=True)
class Method:
    """How classified tiles become labels, and what of these is written: the same for every input.

    Attributes
    ----------
    label_sets : tuple of LabelSet
    crfs : mapping of str to CRF
        By the label set's name.
    batch_size : int
        Number of tiles that the classifier takes at once.
    min_area : float
        Area under which a polygon is left out, in square microns.
    feather : bool
        A slide's tiles count less towards their borders where they overlap, not alike as in the paper.
    maps : str
        One of `MAPS`.
    """

    label_sets: tuple[LabelSet, ...]
    crfs: Mapping[str, CRF]
    batch_size: int = 8
    min_area: float = 100.0
    feather: bool = False
    maps: str = "auto"


@dataclass(frozen=True)
class Plan:
    """How an input is segmented, whatever its file's format.

    Attributes
    ----------
    kind : {"image", "slide"}
        In memory and at its own scale, as the demos do; or tile by tile at the classifier's scale.
    maps : {"adjusted", "gradcam"}
        Which maps are averaged where tiles overlap.
    tiles : int
        Number of tiles that cover it.
    """

    kind: str
    maps: str
    tiles: int


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes
    ----------
    source, folder : Path
        What was segmented, and where its results are.
    status : {"running", "done", "done before", "failed"}
    reason : str
        Why it failed.
    facts : mapping
        Kind and maps (see `Plan`), height and width in px and mpp at full resolution, tiles classified, seconds.
    notes : tuple of str
        What the user should know.
    caveat : str
        What everyone who sees the results must know.
    label_sets : tuple of LabelSet
        Those that there are results of, as far as looking at them needs it.
    columns : mapping of str to str
        What the user's list says of it.
    where : str
        Which process works on it, while it is running.
    """

    source: Path
    folder: Path
    status: str
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    caveat: str = ""
    label_sets: tuple[LabelSet, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    where: str = ""

    @classmethod
    def of_record(cls, folder: Path, record: Mapping[str, Any], status: str) -> Outcome:
        """Return the outcome that a folder's record states."""
        return cls(
            Path(record.get("source", record.get("input", folder.name))),
            folder,
            status,
            facts=record.get("facts", {}),
            notes=tuple(record.get("notes", ())),
            caveat=record.get("caveat", ""),
            label_sets=tuple(label_set_of(name, entry) for name, entry in record.get("classes", {}).items()),
            columns=record.get("columns", {}),
        )


def plan_for(slide: Slide, classifier: Classifier, method: Method) -> Plan:
    """Decide how an input is segmented: by size and scale alone, so that no format makes a difference."""
    height, width = slide.size(classifier.mpp)
    tiles = math.prod(SlideGrid(height, width, classifier.tile).tiles)
    as_demos = tiles <= FEW_TILES and slide.mpp >= FINEST * classifier.mpp
    maps = method.maps if method.maps != "auto" else "gradcam" if as_demos else "adjusted"
    whole = maps == "gradcam" and slide.height * slide.width <= OWN_SCALE_PIXELS
    return Plan("image" if whole else "slide", maps, tiles)
