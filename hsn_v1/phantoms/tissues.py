"""Render tissues and epithelia as fields of stain: collagen, muscle, fat, blood, gland cells and others."""

from __future__ import annotations

import numpy as np

from ..adp import FUNC, MORPH
from .canvas import (
    Canvas,
    along_and_across,
    blur,
    depth_inside,
    fibre_direction,
    fibre_noise,
    keep,
    random_angle,
    row_under_edge,
    scatter,
    smooth_noise,
    stamp,
    tessellate,
    values_at,
)

EMPTY = (0.0, 0.0, 0.0)
CLEFT = (0.03, 0.12, 0.0)  # ground substance: pale, but darker than glass


def mix(haematoxylin, eosin, haemoglobin=0.0) -> np.ndarray:
    """Stack amounts of stain, each (H, W) or a number, to (3, H, W)."""
    return np.stack(np.broadcast_arrays(*(np.float32(amount) for amount in (haematoxylin, eosin, haemoglobin))))


def lay_over(stain: np.ndarray, cover: np.ndarray, top) -> np.ndarray:
    """Blend `top`, (3, H, W) or (3,), over stain (3, H, W) by `cover` (H, W): 0 keeps the stain, 1 replaces it."""
    top = np.float32(top)
    return stain + cover * (top.reshape(3, *(top.shape[1:] or (1, 1))) - stain)


def lay_nuclei(c: Canvas, stain: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Lay nuclei over a tissue, with the grain of their chromatin."""
    return lay_over(
        stain, cover, mix(np.maximum(1.05 + 0.26 * smooth_noise(c, 1.6) + 0.15 * smooth_noise(c, 9), 0.3), 0.42)
    )


def spindle_nuclei(c: Canvas, spacing: float, course, length=(7, 13), width=(2, 3.5)) -> np.ndarray:
    """Return the coverage (H, W) of slender nuclei of fibroblasts or muscle along `course`, in radians (H, W)."""
    points = scatter(c, spacing, share=0.8, jitter=0.5)
    angle = values_at(c, course, points) + c.rng.normal(0, 0.12, len(points))
    return stamp(c, points, c.rng.uniform(*length, len(points)), c.rng.uniform(*width, len(points)), angle)


def lay_tissue(c: Canvas, where: np.ndarray, stain, morph: str, func: str = "Other") -> None:
    """Paint a tissue into a mask (H, W): its stain with a soft edge, its labels with a sharp one."""
    c.stain[:] = lay_over(c.stain, blur(c, where.astype(np.float32), 0.8), stain)
    c.morph[where] = MORPH.codes.index(morph)
    c.func[where] = FUNC.codes.index(func)


# --- Tissues: each fills a field with stain (3, H, W) -----------------------------------------------------------------


def dense_irregular(c: Canvas) -> np.ndarray:
    """Coarse wavy bundles of collagen in all directions, with clefts between them."""
    angle, turn, bend = random_angle(c), c.rng.uniform(0.7, 1.5), 12 * smooth_noise(c, 40)
    bundles = np.maximum(
        fibre_noise(c, 40, 7, angle, bend), fibre_noise(c, 40, 6, angle + turn, 10 * smooth_noise(c, 35))
    )
    stain = mix(0.07, 0.46 + 0.14 * bundles + 0.07 * fibre_noise(c, 25, 2.2, angle, bend), 0.02)
    stain = lay_over(stain, np.clip(-0.4 - 1.5 * bundles, 0, 1), CLEFT)
    return lay_nuclei(c, stain, spindle_nuclei(c, 17, fibre_direction(c, angle, bend)))


def dense_regular(c: Canvas) -> np.ndarray:
    """Parallel, crimped collagen with rows of flat nuclei."""
    angle = random_angle(c)
    crimp = np.sin(along_and_across(c, angle)[0] * (2 * np.pi / c.rng.uniform(24, 40)) + 0.8 * smooth_noise(c, 50))
    bend = c.rng.uniform(0.8, 2.2) * crimp + 5 * smooth_noise(c, 100)
    stain = mix(
        0.07, 0.5 + 0.12 * fibre_noise(c, 220, 5, angle, bend) + 0.1 * fibre_noise(c, 120, 2.2, angle, bend), 0.02
    )
    return lay_nuclei(c, stain, spindle_nuclei(c, 16, fibre_direction(c, angle, bend), (9, 16), (1.6, 2.4)))


def loose(c: Canvas) -> np.ndarray:
    """A pale ground with thin fibrils in all directions, fibroblasts, and few or many round cells."""
    angle, bend = random_angle(c), 10 * smooth_noise(c, 30)
    fibrils = sum(np.exp(-10 * fibre_noise(c, 30, 7, angle + turn, bend) ** 2) for turn in (0, 1, 2))
    stain = mix(0.08 + 0.02 * smooth_noise(c, 20), 0.15 + 0.04 * smooth_noise(c, 6) + 0.13 * fibrils)
    points = scatter(c, 11, share=c.rng.uniform(0.1, 0.7), jitter=0.5)
    diameter = c.rng.uniform(5, 7, len(points))
    stain = lay_over(stain, 0.7 * stamp(c, points, diameter + 5, diameter + 2, 1.5), (0.2, 0.4, 0))
    round_cells = stamp(c, points, diameter, 0.85 * diameter, c.rng.uniform(0, np.pi, len(points)))
    return lay_nuclei(c, stain, np.maximum(round_cells, spindle_nuclei(c, 17, fibre_direction(c, angle, bend))))


def smooth_muscle(c: Canvas) -> np.ndarray:
    """Fascicles of spindle cells, with long blunt nuclei along them."""
    angle, bend = random_angle(c), 7 * smooth_noise(c, 70)
    fascicles, cells = fibre_noise(c, 120, 18, angle, bend), fibre_noise(c, 45, 4, angle, bend)
    stain = mix(0.06 + 0.02 * cells, 0.46 + 0.04 * fascicles + 0.05 * cells, 0.02)
    stain = lay_over(stain, 0.6 * np.exp(-14 * (fascicles + 1) ** 2), CLEFT)
    return lay_nuclei(c, stain, spindle_nuclei(c, 15, fibre_direction(c, angle, bend), (10, 17), (2.6, 3.8)))


def white_fat(c: Canvas) -> np.ndarray:
    """Large empty cells with thin walls and a few flat nuclei."""
    depth = tessellate(c, c.rng.uniform(45, 75), c.rng.uniform(1, 1.3)).depth
    wall = np.clip(1.6 - depth / max(1, c.mpp), 0, 1) * np.clip(0.8 + 0.3 * smooth_noise(c, 12), 0.3, 1)
    points = scatter(c, 13, share=0.6)
    points = keep(points, values_at(c, depth, points) < 2.5)
    nuclei = stamp(c, points, 7, 3, values_at(c, depth_inside(c, depth > 1.2)[1], points) + np.pi / 2)
    return lay_nuclei(c, lay_over(mix(0 * c.y, 0), wall, (0.12, 0.42, 0)), nuclei)


def neuropil(c: Canvas) -> np.ndarray:
    """A fine felt of processes, with sparse round glia, some in clear halos."""
    eosin = (
        c.rng.uniform(0.3, 0.4) + 0.05 * smooth_noise(c, 2.2) + 0.05 * smooth_noise(c, 6) + 0.03 * smooth_noise(c, 60)
    )
    stain = lay_over(mix(0.15 + 0.03 * smooth_noise(c, 3), eosin), np.clip(smooth_noise(c, 5) - 1.5, 0, 1), CLEFT)
    points = scatter(c, c.rng.uniform(17, 26), share=0.7, jitter=0.5)
    diameter, halo = c.rng.uniform(5, 8.5, len(points)), c.rng.uniform(-1, 5, len(points))
    stain = lay_over(stain, stamp(c, points + 0.7, diameter + halo, diameter + 0.8 * halo), CLEFT)
    return lay_nuclei(c, stain, stamp(c, points, diameter, 0.9 * diameter))


def hyaline_cartilage(c: Canvas) -> np.ndarray:
    """A smooth, basophilic matrix with single or twin cells in lacunae, each with a darker rim."""
    stain = mix(0.3 + 0.05 * smooth_noise(c, 70) + 0.01 * smooth_noise(c, 3), 0.22 + 0.05 * smooth_noise(c, 90))
    points = scatter(c, 28)
    points = np.concatenate([points, (points + c.rng.normal(0, 9, points.shape))[c.rng.random(len(points)) < 0.5]])
    width, angle = c.rng.uniform(9, 15, len(points)), c.rng.uniform(0, np.pi, len(points))
    stain = lay_over(stain, 0.8 * blur(c, stamp(c, points, width + 11, width + 8, angle), 1.5), (0.58, 0.26, 0))
    stain = lay_over(stain, stamp(c, points, width, 0.75 * width, angle), CLEFT)
    return lay_nuclei(c, stain, stamp(c, points, 6, 5, angle))


def lymphocytes(c: Canvas) -> np.ndarray:
    """Small, dark, round nuclei side by side, with next to no cytoplasm."""
    stain = mix(0.2 + 0.05 * smooth_noise(c, 15), 0.24 + 0.04 * smooth_noise(c, 10))
    points = scatter(c, 7.6, share=0.93)
    diameter = c.rng.uniform(5.2, 7, len(points))
    return lay_nuclei(
        c, stain, stamp(c, points, diameter, 0.92 * diameter) * np.clip(0.9 + 0.15 * smooth_noise(c, 9), 0, 1)
    )


def erythrocytes(c: Canvas) -> np.ndarray:
    """Discs of 7 um in plasma, paler in the middle, without nuclei."""
    points = scatter(c, 6.2, jitter=0.45)
    points = keep(points, values_at(c, smooth_noise(c, 30), points) > -1.6)
    diameter = c.rng.uniform(5.8, 7.4, len(points))
    disc, dimple = stamp(c, points, diameter, 0.9 * diameter), stamp(c, points, 3, 3)
    return lay_over(mix(0.02 * smooth_noise(c, 20), 0.12), disc * (1 - 0.2 * dimple), (0, 0.8, 0.22))


def nests(c: Canvas) -> np.ndarray:
    """Nests of pale cells with round nuclei and no lumen, with capillaries between them."""
    depth = tessellate(c, c.rng.uniform(38, 55), c.rng.uniform(1, 1.8)).depth
    points = scatter(c, 10.5, jitter=0.3)
    points = keep(points, values_at(c, depth, points) > 4)
    diameter = c.rng.uniform(5.5, 7, len(points))
    stain = mix(0.13 + 0.03 * smooth_noise(c, 5), 0.26 + 0.04 * smooth_noise(c, 4))
    stain = lay_nuclei(c, stain, stamp(c, points, diameter, 0.95 * diameter))
    return lay_over(stain, np.clip(2.6 - depth, 0, 1), (0.05, 0.5, 0.1))


# --- Epithelia: each fills a field with stain (3, H, W), given the depth under its base and inward directions --------


def columnar(c: Canvas, depth: np.ndarray, inwards: np.ndarray, goblets: float, rows: int = 1) -> np.ndarray:
    """Tall cells: rows of long nuclei near the base, and goblets of mucin above a share of them."""
    stain = mix(0.32 + 0.04 * smooth_noise(c, 8) + 0.03 * smooth_noise(c, 2.5), 0.4 + 0.05 * smooth_noise(c, 5))
    points, angle = row_under_edge(c, depth, inwards, 9, 18, 2)
    kept = c.rng.random(len(points)) < goblets
    stain = lay_over(stain, stamp(c, points[kept], 17, 9.5, angle[kept]), (0.11, 0.14, 0))
    cover = np.zeros_like(depth)
    for level in 6.5 + 6 * np.arange(rows):
        points, angle = row_under_edge(c, depth, inwards, 5.2, level, 1.4)
        length, lean = c.rng.uniform(7.5, 10, len(points)), c.rng.normal(0, 0.15, len(points))
        cover = np.maximum(cover, stamp(c, points, length, 4.6, angle + lean))
    return lay_nuclei(c, stain, cover)


def cuboidal(c: Canvas, depth: np.ndarray, inwards: np.ndarray) -> np.ndarray:
    """Cells as wide as tall, with a round nucleus in their middle."""
    stain = mix(0.2 + 0.04 * smooth_noise(c, 8), 0.48 + 0.05 * smooth_noise(c, 4) + 0.04 * smooth_noise(c, 12), 0.03)
    points, angle = row_under_edge(c, depth, inwards, 8.5, 6.5, 0.8)
    return lay_nuclei(c, stain, stamp(c, points, c.rng.uniform(5.8, 7.2, len(points)), 6, angle))


def stratified(c: Canvas, depth: np.ndarray, inwards: np.ndarray) -> np.ndarray:
    """Stacked layers of polygonal cells."""
    border = tessellate(c, 10).depth
    stain = mix(0.26 + 0.03 * smooth_noise(c, 10), 0.36 + 0.05 * smooth_noise(c, 6) + 0.12 * np.exp(-border * border))
    points = scatter(c, 9.2, share=0.92, jitter=0.28)
    length = c.rng.uniform(6, 8, len(points))
    return lay_nuclei(c, stain, stamp(c, points, length, 0.8 * length, values_at(c, inwards, points)))
