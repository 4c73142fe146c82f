"""A phantom slide's ground truth as annotations: its true outlines in GeoJSON, as QuPath exports what people draw."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from ..adp import CLASSIFIER_MPP, LABEL_SETS
from ..io.masks import read_mask
from ..io.writing import write_bytes
from ..slide_io.label_maps import LabelMapInfo, write_label_map
from ..slide_io.polygons import write_polygons
from ..tiles import Window


def write_outlines(slide: Path, size: int, name: str, share: float | None = None) -> Path:
    """Write a slide's true outlines as ``annotations/SLIDE.geojson`` beside it, in px of full resolution.

    The slide, of `size` px a side, is one of `phantom_slide.write_slide`, with its ground truth for a label set; the
    background class has outlines, too. Of a share of the slide that counts as annotated, there is also a square of
    class ``Region*`` where most classes are, and most of the rarest one.
    """
    background = LABEL_SETS[name].background
    names = LABEL_SETS[name].names | {background: background}
    label_set = replace(LABEL_SETS[name], background=None, names=names)
    labels = read_mask(slide.with_name(f"{slide.stem}_{name}.png"), label_set).labels
    frame, path = Window(0, 0, *labels.shape), slide.parent / "annotations" / f"{slide.stem}.geojson"
    info, scale = LabelMapInfo(*labels.shape, CLASSIFIER_MPP, label_set), size / len(labels)
    with tempfile.TemporaryDirectory() as folder:
        label_map = Path(folder) / "truth.ome.tif"
        write_label_map(label_map, lambda window: labels[window.within(frame)], info)
        write_polygons(path, label_map, info, scale, min_area=0)
    if share:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["features"].append(_region(labels, scale, share))
        write_bytes(path, json.dumps(content, ensure_ascii=False).encode())
    return path


def _region(labels: np.ndarray, scale: float, share: float) -> dict:
    """Return an annotation of class ``Region*``: of the squares of a share of a label map, that with most of all."""
    side = round(len(labels) * math.sqrt(share))
    corners = np.linspace(0, len(labels) - side, 9).astype(int).tolist()

    def worth(corner: tuple[int, int]) -> tuple[int, int]:
        part = labels[Window(*corner, side, side).within(Window(0, 0, *labels.shape))]
        counts = np.unique(part, return_counts=True)[1]
        return len(counts), int(counts.min())

    top, left = max(product(corners, corners), key=worth)
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side), (left, top)]
    ring = [[round(x * scale, 2), round(y * scale, 2)] for x, y in corners]
    properties = {"objectType": "annotation", "classification": {"name": "Region*", "color": [0, 0, 180]}}
    return {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}
