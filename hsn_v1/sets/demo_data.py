"""Which data a demo segments: the authors', or phantoms where there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..io import tree

#: Folder of the phantom images that come with the repository (not with the installed package).
REPOSITORY = Path(__file__).parents[2]

FOLDERS = ("data", "img")  #: what a root has, besides the ground truth in `gt`


@dataclass(frozen=True)
class DemoData:
    """What a demo segments, with what, and where both lie.

    Attributes
    ----------
    params : mapping
        The published `params`; see `settings.PARAMS`.
    model_name : str
        Classifier in the folder ``data``.
    root, out : Path
        Folder that has ``data``, ``img`` and ``gt``, and the one to write to.
    note : str
        That phantoms are segmented, and why; empty for other data.
    """

    params: Mapping[str, Any]
    model_name: str
    root: Path
    out: Path
    note: str = ""


def choose_data(
    params: Mapping[str, Any], model_name: str, phantom: tuple[str, str], root: Path | None = None
) -> DemoData:
    """Choose the data in a folder; without one, those in the current folder or, if it has none, phantoms.

    Parameters
    ----------
    params : mapping
        The published `params`; see `settings.PARAMS`.
    model_name : str
        Classifier in the folder ``data``.
    phantom : (str, str)
        Image set and classifier of this repository's phantoms.
    root : Path, optional
        Folder that has ``data``, ``img`` and ``gt``.

    Raises
    ------
    InputError
        If the given folder has no ``data`` or no ``img``; names one near it that has both.
    """
    here, name = root or Path(), params["input_name"]
    if root:
        check_root(root)
    elif not tree.images_folder(here, name).exists() and not any((here / "data").glob(f"{model_name}.*")):
        note = (
            f"{here.resolve()} has no official data (see the README): phantoms, images made by this program, are "
            "segmented instead, by a classifier trained on such"
        )
        name, model_name = phantom
        return DemoData({**params, "input_name": name}, model_name, REPOSITORY, tree.results_folder(here, name), note)
    return DemoData(params, model_name, here, tree.results_folder(here, name))


def check_root(root: Path) -> None:
    """Raise InputError if a folder has no ``data`` or no ``img``; it names one near it that has both."""
    missing = next((root / name for name in FOLDERS if not (root / name).is_dir()), None)
    if missing:
        near = _near(root)
        advice = f"; did you mean {near}?" if near else ", as in the authors' download"
        raise InputError(f"{missing}: no such folder; expected data, img and gt in {root}{advice}")


def _near(root: Path) -> Path | None:
    """Return the folder with `data` and `img` in, above or beside a root whose name is most like the root's."""
    root = root.absolute()
    folders = [root.parent, *(child for place in (root, root.parent) if place.is_dir() for child in place.iterdir())]
    fitting = [folder for folder in folders if all((folder / name).is_dir() for name in FOLDERS)]
    return max(fitting, key=lambda folder: SequenceMatcher(None, folder.name, root.name).ratio(), default=None)
