"""Which files are segmented: those given, and of folders the images and slides in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError
from ..slide_io.formats import SLIDE_ENDINGS
from ..slide_io.multi_file import parts_of_slides

#: Endings of the files that are taken from a folder.
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".jp2", ".webp", *SLIDE_ENDINGS)


def expand(inputs: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Return the files to segment, and what of the inputs is passed over, with the reason, a line each.

    Folders are replaced by the images and slides in them, in order of their names; of the files of a slide one stands
    for all.

    Raises
    ------
    InputError
        If there is nothing to segment in a folder.
    """
    files, notes = [], []
    for path in map(Path, inputs):
        if not path.is_dir():
            files.append(path)
            continue
        found, others = _in_folder(path)
        if not found:
            raise InputError(f"{path}: no images or slides in this folder; expected {', '.join(ENDINGS)}")
        files += found
        notes += others
    files = list(dict.fromkeys(files))
    parts = parts_of_slides(file for file in files if file.is_file())
    if len(parts) == len(files):
        raise InputError(f"{files[0]}: {parts[files[0]]}, and there is no slide with it")
    return [file for file in files if file not in parts], [*notes, *(f"{file}: {why}" for file, why in parts.items())]


def _in_folder(folder: Path) -> tuple[list[Path], list[str]]:
    found, notes = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.with_name(f"{path.name}.mrxs").exists():  # which is where MIRAX keeps a slide's pixels
                notes.append(f"{path}: a folder in a folder, which is not searched; name it to segment what it holds")
        elif path.suffix.lower() in ENDINGS:
            found.append(path)
        else:
            notes.append(f"{path}: no image or slide by its ending")
    return found, notes
