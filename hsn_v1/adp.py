"""The Atlas of Digital Pathology (Hosseini et al., CVPR 2019): classes and label sets of the published classifier."""

from __future__ import annotations

from importlib.resources import files

from .class_file import parse_taxonomy

#: Text of the published classifier's class file.
CLASS_FILE = (files(__package__) / "adp.toml").read_text(encoding="utf-8")

ADP = parse_taxonomy(CLASS_FILE, "adp.toml")

#: Scale at which the published classifier sees tissue, in microns per pixel.
CLASSIFIER_MPP = ADP.mpp

#: The 51 outputs of the published classifier, in order.
CLASSIFIER_CODES = ADP.codes

LABEL_SETS = ADP.label_sets
MORPH, FUNC, GLAS = LABEL_SETS.values()

#: Groups of label sets by name: the published `htt_mode`.
HTT_MODES = ADP.groups
