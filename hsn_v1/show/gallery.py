"""What the gallery of a page holds: images with their masks, for the templates' part ``gallery.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..labels import Colour, LabelSet
from .hatching import hatches, ink_on


@dataclass(frozen=True)
class LegendEntry:
    """A class in a legend.

    Attributes
    ----------
    code, name : str
        The name in words.
    colour, ink : (int, int, int)
        The class's, and that of its hatching.
    hatching : int
        Kind of lines; see `hatching.LINES`.
    images : int
        Number of images that have the class.
    """

    code: str
    name: str
    colour: Colour
    ink: Colour
    hatching: int
    images: int = 0


@dataclass(frozen=True)
class Legend:
    """The classes of one label set in a gallery.

    Attributes
    ----------
    name : str
        The label set's.
    entries : mapping of str to LegendEntry
        By the class's code.
    unlabelled : sequence of LegendEntry
        Colours of no class, in the ground truth alone.
    """

    name: str
    entries: Mapping[str, LegendEntry]
    unlabelled: Sequence[LegendEntry] = ()


@dataclass(frozen=True)
class Layer:
    """A mask over an image: its title, its address, and a remark such as its mIoU."""

    title: str
    source: str
    remark: str = ""


@dataclass(frozen=True)
class View:
    """What there is of an image for one label set.

    Attributes
    ----------
    layers : sequence of Layer
    ranks : mapping of str to float
        What images are sorted by: of each class that filters find in the image, by its code, and of all as ``""``.
    rows : sequence of (str, bool, sequence of str)
        Of each class that occurs: code, whether the ground truth has it, and its number after each stage.
    note : str
        What the user should know of the masks.
    files : mapping of str to str
        Addresses of other files, by their names.
    """

    layers: Sequence[Layer] = ()
    ranks: Mapping[str, float] = field(default_factory=dict)
    rows: Sequence[tuple[str, bool, Sequence[str]]] = ()
    note: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """An image, with a view for each label set, by its name; height and width in px give its shape."""

    name: str
    source: str
    height: int
    width: int
    views: Mapping[str, View]
    facts: Sequence[str] = ()

    @property
    def ranks(self) -> dict[str, Mapping[str, float]]:
        """What the image is sorted and found by, by the label set's name."""
        return {name: view.ranks for name, view in self.views.items()}

    @property
    def most_layers(self) -> int:
        """The largest number of layers of any label set."""
        return max((len(view.layers) for view in self.views.values()), default=0)


@dataclass(frozen=True)
class Gallery:
    """Images of a page.

    Attributes
    ----------
    legends : sequence of Legend
        One for each label set.
    cards : sequence of Card
    measure : str
        What `View.ranks` are.
    numbers : str
        What the numbers in `View.rows` are.
    columns : sequence of str
        Their headings.
    has_totals : bool
        Whether `View.ranks` have one for all classes.
    note : str
    """

    legends: Sequence[Legend]
    cards: Sequence[Card]
    measure: str
    numbers: str
    columns: Sequence[str]
    has_totals: bool
    note: str = ""


def entry_of(label_set: LabelSet, code: str, images: int = 0) -> LegendEntry:
    """Return the legend's entry of a class, or of a colour of no class."""
    colour = label_set.colours.get(code) or label_set.unlabelled[code]
    return LegendEntry(code, label_set.describe(code), colour, ink_on(colour), hatches(label_set)[code], images)
