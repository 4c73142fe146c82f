"""Names of files: any text, such as a class code or the name of a model, made into a name that every system takes."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

UNSAFE = frozenset('/\\:*?"<>|')  #: separate folders, drives and streams, or are wildcards
LONGEST = 120  #: bytes, so that a stem before it and an ending after it fit
DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE)
DIGEST = re.compile(r"~[0-9a-f]{10}")


@lru_cache(1 << 10)  # a run writes a file for each class of each image
def file_name(name: str, siblings: tuple[str, ...] = ()) -> str:
    """Return the name of a file or folder, or a part of one, that stands for a text on Linux, Windows and macOS.

    Ordinary text, with letters of any language, stays as it is. Of any other, characters that mean something to a file
    system are replaced, and a digest of the whole is added: different texts have different names.

    Parameters
    ----------
    name : str
        Any text.
    siblings : tuple of str
        All texts that name files in the same folder, also this one. Where some differ in case or Unicode form alone,
        which Windows and macOS take for the same name, each gets its digest.

    Returns
    -------
    str
        At most `LONGEST` bytes in UTF-8.

    Examples
    --------
    >>> file_name("E.M.S"), file_name("Tumor: Positive"), file_name("../x")
    ('E.M.S', 'Tumor_ Positive~a15c6f740b', '_x~d6b96a97d1')
    """
    safe = "".join("_" if each in UNSAFE or not each.isprintable() else each for each in name).strip(" .")
    if DEVICE.fullmatch(safe):
        safe = f"_{safe}"
    clashes = any(other != name and _folded(other) == _folded(name) for other in siblings)
    if safe == name and name and len(name.encode()) <= LONGEST and not clashes and not DIGEST.search(name[-11:]):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:10]
    return f"{safe.encode()[: LONGEST - 11].decode(errors='ignore').rstrip(' .')}~{digest}"


def _folded(name: str) -> str:
    """Return what file systems without regard to case and Unicode form compare."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
