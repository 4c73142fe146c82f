"""Was it made in the same way? What results depend on, kept beside them, and compared before they are used again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__
from ..classify import Classifier
from ..densecrf import CRF
from ..errors import InputError
from .reading import read_json
from .writing import write_bytes


def facts_of(classifier: Classifier, crfs: Mapping[str, CRF], **more: Any) -> dict[str, Any]:
    """Return what all results depend on, with more of the same kind; of what JSON can hold."""
    settings = {name: asdict(crf) for name, crf in crfs.items()}
    return {"classifier": classifier.identity, "CRF": settings, **more, "version": __version__}


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the first fact in which results differ from what would be made now, in words; empty if none does.

    `before` comes out of a record, and may hold more; both are of what JSON can hold.
    """
    now = json.loads(json.dumps(now))  # tuples are lists in a record
    return next((f"{key}: {before.get(key)}, now {now[key]}" for key in now if before.get(key) != now[key]), "")


def read_facts(record: Path) -> dict[str, Any] | None:
    """Return the facts that a record holds; None if there is none, or one that is damaged."""
    try:
        facts = read_json(record)
    except InputError:
        return None
    return facts if isinstance(facts, dict) else None


def forget_others(record: Path, facts: Mapping[str, Any], results: Iterable[Path]) -> None:
    """Remove a folder's results if they were not made in the same way, and write down how they are made from now on.

    `record` is the JSON file of the facts that they were made with; `facts` are those of the run that begins.
    """
    before = read_facts(record)
    if before is not None and not difference(before, facts):
        return
    for path in results:
        path.unlink(missing_ok=True)
    write_bytes(record, json.dumps(facts, indent=1).encode())
