"""Histological tissue types (HTTs) of the Atlas of Digital Pathology, and the label sets segmented here.

Everything that tells one label set from another is data in this file; no other
file asks for a label set's name. Codes are hierarchical: ``E.M.S`` is a kind of
``E.M``, which is a kind of ``E`` (Hosseini et al., CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

#: Scale at which the classifier sees tissue, in microns per pixel: ADP's patches of
#: 1088 px at 0.25 mpp, reduced to 224 px.
CLASSIFIER_MPP = 0.25 * 1088 / 224

#: The 51 outputs of the classifier, in order.
CLASSIFIER_CODES = (
    *("E", "E.M", "E.M.S", "E.M.U", "E.M.O", "E.T", "E.T.S", "E.T.U", "E.T.O", "E.P"),
    *("C", "C.D", "C.D.I", "C.D.R", "C.L"),
    *("H", "H.E", "H.K", "H.Y"),
    *("S", "S.M", "S.M.C", "S.M.S", "S.E", "S.C", "S.C.H", "S.R"),
    *("A", "A.W", "A.B", "A.M"),
    *("M", "M.M", "M.K"),
    *("N", "N.P", "N.R", "N.R.B", "N.R.A", "N.G", "N.G.M", "N.G.A", "N.G.O", "N.G.E", "N.G.R", "N.G.W", "N.G.T"),
    *("G", "G.O", "G.N"),
    *("T",),
)

#: What each code stands for.
NAMES = {
    "Background": "background",
    "Other": "other tissue",
    "E": "epithelial",
    "E.M": "simple epithelial",
    "E.M.S": "simple squamous epithelial",
    "E.M.U": "simple cuboidal epithelial",
    "E.M.O": "simple columnar epithelial",
    "E.T": "stratified epithelial",
    "E.T.S": "stratified squamous epithelial",
    "E.T.U": "stratified cuboidal epithelial",
    "E.T.O": "stratified columnar epithelial",
    "E.P": "pseudostratified epithelial",
    "C": "connective proper",
    "C.D": "dense connective",
    "C.D.I": "dense irregular connective",
    "C.D.R": "dense regular connective",
    "C.L": "loose connective",
    "H": "blood",
    "H.E": "erythrocytes",
    "H.K": "leukocytes",
    "H.Y": "lymphocytes",
    "S": "skeletal",
    "S.M": "mature bone",
    "S.M.C": "compact bone",
    "S.M.S": "spongy bone",
    "S.E": "endochondral bone",
    "S.C": "cartilage",
    "S.C.H": "hyaline cartilage",
    "S.R": "marrow",
    "A": "adipose",
    "A.W": "white adipose",
    "A.B": "brown adipose",
    "A.M": "marrow adipose",
    "M": "muscular",
    "M.M": "smooth muscle",
    "M.K": "skeletal muscle",
    "N": "nervous",
    "N.P": "neuropil",
    "N.R": "neurons",
    "N.R.B": "nerve cell bodies",
    "N.R.A": "nerve axons",
    "N.G": "neuroglial cells",
    "N.G.M": "microglial cells",
    "N.G.A": "astrocytes",
    "N.G.O": "oligodendrocytes",
    "N.G.E": "ependymal cells",
    "N.G.R": "radial glia",
    "N.G.W": "Schwann cells",
    "N.G.T": "satellite glial cells",
    "G": "glandular",
    "G.O": "exocrine gland",
    "G.N": "endocrine gland",
    "T": "transport vessel",
    # Undifferentiated types: of no class, but in the ground truth.
    "E.T.X": "undifferentiated stratified epithelial",
    "C.X": "undifferentiated connective",
    "H.X": "undifferentiated blood",
    "S.C.X": "undifferentiated cartilage",
    "N.G.X": "undifferentiated neuroglial cells",
    "G.X": "undifferentiated gland",
}


def describe(code: str) -> str:
    """Return a code with its name in words, such as ``"M.M smooth muscle"``."""
    return NAMES[code] if code in ("Background", "Other") else f"{code} {NAMES[code]}"


@dataclass(frozen=True)
class LabelSet:
    """Classes that compete for each pixel, and how the set differs from the others.

    Attributes
    ----------
    name : str
        Name of the set's folders and files.
    colours : dict of str to (int, int, int)
        Classes in the order of their indices in a label map, with their RGB colours in mask files.
    unlabelled : dict of str to (int, int, int)
        Colours of undifferentiated types: ground truth that belongs to no class.
    background : str or None
        Class found by its brightness instead of by the classifier.
    bright : tuple of str
        Tissue that may be as bright as background, and that background gives way to.
    other : str or None
        Class of the tissue that no other map claims.
    lender : str or None
        Label set whose adjusted maps of the classes `borrowed` also count as `other`.
    borrowed : tuple of str
        See `lender`.
    always_present : tuple of str
        Classes that are localised in every tile, whatever their score.
    set_aside : tuple of str
        Classes left out of the Grad-CAM mask and of the "fore" confusion matrix.
    confidence_images : bool
        Whether the published code wrote one image of the score per present class;
        otherwise it wrote one table of the `always_present` class's scores.
    instances : str or None
        Class whose connected components are written as labelled objects.
    true_instances : str or None
        Folder beside the ground truth's, of bitmaps with one label per true object of that class.
    """

    name: str
    colours: dict[str, tuple[int, int, int]]
    unlabelled: dict[str, tuple[int, int, int]]
    background: str | None = None
    bright: tuple[str, ...] = ()
    other: str | None = None
    lender: str | None = None
    borrowed: tuple[str, ...] = ()
    always_present: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    confidence_images: bool = True
    instances: str | None = None
    true_instances: str | None = None

    def __len__(self) -> int:
        return len(self.colours)

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """The classes in the order of their indices."""
        return tuple(self.colours)

    def indices(self, codes) -> list[int]:
        """Return the class indices of the given codes."""
        return [self.codes.index(code) for code in codes]

    @cached_property
    def classified(self) -> list[int]:
        """Indices of the classes that the classifier scores."""
        return [i for i, code in enumerate(self.codes) if code in CLASSIFIER_CODES]

    def outputs(self, indices) -> list[int]:
        """Return the classifier's output for each of the given class indices."""
        return [CLASSIFIER_CODES.index(self.codes[i]) for i in indices]

    @cached_property
    def borrowed_indices(self) -> list[int]:
        """Indices that the `borrowed` classes have in their lender."""
        return LABEL_SETS[self.lender].indices(self.borrowed) if self.lender else []

    @cached_property
    def foreground(self) -> list[int]:
        """Indices of the classes that are not `set_aside`."""
        return [i for i, code in enumerate(self.codes) if code not in self.set_aside]


ADIPOSE = ("A.W", "A.B", "A.M")

MORPH = LabelSet(
    name="morph",
    colours={
        "Background": (255, 255, 255),
        "E.M.S": (0, 0, 128),
        "E.M.U": (0, 128, 0),
        "E.M.O": (255, 165, 0),
        "E.T.S": (255, 192, 203),
        "E.T.U": (255, 0, 0),
        "E.T.O": (173, 20, 87),
        "E.P": (176, 141, 105),
        "C.D.I": (3, 155, 229),
        "C.D.R": (158, 105, 175),
        "C.L": (216, 27, 96),
        "H.E": (244, 81, 30),
        "H.K": (124, 179, 66),
        "H.Y": (142, 36, 255),
        "S.M.C": (240, 147, 0),
        "S.M.S": (204, 25, 165),
        "S.E": (121, 85, 72),
        "S.C.H": (142, 36, 170),
        "S.R": (179, 157, 219),
        "A.W": (121, 134, 203),
        "A.B": (97, 97, 97),
        "A.M": (167, 155, 142),
        "M.M": (228, 196, 136),
        "M.K": (213, 0, 0),
        "N.P": (4, 58, 236),
        "N.R.B": (0, 150, 136),
        "N.R.A": (228, 196, 65),
        "N.G.M": (239, 108, 0),
        "N.G.W": (74, 21, 209),
    },
    unlabelled={
        "E.T.X": (0, 204, 184),
        "C.X": (131, 81, 63),
        "H.X": (230, 124, 115),
        "S.C.X": (249, 127, 57),
        "N.G.X": (148, 0, 0),
    },
    background="Background",
    bright=ADIPOSE,
    set_aside=("Background",),
)

FUNC = LabelSet(
    name="func",
    colours={
        "Background": (255, 255, 255),
        "Other": (3, 155, 229),
        "G.O": (0, 0, 128),
        "G.N": (0, 128, 0),
        "T": (173, 20, 87),
    },
    unlabelled={"G.X": (255, 165, 0)},
    background="Background",
    bright=("G.O", "G.N", "T"),
    other="Other",
    lender="morph",
    borrowed=ADIPOSE,
    set_aside=("Background", "Other"),
)

GLAS = LabelSet(
    name="glas",
    colours={"Other": (3, 155, 229), "G.O": (0, 0, 128)},
    unlabelled={},
    other="Other",
    always_present=("G.O",),
    confidence_images=False,
    instances="G.O",
    true_instances="glas_multi_gland",
)

LABEL_SETS = {label_set.name: label_set for label_set in (MORPH, FUNC, GLAS)}

#: Label sets that go by one name together: the published `htt_mode`.
HTT_MODES = {"both": (MORPH, FUNC), "morph": (MORPH,), "func": (FUNC,), "glas": (GLAS,)}


def lenders_first(label_sets: Iterable[LabelSet]) -> list[LabelSet]:
    """Return label sets in an order in which each comes after the one whose maps it borrows, that one included."""
    ordered = {}
    for label_set in label_sets:
        if label_set.lender:
            ordered[label_set.lender] = LABEL_SETS[label_set.lender]
        ordered[label_set.name] = label_set
    return list(ordered.values())
