"""Digital tissue phantoms: haematoxylin and eosin (H&E) histology with exact ground truth, made from a seed.

A field of view is laid out in microns - zones of tissue, glands, vessels, cells - and then rendered at any pixel
size: random positions and noise lattices do not depend on it. Tissue is painted as amounts of stain, which absorb
light as Ruifrok and Johnston measured (Anal. Quant. Cytol. Histol., 2001). Collagen and muscle share their stains:
they differ in arrangement and texture, not in colour.

Ground truth follows ADP. A nucleus belongs to its tissue, and a vessel's wall is smooth muscle. The lumen of a gland
or vessel is background (or blood) in ``morph``, but part of the gland (``G.O``) or vessel (``T``) in ``func`` and
``glas``. The cells of an endocrine gland (``G.N``) are cuboidal epithelium (``E.M.U``) in ``morph``; a stratified
lining (``E.T.U``) is no gland.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.color import rgb_from_hed

from ..adp import CLASSIFIER_MPP, FUNC, GLAS, MORPH
from .arrangements import LININGS, PAINTERS, crypts, glass, vessels
from .canvas import Canvas, blur, branch, new_canvas, smooth_noise, tessellate

#: Optical density in red, green and blue of one unit of haematoxylin, of eosin, and of the remainder, which here
#: stands for haemoglobin and for the orange of some eosins.
STAINS = rgb_from_hed.astype(np.float32)

#: Random streams of the two kinds, so that patch 1 is not a corner of GlaS-like image 1.
PATCH_STREAM, GLAS_STREAM = 1, 2

#: Probability of each tissue or arrangement (see `PAINTERS`) when one is drawn for a patch's zones.
ZONES = {
    "C.D.I": 0.08, "C.D.R": 0.10, "C.L": 0.06, "M.M": 0.13, "A.W": 0.09, "S.C.H": 0.09, "H.Y": 0.09, "H.E": 0.05,
    "crypts": 0.12, "tubules": 0.10, "endocrine": 0.09,
}  # fmt: skip

#: Seeds of the phantoms for each purpose; no seed has two purposes.
SEEDS = {
    "test": range(100_000),
    "tuning": range(100_000, 200_000),
    "validation": range(200_000, 1_000_000),
    "training": range(1_000_000, 2**31),
}


@dataclass(frozen=True)
class Phantom:
    """An image and its ground truth."""

    image: np.ndarray  #: (H, W, 3) uint8, RGB
    labels: dict[str, np.ndarray]  #: (H, W) uint8 class indices per label set: "morph" and "func", or "glas"
    instances: np.ndarray | None = None  #: (H, W) int32: number of the gland from 1, 0 is none; of GlaS-like images


def patch(seed: int, *, size: tuple[int, int] = (224, 224), mpp: float = CLASSIFIER_MPP) -> Phantom:
    """Make a patch of one to several tissues, as in ADP, with the label sets "morph" and "func".

    Parameters
    ----------
    seed : int
        Any number from 0; the same seed gives the same bytes.
    size : (int, int)
        Rows and columns, in px.
    mpp : float
        Pixel size, in um. A field of the same `size` times `mpp` shows the same tissue at any pixel size.

    Raises
    ------
    ValueError
        If `seed` is negative, `size` under 2 px, or `mpp` not from 0.1 to 2.
    """
    c = new_canvas(PATCH_STREAM, seed, size, mpp)
    brain = c.rng.random() < 0.08
    if brain:
        palette = ["N.P"]
    else:
        count = c.rng.choice([1, 2, 3], p=[0.3, 0.45, 0.25])
        palette = c.rng.choice(list(ZONES), count, replace=False, p=list(ZONES.values()))
    chance = tessellate(c, 170, stretch=c.rng.uniform(1, 2.5), wobble=0.12).chance
    for i, name in enumerate(palette):
        PAINTERS[name](branch(c), np.floor(chance * len(palette)) == i)
    vessels(c)
    if c.rng.random() < 0.45:
        glass(c, None if brain else LININGS[c.rng.choice(3, p=[0.35, 0.4, 0.25])])
    return Phantom(develop(c), {"morph": c.morph, "func": c.func})


def glas(seed: int, *, size: tuple[int, int] = (522, 775), mpp: float = 0.620) -> Phantom:
    """Make an image of colon glands, as in GlaS.

    Parameters and errors are those of `patch`. The label set is "glas", and every gland has a number.
    """
    c = new_canvas(GLAS_STREAM, seed, size, mpp)
    mucosa = tessellate(c, 330, stretch=c.rng.uniform(1, 2)).chance < c.rng.choice([0.7, 1])
    PAINTERS[c.rng.choice(["C.D.I", "M.M", "A.W", "H.Y"], p=[0.35, 0.45, 0.1, 0.1])](branch(c), ~mucosa)
    PAINTERS[c.rng.choice(["C.L", "C.D.I"], p=[0.8, 0.2])](c, mucosa)
    gland = crypts(c, mucosa)
    if c.rng.random() < 0.3:
        gland[glass(c)] = 0
    return Phantom(develop(c), {"glas": (gland > 0).astype(np.uint8)}, gland)


def present(phantom: Phantom, share: float = 0.005) -> tuple[str, ...]:
    """Return a patch's labels: codes of the classes that cover at least `share` of the image.

    Background and other tissue are not among them, as the classifier has no output for these.
    """
    codes = []
    for label_set in (MORPH, FUNC, GLAS):
        if label_set.name in phantom.labels:
            area = np.bincount(phantom.labels[label_set.name].ravel(), minlength=len(label_set))
            codes += [label_set.codes[i] for i in label_set.classified if area[i] >= share * area.sum()]
    return tuple(codes)


def develop(c: Canvas) -> np.ndarray:
    """Render stain as an RGB image, (H, W, 3) uint8, with random variation of section, stainer, lamp and sensor."""
    density = STAINS + c.rng.normal(0, 0.03, (3, 3))
    density[1] += c.rng.uniform(0.05, 0.25) * STAINS[2]
    strength = np.exp(c.rng.normal(0, [0.18, 0.22, 0.15]))
    thickness = 1 + 0.06 * smooth_noise(c, 130)
    lamp = np.float32(c.rng.uniform(0.962, 0.98) + c.rng.normal(0, 0.003, 3))
    amount = np.maximum(c.stain, 0) * thickness
    absorbed = np.tensordot(amount, np.float32(strength[:, None] * np.maximum(density, 0)), (0, 0))  # (H, W, 3)
    light = blur(c, lamp * np.exp(-absorbed), c.rng.uniform(0.35, 0.7))
    noise = c.rng.standard_normal(light.shape, np.float32) * (0.003 + 0.006 * np.sqrt(light))
    return np.clip(255 * (light + noise) + 0.5, 0, 255).astype(np.uint8)
