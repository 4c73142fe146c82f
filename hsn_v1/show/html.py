"""Render HTML pages that open from disk, and their shared parts: tables, links, settings and versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .. import __version__
from ..densecrf import CRF

if TYPE_CHECKING:
    import jinja2
    import rich.table
    from markupsafe import Markup

PAGE = "index.html"  #: name of the page in a run's folder

LIBRARIES = ("tensorflow", "keras", "numpy", "scipy", "scikit-image", "opencv-python-headless", "numba", "pydensecrf2")


@dataclass(frozen=True)
class Table:
    """A table of a page; its first `words` columns hold words, `folded` hides it at first."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    note: str = ""
    folded: bool = False

    @cached_property
    def is_word(self) -> list[bool]:
        """Whether each column is left-aligned as words: the first `words`, and any with a space in a cell."""
        cells = zip(*self.rows, strict=True) if self.rows else [()] * len(self.header)
        return [i < self.words or any(" " in cell for cell in column) for i, column in enumerate(cells)]

    def without_empty_columns(self, *others: str) -> Table:
        """Return the table without columns that are empty, or ``-``, in all rows, and without those of `others`."""
        filled = [any(row[i] not in ("", "-") for row in self.rows) for i in range(len(self.header))]
        keep = [i for i, heading in enumerate(self.header) if filled[i] and heading not in others]
        rows = [[row[i] for i in keep] for row in self.rows]
        words = sum(i < self.words for i in keep)
        return replace(self, header=[self.header[i] for i in keep], rows=rows, words=words)


def for_terminal(table: Table, caption: str = "") -> rich.table.Table:
    """Return a table for `rich` to print; words are left-aligned, numbers right-aligned."""
    import rich.table
    from rich.text import Text

    shown = rich.table.Table(title=Text(table.title) if table.title else None, caption=caption)
    for heading, is_word in zip(table.header, table.is_word, strict=True):
        shown.add_column(heading, justify="left" if is_word else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*map(Text, row))  # as Text: brackets in a name are not markup
    return shown


def render(template: str, *, caveat: str = "", **context: Any) -> str:
    """Render a page from a file of ``templates`` and at least a ``title``; escapes text, puts the caveat on top."""
    return _template(template).render(version=__version__, caveat=caveat, **context)


@cache  # a page is written again after each slide of a list
def _template(name: str) -> jinja2.Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    options = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=PackageLoader(__package__), **options).get_template(name)


def link_to(path: Path, folder: Path) -> str:
    """Return the address of a file for a page in `folder`: relative, or a file URI for another drive."""
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # on another drive
        return path.resolve().as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))


def card_fact(address: str) -> dict[str, Markup]:
    """Return a link to the model card, keyed by its name; {} without an address."""
    from markupsafe import Markup

    return {"model card": Markup('<a href="%s">%s</a>') % (address, address)} if address else {}


def crf_facts(crfs: Mapping[str, CRF]) -> dict[str, str]:
    """Return the CRF settings of each label set as text."""
    return {
        f"CRF, {name}": ", ".join(f"{key} {value}" for key, value in asdict(crf).items()) for name, crf in crfs.items()
    }


def versions() -> dict[str, str]:
    """Return the versions of hsn_v1, Python and libraries, and the current time, as text."""
    entries = [f"hsn_v1 {__version__}", f"Python {platform.python_version()}"]
    for library in LIBRARIES:
        try:
            entries.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            continue
    return {"versions": ", ".join(entries), "finished": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")}
