"""Records of results: the facts that results depend on, and their classes, in ``run.json`` of each results folder.

Facts are compared before results are used again. With the classes, viewers need no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import InputError
from ..file_names import file_name
from ..labels import Colour, LabelSet
from ..views import ONCE
from .reading import read_object
from .writing import write_bytes

if TYPE_CHECKING:
    from ..classify import Classifier
    from ..densecrf import CRF

RECORD = "run.json"  #: name of the file in a results folder

#: Types of a record's values. A record with other types is damaged, or was not written by this package.
FIELDS = {
    **dict.fromkeys(("classes", "results", "failures", "facts", "columns"), dict),
    **dict.fromkeys(("files", "notes", "label sets"), list),
    **dict.fromkeys(("input", "images", "kind"), str),
}


def record_of_label_set(label_set: LabelSet) -> dict[str, Any]:
    """Return the parts of a label set that `label_set_of` needs, as JSON values."""
    return {
        "colours": {code: list(colour) for code, colour in label_set.colours.items()},
        "names": dict(label_set.names),
        "unlabelled": dict(label_set.unlabelled),
        "background": label_set.background,
        "other": label_set.other,
    }


def label_set_of(name: str, record: Mapping[str, Any]) -> LabelSet:
    """Return a label set from its record, with the parts that viewing results needs, or raise InputError."""
    try:
        if file_name(name) != name:
            raise ValueError("its name is not that of a folder")
        colours = {str(code): _colour(colour) for code, colour in record["colours"].items()}
        words = {str(code): str(words) for code, words in record.get("names", {}).items()}
        kinds = record.get("unlabelled", {}).items()
        unlabelled = {str(kind): value if isinstance(value, int) else _colour(value) for kind, value in kinds}
        return LabelSet(name, colours, {}, words, unlabelled, record.get("background"), other=record.get("other"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{name!a}: no record of a label set ({error}); segment the input again") from error


def _colour(values: Any) -> Colour:
    red, green, blue = colour = tuple(map(int, values))
    if not 0 <= min(colour) <= max(colour) <= 255:
        raise ValueError(f"colour {values}")
    return red, green, blue


def read_record(folder: Path) -> dict[str, Any]:
    """Return a results folder's record; empty if it is missing or damaged: not JSON, too large, or of other types."""
    record = read_object(folder / RECORD)
    return record if all(isinstance(record.get(key, kind()), kind) for key, kind in FIELDS.items()) else {}


def facts_of(classifier: Classifier, crfs: Mapping[str, CRF], **more: Any) -> dict[str, Any]:
    """Return the facts that all results depend on, and `more` of them, as JSON values."""
    settings = {name: asdict(crf) for name, crf in crfs.items()}
    views = {name: value for name, value in asdict(classifier.labels.views).items() if value != getattr(ONCE, name)}
    seen = {"views": views or None, "classifier": classifier.identity}  # whose identity depends on them
    return {**seen, "CRF": settings, **more, "version": __version__}


def version_of(path: Path) -> dict[str, int]:
    """Return a file's size and time, which change once something is written to it."""
    file = path.stat()
    return {"bytes": file.st_size, "modified": file.st_mtime_ns}


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the first fact that differs between earlier results and a run now, in words; empty if none does.

    `before` comes from a record, and may hold more facts. Both hold JSON values.
    """
    for key, new in json.loads(json.dumps(now)).items():  # tuples are lists in a record
        old = before.get(key)
        if isinstance(old, dict) and isinstance(new, dict) and (inner := difference(old, new)):
            return f"{key}, {inner}"
        if old != new:
            return f"{key}: {old!s:.40}, now {new!s:.40}"
    return ""


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], content: str = "results") -> None:
    """Raise InputError if a folder's `content` was made in another way; `before` and `now` are as in `difference`."""
    if changed := difference(before, now):
        raise InputError(
            f"{folder}: holds {content} of another run ({changed}); replace them by `force`, or choose another folder"
        )


def forget_others(record: Path, facts: Mapping[str, Any], results: Iterable[Path]) -> None:
    """Remove a folder's results if they were made with other facts, and record the new facts.

    `record` is the JSON file with the facts of the results; `facts` are those of the run that begins.
    """
    if not difference(read_object(record), facts):
        return
    for path in results:
        path.unlink(missing_ok=True)
    write_bytes(record, json.dumps(facts, indent=1).encode())
