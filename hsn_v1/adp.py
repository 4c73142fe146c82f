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
CLASSIFIER_CODES = tuple(
    """E E.M E.M.S E.M.U E.M.O E.T E.T.S E.T.U E.T.O E.P C C.D C.D.I C.D.R C.L H H.E H.K H.Y S S.M S.M.C
    S.M.S S.E S.C S.C.H S.R A A.W A.B A.M M M.M M.K N N.P N.R N.R.B N.R.A N.G N.G.M N.G.A N.G.O N.G.E
    N.G.R N.G.W N.G.T G G.O G.N T""".split()
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
    codes : tuple of str
        Classes in the order of their indices in a label map.
    colours : tuple of (int, int, int)
        RGB colour of each class in mask files.
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
    """

    name: str
    codes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
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

    def __len__(self) -> int:
        return len(self.codes)

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
    codes=tuple(
        """Background E.M.S E.M.U E.M.O E.T.S E.T.U E.T.O E.P C.D.I C.D.R C.L H.E H.K H.Y S.M.C S.M.S S.E S.C.H
        S.R A.W A.B A.M M.M M.K N.P N.R.B N.R.A N.G.M N.G.W""".split()
    ),
    # fmt: off
    colours=(
        (255, 255, 255),
        (0, 0, 128),
        (0, 128, 0),
        (255, 165, 0),
        (255, 192, 203),
        (255, 0, 0),
        (173, 20, 87),
        (176, 141, 105),
        (3, 155, 229),
        (158, 105, 175),
        (216, 27, 96),
        (244, 81, 30),
        (124, 179, 66),
        (142, 36, 255),
        (240, 147, 0),
        (204, 25, 165),
        (121, 85, 72),
        (142, 36, 170),
        (179, 157, 219),
        (121, 134, 203),
        (97, 97, 97),
        (167, 155, 142),
        (228, 196, 136),
        (213, 0, 0),
        (4, 58, 236),
        (0, 150, 136),
        (228, 196, 65),
        (239, 108, 0),
        (74, 21, 209),
    ),
    # fmt: on
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
    codes=("Background", "Other", "G.O", "G.N", "T"),
    colours=((255, 255, 255), (3, 155, 229), (0, 0, 128), (0, 128, 0), (173, 20, 87)),
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
    codes=("Other", "G.O"),
    colours=((3, 155, 229), (0, 0, 128)),
    unlabelled={},
    other="Other",
    always_present=("G.O",),
    confidence_images=False,
    instances="G.O",
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
