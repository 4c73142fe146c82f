"""Paint arrangements of tissues and their labels: glands in stroma, vessels, a lined or ragged edge."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from . import tissues
from .canvas import Canvas, along_and_across, blur, depth_inside, random_angle, scatter, smooth_noise, tessellate
from .tissues import EMPTY, lay_nuclei, lay_tissue, mix, spindle_nuclei


def tissue(c: Canvas, where: np.ndarray, fill: Callable, morph: str, func: str = "Other") -> None:
    """Paint one tissue in a mask (H, W)."""
    if where.any():
        lay_tissue(c, where, fill(c), morph, func)


def glands(c: Canvas, where: np.ndarray, width: float, stretch: float, gap: float, wobble: float) -> np.ndarray:
    """Lay out glands, `width` um wide, `gap` um apart, mostly in a mask (H, W); return their numbers from 1 (H, W)."""
    cell, depth, radius, chance = tessellate(c, width, stretch, wobble)
    largest = np.float32(width) * (0.45 + 0.3 * chance)  # sections do not cut every gland at its widest
    inside = (np.minimum(depth, blur(c, depth, 4)) > gap / 2) & (blur(c, radius, 2) < largest)
    area, hosted, inner = (np.bincount(cell.ravel(), w.ravel()) for w in (cell >= 0, where, inside))
    kept = (hosted > 0.6 * area) & (inner * c.mpp**2 > 100)
    return np.where(inside & kept[cell], np.cumsum(kept)[cell], 0).astype(np.int32)


def line(c: Canvas, gland: np.ndarray, morph: str, height: float, epithelium: Callable) -> None:
    """Paint numbered glands (H, W): an epithelium of `height` um around a lumen."""
    depth, inwards = depth_inside(c, gland > 0)
    lay_tissue(c, gland > 0, epithelium(c, depth, inwards), morph, "G.O")
    lay_tissue(c, depth > height + 1.5 * smooth_noise(c, 8), EMPTY, "Background", "G.O")


def crypts(c: Canvas, where: np.ndarray) -> np.ndarray:
    """Paint glands of columnar cells, either normal, or crowded and irregular; return their numbers (H, W)."""
    rng = c.rng
    width = rng.uniform(65, 105)
    if rng.random() < 0.65:
        gland = glands(c, where, width, rng.uniform(1, 1.6), rng.uniform(6, 16), rng.uniform(0.03, 0.08))
        line(c, gland, "E.M.O", rng.uniform(0.3, 0.4) * width, partial(tissues.columnar, goblets=rng.uniform(0.2, 1)))
    else:
        gland = glands(c, where, width, rng.uniform(1.2, 2.2), rng.uniform(6, 12), rng.uniform(0.07, 0.12))
        line(c, gland, "E.M.O", rng.uniform(26, 36), partial(tissues.columnar, goblets=rng.uniform(0, 0.15), rows=2))
    return gland


def tubules(c: Canvas, where: np.ndarray) -> None:
    """Paint small round glands of cuboidal cells."""
    gland = glands(c, where, c.rng.uniform(38, 56), c.rng.uniform(1, 1.5), c.rng.uniform(3, 7), 0.05)
    line(c, gland, "E.M.U", c.rng.uniform(13, 16), tissues.cuboidal)


def in_stroma(c: Canvas, where: np.ndarray, arrange: Callable) -> None:
    """Paint glands on connective tissue, mostly loose, sometimes dense."""
    if where.any():
        PAINTERS[c.rng.choice(["C.L", "C.D.I"], p=[0.7, 0.3])](c, where)
        arrange(c, where)


def vessels(c: Canvas) -> None:
    """Paint scattered vessels: a ring of smooth muscle around blood or an empty lumen."""
    centres = scatter(c, 250, share=0.3, jitter=0.2)
    for centre in centres[((centres > 0) & (centres < c.extent)).all(1)]:
        outer, wall, stretch = (c.rng.uniform(*ends) for ends in ((30, 60), (10, 20), (1, 1.6)))
        along, across = along_and_across(c, random_angle(c), centre)
        depth, inwards = depth_inside(c, np.hypot(along / stretch, across) + 2.5 * smooth_noise(c, 30) < outer)
        rings = np.sin(1.6 * depth + 1.5 * smooth_noise(c, 12))
        nuclei = spindle_nuclei(c, 11, inwards + np.pi / 2, (9, 14), (2.4, 3.2))
        lay_tissue(c, depth > 0, lay_nuclei(c, mix(0.08 + 0.02 * rings, 0.45 + 0.08 * rings, 0.02), nuclei), "M.M", "T")
        lay_tissue(c, depth > wall, EMPTY, "Background", "T")
        filling = c.rng.choice([-3, 0.2, 3])  # of blood: full, in part, none
        lay_tissue(c, (depth > wall) & (smooth_noise(c, 45) > filling), tissues.erythrocytes(c), "H.E", "T")


def glass(c: Canvas, lining: tuple | None = None) -> np.ndarray:
    """End the tissue at an edge, ragged or lined (see `LININGS`), and return the mask of bare glass (H, W)."""
    across, _ = along_and_across(c, c.rng.uniform(0, 2 * np.pi))
    edge = across + 14 * smooth_noise(c, 90) + (0 if lining else 3) * smooth_noise(c, 9)
    bare = edge > np.quantile(edge, c.rng.uniform(0.6, 0.9))
    if lining:
        epithelium, morph, func, heights = lining
        height = c.rng.uniform(*heights)
        depth, inwards = depth_inside(c, ~bare)
        lined = (depth > 0) & (depth < height + 3 * smooth_noise(c, 25))
        lay_tissue(c, lined, epithelium(c, height - depth, inwards + np.pi), morph, func)
    lay_tissue(c, bare, EMPTY, "Background", "Background")
    return bare


#: Linings of the tissue's edge: epithelium, codes in "morph" and "func", least and greatest height in um; or none.
LININGS = (
    None,
    (tissues.stratified, "E.T.U", "Other", (45, 75)),
    (partial(tissues.columnar, goblets=0.4), "E.M.O", "G.O", (26, 32)),
)

#: Functions that paint a zone (H, W), by the code of a tissue, or by the name of an arrangement of several.
PAINTERS: dict[str, Callable[[Canvas, np.ndarray], None]] = {
    "C.D.I": partial(tissue, fill=tissues.dense_irregular, morph="C.D.I"),
    "C.D.R": partial(tissue, fill=tissues.dense_regular, morph="C.D.R"),
    "C.L": partial(tissue, fill=tissues.loose, morph="C.L"),
    "M.M": partial(tissue, fill=tissues.smooth_muscle, morph="M.M"),
    "A.W": partial(tissue, fill=tissues.white_fat, morph="A.W"),
    "N.P": partial(tissue, fill=tissues.neuropil, morph="N.P"),
    "S.C.H": partial(tissue, fill=tissues.hyaline_cartilage, morph="S.C.H"),
    "H.Y": partial(tissue, fill=tissues.lymphocytes, morph="H.Y"),
    "H.E": partial(tissue, fill=tissues.erythrocytes, morph="H.E"),
    "endocrine": partial(tissue, fill=tissues.nests, morph="E.M.U", func="G.N"),
    "tubules": partial(in_stroma, arrange=tubules),
    "crypts": partial(in_stroma, arrange=crypts),
}
