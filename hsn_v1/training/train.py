"""From patches with labels to a classifier's files, with its thresholds and a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..io.models import model_file, save_histonet
from ..io.reading import read_text
from ..io.writing import write_bytes
from ..keras_start import import_keras, quiet_start
from .fit import batches, fit
from .networks import begin_with, build_network
from .own_patches import TrainingData
from .recipe import Recipe
from .validation_report import classification_report, equal_error_thresholds, write_report


@dataclass(frozen=True)
class Job:
    """What a training is called, and what it begins and ends with.

    Attributes
    ----------
    name : str
        Of the model.
    folder : Path
        Where the model's files are written: ``<root>/data``.
    out : Path
        Folder of the log, the checkpoints and the report.
    epochs : int
    weights : str
        ``none``, ``imagenet``, or the path of a file of weights.
    saved_tile : int
        Side of the tiles that the classifier is saved for, in px.
    """

    name: str
    folder: Path
    out: Path
    epochs: int
    weights: str
    saved_tile: int


def train(data: TrainingData, recipe: Recipe, job: Job, quiet: bool = False) -> list[dict]:
    """Train a classifier and write its files and report; return the classes' figures (see `report`).

    Raises
    ------
    InputError
        If the weights to begin with cannot be had, or training cannot go on.
    """
    outputs = len(data.labels.outputs)
    with quiet_start():
        import_keras().utils.set_random_seed(recipe.seed)
        model = build_network(recipe, outputs, imagenet=job.weights == "imagenet")
    if job.weights not in ("none", "imagenet"):
        print(begin_with(model, Path(job.weights), data.labels.codes))
    write_bytes(model_file(job.folder, job.name, ".toml"), data.class_file.encode())  # from now on, it may be edited
    fit(model, data.train, data.validation, data.labels, recipe, job.epochs, job.out, quiet)
    judge = build_network(recipe, outputs, tile=data.judged.images.shape[1])
    judge.set_weights(model.get_weights())
    scores = judge.predict(batches(data.judged, data.labels, recipe, train=False), verbose=0)
    thresholds = equal_error_thresholds(data.judged.targets, scores)
    rows = classification_report(data.labels.codes, data.judged.targets, scores, thresholds)
    write_report(job.out, rows)
    final = build_network(recipe, outputs, tile=job.saved_tile)
    final.set_weights(model.get_weights())
    class_file = read_text(model_file(job.folder, job.name, ".toml"))
    save_histonet(job.folder, job.name, final, thresholds, data.labels.codes, class_file)
    return rows
