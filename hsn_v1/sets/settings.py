"""Settings of a run over a set, made from the published scripts' `params` or for any folder of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

from ..adp import ADP
from ..checks import FACTORS
from ..densecrf import BACKENDS, CRF
from ..errors import InputError
from ..io import tree
from ..io.images import find_images
from ..io.masks import find_mask
from ..io.model_files import model_card_of, read_crfs
from ..io.reading import no_folder
from ..keras_start import MOST_WORKERS
from ..labels import LabelSet, Taxonomy
from ..parallel import available_cores, classifier_threads
from ..tiles import TILE


class SaveTypes(NamedTuple):
    """Kinds of files that a run writes for each image: the published `save_types`, in their order."""

    confidences: bool = True
    maps: bool = True
    masks: bool = True
    summaries: bool = True


@dataclass(frozen=True)
class Settings:
    """Settings of a run: its images, the method, and the files to write."""

    images: tuple[Path, ...]  #: image files, in order
    truth: Path | None  #: folder of ground truth, or of one folder of it for each label set's name; None for none
    out: Path  #: folder to write to
    label_sets: tuple[LabelSet, ...]
    #: CRFs by label set name; a label set without a CRF stops after the adjusted maps.
    crfs: Mapping[str, CRF] = field(default_factory=dict)
    model: str = ""  #: the classifier's name
    #: Published metrics after the CRF, by label set name.
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    mpp: float = ADP.mpp  #: the classifier's scale, in microns per pixel
    downsample: float = 1.0  #: factor between the images' scale and the classifier's
    input_size: tuple[int, int] = (TILE, TILE)  #: height and width of the confidence images, in px
    batch_size: int = 8  #: number of tiles classified at once
    run_level: int = 3  #: 1: scores only; 2: also Grad-CAM, adjusted maps and their masks; 3: all
    save: SaveTypes = field(default_factory=SaveTypes)
    workers: int = field(default_factory=available_cores)  #: number of worker processes
    notes: tuple[str, ...] = ()  #: notes on these settings for the user
    #: How to treat ground truth of another size than its image; see `read_mask`. ``silently``: resize it, as published.
    #: ``mask``: compare masks at its size, as in the later paper.
    resize_truth: str = "silently"
    side: int | None = None  #: side in px to which images are resized first, as in the later paper; None to keep theirs
    #: Only measure images whose masks exist already; needs run level 3 and saved masks.
    resume: bool = False
    #: Masks to make anew although they exist: "all", those of "changed" settings, or "none", where such are an error.
    anew: str = "changed"
    caveat: str = ""  #: the classifier's warning to everyone who sees its results; empty if none
    self_contained: bool = False  #: write the results page as one file with thumbnails inside and no links to others
    grad_cams: bool = False  #: also write Grad-CAMs as they are before the adjustment; from run level 2 on
    card: Path | None = None  #: the classifier's card, which the page links

    def truth_file(self, path: Path, label_set: LabelSet) -> Path:
        """Return the file of an image's ground truth."""
        return find_mask(tree.truth_of(self.truth, label_set.name), path.name)

    @property
    def threads(self) -> int:
        """Number of threads for each image: more than one if fewer images than cores are in work at a time."""
        return max(1, available_cores() // min(self.workers, len(self.images)))

    @property
    def beside(self) -> int:
        """Number of images that workers may process while the classifier runs on its share of the cores."""
        cores = available_cores()
        return (cores - classifier_threads(cores)) // self.threads


#: The keys of the published `params`, and `crf` (see `CRF.backend`): default (None: required), test, and the
#: expected value in words.
PARAMS: dict[str, tuple[Any, Any, str]] = {
    "input_name": (None, lambda v: isinstance(v, str) and _is_below(v), "the name of a folder in img"),
    "input_size": ([TILE, TILE], lambda v: _is_list(v, 2, _is_count), "two positive whole numbers, height and width"),
    "input_mode": ("patch", lambda v: v in ("patch", "wsi"), "patch or wsi"),
    "down_fac": (
        1.0,
        lambda v: _is_number(v) and FACTORS[0] <= v <= FACTORS[1],
        f"a number from {FACTORS[0]:g} to {FACTORS[1]:g}",
    ),
    "batch_size": (8, lambda v: _is_count(v), "a positive whole number"),
    "htt_mode": ("both", lambda v: isinstance(v, str) and v.strip(), "the name of a label set"),
    "gt_mode": ("on", lambda v: v in ("on", "off", True, False), "on or off"),
    "run_level": (3, lambda v: _is_count(v) and v <= 3, "1, 2 or 3"),
    "save_types": (
        [True] * 4,
        lambda v: _is_list(v, 4, lambda flag: flag in (0, 1)),
        "four values, each true or false",
    ),
    "crf": ("numba", lambda v: v in BACKENDS, f"one of {', '.join(BACKENDS)}"),
    "verbosity": ("NORMAL", lambda v: v in ("NORMAL", "QUIET"), "NORMAL or QUIET"),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_below(name: str) -> bool:
    return bool(name.strip()) and ".." not in Path(name).parts and not Path(name).is_absolute()


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value > 0


def _is_list(value: Any, length: int, test: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == length and all(map(test, value))


def check_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the published `params` with defaults filled in. Raises InputError for a key or value that is not valid."""
    for key in params:
        if key not in PARAMS:
            raise InputError(f"params: unknown key {key!r}; known are {', '.join(PARAMS)}")
    checked = {}
    for key, (default, test, expected) in PARAMS.items():
        value = checked[key] = params.get(key, default)
        try:
            passes = test(value)
        except (TypeError, ValueError):  # a type that can't be compared
            passes = False
        if not passes:
            raise InputError(f"params[{key!r}] is {value!r}; expected {expected}")
    return checked


def checked_workers(workers: int | None) -> int:
    """Return the number of worker processes; None means one for each core. Raises InputError if it is not valid."""
    if workers is not None and not (_is_count(workers) and workers <= MOST_WORKERS):
        raise InputError(f"workers is {workers!r}; expected a whole number from 1 to {MOST_WORKERS:,}")
    return workers or available_cores()


def settings_from_params(
    params: Mapping[str, Any],
    labels: Taxonomy = ADP,
    root: Path = Path(),
    out: Path | None = None,
    workers: int | None = None,
    images: tuple[Path, ...] = (),
) -> Settings:
    """Return the settings for the published `params`, as `check_params` returns them.

    `labels` is the classifier's taxonomy, with the label sets that ``htt_mode`` names. `root` contains ``data``,
    ``img`` and ``gt``. Defaults: `out` is ``<root>/out/<input_name>``, `workers` one for each core, and `images` those
    in the set's folder. Raises InputError if a value is not valid, or a folder or an image is missing.
    """
    root = Path(root).absolute()  # worker processes may have started in another folder
    name, label_sets = params["input_name"], labels.group(params["htt_mode"])
    images = images or find_images(root / tree.IMAGES / name, params["input_mode"])
    truth = root / tree.TRUTH / name if params["gt_mode"] in ("on", True) else None
    for label_set in label_sets:
        if truth and not (truth / label_set.name).is_dir():
            raise InputError(
                f"{truth / label_set.name}: no such folder; put the ground truth there, or run with gt_mode off"
            )
    return Settings(
        images=images,
        truth=truth,
        out=out.absolute() if out else root / tree.RESULTS / name,
        label_sets=label_sets,
        mpp=labels.mpp,
        downsample=float(params["down_fac"]),
        input_size=tuple(params["input_size"]),
        batch_size=int(params["batch_size"]),
        run_level=int(params["run_level"]),
        save=SaveTypes(*map(bool, params["save_types"])),
        workers=checked_workers(workers),
    )


def settings_of_folder(
    images: Path, labels: Taxonomy, label_sets: tuple[LabelSet, ...], out: Path, truth: Path | None = None, **more: Any
) -> Settings:
    """Return settings for the PNG, JPEG, TIFF or BMP images of any folder; `more` are further fields of `Settings`.

    `truth` contains the masks of the images, of the same sizes, or a folder of them for each label set's name. Raises
    InputError if a folder is missing, or there is no image.
    """
    if truth and not truth.is_dir():
        raise InputError(f"{truth}: {no_folder(truth)}; it should hold a mask of each image, by the image's name")
    more = {"resize_truth": "never", **more}
    return Settings(find_images(images, "any"), truth, out, label_sets, mpp=labels.mpp, **more)


def with_crfs(settings: Settings, folder: Path, model_name: str, backend: str = "numba") -> Settings:
    """Return settings with a model's name, and with its CRFs and card from a folder; see `read_crfs`."""
    crfs, notes = read_crfs(folder, model_name, settings.label_sets)
    crfs = {name: replace(crf, backend=backend) for name, crf in crfs.items()}
    card = model_card_of(folder, model_name)
    return replace(settings, crfs=crfs, model=model_name, card=card, notes=(*settings.notes, *notes))
