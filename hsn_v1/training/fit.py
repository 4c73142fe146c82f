"""``python -m hsn_v1 train``: train HistoNet from patch labels alone (`method.md`, "Training recipe")."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..adp import CLASSIFIER_CODES
from ..errors import InputError
from ..files.images import write_bytes, write_table
from ..histonet import MEAN, STD, import_keras, quiet_start, save_histonet
from ..tiles import TILE
from .patches import LabelledPatches, phantom_patches, read_patches

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

#: Filters and dropout rates of HistoNet X1.7's convolutions, block by block; each block ends in a max-pooling.
BLOCKS = (((64, 0.3), (64, 0)), ((128, 0.4), (128, 0)), ((256, 0.4), (256, 0.4), (256, 0)))

#: From RGB to luma and the two chroma differences (ITU-R BT.601).
YCBCR = np.float32([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the published recipe's.

    Attributes
    ----------
    width : float
        Factor of the published numbers of filters.
    dropout : float
        Factor of the published dropout rates.
    tile : int
        Side of the patches trained on, in px. The network has no weight that depends on it, and is saved for
        tiles of 224 px; smaller patches say more closely where a label comes from.
    batch : int
        Patches in a step.
    low, high : float
        Least and greatest learning rate of the first cycle.
    half_cycle : int
        Epochs in which the learning rate rises, and in which it falls again.
    session : int
        Epochs after which the amplitude of the cycles is halved.
    bfloat16 : bool
        Compute in bfloat16, keep the weights in float32.
    seed : int
        Of the first weights, the order of the patches and their augmentation.
    """

    width: float = 1.0
    dropout: float = 1.0
    tile: int = TILE
    batch: int = 16
    low: float = 0.001
    high: float = 0.02
    half_cycle: int = 5
    session: int = 20
    bfloat16: bool = False
    seed: int = 0


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


def normalise(images: tf.Tensor) -> tf.Tensor:
    """Bring images in 0..255 to the classifier's scale, as float32."""
    import tensorflow as tf

    return (tf.cast(images, tf.float32) - np.float32(MEAN)) / np.float32(STD)


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
        return normalise(augment(images)), targets

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


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``train``."""
    parser = subparsers.add_parser("train", help="train a classifier from patch labels alone")
    parser.add_argument("--name", required=True, help="name of the model")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of models (default: data)")
    parser.add_argument("--out", type=Path, help="folder of log, checkpoints and report (default: out/NAME)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="patches to train on (default: phantoms)")
    parser.add_argument("--labels", type=Path, metavar="CSV", help="their labels: a file name and 0 or 1 per class")
    parser.add_argument("--patches", type=int, default=4000, help="phantoms to train on (default: 4000)")
    parser.add_argument("--validation", type=int, help="patches to validate on (default: 1 for every 8 to train on)")
    parser.add_argument("--epochs", type=int, default=80, help="epochs in all (default: 80)")
    for field in fields(Recipe):
        option, kind = f"--{field.name.replace('_', '-')}", type(field.default)
        how = {"action": "store_true"} if kind is bool else {"type": kind, "default": field.default}
        parser.add_argument(option, help=f"{HELP[field.name]} (default: {field.default})", **how)
    parser.set_defaults(run=_run)


HELP = {
    "width": "factor of the numbers of filters",
    "dropout": "factor of the dropout rates",
    "tile": "side of the patches trained on, in px",
    "batch": "patches in a step",
    "low": "least learning rate",
    "high": "greatest learning rate",
    "half_cycle": "epochs in which the learning rate rises, and in which it falls",
    "session": "epochs after which the learning rate's amplitude is halved",
    "bfloat16": "compute in bfloat16",
    "seed": "of the first weights, order and augmentation",
}


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise InputError at the first option that is of no use."""
    for name in ("patches", "validation", "epochs", "tile", "batch", "half_cycle", "session", "width", "high"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name.replace('_', '-')} {value}: expected a positive number")
    if not 0 <= arguments.low <= arguments.high:
        raise InputError(f"--low {arguments.low} --high {arguments.high}: expected 0 <= low <= high")
    if not 0 <= arguments.dropout <= 2 or arguments.seed < 0:
        raise InputError(f"--dropout {arguments.dropout} --seed {arguments.seed}: expected from 0 to 2, and from 0 on")
    if arguments.tile % 8 or (arguments.images and arguments.tile != TILE):
        raise InputError(f"--tile {arguments.tile}: expected a multiple of 8; images of a folder are {TILE} px")
    if bool(arguments.images) != bool(arguments.labels):
        raise InputError("--images and --labels go together: a folder of patches, and the CSV of their labels")


def _run(arguments: argparse.Namespace) -> int:
    _check_options(arguments)
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    out = arguments.out or Path("out") / arguments.name
    if arguments.images:
        patches, notes = read_patches(arguments.images, arguments.labels)
        count = arguments.validation or max(1, len(patches) // 9)
        if count >= len(patches):
            raise InputError(
                f"{arguments.labels}: {len(patches)} patches; expected more than the {count} to validate on"
            )
        train, validation = patches.split(count, recipe.seed)
        judged = validation
    else:
        notes, count = [], arguments.validation or max(1, arguments.patches // 8)
        train = phantom_patches("training", arguments.patches, recipe.tile)
        validation = phantom_patches("validation", count, recipe.tile)
        judged = validation if recipe.tile == TILE else phantom_patches("validation", count)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    with quiet_start():
        import_keras()
    model = fit(train, validation, recipe, arguments.epochs, out)
    scores = model.predict(batches(judged, recipe, train=False), verbose=0)
    thresholds = equal_error_thresholds(judged.targets, scores)
    rows = classification_report(judged.targets, scores, thresholds)
    write_report(out, rows)
    save_histonet(arguments.data, arguments.name, model, thresholds)
    auc, f1 = (np.mean([row[key] for row in rows]) if rows else np.nan for key in ("AUC", "F1"))
    print(f"{arguments.data / arguments.name}: mean AUC {auc:.4f}, mean F1 {f1:.4f} of {len(rows)} classes")
    print(f"log, curves and classes in {out}")
    return 0
