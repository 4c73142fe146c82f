"""Read tables of any separator and encoding, and find the files that their cells name."""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from ..errors import InputError
from .reading import read_bytes

SEPARATORS = ",;\t|"  #: separators of cells, the likeliest first; spaces if there is none of these
SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  #: first bytes of spreadsheets in a program's own format

#: Endings of images that a table may leave out or spell differently.
IMAGE_ENDINGS = (".ome.tif", ".ome.tiff", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def read_rows(table: Path) -> list[tuple[int, list[str]]]:
    """Read a table's non-empty rows, each with the number of its last line.

    The text is UTF-8, UTF-16 or else Windows-1252. The separator is a comma, semicolon, tab, bar or space: the one that
    gives header and rows the same number of cells, or that of a first line ``sep=;``. Cells are stripped and composed
    (NFC). Empty cells at the end of the header are dropped, and so are those at the end of a row beyond the header.
    """
    lines = list(io.StringIO(_text(table), newline=""))
    first, separator = 1, ""
    if lines and lines[0].strip().lower().startswith("sep="):
        first, separator = 2, lines[0].strip()[4:] or "\t"
    lines = lines[first - 1 :]
    reader = csv.reader(lines, delimiter=(separator or _separator(lines))[0], skipinitialspace=True)
    try:
        rows = [(reader.line_num + first - 1, [*map(_composed, row)]) for row in reader]
    except csv.Error as error:
        raise InputError(f"{table}: cannot be read ({error}); expected a table, as CSV") from error
    rows = [(line, row) for line, row in rows if any(row)]
    return [(line, _trimmed(row, len(_trimmed(rows[0][1])))) for line, row in rows]


def _text(table: Path) -> str:
    content = read_bytes(table)
    if content.startswith(SPREADSHEETS):
        raise InputError(f"{table}: a spreadsheet in its program's own format; save it as CSV there, and give that")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    elif b"\0" in content[:2]:  # half of a UTF-16 letter
        encodings = ["utf-16-le" if content[1:2] == b"\0" else "utf-16-be"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise InputError(f"{table}: cannot be read as text; expected a table: save it as CSV in UTF-8")


def _separator(lines: list[str]) -> str:
    """Return the separator by which most rows are as wide as the header; of several, the one with the most cells."""

    def fit(separator: str) -> tuple[float, int]:
        widths = [len(row) for row in csv.reader(lines[:100], delimiter=separator, skipinitialspace=True) if any(row)]
        return (widths.count(widths[0]) / len(widths), widths[0]) if widths and widths[0] > 1 else (0, 0)

    fits = {separator: fit(separator) for separator in SEPARATORS}
    best = max(fits, key=fits.get)
    return best if fits[best] > (0, 0) or fit(" ")[0] < 1 else " "


def _trimmed(row: list[str], least: int = 0) -> list[str]:
    """Return a row without the empty cells at its end, but with at least its first `least` cells."""
    filled = max((i + 1 for i, cell in enumerate(row) if cell), default=0)
    return row[: max(filled, least)]


def find_files(names: Iterable[str], files: Iterable[Path]) -> dict[str, Path]:
    r"""Find the files that a table names.

    Names may include folders, even of another machine, with slashes or backslashes. Files match by their own name; of
    several, the one that shares the most trailing folders, then the least nested one. If no exact name matches,
    accents, case and the image's ending are ignored. Ambiguous names are left out.
    """
    files, names, matches = list(files), dict.fromkeys(names), {}
    for form in (_composed, folded, _without_ending):
        by_name: dict[str, list[tuple[tuple[str, ...], Path]]] = defaultdict(list)
        for file in files:
            parts = _parts(file.as_posix(), form)
            by_name[parts[-1]].append((parts, file))
        for name in names:
            parts = _parts(name, form)
            if name not in matches and parts and (file := _nearest(parts, by_name.get(parts[-1], ()))):
                matches[name] = file
    return matches


def _parts(name: str, form: Callable[[str], str]) -> tuple[str, ...]:
    return tuple(map(form, PurePosixPath(name.replace("\\", "/")).parts))


def _nearest(wanted: tuple[str, ...], candidates: Iterable[tuple[tuple[str, ...], Path]]) -> Path | None:
    """Return the candidate that shares the most trailing folders, then the least nested one; None on a tie."""
    by_rank: dict[tuple[int, int], list[Path]] = defaultdict(list)
    for parts, file in candidates:
        by_rank[-common_end(wanted, parts), len(parts)].append(file)
    nearest = by_rank[min(by_rank)] if by_rank else []
    return nearest[0] if len(nearest) == 1 else None


def common_end(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the number of parts that two paths share at their ends."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def folded(name: str) -> str:
    """Return a name's form for comparison: composed (NFC) and case-folded."""
    return _composed(name).strip("'").casefold()  # an apostrophe keeps a spreadsheet from taking it for a formula


def _without_ending(name: str) -> str:
    name = folded(name)
    return next((name.removesuffix(ending) for ending in IMAGE_ENDINGS if name.endswith(ending)), name)
