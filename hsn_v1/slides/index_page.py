"""The page of images and slides of the user's own: one HTML file that opens from disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..io.images import embedded
from ..io.reading import read_table
from ..io.writing import remove_leftovers, write_bytes, write_picture
from ..labels import LabelSet
from ..show.figures import colourise
from ..show.gallery import Card, Gallery, Layer, Legend, View, entry_of
from ..show.html import PAGE, Table, crf_facts, link_to, render, versions

if TYPE_CHECKING:
    from .plan import Method, Outcome

#: Reduced image and mask of each label set, in its folder, which the page shows.
IMAGE, MASK = "image.jpg", "mask.png"

NO_TISSUE = 255  #: grey of the mask's pixels without tissue: that of glass


def write_reduced(folder: Path, thumbnail: np.ndarray, labels: np.ndarray, label_set: LabelSet) -> None:
    """Write what the page shows of an input: its image, and its mask in the label set's colours.

    Parameters
    ----------
    folder : Path
        The label set's.
    thumbnail : ndarray of shape (h, w, 3), uint8
    labels : ndarray of shape (h, w), uint8
        Class indices; C where there is no tissue.
    label_set : LabelSet
    """
    mask = colourise(labels, label_set)
    mask[labels >= len(label_set)] = NO_TISSUE
    write_picture(folder / IMAGE, thumbnail)
    write_picture(folder / MASK, mask)


def write_inputs_page(
    out: Path,
    outcomes: Sequence[Outcome],
    table: Table,
    method: Method,
    model: str,
    *,
    caveat: str = "",
    self_contained: bool = False,
) -> None:
    """Write the page that lists what was segmented.

    Parameters
    ----------
    out : Path
        Folder of the page.
    outcomes : sequence of Outcome
    table : Table
        Of all inputs.
    method : Method
    model : str
        The classifier's name.
    caveat : str
        What everyone who sees results of the classifier must know.
    self_contained : bool
        Whether the page holds thumbnails, and links to no file.
    """
    blending = "less towards their borders" if method.feather else "alike, as in the paper"
    facts = {"classifier": model, **crf_facts(method.crfs), "overlapping tiles count": blending, **versions()}
    page = render(
        "segmented.html",
        title="Segmented",
        caveat=caveat,
        table=table.without_empty_columns("reason", "caveat"),  # which are above it
        gallery=_gallery(out, outcomes, self_contained),
        failures={one.source.name: one.reason for one in outcomes if one.status == "failed"},
        facts=facts,
    )
    remove_leftovers(out, "")  # of tables and pages; those of inputs are in their folders
    write_bytes(out / PAGE, page.encode(errors="replace"))


def _gallery(out: Path, outcomes: Sequence[Outcome], self_contained: bool) -> Gallery | None:
    segmented = [one for one in outcomes if one.status != "failed"]
    titles = _titles(label_set for one in segmented for label_set in one.label_sets)
    if not titles:
        return None
    cards = []
    for one in segmented:
        shown = {title: label_set for title, label_set in titles.items() if label_set in one.label_sets}
        cards.append(_card(out, one, shown, self_contained))
    legends = []
    for title, label_set in titles.items():
        counts = Counter(code for card in cards if title in card.views for code in card.ranks[title])
        entries = {code: entry_of(label_set, code, counts[code]) for code in label_set.codes if counts[code]}
        legends.append(Legend(title, entries))
    return Gallery(
        legends,
        cards,
        "share of the tissue",
        "share of the tissue",
        ["of the tissue"],
        has_totals=False,
        note="Hatched classes have a colour that another class nearly has.",
    )


def _titles(label_sets: Iterable[LabelSet]) -> dict[str, LabelSet]:
    """Return what to call each distinct label set: its name, with a number where another one has the same."""
    titles: dict[str, LabelSet] = {}
    for label_set in label_sets:
        if label_set in titles.values():
            continue
        same = sum(one.name == label_set.name for one in titles.values())
        titles[f"{label_set.name} {same + 1}" if same else label_set.name] = label_set
    return titles


def _card(out: Path, outcome: Outcome, label_sets: Mapping[str, LabelSet], self_contained: bool) -> Card:
    folders = [outcome.folder / label_set.name for label_set in label_sets.values()]
    images = [folder / IMAGE for folder in folders if (folder / IMAGE).exists()]
    return Card(
        outcome.source.name,
        _address(images[0], out, self_contained) if images else "",
        outcome.facts.get("height", 1),
        outcome.facts.get("width", 1),
        {
            title: _view(out, folder, label_set, self_contained)
            for (title, label_set), folder in zip(label_sets.items(), folders, strict=True)
        },
        tuple(filter(None, (outcome.reason, *outcome.notes))),
    )


def _view(out: Path, folder: Path, label_set: LabelSet, self_contained: bool) -> View:
    shares, mask = _shares(folder / "areas.csv", label_set), folder / MASK
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    return View(
        [Layer("segmentation", _address(mask, out, self_contained))] if mask.exists() else [],
        {code: round(share or 0, 4) for code, share in shares.items()},
        [(code, True, [_in_words(share)]) for code, share in shares.items()],
        files={} if self_contained else {path.name: link_to(path, out) for path in files},
    )


def _shares(path: Path, label_set: LabelSet) -> dict[str, float | None]:
    """Return the share of the tissue of each class that occurs, by its code; None for the background class."""
    rows = [row for row in read_table(path) if row["class"] in label_set.colours and int(row["pixels"])]
    return {row["class"]: float(row["share_of_tissue"]) if row["share_of_tissue"] else None for row in rows}


def _in_words(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"


def _address(path: Path, out: Path, self_contained: bool) -> str:
    return embedded(path) if self_contained else link_to(path, out)
