"""Slides of several files: find the files of a folder that are parts of one slide, or only its label or overview."""

from __future__ import annotations

import configparser
import struct
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from ..errors import InputError
from ..io.reading import opened, read_bytes

DICOM_HEADER = 1 << 16  #: bytes at the start of a DICOM file that hold its header's first tags
DICOMDIR = "1.2.840.10008.1.3.10"  #: class of DICOM files that are tables of contents of others
NOT_THE_SLIDE = ("LABEL", "OVERVIEW", "THUMBNAIL", "LOCALIZER")  #: kinds of DICOM images that are no slide
LONGEST_INDEX = 1 << 20  #: greatest size of a Hamamatsu slide's index, in bytes


def parts_of_slides(files: Iterable[Path]) -> dict[Path, str]:
    """Return the files that are not to be segmented by themselves, with the reason.

    A DICOM series is named by its largest file, a VMS or VMU set by its index file, and an OME-TIFF of several files by
    the first of them.
    """
    reasons = {}
    files = sorted(files)
    for folder in sorted({file.parent for file in files}):
        here = [file for file in files if file.parent == folder]
        reasons |= _dicom_parts([file for file in here if is_dicom(file)])
        reasons |= _named_parts([file for file in here if file.suffix.lower() in (".vms", ".vmu")], here)
        reasons |= _ome_parts([file for file in here if ".ome." in file.name.lower()])
    return reasons


def _dicom_parts(files: list[Path]) -> dict[Path, str]:
    reasons, series = {}, {}
    for file in files:
        header = _begin(file)
        kinds = _dicom_text(header, 0x0008, 0x0008, b"CS")
        if _dicom_text(header, 0x0002, 0x0002, b"UI") == DICOMDIR:
            reasons[file] = "a table of contents of DICOM files"
        elif kind := next((kind for kind in NOT_THE_SLIDE if kind in kinds), ""):
            reasons[file] = f"the {kind.lower()} image of a DICOM slide"
        else:
            series.setdefault(_dicom_text(header, 0x0020, 0x000E, b"UI") or str(file), []).append(file)
    for members in series.values():
        main = max(members, key=lambda file: file.stat().st_size)
        reasons |= {file: f"part of the slide {main.name}" for file in members if file != main}
    return reasons


def is_dicom(file: Path) -> bool:
    """Tell whether a file is DICOM, by its name or its content: archives keep such files without an ending."""
    return file.suffix.lower() == ".dcm" or _begin(file, 132)[128:] == b"DICM"


def _begin(file: Path, count: int = DICOM_HEADER) -> bytes:
    try:
        with opened(file) as content:
            return content.read(count)
    except InputError:  # reported where the file is opened
        return b""


def _dicom_text(header: bytes, group: int, element: int, kind: bytes) -> str:
    """Return a text of a DICOM header in the usual encoding, explicit and little-endian, or ""."""
    tag = struct.pack("<HH", group, element) + kind
    _, _, value = header.partition(tag)
    length = int.from_bytes(value[:2], "little")
    return value[2 : 2 + length].decode("ascii", "replace").strip("\0 ")


def _named_parts(indices: list[Path], here: list[Path]) -> dict[Path, str]:
    """Return the files that Hamamatsu's index files name, with the reason."""
    reasons = {}
    for index in indices:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        try:
            parser.read_string(read_bytes(index, LONGEST_INDEX).decode(errors="replace"))
        except (configparser.Error, InputError):  # reported where the file is opened
            continue
        named = {value.strip() for section in parser.values() for value in section.values()}
        reasons |= {file: f"part of the slide {index.name}" for file in here if file.name in named}
    return reasons


def _ome_parts(files: list[Path]) -> dict[Path, str]:
    import tifffile

    reasons = {}
    for file in files:
        if file in reasons:
            continue
        try:
            with opened(file) as content, tifffile.TiffFile(content) as tiff:
                root = ElementTree.fromstring(tiff.ome_metadata or "<OME/>")
        except Exception:  # any fault is reported where the file is opened
            continue
        names = {element.get("FileName") for element in root.iter() if element.tag.endswith("UUID")}
        others = [other for other in files if other.name in names and other != file]
        reasons |= dict.fromkeys(others, f"part of the slide {file.name}")
    return reasons
