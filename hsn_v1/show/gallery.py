"""Data of a page's gallery, images with their masks, for the template part ``gallery.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..labels import Colour, LabelSet
from .hatching import hatches, ink_on


@dataclass(frozen=True)
class LegendEntry:
    """A class in a legend."""

    code: str
    name: str  #: in words
    colour: Colour
    ink: Colour  #: colour of its hatching
    hatching: int  #: kind of lines; see `hatching.LINES`
    images: int = 0  #: number of images that have the class


@dataclass(frozen=True)
class Legend:
    """The classes of one label set in a gallery."""

    name: str  #: of the label set
    entries: Mapping[str, LegendEntry]  #: by the class's code
    unlabelled: Sequence[LegendEntry] = ()  #: colours of no class, in the ground truth alone


@dataclass(frozen=True)
class Layer:
    """A mask over an image: its title, its address, and a remark such as its mIoU."""

    title: str
    source: str
    remark: str = ""


@dataclass(frozen=True)
class View:
    """An image's masks, numbers and files of one label set."""

    layers: Sequence[Layer] = ()
    #: Measure to sort images by, by the code of each class that a filter finds in the image; "" for all classes.
    ranks: Mapping[str, float] = field(default_factory=dict)
    #: For each class that occurs: code, whether the ground truth has it, and its number after each stage.
    rows: Sequence[tuple[str, bool, Sequence[str]]] = ()
    note: str = ""  #: on the masks
    files: Mapping[str, str] = field(default_factory=dict)  #: addresses of other files, by name


@dataclass(frozen=True)
class Card:
    """An image of `height` by `width` px, and its view of each label set, by name."""

    name: str
    source: str
    height: int
    width: int
    views: Mapping[str, View]
    facts: Sequence[str] = ()

    @property
    def ranks(self) -> dict[str, Mapping[str, float]]:
        """Ranks to sort and filter images by, by the label set's name."""
        return {name: view.ranks for name, view in self.views.items()}

    @property
    def most_layers(self) -> int:
        """The largest number of layers of any label set."""
        return max((len(view.layers) for view in self.views.values()), default=0)


@dataclass(frozen=True)
class Gallery:
    """Images of a page."""

    legends: Sequence[Legend]  #: one for each label set
    cards: Sequence[Card]
    measure: str  #: name of the measure in `View.ranks`
    numbers: str  #: name of the numbers in `View.rows`
    columns: Sequence[str]  #: headings of these numbers
    has_totals: bool  #: whether `View.ranks` have a value for all classes
    note: str = ""


def entry_of(label_set: LabelSet, code: str, images: int = 0) -> LegendEntry:
    """Return the legend entry of a class, or of an unlabelled colour."""
    colour = label_set.colours.get(code) or label_set.unlabelled[code]
    return LegendEntry(code, label_set.describe(code), colour, ink_on(colour), hatches(label_set)[code], images)
