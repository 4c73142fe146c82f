"""``python -m hsn_v1 train``: train HistoNet from patch labels alone (docs/method.md, "Training recipe")."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..adp import ADP, CLASSIFIER_CODES
from ..errors import InputError
from ..files.writing import write_bytes, write_table
from ..histonet import import_keras, normalise
from ..tiles import TILE
from .patches import LabelledPatches
from .recipe import Recipe

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

#: Filters and dropout rates of HistoNet X1.7's convolutions, block by block; each block ends in a max-pooling.
BLOCKS = (((64, 0.3), (64, 0)), ((128, 0.4), (128, 0)), ((256, 0.4), (256, 0.4), (256, 0)))

#: From RGB to luma and the two chroma differences (ITU-R BT.601).
YCBCR = np.float32([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def build_histonet(tile: int = TILE, width: float = 1.0, dropout: float = 1.0, dtype: str = "float32") -> keras.Model:
    """Return HistoNet X1.7 with random weights.

    Parameters
    ----------
    tile : int
        Side of its tiles, in px; a multiple of 8.
    width, dropout : float
        Factors of the published numbers of filters and dropout rates.
    dtype : str
        Policy that the layers compute by; the scores are float32 in any case.

    Returns
    -------
    keras.Model
        Normalised tiles of shape (T, tile, tile, 3) to scores of shape (T, 51).
    """
    keras = import_keras()
    layers, count = [keras.Input((tile, tile, 3))], 0
    for block, convolutions in enumerate(BLOCKS, 1):
        for filters, rate in convolutions:
            count += 1
            layers += [
                keras.layers.Conv2D(
                    max(1, round(filters * width)),
                    3,
                    padding="same",
                    kernel_regularizer=keras.regularizers.L2(5e-4),
                    dtype=dtype,
                    name=f"conv2d_{count}",
                ),
                keras.layers.Activation("relu", dtype=dtype, name=f"activation_{count}"),
                keras.layers.BatchNormalization(dtype=dtype, name=f"batch_normalization_{count}"),
            ]
            if rate * dropout:
                layers.append(keras.layers.Dropout(rate * dropout, dtype=dtype, name=f"dropout_{count}"))
        layers.append(keras.layers.MaxPooling2D(2, dtype=dtype, name=f"max_pooling2d_{block}"))
    layers += [
        keras.layers.MaxPooling2D(tile // 8, dtype=dtype, name="max_pooling2d_4"),
        keras.layers.Flatten(dtype=dtype, name="flatten_1"),
        keras.layers.Dense(len(CLASSIFIER_CODES), dtype="float32", name="dense_1"),
        keras.layers.Activation("sigmoid", dtype="float32", name=f"activation_{count + 1}"),
    ]
    return keras.Sequential(layers, name="histonet")


def cyclical_learning_rate(epoch: float, recipe: Recipe) -> float:
    """Return the triangular learning rate (Smith, WACV 2017) at a point in time, in epochs since the start."""
    share = 1 - abs(epoch / recipe.half_cycle % 2 - 1)  # 0 at the ends of a cycle, 1 in its middle
    return recipe.low + (recipe.high - recipe.low) * 0.5 ** (epoch // recipe.session) * share


def class_weights(targets: np.ndarray) -> np.ndarray:
    """Return the weight of each class in the loss: the inverse of its frequency, with a mean of 1.

    Parameters
    ----------
    targets : ndarray of shape (N, 51), 0 or 1

    Returns
    -------
    ndarray of shape (51,), float32
        Classes rarer than 1 % count as that frequent, absent ones as frequent as the most frequent.
    """
    frequency = targets.mean(axis=0)
    frequency = np.where(frequency > 0, frequency.clip(0.01), max(frequency.max(), 0.01))
    return (1 / frequency / (1 / frequency).mean()).astype(np.float32)


def weighted_cross_entropy(weights: np.ndarray) -> Callable:
    """Return the binary cross-entropy with a weight for each class."""
    ops = import_keras().ops
    return lambda targets, scores: ops.mean(weights * ops.binary_crossentropy(targets, scores), axis=-1)


def augmentation(recipe: Recipe) -> Callable:
    """Return what turns, mirrors, shifts and colours a batch of images (B, tile, tile, 3) at random, in 0..255."""
    keras = import_keras()
    import tensorflow as tf

    geometry = keras.Sequential(
        [
            keras.layers.RandomFlip(seed=recipe.seed),
            keras.layers.RandomRotation(0.5, fill_mode="reflect", seed=recipe.seed),
            keras.layers.RandomTranslation(0.1, 0.1, fill_mode="reflect", seed=recipe.seed),
        ]
    )

    def jitter(images):
        count = tf.shape(images)[0]
        scale = tf.random.uniform((count, 1, 3), 0.9, 1.1)
        shift = tf.random.uniform((count, 1, 3), -6.0, 6.0)
        # (images YCBCR^T scale + shift) YCBCR^-T in one product for each image
        colour = tf.einsum("ij,bkj,lj->bil", YCBCR.T, scale, np.linalg.inv(YCBCR))
        pixels = tf.reshape(images, (count, -1, 3)) @ colour + shift @ np.linalg.inv(YCBCR).T
        return tf.clip_by_value(tf.reshape(pixels, tf.shape(images)), 0.0, 255.0)

    return lambda images: jitter(geometry(tf.cast(images, tf.float32), training=True))


def batches(patches: LabelledPatches, recipe: Recipe, train: bool) -> tf.data.Dataset:
    """Return batches of normalised images and targets; shuffled and augmented if they are to train on."""
    import tensorflow as tf

    def fetch(indices):
        return tf.numpy_function(lambda i: patches.images[i], [indices], tf.uint8)

    tile = patches.images.shape[1]
    augment = augmentation(recipe) if train else lambda images: images

    def prepare(indices, targets):
        images = tf.ensure_shape(fetch(indices), (None, tile, tile, 3))  # from memory, where they are only once
        return normalise(tf.cast(augment(images), tf.float32), ADP), targets

    dataset = tf.data.Dataset.from_tensor_slices((np.arange(len(patches)), patches.targets))
    if train:
        dataset = dataset.shuffle(len(patches), seed=recipe.seed)
    return dataset.batch(recipe.batch).map(prepare, num_parallel_calls=2).prefetch(4)


def fit(train: LabelledPatches, validation: LabelledPatches, recipe: Recipe, epochs: int, out: Path) -> keras.Model:
    """Train a classifier, or go on where an interrupted training stopped.

    Parameters
    ----------
    train, validation : LabelledPatches
    recipe : Recipe
    epochs : int
        Number of epochs in all.
    out : Path
        Folder of the log, the checkpoints and the recipe. What it holds is gone on from.

    Returns
    -------
    keras.Model
        In float32, for tiles of 224 px, with the weights of the epoch of least validation loss.

    Raises
    ------
    InputError
        If the folder holds a training by another recipe.
    """
    keras = import_keras()
    _check_recipe(out / "recipe.json", {**asdict(recipe), "patches": len(train)})
    keras.utils.set_random_seed(recipe.seed)
    policy = "mixed_bfloat16" if recipe.bfloat16 else "float32"
    model = build_histonet(train.images.shape[1], recipe.width, recipe.dropout, policy)
    optimizer = keras.optimizers.SGD(recipe.low, momentum=0.9, nesterov=True)
    model.compile(optimizer, weighted_cross_entropy(class_weights(train.targets)), jit_compile=False)
    steps = -(-len(train) // recipe.batch)

    def pace(_, logs=None):
        optimizer.learning_rate = cyclical_learning_rate(int(optimizer.iterations) / steps, recipe)

    best = out / "best.weights.h5"
    losses = [float(row["val_loss"]) for row in read_log(out / "log.csv")]
    log = keras.callbacks.CSVLogger(out / "log.csv", append=True)
    try:
        model.fit(
            batches(train, recipe, train=True),
            validation_data=batches(validation, recipe, train=False),
            epochs=epochs,
            shuffle=False,  # the batches are shuffled already
            verbose=1 if sys.stdout.isatty() else 2,
            callbacks=[
                keras.callbacks.LambdaCallback(on_train_batch_begin=pace),
                log,
                keras.callbacks.ModelCheckpoint(
                    best, save_best_only=True, save_weights_only=True, initial_value_threshold=min(losses, default=None)
                ),
                keras.callbacks.BackupAndRestore(out / "backup", delete_checkpoint=False),
            ],
        )
    finally:  # Keras leaves the log open when it is interrupted
        if log.csv_file:
            log.csv_file.close()
    model.load_weights(best)
    final = build_histonet(TILE, recipe.width, recipe.dropout)
    final.set_weights(model.get_weights())
    return final


def _check_recipe(path: Path, recipe: dict) -> None:
    """Write down how a folder's training goes, or make sure that it goes on in the same way."""
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        changed = [f"{key} {known.get(key)}, not {value}" for key, value in recipe.items() if known.get(key) != value]
        if changed:
            raise InputError(
                f"{path.parent}: holds a training with {changed[0]}; give the same options to go on, or another --out"
            )
    write_bytes(path, json.dumps(recipe, indent=1).encode())


def read_log(path: Path) -> list[dict[str, str]]:
    """Return the rows of a training's log, one for each finished epoch; none if there is no log.

    An epoch stands there twice if training was killed when it was logged and not yet saved: the later row counts.
    """
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list({row["epoch"]: row for row in csv.DictReader(file)}.values())


def equal_error_thresholds(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return each class's threshold: the ROC point where sensitivity and specificity are nearest to each other.

    Every threshold between the score at that point and the next lower one tells these patches apart in the same way;
    the middle is the one that others are likeliest to be told apart by.

    Parameters
    ----------
    targets : ndarray of shape (N, 51), 0 or 1
    scores : ndarray of shape (N, 51), in 0..1

    Returns
    -------
    ndarray of shape (51,), float64, in 1/3..1
        1 for a class that does not occur: nothing is known of when it would be present.
    """
    from sklearn.metrics import roc_curve

    thresholds = np.ones(targets.shape[1])
    for i, (truth, score) in enumerate(zip(targets.T, scores.T, strict=True)):
        if truth.all():
            thresholds[i] = score.min()
        elif truth.any():
            false_positives, sensitivity, at = roc_curve(truth, score)
            point = at[np.abs(sensitivity - (1 - false_positives)).argmin()]
            thresholds[i] = (point + score[score < point].max(initial=0)) / 2
    return thresholds.clip(1 / 3, 1)


def classification_report(targets: np.ndarray, scores: np.ndarray, thresholds: np.ndarray) -> list[dict]:
    """Return how well each class is told, for the classes that are neither in none nor in all of the patches.

    Parameters
    ----------
    targets, scores : ndarray of shape (N, 51)
    thresholds : ndarray of shape (51,)

    Returns
    -------
    list of dict
        With the keys class, patches, AUC, sensitivity, specificity, F1 and threshold.
    """
    from sklearn.metrics import f1_score, recall_score, roc_auc_score

    rows = []
    for code, truth, score, threshold in zip(CLASSIFIER_CODES, targets.T, scores.T, thresholds, strict=True):
        if 0 < truth.sum() < len(truth):
            found = score >= threshold
            rows.append(
                {
                    "class": code,
                    "patches": int(truth.sum()),
                    "AUC": roc_auc_score(truth, score),
                    "sensitivity": recall_score(truth, found),
                    "specificity": recall_score(truth, found, pos_label=0),
                    "F1": f1_score(truth, found, zero_division=0),
                    "threshold": float(threshold),
                }
            )
    return rows


def write_report(out: Path, rows: list[dict]) -> None:
    """Write the classes' figures as ``classes.csv`` and ``classes.png``, and the learning curves as ``curves.png``."""
    from matplotlib.figure import Figure  # without pyplot: needs no display, keeps no state

    def save(figure: Figure, name: str) -> None:
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
        write_bytes(out / name, picture.getvalue())

    cells = ([round(value, 4) if isinstance(value, float) else value for value in row.values()] for row in rows)
    write_table(out / "classes.csv", [list(rows[0]) if rows else ["class"], *cells])

    figure = Figure(figsize=(8, 1.2 + 0.22 * len(rows)), layout="constrained")
    axes = figure.add_subplot(xlim=(-0.02, 1.02), title="classifier, on the validation patches")
    for key, marker in (("AUC", "o"), ("sensitivity", ">"), ("specificity", "<"), ("F1", "x")):
        axes.plot([row[key] for row in rows], range(len(rows)), marker, label=key)
    axes.set_yticks(range(len(rows)), [row["class"] for row in rows])
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    save(figure, "classes.png")

    log = read_log(out / "log.csv")
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="weighted cross-entropy and weight decay")
    for key, label in (("loss", "training"), ("val_loss", "validation")):
        axes.plot(range(1, len(log) + 1), [float(row[key]) for row in log], ".-", label=label)
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, "curves.png")
