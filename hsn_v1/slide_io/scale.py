"""Microns per pixel (mpp): conversion of the units that files use, and the choice if file and user disagree."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import InputError
from ..labels import PLAUSIBLE_MPP

#: Microns per unit of length that a file may name: OME-TIFF and ImageJ use signs, TIFF words or numbers.
MICRONS = {
    **{"nm": 1e-3, "µm": 1, "μm": 1, "um": 1, "micron": 1, "\\u00B5m": 1, "mm": 1e3, "cm": 1e4, "m": 1e6},
    **{"inch": 25_400, "centimeter": 10_000, 2: 25_400, 3: 10_000},
}

HOW_TO_FIND_MPP = (
    "microns per pixel, from the scanner's or microscope's documentation, typically 0.25 for a 40x and 0.5 for a 20x "
    "objective"
)

Mpp = tuple[float, float]  #: height and width of a pixel in microns


def mpp_of_size(size: object, unit: object = "µm") -> float:
    """Return a pixel's side in microns, given in a unit; 0 if it is not a number above 0, or the unit is unknown."""
    return _positive(lambda: float(size) * MICRONS.get(unit, 0))


def mpp_of_density(density: object, unit: object) -> float:
    """Return a pixel's side in microns, given the number of pixels per unit; 0 as in `mpp_of_size`."""
    return _positive(lambda: MICRONS.get(unit, 0) / float(density))


def _positive(quotient: Callable[[], float]) -> float:
    try:
        mpp = quotient()
    except (TypeError, ValueError, ZeroDivisionError):
        return 0
    return mpp if 0 < mpp < math.inf else 0


def stated(*pairs: Mpp) -> tuple[Mpp, ...]:
    """Return the pairs whose two numbers are above 0."""
    return tuple(pair for pair in pairs if min(pair) > 0)


def density_tags(mpp: float) -> dict:
    """Return tifffile's arguments for a TIFF's resolution at a scale."""
    return {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}


def choose_mpp(
    pairs: tuple[Mpp, ...], objective: str | None, given: float | None, override: bool
) -> tuple[float, list[str]]:
    """Choose a slide's scale; also return notes if file and user disagree.

    It is the first plausible one of `pairs`, a `SlideFile`'s, else the given one. With `override` it is the given one.
    Pixels whose sides differ by up to 1 % count as square, with the mean of both. Raises InputError, without the file's
    name, if there is no plausible scale, or pixels are not square.
    """
    pair = next((pair for pair in pairs if is_plausible(*pair)), None)
    mean = pair and sum(pair) / 2
    differs = pair and given and abs(mean / given - 1) > 0.01
    if given and (override or not pair):
        return given, [f"{given:g} mpp as given, though the file states {mean:.4g}"] if differs else []
    if not pair:
        raise InputError(
            f"{_unknown(pairs, objective)}; give `mpp` ({HOW_TO_FIND_MPP}), or, to segment it, roughly `objective`"
        )
    if abs(pair[0] - pair[1]) > 0.01 * mean:
        raise InputError(
            f"pixels of {pair[1]:.4g} x {pair[0]:.4g} microns; resample it to square pixels, or override its mpp if "
            "the file is wrong"
        )
    unused = f"the file states {mean:.4g} mpp, which counts, not the {given or 0:g} given, unless overridden"
    return mean, [unused] if differs else []


def is_plausible(*mpp: float) -> bool:
    """Tell whether a microscope or scanner can have these scales (`PLAUSIBLE_MPP`)."""
    return all(PLAUSIBLE_MPP[0] <= side <= PLAUSIBLE_MPP[1] for side in mpp)


def _unknown(pairs: tuple[Mpp, ...], objective: str | None) -> str:
    lens = f" (it names a {objective}x objective)" if objective else ""
    if not pairs:
        return f"the file does not state its scale{lens}"
    (vertical, horizontal), (low, high) = pairs[0], PLAUSIBLE_MPP
    size = f"{vertical:.4g}" if vertical == horizontal else f"{horizontal:.4g} x {vertical:.4g}"
    dpi = f" ({25_400 / vertical:.4g} dpi)" if vertical > high else ""
    return f"the file states {size} mpp{dpi}, which is implausible (expected {low:g} to {high:g}){lens}"


def mpp_of_objective(text: str) -> float:
    """Return the approximate mpp of an objective such as "20x": 10 um over its magnification, which is 1 to 200."""
    try:
        magnification = float(text.strip().lower().rstrip("x"))
    except ValueError:
        magnification = math.nan
    if not 1 <= magnification <= 200:
        raise InputError(f"objective {text}: expected a magnification, such as 20x")
    return 10 / magnification
