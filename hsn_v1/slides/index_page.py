"""The index of a results folder: its tables, and its page, one HTML file that opens from disk."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..densecrf import CRF
from ..errors import InputError
from ..io.images import embedded
from ..io.model_files import copy_card
from ..io.reading import read_table
from ..io.writing import csv_of, remove_leftovers, write_bytes
from ..labels import LabelSet
from ..show.gallery import Card, Gallery, Layer, Legend, View, entry_of
from ..show.html import PAGE, Table, card_fact, crf_facts, link_to, render, versions
from ..slide_io.label_maps import AREA_COLUMNS, Area, read_areas
from .results_folder import IMAGE, MASK, Outcome, records

if TYPE_CHECKING:
    from .inputs import Input

TABLE = "segmented.csv"  #: name of the table of all inputs

#: Columns of this table that hold facts; see `Outcome`.
FACTS = ("kind", "maps", "height", "width", "mpp", "tiles", "seconds")
COLUMNS = ("input", "status", "reason", *FACTS, "caveat", "folder")

#: Columns of a list's status table, before those of the list.
STATUS = ("name", "status", "where", "reason", "seconds", "tiles", "notes", "path")

AGAIN = "not segmented again: "  #: prefix of the reason if a failed input keeps earlier results


# --- Tables -----------------------------------------------------------------------------------------------------------


def status_table(out: Path, shard: str | None) -> Path:
    """Return the path of a list's status table in a results folder; each shard, such as 3/20, has its own."""
    return out / (f"status-{shard.replace('/', '-of-')}.csv" if shard else "status.csv")


class StatusTable:
    """The status table of a list's inputs, all waiting at first; each call with an outcome rewrites the file.

    If the file cannot be replaced, as on Windows while a spreadsheet has it open, `note` is called once. Work goes
    on, and the next outcome rewrites the file.
    """

    def __init__(self, path: Path, inputs: Sequence[Input], note: Callable[[str], None]):
        self.path, self._note, self._noted, self._lock = path, note, False, threading.Lock()
        names = _columns(inputs)
        self._header = csv_of([[*STATUS, *names]])
        self._ends = {item.name: [str(item.path), *(item.columns.get(name, "") for name in names)] for item in inputs}
        self._lines = {name: csv_of([[name, "waiting", *[""] * 5, *end]]) for name, end in self._ends.items()}
        self._where = dict.fromkeys(self._ends, "")
        self._write()

    def __call__(self, outcome: Outcome) -> None:
        """Record an outcome; may be called from any thread."""
        name, facts = outcome.folder.name, outcome.facts
        with self._lock:
            self._where[name] = outcome.where or self._where[name]
            measured = [str(facts.get("seconds", "")), str(facts.get("tiles", "")), " ".join(outcome.notes)]
            row = [name, outcome.status, self._where[name], outcome.reason, *measured, *self._ends[name]]
            self._lines[name] = csv_of([row])
            self._write()

    def _write(self) -> None:
        try:
            write_bytes(self.path, self._header + b"".join(self._lines.values()))
        except OSError as error:
            if not self._noted:
                self._note(f"{self.path}: cannot be written ({error.strerror}); work goes on, see {PAGE} at its end")
            self._noted = True


def results_and_failures(out: Path, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return a folder's results, of this run and earlier ones, and the failures of inputs without results.

    If an input with earlier results fails, these results stay, with the reason of the failure, until it is tried again.
    """
    results = {
        _as_read(folder): Outcome.of_record(folder, record, "done before") for folder, record in records(out).items()
    }
    results |= {_as_read(outcome.folder): outcome for outcome in outcomes if outcome.status != "failed"}
    failures = [*failures_before(out, outcomes), *(outcome for outcome in outcomes if outcome.status == "failed")]
    without_results = []
    for failure in failures:
        folder = _as_read(failure.folder)
        if folder not in results or _as_read(results[folder].source) != _as_read(failure.source):
            without_results.append(failure)  # another input of the same name may have the folder
        elif failure in outcomes or failure.reason.startswith(AGAIN):
            results[folder] = replace(results[folder], reason=f"{AGAIN}{failure.reason.removeprefix(AGAIN)}")
    return sorted([*results.values(), *without_results], key=lambda outcome: outcome.folder.name)


def failures_before(out: Path, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the failures in a folder's table, except inputs tried again; none if the table cannot be read."""
    tried = {_as_read(path) for outcome in outcomes for path in (outcome.source, outcome.source.parent)}
    try:
        return [
            replace(
                Outcome(Path(row["input"]), Path(row["folder"]), row["status"], row["reason"]),
                columns={name: cell for name, cell in row.items() if name not in COLUMNS},
            )
            for row in read_table(out / TABLE)
            if row["reason"] and _as_read(Path(row["input"])) not in tried
        ]
    except (InputError, KeyError, TypeError):
        return []


def _as_read(path: Path) -> str:
    """Return an absolute path as tables spell it: bytes that are no Unicode are escaped."""
    return str(path.absolute()).encode(errors="backslashreplace").decode()


def _columns(inputs: Iterable[Input | Outcome]) -> list[str]:
    """Return the names of the columns of the user's list."""
    return list(dict.fromkeys(name for item in inputs for name in item.columns))


def table_of(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of outcomes; the columns of the user's list come last."""
    names = _columns(outcomes)
    rows = [
        [str(outcome.source.absolute()), outcome.status, outcome.reason]
        + [str(outcome.facts.get(fact, "")) for fact in FACTS]
        + [outcome.caveat, str(outcome.folder)]
        + [outcome.columns.get(name, "") for name in names]
        for outcome in outcomes
    ]
    return [*COLUMNS, *names], rows


def areas_of(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Return the table of all areas, header first: a row for each class of an input, with the list's columns."""
    names = _columns(outcomes)
    rows = [
        [outcome.folder.name, label_set.name, *area.cells(), *(outcome.columns.get(name, "") for name in names)]
        for outcome in outcomes
        for label_set in outcome.label_sets
        for area in _areas(outcome.folder / label_set.name)
    ]
    return [["input", "label set", *AREA_COLUMNS, *names], *rows] if rows else []


def _areas(folder: Path) -> list[Area]:
    path = folder / "areas.csv"
    return read_areas(path) if path.exists() else []


# --- Page -------------------------------------------------------------------------------------------------------------


def write_index(
    out: Path,
    outcomes: Sequence[Outcome],
    model: str,
    crfs: Mapping[str, CRF],
    self_contained: bool = False,
    card: Path | None = None,
) -> list[str]:
    """Write the tables and the page of all results in a folder, after a run with the given outcomes.

    Returns a note on each file that could not be replaced because another program has it open. Raises InputError if
    there is no room. A self-contained page holds its pictures, and links to no file.
    """
    entries, notes = results_and_failures(out, outcomes), []
    header, rows = table_of(entries)
    link = copy_card(card, out)
    page = render(
        "segmented.html",
        title="Segmented",
        caveat=" ".join(dict.fromkeys(outcome.caveat for outcome in entries if outcome.caveat)),
        table=Table("", header, rows, words=3).without_empty_columns("reason", "caveat"),  # shown above the table
        gallery=_gallery(out, entries, self_contained),
        failures=_failures(entries),
        facts={
            "classifier": model,
            **card_fact("" if self_contained else link),
            **crf_facts(crfs),
            **versions(),
        },
    )
    remove_leftovers(out, "")  # of tables and pages; an input's leftovers are in its folder
    areas = areas_of(entries)
    contents = {TABLE: csv_of([header, *rows]), **({"areas.csv": csv_of(areas)} if areas else {})}
    for name, content in {**contents, PAGE: page.encode(errors="replace")}.items():
        try:
            write_bytes(out / name, content)
        except PermissionError as error:
            notes.append(
                f"{out / name}: cannot be replaced ({error.strerror}); close it, and run the same command again"
            )
        except OSError as error:
            raise InputError(f"{out}: {error.strerror}; make room there, or choose another folder") from error
    return notes


def _failures(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return the reasons of failed inputs by file name, or by path where two files have the same name."""
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    names = Counter(outcome.source.name for outcome in failed)
    return {
        outcome.source.name if names[outcome.source.name] == 1 else str(outcome.source): outcome.reason
        for outcome in failed
    }


def _gallery(out: Path, outcomes: Sequence[Outcome], self_contained: bool) -> Gallery | None:
    segmented = [outcome for outcome in outcomes if outcome.status != "failed"]
    titles = _titles(label_set for outcome in segmented for label_set in outcome.label_sets)
    if not titles:
        return None
    cards, legends = [_card(out, outcome, titles, self_contained) for outcome in segmented], []
    for title, label_set in titles.items():
        counts = Counter(code for card in cards for code in card.ranks.get(title, ()))
        entries = {code: entry_of(label_set, code, counts[code]) for code in label_set.codes if counts[code]}
        legends.append(Legend(title, entries))
    share, note = "share of the tissue", "Hatched classes have a colour that another class nearly has."
    return Gallery(legends, cards, share, share, ["of the tissue"], has_totals=False, note=note)


def _titles(label_sets: Iterable[LabelSet]) -> dict[str, LabelSet]:
    """Return distinct label sets by title: the name, with a number if another label set has the same name."""
    titles: dict[str, LabelSet] = {}
    for label_set in label_sets:
        if label_set in titles.values():
            continue
        same = sum(other.name == label_set.name for other in titles.values())
        titles[f"{label_set.name} {same + 1}" if same else label_set.name] = label_set
    return titles


def _card(out: Path, outcome: Outcome, titles: Mapping[str, LabelSet], self_contained: bool) -> Card:
    label_sets = {title: label_set for title, label_set in titles.items() if label_set in outcome.label_sets}
    images = (outcome.folder / label_set.name / IMAGE for label_set in label_sets.values())
    image = next(filter(Path.exists, images), None)
    return Card(
        outcome.source.name,
        _address(image, out, self_contained) if image else "",
        outcome.facts.get("height", 1),
        outcome.facts.get("width", 1),
        {title: _view(out, outcome.folder / s.name, s, self_contained) for title, s in label_sets.items()},
        tuple(filter(None, (outcome.reason, *outcome.notes))),
    )


def _view(out: Path, folder: Path, label_set: LabelSet, self_contained: bool) -> View:
    areas, mask = _areas(folder), folder / MASK
    shares = {area.code: area.share for area in areas if area.pixels and area.code in label_set.colours}
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    return View(
        [Layer("segmentation", _address(mask, out, self_contained))] if mask.exists() else [],
        {code: round(share or 0, 4) for code, share in shares.items()},
        [(code, True, [_in_words(share)]) for code, share in shares.items()],
        files={} if self_contained else {path.name: link_to(path, out) for path in files},
    )


def _in_words(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"


def _address(path: Path, out: Path, self_contained: bool) -> str:
    return embedded(path) if self_contained else link_to(path, out)
