"""Read layers, scores and descriptions of entries, and cache them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..io import tree
from ..io.images import read_image
from ..io.masks import read_mask
from ..labels import LabelSet
from ..show.figures import STAGE_TITLES, blend
from .cache import Cache, stamp
from .entries import Entry
from .facts import areas_of, classes_of, entry_facts
from .ground_truth import Frame, GroundTruth, confusion, find_ground_truth, read_ground_truth, scores
from .library import Library
from .pictures import THUMBNAIL, Pictures, jpeg
from .pyramids import TILE, Pyramid, build_pyramid, read_pyramid, read_small

#: Limit of each cache of pyramids, in bytes: compressed tiles in memory, and offsets of tiles in files.
PYRAMID_BYTES = 64 << 20

#: A demo's maps of a class: the kind that begins a layer's key, its folder, and the beginning of its title.
MAPS = {"cam": ("gradcam_unadjusted", "Grad-CAM of"), "map": ("gradcam", "adjusted map of")}


@dataclass(frozen=True)
class OpenResults:
    """A library of results, with the server's caches."""

    library: Library
    truth: Path | None = None  #: folder of the user's own ground truth
    pictures: Pictures = field(default_factory=Pictures)
    tables: Cache = field(default_factory=lambda: Cache(20_000))
    pyramids: Cache = field(default_factory=lambda: Cache(PYRAMID_BYTES, lambda pyramid: pyramid.nbytes))
    truths: Cache = field(default_factory=lambda: Cache(PYRAMID_BYTES, lambda truth: truth.pyramid.nbytes))
    scored: Cache = field(default_factory=lambda: Cache(4096))
    thumbnails: Cache = field(default_factory=lambda: Cache(32 << 20, len))

    # --- Layers: label maps of an entry, by a key --------------------------------------------------------------------

    def layer(self, entry: Entry, label_set: LabelSet, key: str) -> Pyramid:
        """Return a layer of a label set by its key: "labels", a demo's stage, "truth", or a class's map, see `MAPS`.

        Raises LookupError if there is no such layer, FileNotFoundError if its file is gone, InputError if unreadable.
        """
        if key == "truth":
            return self.ground_truth(entry, label_set).pyramid
        path = self.layer_file(entry, label_set, key)
        if not entry.image:
            return self.pyramids.get(stamp(path), lambda: read_pyramid(path))
        return self.pyramids.get((stamp(path), key), lambda: _read_mask(path, None if ":" in key else label_set))

    def layer_file(self, entry: Entry, label_set: LabelSet, key: str) -> Path:
        """Return the file of a layer that a run wrote; raise LookupError if there is no such layer."""
        if not entry.image:
            if key != "labels":
                raise LookupError(key)
            path = entry.folder / label_set.name / f"{Path(entry.title).stem}.ome.tif"
        elif (kind := key.partition(":")[0]) in MAPS and (code := key.removeprefix(f"{kind}:")) in label_set.codes:
            pictures = tree.class_pictures(entry.folder, label_set, MAPS[kind][0], entry.image)
            path = dict(zip(label_set.codes, pictures, strict=True))[code]
        else:
            path = tree.stage_masks(entry.folder, label_set.name, entry.image).get(key)
        if path is None:
            raise LookupError(key)
        return self.library.inside(path)

    def main_key(self, entry: Entry, label_set: LabelSet) -> str:
        """Return the key of the layer to show first."""
        stages = tree.stage_masks(entry.folder, label_set.name, entry.image) if entry.image else ()
        return next(iter(stages), "labels")

    def frame(self, entry: Entry, size: tuple[int, int]) -> Frame:
        """Return the frame of a label map of `size`, (rows, columns), which covers the whole slide."""
        full_size, _ = self._size_or_problem(entry)
        return Frame(*(full_size or size), *size, stretches=bool(entry.image))

    def _size_or_problem(self, entry: Entry) -> tuple[tuple[int, int] | None, str]:
        """Return height and width at full resolution, in px, and the error if they are not from the slide's file."""
        try:
            picture = self.pictures.open(self.source(entry), entry.mpp)
            return (picture.height, picture.width), ""
        except (OSError, InputError) as error:
            return entry.size, str(error)

    def source(self, entry: Entry) -> Path:
        """Return the path of an entry's slide or image; raise FileNotFoundError if it is unknown or gone."""
        if entry.source is None or not entry.source.is_file():
            raise FileNotFoundError(f"{entry.source or entry.title}: not there any more, or moved")
        return entry.source

    # --- Ground truth ------------------------------------------------------------------------------------------------

    def ground_truth(self, entry: Entry, label_set: LabelSet) -> GroundTruth:
        """Return ground truth at the scale of the label map; raise LookupError if there is none."""
        path = find_ground_truth(entry, label_set.name, self.truth)
        if path is None:
            raise LookupError("truth")
        size = self.layer(entry, label_set, self.main_key(entry, label_set)).size
        frame = self.frame(entry, size)
        return self.truths.get((stamp(path), label_set.name, frame), lambda: read_ground_truth(path, label_set, frame))

    def score(self, entry: Entry, label_set: LabelSet, key: str) -> dict[str, Any]:
        """Return a layer's scores against ground truth, and notes; raise LookupError without ground truth."""
        truth = self.ground_truth(entry, label_set)
        path = self.layer_file(entry, label_set, key)
        cache_key = stamp(path), key, label_set.name, stamp(find_ground_truth(entry, label_set.name, self.truth))

        def compute() -> dict[str, Any]:
            counts = confusion(truth.pyramid, self.layer(entry, label_set, key), label_set)
            return scores(counts, label_set) | {"notes": list(truth.notes)}

        return self.scored.get(cache_key, compute)

    # --- Pages -------------------------------------------------------------------------------------------------------

    def describe(self, entry: Entry) -> dict[str, Any]:
        """Return the facts, notes, label sets and layers of an entry for its page."""
        size, problem = self._size_or_problem(entry)
        sets = [self._describe_set(entry, label_set) for label_set in entry.label_sets]
        layers = [layer for facts in sets for layer in facts["layers"]]
        if not size:
            size = next(((layer["height"], layer["width"]) for layer in layers if "width" in layer), (1, 1))
        notes = [*entry.notes]
        if self.truth and not entry.image and not any(layer["key"] == "truth" for layer in layers):
            notes.append(f"no ground truth of {entry.title} in {self.truth}")
        return {
            **entry_facts(entry),
            "caveat": str(entry.record.get("caveat") or ""),
            "notes": notes,
            "problem": problem,
            "card": self.card(entry) is not None,
            "version": _version(entry.source),
            "height": size[0],
            "width": size[1],
            "sets": sets,
        }

    def card(self, entry: Entry) -> Path | None:
        """Return the path of the model card, or None if it is missing or a link that leads out of the results."""
        path = (entry.folder if entry.image else entry.folder.parent) / tree.CARD
        return path if path.is_file() and path.resolve().is_relative_to(self.library.root) else None

    def _describe_set(self, entry: Entry, label_set: LabelSet) -> dict[str, Any]:
        keys = {"labels": "segmentation"}
        if entry.image:
            keys = {stage: STAGE_TITLES[stage] for stage in tree.stage_masks(entry.folder, label_set.name, entry.image)}
        if find_ground_truth(entry, label_set.name, self.truth):
            keys["truth"] = "ground truth"
        for code, (kind, (_, title)) in product(label_set.codes, MAPS.items() if entry.image else ()):
            if self.layer_file(entry, label_set, f"{kind}:{code}").is_file():
                keys[f"{kind}:{code}"] = f"{title} {label_set.name_of(code)}"
        return {
            "name": label_set.name,
            "classes": classes_of(label_set),
            "areas": areas_of(entry, label_set, self.tables),
            "layers": [self._describe_layer(entry, label_set, key, title) for key, title in keys.items()],
        }

    def _describe_layer(self, entry: Entry, label_set: LabelSet, key: str, title: str) -> dict[str, Any]:
        layer = {"key": key, "title": title}
        try:
            if key == "truth":  # read only when shown; it has the size of the main layer
                path = find_ground_truth(entry, label_set.name, self.truth)
                key = self.main_key(entry, label_set)
            else:
                path = self.layer_file(entry, label_set, key)
            frame = self.frame(entry, self.layer(entry, label_set, key).size)
        except (OSError, InputError, LookupError) as error:
            return layer | {"problem": str(error)}
        place = {"across": frame.width, "down": frame.height}
        return layer | {"height": frame.rows, "width": frame.columns, "version": _version(path), **place}

    def thumbnail(self, entry: Entry, label_set: LabelSet | None, palette: str) -> bytes:
        """Return a JPEG of an entry with its label map at half over it; the label map alone if the slide is gone."""
        source, key = None, [entry.id, palette]
        with contextlib.suppress(FileNotFoundError) if label_set else contextlib.nullcontext():
            source = self.source(entry)
            key.append(stamp(source))
        if label_set:
            main = self.main_key(entry, label_set)
            key += [label_set.name, stamp(self.layer_file(entry, label_set, main))]

        def draw() -> bytes:
            picture = self.pictures.thumbnail(source, entry.mpp) if source else None
            if label_set is None:
                return jpeg(picture)
            labels = read_small(self.layer(entry, label_set, main), THUMBNAIL)
            return jpeg(_with_labels(picture, labels, label_set, palette))

        return self.thumbnails.get(tuple(key), draw)


def _read_mask(path: Path, label_set: LabelSet | None) -> Pyramid:
    """Read a demo's mask as class indices; without a label set, read a class's map as grey values."""
    labels = read_mask(path, label_set).labels if label_set else read_image(path)[0][..., 0]
    return build_pyramid((labels[top : top + TILE] for top in range(0, len(labels), TILE)), *labels.shape)


def _with_labels(picture: Image.Image | None, labels: np.ndarray, label_set: LabelSet, palette: str) -> Image.Image:
    factor = THUMBNAIL / max(labels.shape)
    height, width = (max(1, round(side * factor)) for side in labels.shape)
    width, height = picture.size if picture else (width, height)
    colours = np.array([*(facts[palette] for facts in classes_of(label_set)), (255, 255, 255)], np.uint8)
    painted = colours[np.minimum(labels, len(label_set))]
    painted = np.asarray(Image.fromarray(painted).resize((width, height), Image.Resampling.NEAREST))
    return Image.fromarray(blend(painted, np.asarray(picture), 0.5) if picture else painted)


def _version(path: Path | None) -> str:
    """Return a text that changes with a file, for addresses that browsers may cache; "" if it is gone."""
    with contextlib.suppress(OSError):
        return "-".join(map(str, stamp(path)[1:])) if path else ""
    return ""
