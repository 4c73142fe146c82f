"""Which data and which classifier are used where the user names none: the official ones, or else phantoms.

Data facts only, and no heavy import: every command's parser reads this.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Folder of the phantom images that come with the repository (not with the installed package).
REPOSITORY = Path(__file__).parents[2]

#: The authors' classifier.
OFFICIAL_MODEL = "histonet_X1.7_clrdecay_5"

#: Image sets of phantoms, by their kind.
PHANTOM_SETS = {"patch": "01_phantom_patch", "glas": "02_phantom_glas"}

#: Classifiers that were trained on phantoms: the second on smaller patches, which suits glands.
PHANTOM_MODEL, PHANTOM_GLAND_MODEL = "histonet_X1.7_phantom", "histonet_X1.7_phantom56"

PHANTOM_CAVEAT = (
    "a classifier trained on phantoms is used, which knows no real tissue: what it says of any is worth nothing"
)


def default_model(root: Path, labels: str | None) -> str:
    """Return the official classifier where ``<root>/data`` has it, else the phantom one for a label set, and say so."""
    if (root / "data" / f"{OFFICIAL_MODEL}.h5").exists():
        return OFFICIAL_MODEL
    print(f"note: {root / 'data'} has no {OFFICIAL_MODEL}: {PHANTOM_CAVEAT} (see the README)", file=sys.stderr)
    return PHANTOM_GLAND_MODEL if labels == "glas" else PHANTOM_MODEL


@dataclass(frozen=True)
class Source:
    """What a demo segments, with what, and where both lie.

    Attributes
    ----------
    root : Path
        Folder that has ``data``, ``img`` and ``gt``.
    params : mapping
        The published `params`; see `settings.PARAMS`.
    model_name : str
        Classifier in the folder ``data``.
    published : mapping of str to mapping of str to float
        Published metrics after the CRF, by the label set's name; empty for phantoms.
    is_official : bool
    """

    root: Path
    params: Mapping[str, Any]
    model_name: str
    published: Mapping[str, Mapping[str, float]]
    is_official: bool = True


def official_or_phantoms(
    root: Path,
    params: Mapping[str, Any],
    model_name: str,
    published: Mapping[str, Mapping[str, float]],
    phantom: tuple[str, str],
) -> Source:
    """Choose the official data where a folder has any, and else the phantoms of this repository.

    Parameters
    ----------
    root : Path
        Folder that may have ``data``, ``img`` and ``gt``.
    params, model_name, published, phantom
        As in `demo.demo`.

    Returns
    -------
    Source
    """
    if (root / "img" / params["input_name"]).exists() or any((root / "data").glob(f"{model_name}.*")):
        return Source(root, params, model_name, published)
    name, model_name = phantom
    return Source(REPOSITORY, {**params, "input_name": name}, model_name, {}, is_official=False)
