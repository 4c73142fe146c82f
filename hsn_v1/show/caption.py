"""A line of text under a picture."""

from __future__ import annotations

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def captioned(picture: np.ndarray, text: str, size: int = 14) -> np.ndarray:
    """Write a text, if there is any, under a picture of (H, W, 3) uint8, in letters of `size` px, on as many lines."""
    if not text:
        return picture
    font, margin = ImageFont.load_default(size), size // 2
    width = picture.shape[1]
    letters = max(10, int((width - 2 * margin) / font.getlength(text) * len(text)))
    lines = textwrap.wrap(text, letters)
    strip = Image.new("RGB", (width, round(1.4 * size * len(lines)) + 2 * margin), "white")
    ImageDraw.Draw(strip).multiline_text((margin, margin), "\n".join(lines), fill=(160, 0, 0), font=font, spacing=4)
    return np.vstack([picture, np.asarray(strip)])
