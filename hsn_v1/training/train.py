"""Train a classifier on labelled patches, and write its files, thresholds and report."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import Notice
from ..io.model_files import model_file
from ..io.models import save_histonet
from ..io.reading import read_text
from ..io.writing import write_bytes
from ..keras_start import quiet_start
from .checkpoints import LAST
from .fit import OnBatch, batches, begin_at_random, fit
from .linear_probe import fit_dense, without_margin
from .networks import begin_with, build_network, check_weights, for_tiles
from .recipe import Recipe
from .training_data import TrainingData
from .validation_report import classification_report, equal_error_thresholds, model_card, write_report


@dataclass(frozen=True)
class TrainingJob:
    """Name, first weights, length and output folders of a training."""

    name: str  #: of the model
    folder: Path  #: of the model's files: ``<root>/data``
    out: Path  #: folder of the log, the checkpoints and the report
    epochs: int  #: number of all epochs, also of those before a restart
    weights: str  #: ``none``, ``imagenet``, or the path of a file of weights
    saved_tile: int  #: side of the tiles that the classifier is saved for, in px
    sources: Mapping[str, str] = field(default_factory=dict)  #: origin of patches and labels; see `model_card`


def train(data: TrainingData, recipe: Recipe, job: TrainingJob, on_batch: OnBatch | None = None) -> list[dict]:
    """Train a classifier, and write its files and report.

    Parameters
    ----------
    data : TrainingData
        Patches and classes.
    recipe : Recipe
        Settings of the training.
    job : TrainingJob
        Name, first weights and folders.
    on_batch : callable, optional
        See `fit.OnBatch`.

    Returns
    -------
    list of dict
        Metrics of each class; see `validation_report.classification_report`.

    Raises
    ------
    InputError
        If the first weights are not available, or training cannot be resumed or diverges.
    """
    check_weights(recipe.network, job.weights)
    outputs = len(data.labels.outputs)
    with quiet_start():
        begin_at_random(recipe)
        model = build_network(recipe, outputs, imagenet=job.weights == "imagenet")
    if job.weights not in ("none", "imagenet"):
        warnings.warn(Notice(begin_with(model, Path(job.weights), data.labels.codes)), stacklevel=2)
    write_bytes(model_file(job.folder, job.name, ".toml"), data.class_file.encode())  # the user may edit it meanwhile
    if recipe.frozen or (recipe.probed and not (job.out / LAST).exists()):
        scores = fit_dense(model, data)
    if not recipe.frozen:
        trained = without_margin(model, data.context) if data.context else model
        fit(trained, data, recipe, job.epochs, job.out, on_batch)
        judge = trained if data.context else for_tiles(model, data.judged.images.shape[1])
        scores = judge.predict(batches(data.judged, data.labels, recipe, train=False), verbose=0)
    thresholds = equal_error_thresholds(data.judged.targets, scores)
    rows = classification_report(data.labels.codes, data.judged.targets, scores, thresholds)
    write_report(job.out, rows)
    class_file = read_text(model_file(job.folder, job.name, ".toml"))
    save_histonet(job.folder, job.name, for_tiles(model, job.saved_tile), thresholds, data.labels.codes, class_file)
    card = model_card(job.name, data, recipe, rows, job.sources, job.epochs)
    write_bytes(model_file(job.folder, job.name, ".md"), card.encode())
    return rows
