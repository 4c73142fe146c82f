"""File names: turn any text, such as a class code or a model's name, into a name valid on every system."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

UNSAFE = frozenset('/\\:*?"<>|')  #: separators of folders, drives and streams, and wildcards
LONGEST = 120  #: greatest length in bytes; leaves room for a stem before it and an ending after it
DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE)
DIGEST = re.compile(r"~[0-9a-f]{10}")


@lru_cache(1 << 10)  # a run writes a file for each class of each image
def file_name(name: str, siblings: tuple[str, ...] = ()) -> str:
    """Turn a text into the name of a file or folder, or a part of one, for Linux, Windows and macOS.

    Ordinary text, with letters of any language, stays as it is. In other text, characters with a meaning for a file
    system are replaced, and a digest of the whole text is appended: different texts get different names.

    Parameters
    ----------
    name : str
        Any text.
    siblings : tuple of str
        All texts that name files in the same folder, including this one. Texts that differ only in case or Unicode
        form are the same name to Windows and macOS; each of them gets its digest.

    Returns
    -------
    str
        At most `LONGEST` bytes in UTF-8.

    Examples
    --------
    >>> file_name("E.M.S"), file_name("Tumor: Positive"), file_name("../x")
    ('E.M.S', 'Tumor_ Positive~a15c6f740b', '_x~d6b96a97d1')
    """
    safe = "".join("_" if letter in UNSAFE or not letter.isprintable() else letter for letter in name).strip(" .")
    if DEVICE.fullmatch(safe):
        safe = f"_{safe}"
    clashes = any(other != name and _folded(other) == _folded(name) for other in siblings)
    if safe == name and name and len(name.encode()) <= LONGEST and not clashes and not DIGEST.search(name[-11:]):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:10]
    return f"{safe.encode()[: LONGEST - 11].decode(errors='ignore').rstrip(' .')}~{digest}"


def _folded(name: str) -> str:
    """Return the form of a name that file systems compare if they ignore case and Unicode form."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
