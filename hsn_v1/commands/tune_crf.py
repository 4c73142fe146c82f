"""``hsn-v1 tune-crf``: search the CRF's settings for a classifier, on images with ground truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import note, tell
from .options import MPP, SEED, add_root, add_views, check_unused, views_of, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from ..densecrf import CRF
    from ..labels import LabelSet, Taxonomy
    from ..training.tuning import TuningImage


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``tune-crf``."""
    parser = subparsers.add_parser("tune-crf", help="search the CRF settings for a classifier")
    add = parser.add_argument
    add("--model", required=True, metavar="NAME", help="name of the model")
    add_root(parser)
    add("--images", type=Path, metavar="DIR", help="images to tune on (default: phantoms)")
    add("--truth", type=Path, metavar="DIR", help="masks of the images, or a folder of them for each label set")
    add(
        "--mosaic",
        type=Path,
        metavar="DIR",
        help="patches with labels, as for train, instead of images with masks: patches with one label are put "
        "together, so that borders are known",
    )
    add("--resize", action="store_true", help="stretch masks of another shape to their images")
    add("--mpp", type=MPP, help="microns per pixel of the images (default: the model's)")
    add("--label-sets", nargs="+", metavar="SET", help="label sets of the model (default: those with truth)")
    add("--count", type=whole(1), default=16, help="phantoms or mosaics to tune on (default: 16)")
    add("--trials", type=whole(1, 10_000), default=40, help="settings to try (default: 40)")
    add("--seed", type=SEED, default=0, help="seed of the settings (default: 0)")
    add("--out", type=Path, help="folder of the tables of all trials (default: ROOT/out/NAME)")
    add("--quiet", action="store_true", help="no progress")
    add_views(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from ..file_names import file_name
    from ..io.locks import alone_in, locked_name
    from ..io.model_files import find_model, model_files
    from ..io.writing import remove_leftovers

    _check_options(arguments)
    model_files(find_model(arguments.root, arguments.model), arguments.model)  # raises before anything is written
    folder, out = arguments.root / "data", arguments.out or arguments.root / "out" / file_name(arguments.model)
    with locked_name(folder, arguments.model, "choose another --model"), alone_in(out):
        remove_leftovers(folder, f"{file_name(arguments.model)}_")
        return _tune(arguments, folder, out)


def _tune(arguments: argparse.Namespace, folder: Path, out: Path) -> int:
    from ..io.model_files import find_model
    from ..io.models import load_histonet
    from ..training.tuning import adjusted, search, write_trials

    histonet = load_histonet(find_model(arguments.root, arguments.model), arguments.model)
    histonet = histonet.with_views(**views_of(arguments))
    tell(histonet.labels.views.notes)
    for label_set, pairs, mpp in _tuning_sets(arguments, histonet.labels):
        tuning = adjusted(pairs, histonet, label_set, histonet.mpp / (mpp or histonet.mpp))
        record = out / f"crf_{label_set.name}.json"
        tried = search(tuning, arguments.trials, arguments.seed, arguments.quiet, record)
        write_trials(out / f"crf_{label_set.name}.csv", tried)
        _use_best(tuning, tried[0], label_set, folder, arguments.model)
    return 0


def _use_best(
    tuning: Sequence[TuningImage], best: tuple[CRF, np.ndarray], label_set: LabelSet, folder: Path, model: str
) -> None:
    """Write the settings of the best trial, unless a file is there and these are no better than its, or than no CRF."""
    from ..evaluate import mean_iou_present
    from ..io.model_files import copy_model, crf_name, find_crf, find_model, model_file, read_crfs
    from ..training.tuning import confusion_of, write_crf

    crf, confusion = best
    before, after = mean_iou_present(confusion_of(tuning)), mean_iou_present(confusion)
    source = find_model(folder.parent, model)
    file, (crfs, _) = find_crf(source, model, label_set), read_crfs(source, model, (label_set,))
    current = mean_iou_present(confusion_of(tuning, crfs[label_set.name])) if file else 0
    if file and after <= max(before, current):
        reason = f"its settings, with {current:.4f}" if after <= current else "no CRF"
        print(f"{file}: kept, since the best trial is no better than {reason}")
    else:
        if source != folder:
            copy_model(source, model, folder)
            note(f"{model} is copied from {source} to {folder}: tuned settings count where their classifier is")
        path = model_file(folder, model, f"_{crf_name(label_set)}")
        write_crf(path, crf)
        print(f"{path}: {crf}")
    remark = "" if after > before else "; no trial is better than no CRF: try more --trials"
    print(f"{label_set.name}: mIoU of the present classes {before:.4f} before the CRF, {after:.4f} after it{remark}")


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.mosaic and arguments.images:
        raise InputError("--mosaic goes without --images: patches with labels, or images with masks, one of the two")
    if bool(arguments.images) != bool(arguments.truth):
        raise InputError("--images and --truth go together: a folder of images, and one of their ground truth")
    if arguments.images:
        check_unused(arguments, ["count"], "--images")
    else:
        check_unused(arguments, ["resize"], "--mosaic" if arguments.mosaic else "phantoms; give --images")


def _tuning_sets(
    arguments: argparse.Namespace, labels: Taxonomy
) -> Iterator[tuple[LabelSet, list[tuple[np.ndarray, np.ndarray]], float | None]]:
    """Yield each label set with ground truth, its images with label maps, and their scale; note those without truth."""
    from ..training.labelled_images import read_tuning_set, truth_folder
    from ..training.tuning import mosaics

    wanted = arguments.label_sets or list(labels.label_sets)
    chosen = list({label_set.name: label_set for name in wanted for label_set in labels.group(name)}.values())
    if arguments.mosaic:
        note("borders in mosaics are sharper than in tissue, and ask for a CRF that may be too strong: see some masks")
        for label_set in chosen:
            pairs = mosaics(arguments.mosaic, labels, label_set, arguments.count, arguments.seed)
            yield label_set, pairs, arguments.mpp
        return
    if not arguments.images:
        yield from _phantoms(arguments, labels, chosen)
        return
    candidates = chosen if arguments.label_sets else list(labels.label_sets.values())
    folders = {label_set.name: truth_folder(arguments.truth, label_set, candidates) for label_set in chosen}
    missing = [name for name, folder in folders.items() if folder is None]
    if len(missing) == len(chosen):
        raise InputError(
            f"{arguments.truth / missing[0]}: no such folder; expected masks of at least one label set there, or, for "
            f"masks in {arguments.truth} itself, the name of their label set by --label-sets"
        )
    for name in missing:
        note(f"{name} is skipped: no ground truth in {arguments.truth / name}")
    resize = "silently" if arguments.resize else "noted"
    for label_set in chosen:
        if folders[label_set.name]:
            pairs, notes, failures = read_tuning_set(arguments.images, folders[label_set.name], label_set, resize)
            tell([*notes, *(f"left out: {failure}" for failure in failures)])
            yield label_set, pairs, arguments.mpp


def _phantoms(arguments: argparse.Namespace, labels: Taxonomy, chosen: list[LabelSet]) -> Iterator[tuple]:
    """Yield label sets with phantoms, label maps and scale. Raises InputError if the model has other classes."""
    from ..adp import LABEL_SETS
    from ..phantoms.phantom_set import tuning_set

    for label_set in chosen:
        if label_set.name not in LABEL_SETS or label_set.codes != LABEL_SETS[label_set.name].codes:
            raise InputError(
                f"{arguments.model}: phantoms have no {', '.join(label_set.codes[:4])}; give --images and --truth"
            )
        yield label_set, *tuning_set(label_set, arguments.count)
