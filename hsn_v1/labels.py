"""Classes as data: the meaning of a classifier's outputs, and the label sets that are segmented with them.

Each classifier has its own class file, ``data/<model>.toml``, for everything that its weights do not say. A classifier
without one uses ADP's, as published (`adp.toml`). Label sets differ by this data only: no code depends on the name of
a label set or a class.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from .errors import InputError
from .views import ONCE, Views

Colour = tuple[int, int, int]

STAGES = ("GradCAM", "Adjust", "CRF")  #: stages of the method that end in a mask

MOST_CLASSES = 254  #: most classes of a label set: an 8-bit label map needs one more value, for "no tissue"

#: Range of a microscope's or scanner's microns per pixel; other figures, such as 72 dpi, are no scale.
PLAUSIBLE_MPP = 0.05, 10.0

LARGEST = 100_000  #: upper limit of a side in px, and of numbers of epochs and images; beyond any real one

#: Rules that find the background class: stage 3's brightness, or the benchmarks' grey above 200 (see `adjust`).
BACKGROUND_RULES = ("brightness", "grey above 200")

#: Rules of competition in stage 3: one class after another, as in the released code, or all at once, as in the paper.
ADJUSTMENTS = ("released", "paper")


@dataclass(frozen=True)
class Variant:
    """A published form of stages 2 to 4 (docs/method.md, "Variants"); the default is that of ICCV 2019.

    Attributes
    ----------
    adjustment : str
        One of `ADJUSTMENTS`.
    unit_gradients : bool
        Whether a class's channel weights come from the gradient at an all-zero tile, divided by its root mean square.
    shared_maximum : bool
        Whether all Grad-CAMs of a tile are divided by the highest value of all outputs; if not, each by its own.
    clips_unscored : bool
        Whether the maps of background and other are kept within 0..1 before the classes compete.
    lends_adjusted : bool
        Whether a label set lends its maps after the subtraction; if not, before it.
    file_iterations : bool
        Whether the sixth number of a CRF settings file is used.
    """

    adjustment: str = ADJUSTMENTS[0]
    unit_gradients: bool = False
    shared_maximum: bool = False
    clips_unscored: bool = True
    lends_adjusted: bool = True
    file_iterations: bool = False


@dataclass(frozen=True)
class Stain:
    """Stain of a classifier's training patches, to which images are normalised (see `classify`).

    Attributes
    ----------
    mean, std : tuple of three floats
        Mean and standard deviation of L*, a* and b* of CIELAB over tissue.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


VARIANTS = {
    "iccv2019": Variant(),
    "ijcv2020": Variant("paper", True, True, clips_unscored=False, lends_adjusted=False, file_iterations=True),
}


@dataclass(frozen=True)
class LabelSet:
    """A set of classes that compete for each pixel, with the rules of their segmentation.

    Attributes
    ----------
    name : str
        Name of the set's folders and files.
    colours : dict of str to (int, int, int)
        Classes in the order of their indices in a label map, with their RGB colours in mask files.
    outputs_of : dict of str to int
        Index of the classifier's output for each class that has one.
    names : dict of str to str
        Name in words of each class, and of each colour of no class.
    unlabelled : dict of str to (int, int, int) or int
        Colours, or indices in palette files, of ground truth that belongs to no class.
    background : str or None
        Class found by its brightness instead of by the classifier.
    background_rule : str
        One of `BACKGROUND_RULES`.
    bright : tuple of str
        Classes of tissue that may be as bright as background; their maps are subtracted from the background's.
    other : str or None
        Class of the tissue where no other class responds.
    lender : LabelSet or None
        Label set whose adjusted maps of the classes `borrowed` also count as `other`.
    borrowed : tuple of str
        See `lender`.
    always_present : tuple of str
        Classes that are localised in every tile, at any score.
    set_aside : tuple of str
        Classes left out of the Grad-CAM mask and of the "fore" confusion matrix.
    confidence_images : bool
        Whether the published code wrote one image of the score per present class;
        otherwise it wrote one table of the `always_present` class's scores.
    objects : str or None
        Class whose connected components are written as labelled objects.
    split_objects : int or None
        Least distance in px between the middles of two touching objects that are cut; None to cut none.
    true_objects : str or None
        Folder beside the ground truth's, with bitmaps of one label per true object of that class.
    variant : Variant
        Variant of the method that segments the set.
    """

    name: str
    colours: dict[str, Colour]
    outputs_of: dict[str, int]
    names: dict[str, str] = field(default_factory=dict)
    unlabelled: dict[str, Colour | int] = field(default_factory=dict)
    background: str | None = None
    background_rule: str = BACKGROUND_RULES[0]
    bright: tuple[str, ...] = ()
    other: str | None = None
    lender: LabelSet | None = None
    borrowed: tuple[str, ...] = ()
    always_present: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    confidence_images: bool = True
    objects: str | None = None
    split_objects: int | None = None
    true_objects: str | None = None
    variant: Variant = Variant()

    def __len__(self) -> int:
        return len(self.colours)

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """The classes in the order of their indices."""
        return tuple(self.colours)

    def indices(self, codes: Iterable[str]) -> list[int]:
        """Return the class indices of the given codes."""
        return [self.codes.index(code) for code in codes]

    @cached_property
    def classified(self) -> list[int]:
        """Indices of the classes that the classifier scores."""
        return [i for i, code in enumerate(self.codes) if code in self.outputs_of]

    def outputs(self, indices: Iterable[int]) -> list[int]:
        """Return the classifier's output for each of the given class indices."""
        return [self.outputs_of[self.codes[i]] for i in indices]

    @cached_property
    def borrowed_indices(self) -> list[int]:
        """Indices that the `borrowed` classes have in their lender."""
        return self.lender.indices(self.borrowed) if self.lender else []

    @cached_property
    def foreground(self) -> list[int]:
        """Indices of the classes that are not `set_aside`."""
        return [i for i, code in enumerate(self.codes) if code not in self.set_aside]

    def name_of(self, code: str) -> str:
        """Return the name in words of a class, or of a colour of no class; its code if it has none."""
        return self.names.get(code, code)

    def describe(self, code: str) -> str:
        """Return a code with its name in words, such as ``"M.M smooth muscle"``; only the name if it has the code."""
        name = self.name_of(code)
        named = code in (self.background, self.other) or f"{name} ".startswith(f"{code} ")
        return name if named else f"{code} {name}"


@dataclass(frozen=True)
class Taxonomy:
    """Content of a classifier's class file.

    Attributes
    ----------
    mpp : float
        Scale of the training patches, in microns per pixel.
    mean, std : tuple of one or three floats
        Mean and standard deviation of the training patches' pixels, in 0..255; three for R, G and B.
    outputs : dict of str to str
        The network's outputs in their order: code and name in words.
    parents : dict of str to str
        Parent of a code: E.M is the parent of its kind E.M.S.
    label_sets : dict of str to LabelSet
        Label sets by name.
    groups : dict of str to tuple of LabelSet
        Groups of label sets by name, each a single one or several: the published `htt_mode`.
    caveat : str
        Warning to everyone who sees results of this classifier; empty for none.
    variant : Variant
        Variant of the method for this classifier; each label set has its own adjustment.
    views : Views
        Test-time views of each place.
    stain : Stain or None
        Stain to which images are normalised before they are classified.
    """

    mpp: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    outputs: dict[str, str]
    parents: dict[str, str]
    label_sets: dict[str, LabelSet]
    groups: dict[str, tuple[LabelSet, ...]]
    caveat: str = ""
    variant: Variant = Variant()
    views: Views = ONCE
    stain: Stain | None = None

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """The network's outputs in their order."""
        return tuple(self.outputs)

    @cached_property
    def vague(self) -> tuple[str, ...]:
        """Codes of ground truth of no class that are no outputs either; their parents may be outputs."""
        codes = (code for label_set in self.label_sets.values() for code in label_set.unlabelled)
        return tuple(dict.fromkeys(code for code in codes if code not in self.outputs))

    def with_parents(self, codes: Iterable[str]) -> list[int]:
        """Return the indices of the outputs of the given codes and all their ancestors: a class includes its kinds."""
        lineage = set()
        for code in codes:
            while code and code not in lineage:
                lineage.add(code)
                code = self.parents.get(code)
        return [i for i, code in enumerate(self.codes) if code in lineage]

    @property
    def default_group(self) -> str:
        """Name of the group to segment by default: the one with the most label sets; of equal ones, the first."""
        return max(self.groups, key=lambda name: len(self.groups[name]))

    def group(self, name: str) -> tuple[LabelSet, ...]:
        """Return the label sets of a group by its name, or raise InputError."""
        if name not in self.groups:
            raise InputError(f"{name}: no label set of this classifier; it has {', '.join(self.groups)}")
        return self.groups[name]


def lenders_first(label_sets: Iterable[LabelSet]) -> list[LabelSet]:
    """Order label sets so that each comes after its lender; add lenders that are missing."""
    ordered = {}
    for label_set in label_sets:
        if label_set.lender:
            ordered[label_set.lender.name] = label_set.lender
        ordered[label_set.name] = label_set
    return list(ordered.values())
