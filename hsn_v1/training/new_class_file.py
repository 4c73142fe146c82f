"""Make the class file of a new classifier: complete and commented, with distinct colours, to be edited by hand."""

from __future__ import annotations

import colorsys
import json
import unicodedata
from collections.abc import Mapping, Sequence

from ..class_file import parse_taxonomy
from ..errors import InputError
from ..labels import BACKGROUND_RULES, Colour

#: Name and colour of the background class in a new class file.
BACKGROUND, WHITE = "Background", (255, 255, 255)

#: Rules that find background, of `BACKGROUND_RULES`, by their names as an option.
BACKGROUND_OPTIONS = {"brightness": BACKGROUND_RULES[0], "grey": BACKGROUND_RULES[1]}

_GOLDEN = 0.618033988749895  # hues at multiples of the golden ratio never come close to each other

_TEMPLATE = """\
# Classes of {model}: everything about this classifier that its weights do not say.
# Names, colours and label sets may be edited at any time; the order of [outputs] belongs to the weights and may not.
# docs/own_classes.md explains every key.

mpp = {mpp:.10g} # microns per pixel of the training patches
mean = {mean} # of the training patches' pixels, of R, G and B
std = {std}
{views}
# The network's outputs in their order: code = "name in words". A dot makes a parent: TUM.LOW is a kind of TUM.
[outputs]
{outputs}

# Label sets: classes that compete for each pixel. Each has a name, which is that of its folders and files.
[label_sets.tissue]
adjustment = "paper"          # a class's map less the highest of the others; "released" as the published code does
{background}
# other = "Other"             # a class of the tissue that no other class claims; add its colour below
# always_present = ["..."]    # classes that are localised in every tile, whatever their score
# objects = "..."             # a class made of objects, which are counted and outlined one by one

# Colours in mask files as [red, green, blue], in the order of the indices in label maps: 0, 1, 2, ...
[label_sets.tissue.classes]
{classes}

# Colours, or indices, of ground truth that is of no class and does not count.
[label_sets.tissue.unlabelled]
{excluded}
"""

#: Table of the best views for a network with average pooling that was trained on small patches.
VIEWS = """
# How often each place is looked at. Without this table: once, as published.
[views]
stride = 384 # px from one tile to the next
flips = true # 8 turns and mirror images
scales = [0.7, 1, 1.4]
window = 80 # px: windows that are localised as tiles are, from one look at the tile around them
"""

_BACKGROUND = """\
background = {code}     # found by how bright a pixel is, not by the classifier
background_rule = {rule} # "brightness" as published, "grey above 200" as benchmarks do
bright = []                   # tissue that may be as bright as background, and wins over it
set_aside = [{code}]    # left out of the Grad-CAM mask and of the "fore" confusion matrix"""

_NO_BACKGROUND = """\
# background = "Background"   # a class that is found by how bright a pixel is; add its colour below
# background_rule = "brightness"
# bright = []                 # tissue that may be as bright as background, and wins over it"""


def class_file(
    model: str,
    classes: Mapping[str, Colour | None],
    mpp: float,
    moments: tuple[Sequence[float], Sequence[float]],
    background: str | None = "brightness",
    views: str = "",
) -> str:
    """Return the text of a new class file for `parse_taxonomy`, with one label set, ``tissue``.

    Parameters
    ----------
    model : str
        Name of the classifier.
    classes : mapping of str to colour or None
        The outputs in order, with their colours; None gets a distinct colour.
    mpp : float
        Scale of the training patches, in microns per pixel.
    mean, std : sequence of one or three floats
        Mean and standard deviation of the training patches' pixels, in 0..255.
    background : {"brightness", "grey"} or None
        Rule that finds background, the last class; None for no such class. It is left out if `classes` has a class
        of its name.
    views : str
        Table of views, such as `VIEWS`.

    Raises
    ------
    InputError
        If there is no class, there are too many, or a colour comes twice.
    """
    rule = None if BACKGROUND.casefold() in map(str.casefold, classes) else background
    given = [colour for colour in classes.values() if colour]
    drawn = iter(distinct_colours(len(classes), [*given, WHITE]))
    colours = {code: colour or next(drawn) for code, colour in classes.items()}
    if rule:
        colours[BACKGROUND] = WHITE
    lines = _TEMPLATE.format(
        model=model,
        mpp=mpp,
        mean=_numbers(moments[0]),
        std=_numbers(moments[1]),
        views=views,
        outputs="\n".join(f"{_quoted(code)} = {_quoted(code)}" for code in classes),
        classes="\n".join(f"{_quoted(code)} = {list(colour)}" for code, colour in colours.items()),
        excluded=("# " if WHITE in colours.values() else "") + f'"white" = {list(WHITE)}\n"excluded" = {len(colours)}',
        background=_BACKGROUND.format(code=_quoted(BACKGROUND), rule=_quoted(BACKGROUND_OPTIONS[rule]))
        if rule
        else _NO_BACKGROUND,
    )
    parse_taxonomy(lines, f"classes of {model}")
    return lines


def distinct_colours(count: int, taken: Sequence[Colour] = ()) -> list[Colour]:
    """Return `count` colours that differ from each other and from `taken`."""
    found: list[Colour] = []
    number = 0
    while len(found) < count:
        hue, turn = number * _GOLDEN % 1, number // 8 % 4
        rgb = colorsys.hsv_to_rgb(hue, (0.85, 0.55, 0.95, 0.7)[turn], (0.85, 0.95, 0.5, 0.7)[turn])
        colour = tuple(round(255 * value) for value in rgb)
        if colour not in found and colour not in taken:
            found.append(colour)
        number += 1
    return found


def parse_classes(texts: Sequence[str]) -> dict[str, Colour | None]:
    """Parse classes such as ``tumour`` or ``tumour=#004080``; return their colours, or None, by name.

    Raises
    ------
    InputError
        If a text is malformed, or a name or a colour comes twice.
    """
    classes: dict[str, Colour | None] = {}
    for text in texts:
        name, equals, colour = unicodedata.normalize("NFC", text).partition("=")
        digits = colour.removeprefix("#")
        is_colour = len(digits) == 6 and not set(digits.lower()) - set("0123456789abcdef")
        if not name.strip() or not name.strip().isprintable() or (equals and not is_colour):
            raise InputError(f"`classes` {text}: expected a name, or a name with a colour such as tumour=#004080")
        value = tuple(bytes.fromhex(digits)) if digits else None
        if name.strip() in classes or (value and value in classes.values()):
            raise InputError(f"`classes` {text}: its name or colour is there already; give each class its own")
        classes[name.strip()] = value
    return classes


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _numbers(values: Sequence[float]) -> str:
    return str([round(float(value), 4) for value in values])
