"""Stage 3: inter-HTT adjustments. They add the classes without a classifier output, and let the maps compete."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from .labels import BACKGROUND_RULES, LabelSet

BACKGROUND_REACH = 8  #: radius of the background map's Gaussian, in px
SPOT = 50  #: least area in px of background, by the rule "grey above 200"
OTHER_STRENGTH = 0.05  #: value of the "other" map where no class responds at all


def background_map(image: np.ndarray, rule: str = BACKGROUND_RULES[0]) -> np.ndarray:
    """Map how much each pixel looks like the bare glass of the slide.

    The rule ``brightness`` is ``0.75 * sigmoid(4 * (mean of R, G, B - 240))``, smoothed by a Gaussian of sigma 2 px
    (paper, section 3.3; docs/method.md, stage 3). The benchmarks' rule ``grey above 200`` is 1 where the luma is above
    200, except in spots of less than `SPOT` px (docs/benchmarks.md).

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
    rule : str
        One of `labels.BACKGROUND_RULES`.

    Returns
    -------
    ndarray of shape (H, W), float32, in 0..0.75 or 0..1

    Examples
    --------
    >>> background_map(np.full((8, 8, 3), 240, np.uint8)).max()
    np.float32(0.375)
    """
    if rule == "grey above 200":
        bright = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) > 200
        _, spots, facts, _ = cv2.connectedComponentsWithStats(bright.astype(np.uint8), connectivity=4)
        large = facts[:, cv2.CC_STAT_AREA] >= SPOT
        large[0] = False  # the dark pixels
        return large[spots].astype(np.float32)
    brightness = image.mean(axis=-1, dtype=np.float32)
    return gaussian_filter(0.75 * expit(4 * (brightness - 240)), sigma=2, radius=BACKGROUND_REACH)


def subtract_classes(maps: np.ndarray, keep: int | None = None) -> np.ndarray:
    """Subtract from each class's map the maximum of the other classes' maps, one class after another.

    As in the released code, later classes meet the changed maps of earlier ones, not yet clipped:
    ``(.9, .8, .1)`` gives ``(.1, .7, 0)`` (docs/method.md, stage 3).

    Parameters
    ----------
    maps : ndarray of shape (C, H, W), float32, in 0..1
    keep : int, optional
        Class whose map is subtracted from the others, but itself stays unchanged.

    Returns
    -------
    ndarray of shape (C, H, W), float32, in 0..1

    Examples
    --------
    >>> subtract_classes(np.array([[[0.9]], [[0.8]], [[0.1]]], np.float32)).ravel().round(1)
    array([0.1, 0.7, 0. ], dtype=float32)
    """
    if len(maps) == 1:
        return maps.clip(0, 1)
    *order, last = (c for c in range(len(maps)) if c != keep)
    responds = maps.max(axis=(1, 2)) > 0
    if keep is not None or not responds[last]:
        # Maps that are 0 everywhere stay 0. They change no other map if a later or kept one is at least 0.
        order = [c for c in order if responds[c]]
    if keep is None and not order:
        return maps.clip(0, 1)
    order.append(last)
    nothing = np.full_like(maps[0], -np.inf)
    later = [nothing]  # maximum over all later classes: over none, the last, the last two, ...
    for c in order[:0:-1]:
        later.append(np.maximum(later[-1], maps[c]))
    highest = nothing if keep is None else maps[keep]
    changed = np.zeros_like(maps)
    if keep is not None:
        changed[keep] = maps[keep]
    for c, ahead in zip(order, reversed(later), strict=True):
        np.subtract(maps[c], np.maximum(highest, ahead), out=changed[c])
        highest = np.maximum(highest, changed[c])
    for c in order:
        changed[c].clip(0, 1, out=changed[c])
    return changed


def subtract_at_once(maps: np.ndarray, keep: int | None = None) -> np.ndarray:
    """Subtract from each class's map the maximum of the other classes' original maps: the paper's formula.

    ``(.9, .8, .1)`` gives ``(.1, 0, 0)``; the order of the classes does not matter (docs/method.md, "Variants").
    Parameters and result are those of `subtract_classes`.
    """
    if len(maps) == 1:
        return maps.clip(0, 1)
    winner = maps.argmax(axis=0)[np.newaxis]
    second, first = np.partition(maps, -2, axis=0)[-2:]
    changed = np.zeros_like(maps)
    np.put_along_axis(changed, winner, (first - second).clip(0, 1)[np.newaxis], axis=0)
    if keep is not None:
        changed[keep] = maps[keep]
    return changed


def unsubtracted_maps(
    cams: np.ndarray,
    image: np.ndarray,
    label_set: LabelSet,
    lent: np.ndarray | None = None,
    background: Callable[[str], np.ndarray] | None = None,
) -> np.ndarray:
    """Add the maps of background and other, which no classifier scores, to the Grad-CAMs.

    Parameters
    ----------
    cams : ndarray of shape (C, H, W), float32, in 0..1
        Grad-CAM of each class of the label set; zero for classes without one.
    image : ndarray of shape (H, W, 3), uint8
    label_set : LabelSet
    lent : ndarray of shape (C', H, W), float32, optional
        Maps of the lender's `borrowed` classes; required if the label set has a lender.
    background : callable, optional
        Returns the image's background map for a rule. Default: `background_map` of this image. A cached function
        (`functools.cache`) lets label sets share the map.

    Returns
    -------
    ndarray of shape (C, H, W), float32
        In 0..1 if the label set's variant clips background and other (`Variant.clips_unscored`).
    """
    maps, clips = cams.copy(), label_set.variant.clips_unscored
    if label_set.background:
        glass = (background or partial(background_map, image))(label_set.background_rule)
        tissue = cams[label_set.indices(label_set.bright)].max(axis=0, initial=0)
        maps[label_set.codes.index(label_set.background)] = (glass - tissue).clip(0, 1) if clips else glass - tissue
    if label_set.other:
        unclaimed = OTHER_STRENGTH * (1 - maps.max(axis=0))
        if label_set.borrowed:
            unclaimed = np.maximum(unclaimed, lent.max(axis=0))
        maps[label_set.codes.index(label_set.other)] = unclaimed.clip(0, 1) if clips else unclaimed
    return maps


def subtract(maps: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Let the classes of a label set compete by its variant's rule; the class "other" competes but keeps its map."""
    rule = subtract_classes if label_set.variant.adjustment == "released" else subtract_at_once
    return rule(maps, keep=label_set.codes.index(label_set.other) if label_set.other else None)
