"""Read and write masks of any program: class indices from colours, palettes or grey values, and maps of objects.

One rule for all: a mask is read by its colours if these are the label set's, else as class indices.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..checks import check_label_set, check_labels
from ..errors import InputError
from ..labels import Colour, LabelSet
from .images import opened
from .writing import write_bytes

#: Endings of the lossless formats.
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")

GREYS = tuple((value,) * 3 for value in range(256))  #: colour of each value of a mask without a palette
BLACK_AND_WHITE = GREYS[::255]  #: palette of a bilevel mask

MOST_SHOWN = 6  #: most classes that a note lists
MOST_STRANGE = 64  #: most colours of a mask most of whose pixels are of no class; with more, it is a photograph
JPEG = "JPEG changes colours: save masks as PNG"


@dataclass(frozen=True)
class Mask:
    """A mask as indices of C classes."""

    labels: np.ndarray  #: (H, W) uint8; C marks a pixel that is unlabelled, or has a colour of no class
    pixels: np.ndarray  #: (C,) int64, pixels of each class in the file, at its own size
    notes: tuple[str, ...] = ()  #: for the user, on class indices, colours of no class, or another size
    size: tuple[int, int] | None = None  #: height and width of the file, in px; None if it is no picture


@dataclass(frozen=True)
class Decoder:
    """A lookup table from the values of a mask's pixels to class indices."""

    #: (256,) or (2**24,) uint8: class index of each value of a single channel, or of each colour; C for unlabelled,
    #: C + 1 for no class at all.
    table: np.ndarray
    note: str = ""  #: the class of each index, unless colours decide

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Look up pixels, (H, W) or (H, W, 3) uint8, in the table; return (H, W) uint8."""
        if values.ndim == 2:
            return self.table.take(values)
        if len(self.table) == 256:  # grey, in three channels
            return self.table.take(values[..., 0])
        return self.table.take(cv2.cvtColor(values, cv2.COLOR_RGB2RGBA).view("<u4")[..., 0] & 0xFFFFFF)


def read_mask(
    path: Path | str, label_set: LabelSet, size: tuple[int, int] | None = None, resize: str = "noted"
) -> Mask:
    """Read the mask of an image.

    Parameters
    ----------
    path : Path or str
        RGB, palette, grey or bilevel image of at most 8 bits per channel; an alpha channel is ignored. `decoder_of` has
        the rules.
    label_set : LabelSet
    size : (int, int), optional
        Height and width of the image, in px; if left out, the mask keeps its own size.
    resize : {"noted", "silently", "never"}
        Whether to resize a mask of another size, by nearest pixels. ``noted``: to its own aspect only, with a note.
        ``silently``: to any, as published, since all of GlaS' masks have one aspect. ``never``: not at all.

    Raises
    ------
    InputError
        If the file is missing, cut off, not an image, or a photograph, does not fit its image, or has an index beyond
        the classes.

    Examples
    --------
    >>> from hsn_v1 import ADP
    >>> mask = read_mask("gt/01_phantom_patch/func/phantom_000014.png", ADP.label_sets["func"])
    >>> mask.labels.shape, mask.pixels.tolist()  # of each class
    ((224, 224), [17042, 25893, 7241, 0, 0])
    """
    check_label_set(label_set)
    path = Path(path)
    if not path.exists():
        hint = f"; there is {path.stem}.jpg, but {JPEG}" if path.with_suffix(".jpg").exists() else ""
        raise InputError(f"{path}: no such ground truth; add it, or remove the image{hint}")
    with opened(path) as image:
        values, palette = _values(image, path)
        changed = f" ({JPEG})" if image.format == "JPEG" else ""
    try:
        decoder = decoder_of(path, label_set, [values], palette)
    except InputError as error:
        raise InputError(f"{error}{changed}") from error
    labels, unlabelled = decoder(values), len(label_set)
    counts = np.bincount(labels.ravel(), minlength=unlabelled + 2)
    strange, file_size = int(counts[unlabelled + 1]), labels.shape
    if 2 * strange > labels.size and values.ndim == 3 and _colours_of(values) > MOST_STRANGE:
        raise InputError(
            f"{path}: most of its colours are of no class of {label_set.name}, as in a photograph; expected a mask in "
            f"the classes' colours, or of class indices{changed}"
        )
    notes = [f"{path}: {decoder.note}"] if decoder.note else []
    if strange:
        first = values[np.unravel_index((labels == unlabelled + 1).argmax(), labels.shape)]
        colour = first if first.ndim else dict(enumerate(palette or GREYS)).get(int(first), GREYS[0])
        what = f"{strange} pixels have a colour of no class, such as {_hex(colour)}"
        notes.append(f"{path}: {what}; they count as unlabelled{changed}")
    if size and size != labels.shape:
        if resize != "silently":
            check_fit(path, labels.shape, size, exactly=resize == "never")
            notes.append(f"{path}: {_px(labels.shape)}, resized to its image's {_px(size)}")
        labels = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)
    return Mask(np.minimum(labels, unlabelled), counts[:unlabelled], tuple(notes), file_size)


def _colours_of(values: np.ndarray) -> int:
    """Return how many colours an image, (H, W, 3) uint8, has in up to 10,000 of its pixels."""
    pixels = values.reshape(-1, 3)
    return len(np.unique(pixels[:: len(pixels) // 10_000 + 1], axis=0))


def _values(image: Image.Image, path: Path) -> tuple[np.ndarray, Sequence[Colour] | None]:
    """Return an image's pixels, (H, W) or (H, W, 3) uint8, and its palette, if it has one."""
    if image.mode == "P":
        channels = image.getpalette("RGB")
        palette = list(zip(channels[::3], channels[1::3], channels[2::3], strict=True))
        if image.format == "GIF" and {*palette} <= {*GREYS}:  # GIF stores grey only as a palette, in any order
            return np.asarray(image.convert("L")), None
        return np.asarray(image), palette
    if image.mode in ("1", "L", "LA"):
        grey = image.convert("L") if image.mode == "LA" else image
        return np.asarray(grey, np.uint8), BLACK_AND_WHITE if image.mode == "1" else None
    if image.mode in ("I", "F"):
        numbers = np.asarray(image)
        if not np.isin(numbers, np.arange(256)).all():
            raise InputError(f"{path}: values beyond 0 to 255; save it with 8 bits per channel")
        return numbers.astype(np.uint8), None
    return np.asarray(image.convert("RGB")), None


def check_fit(path: Path, size: tuple[int, int], wanted: tuple[int, int], exactly: bool = False) -> None:
    """Raise InputError if a mask's height and width do not fit its image's: in their aspect, or exactly.

    Sides are whole numbers of px, so the aspect may be off by less than one px.
    """
    small, large = np.array(sorted((size, wanted)))
    has_aspect = ((small - 1) / large).max() < ((small + 1) / large).min()
    if exactly or not has_aspect:
        which = "" if exactly else ", or the same aspect"
        raise InputError(
            f"{path}: {_px(size)}, expected {wanted[1]} x {wanted[0]} as its image has{which}; masks must fit their "
            "images pixel by pixel: save it at this size or, where a command can stretch it, give `resize`"
        )


def check_any_class(pixels: Mapping[Path, np.ndarray], label_set: LabelSet) -> None:
    """Raise InputError if no pixel of any mask has a class; `pixels` are those of each class in each file, (C,)."""
    if any(counts.any() for counts in pixels.values()):
        return
    path = next(iter(pixels))
    with opened(path) as image:
        colour = image.convert("RGB").getpixel((0, 0))
    expected = ", ".join(f"{code} {_hex(colour)}" for code, colour in [*label_set.colours.items()][:MOST_SHOWN])
    raise InputError(
        f"{path}: no pixel of this mask, or of any other one, has a class of {label_set.name}; found {_hex(colour)}, "
        f"expected {expected}{', ...' * (len(label_set) > MOST_SHOWN)}; give the classes the masks' colours, or choose "
        "other masks"
    )


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _px(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} px"


def decoder_of(
    path: Path, label_set: LabelSet, strips: Iterable[np.ndarray], palette: Sequence[Colour] | None = None
) -> Decoder:
    """Return the decoder of a mask: by its colours if these are the label set's, else by class indices.

    A palette is read by its colours if it has all of the label set's, or no others. Grey values are read as indices if
    all are valid, else as colours if all are the label set's; 0 and 255 are the two classes of a label set of two. Grey
    in three channels is read as colours if all are the label set's, else as indices if all are valid.

    `strips` are all pixels of the mask, (H, W) or (H, W, 3) uint8, in one or more pieces. `palette` has the colours of
    the 2 to 256 values of a single channel. Raises InputError, which names `path`, for an index beyond the classes.
    """
    colours, counts, is_rgb = _classes_of_colours(label_set), np.zeros(256, np.int64), False
    for strip in strips:
        if strip.ndim == 3:
            is_rgb = True
            if any((strip[..., 0] != strip[..., channel]).any() for channel in (1, 2)):
                return Decoder(_colour_table(tuple(colours.items()), len(label_set)))
            strip = strip[..., 0]
        counts += np.bincount(strip.ravel(), minlength=256)
    used, indices = {*np.flatnonzero(counts).tolist()}, _classes_of_indices(label_set)
    if len(label_set) == 2 and palette is None and 255 not in indices and used == {0, 255}:
        indices = {0: 0, 255: 1}
    if palette is not None:
        is_coloured = _is_coloured(palette, used, label_set)
    else:
        has_colours, has_indices = {GREYS[value] for value in used} <= colours.keys(), used <= indices.keys()
        is_coloured = has_colours or not (has_indices and any(used)) if is_rgb else has_colours and not has_indices
    if not is_coloured:
        return _index_decoder(path, label_set, used, indices, palette or ())
    by_colour = {v: colours[colour] for v, colour in enumerate(palette or GREYS) if colour in colours}
    unlabelled = {value: c for value, c in indices.items() if c == len(label_set)}
    return Decoder(_table(unlabelled | by_colour, len(label_set)))


def _is_coloured(palette: Sequence[Colour], used: set[int], label_set: LabelSet) -> bool:
    """Tell whether a palette has all colours of a label set, or no others."""
    if {*label_set.colours.values()} <= {*palette}:
        return True
    shown = {palette[value] for value in used if value < len(palette)}
    filling = {GREYS[0]} if list(palette).count(GREYS[0]) > 1 else set()  # black that pads the palette
    return shown | {*palette} - filling <= _classes_of_colours(label_set).keys()


def _index_decoder(
    path: Path, label_set: LabelSet, used: set[int], indices: dict[int, int], palette: Sequence[Colour]
) -> Decoder:
    if strange := sorted(used - indices.keys()):
        lacking = [code for code, colour in label_set.colours.items() if palette and colour not in palette]
        why = f"its palette lacks the colour of {lacking[0]}: give the colours that it has; " if lacking else ""
        raise InputError(
            f"{path}: index {strange[0]}, expected 0 to {len(label_set) - 1}, the classes of {label_set.name}; {why}if "
            f"it is of no class, a file of classes says: [label_sets.{label_set.name}.unlabelled] none = {strange[0]}"
        )
    classes = [f"{value} = {label_set.codes[c]}" for value, c in indices.items() if c < len(label_set)]
    shown = ", ".join(classes[:MOST_SHOWN]) + ", ..." * (len(classes) > MOST_SHOWN)
    note, colours = f"read as class indices: {shown}", _classes_of_colours(label_set)
    if any(colours.get(colour, indices[v]) != indices[v] for v, colour in enumerate(palette) if v in used):
        note += "; its palette has some of the classes' colours, and at other indices: if these count, save it as RGB"
    return Decoder(_table(indices, len(label_set)), note)


def _classes_of_colours(label_set: LabelSet) -> dict[Colour, int]:  # C for unlabelled ones
    unlabelled = [value for value in label_set.unlabelled.values() if isinstance(value, tuple)]
    return dict.fromkeys(unlabelled, len(label_set)) | {c: i for i, c in enumerate(label_set.colours.values())}


def _classes_of_indices(label_set: LabelSet) -> dict[int, int]:  # each index itself, but C for unlabelled ones
    unlabelled = [value for value in label_set.unlabelled.values() if isinstance(value, int)]
    return {i: i for i in range(len(label_set))} | dict.fromkeys(unlabelled, len(label_set))


def _table(classes: dict[int, int], unlabelled: int, size: int = 256) -> np.ndarray:
    table = np.full(size, unlabelled + 1, np.uint8)
    table[[*classes]] = [*classes.values()]
    return table


@lru_cache(maxsize=2)  # a run has one or two label sets; 16 MiB each
def _colour_table(classes: tuple[tuple[Colour, int], ...], unlabelled: int) -> np.ndarray:
    return _table({red | green << 8 | blue << 16: c for (red, green, blue), c in classes}, unlabelled, 1 << 24)


def write_mask(path: Path | str, labels: np.ndarray, label_set: LabelSet) -> None:
    """Write class indices of shape (H, W) as a palette PNG in the label set's colours."""
    check_label_set(label_set)
    check_labels(labels, label_set)
    image, content = Image.fromarray(labels.astype(np.uint8)), io.BytesIO()
    image.putpalette(list(chain.from_iterable(label_set.colours.values())))
    image.save(content, format="PNG")
    write_bytes(Path(path), content.getvalue())


def mask_name(image: str) -> str:
    """Return the name of an image's written mask, a PNG: the image's name, plus ``.png`` if it ends otherwise."""
    return image if image.lower().endswith(".png") else f"{image}.png"


def find_mask(folder: Path, image: str) -> Path:
    """Find an image's mask in a folder, by the image's name and any of `MASK_SUFFIXES`; if missing, where to put it."""
    stems = (image, Path(image).stem, Path(image).stem.removesuffix(".ome"))
    files = [folder / image, *(folder / f"{stem}{suffix}" for stem in stems for suffix in MASK_SUFFIXES)]
    return next((file for file in files if file.exists()), files[0])


def read_objects(path: Path, height: int, width: int) -> np.ndarray:
    """Read a bitmap of any size with one label per object, as (height, width) int32: 0 outside all objects.

    Raises InputError unless it is grey, or has the same value in all three channels.
    """
    with opened(path) as image:
        values = np.atleast_3d(np.asarray(image))[..., :3]
    if (values != values[..., :1]).any():
        raise InputError(f"{path}: its channels differ; expected one label per object, the same in each channel")
    return cv2.resize(values[..., 0].astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST)
