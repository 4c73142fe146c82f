"""Images and masks as addresses that hold them, for pages that are one file."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2

from .images import read_image

SIDE = 400  #: longest side of an image in a page, in px


def embedded(path: Path) -> str:
    """Return a file as an address that holds it whole; PNG and JPEG."""
    return _address(path.read_bytes(), "jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "png")


def embedded_thumbnail(path: Path, is_mask: bool, side: int = SIDE) -> str:
    """Return an image or a mask, reduced to a longest side in px, as an address that holds it.

    An image is averaged, and compressed with loss; of a mask nearest pixels are taken, whose colours stay exact.

    Raises
    ------
    InputError
        If the file is no image.
    """
    image, _ = read_image(path)
    scale = min(1, side / max(image.shape[:2]))
    if scale < 1:
        how = cv2.INTER_NEAREST if is_mask else cv2.INTER_AREA
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=how)
    kind, options = ("png", [cv2.IMWRITE_PNG_COMPRESSION, 9]) if is_mask else ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, 80])
    _, content = cv2.imencode(f".{kind}", image[..., ::-1], options)
    return _address(content.tobytes(), kind)


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
