"""``hsn-v1 segment --given-labels``: pseudo-masks of patches whose classes are known, to train another network on."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import tell

if TYPE_CHECKING:
    from ..labels import Taxonomy


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of pseudo-masks to those of the command ``segment``."""
    group = parser.add_argument_group("pseudo-masks, of patches whose classes are known")
    group.add_argument(
        "--given-labels",
        metavar="CSV|names",
        help="which classes compete in each patch, instead of those above their thresholds: a table as for train, or "
        "names, for labels in the file names, such as x-[1 0 0].png",
    )
    group.add_argument(
        "--write",
        nargs="+",
        choices=("masks", "maps"),
        default=["masks"],
        help="palette PNG files of class indices; or the maps after each stage, as .npy (default: masks)",
    )


def run(arguments: argparse.Namespace, model: str) -> int:
    """Carry out ``segment --given-labels`` with a model."""
    from ..io.model_files import find_model, read_taxonomy
    from ..io.models import load_histonet
    from ..parallel import available_cores
    from ..progress import progress_bar
    from ..sets.pseudo_masks import MAPS, MASKS, write_pseudo_masks
    from ..sets.settings import with_crfs
    from .evaluate import only_label_set

    folder = find_model(arguments.root, model)
    labels = read_taxonomy(folder, model)
    settings = replace(
        _settings(arguments, labels, only_label_set(labels, arguments.labels)),
        workers=arguments.workers or available_cores(),
        batch_size=arguments.batch_size,
        resume=not arguments.force,
    )
    known = known_classes(settings.images, arguments.given_labels, labels)
    settings = with_crfs(settings, folder, model)
    tell(settings.notes)
    folders = [*([MASKS] if "masks" in arguments.write else []), *(MAPS if "maps" in arguments.write else ())]
    with progress_bar(len(settings.images), arguments.quiet) as advance:
        failures = write_pseudo_masks(settings, load_histonet(folder, model), known, folders, advance)
    done = len(settings.images) - len(failures)
    print(f"{done} of {len(settings.images)} images: {', '.join(folders)} in {settings.out}")
    return tell(failures=failures.values())


def _settings(arguments, labels, label_set):
    """Return settings of all images that the inputs name: files, or folders of such."""
    from ..io.images import find_images
    from ..sets.settings import Settings

    images = [image for path in arguments.inputs for image in (find_images(path, "any") if path.is_dir() else [path])]
    out = arguments.out or arguments.root / "out" / "pseudo_masks"
    downsample = labels.mpp / arguments.mpp if arguments.mpp else 1.0
    return Settings(tuple(images), None, out, (label_set,), mpp=labels.mpp, downsample=downsample)


def known_classes(images: Sequence[Path], given: str, labels: Taxonomy) -> dict[str, Collection[str]]:
    """Return the codes of the classes that each image has, by its file name.

    Parameters
    ----------
    images : sequence of Path
    given : str
        A table's path, or ``names``.
    labels : Taxonomy

    Raises
    ------
    InputError
        If the table or a name cannot be used, or a column is no class.
    """
    from ..training.patch_labels import read_label_table, read_names

    tables = (
        [read_names(folder, labels.codes) for folder in dict.fromkeys(image.parent for image in images)]
        if given == "names"
        else [read_label_table(Path(given), images, labels.codes)]
    )
    known = {}
    for table in tables:
        strange = [column for column in table.columns if column not in labels.outputs and column not in labels.vague]
        if strange:
            raise InputError(
                f"{table.source}: column {strange[0]!r} is no class of the model; expected some of "
                f"{', '.join(labels.codes[:6])}"
            )
        for path, present in zip(table.cells, table.of(table.columns), strict=True):
            codes = [column for column, has in zip(table.columns, present, strict=True) if has]
            known[path.name] = [labels.codes[i] for i in labels.with_parents(codes)]
    return known
