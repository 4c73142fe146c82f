"""Fit a network to patch labels: loss, learning rate, augmentation, checkpoints (docs/method.md, "Training recipe")."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, Notice
from ..histonet import normalise
from ..keras_start import import_keras
from ..labels import Taxonomy
from .checkpoints import BEST, LAST, LOG, PREVIOUS, check_recipe, go_on, keep, read_log, take_best, write_log
from .recipe import Recipe
from .training_data import LabelledPatches, TrainingData
from .validation_report import areas_under_curve

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

#: From RGB to luma and the two chroma differences (ITU-R BT.601).
YCBCR = np.float32([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])

#: ``on_batch(done, total, line)``: finished and all batches; `line` has the losses at the end of an epoch, else is "".
OnBatch = Callable[[int, int, str], None]


def cyclical_learning_rate(epoch: float, recipe: Recipe) -> float:
    """Return the triangular learning rate (Smith, WACV 2017) at a time `epoch`, in epochs since the start."""
    share = 1 - abs(epoch / recipe.half_cycle % 2 - 1)  # 0 at the ends of a cycle, 1 in its middle
    return recipe.low + (recipe.high - recipe.low) * 0.5 ** (epoch // recipe.session) * share


def class_weights(targets: np.ndarray) -> np.ndarray:
    """Return the weight of each class in the loss, (K,) float32: the inverse of its frequency, with a mean of 1.

    `targets` are (N, K) of 0 or 1. Classes rarer than 1 % count as 1 %, absent ones as the most frequent class.
    """
    frequency = targets.mean(axis=0)
    frequency = np.where(frequency > 0, frequency.clip(0.01), max(frequency.max(), 0.01))
    return (1 / frequency / (1 / frequency).mean()).astype(np.float32)


def weighted_cross_entropy(weights: np.ndarray) -> Callable:
    """Return a loss: the binary cross-entropy with a weight for each class."""
    ops = import_keras().ops
    return lambda targets, scores: ops.mean(weights * ops.binary_crossentropy(targets, scores), axis=-1)


def augmentation(seed: int) -> Callable:
    """Return a function that randomly turns, mirrors, shifts and colours images (B, tile, tile, 3) in 0..255."""
    keras = import_keras()
    import tensorflow as tf

    geometry = keras.Sequential(
        [
            keras.layers.RandomFlip(seed=seed),
            keras.layers.RandomRotation(0.5, fill_mode="reflect", seed=seed),
            keras.layers.RandomTranslation(0.1, 0.1, fill_mode="reflect", seed=seed),
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


def batches(patches: LabelledPatches, labels: Taxonomy, recipe: Recipe, train: bool) -> tf.data.Dataset:
    """Return batches of normalised images and their targets; with `train`, shuffled and augmented."""
    import tensorflow as tf

    tile = patches.images.shape[1]
    augment = augmentation(recipe.seed) if train else lambda images: images

    @tf.autograph.experimental.do_not_convert  # it has no loops or branches to look for
    def prepare(indices, targets):
        images = tf.numpy_function(lambda i: patches.images[i], [indices], tf.uint8)  # no copy of all images in TF
        images = augment(tf.ensure_shape(images, (None, tile, tile, 3)))
        return normalise(tf.cast(images, tf.float32), labels), targets

    dataset = tf.data.Dataset.from_tensor_slices((np.arange(len(patches)), patches.targets))
    if train:
        dataset = dataset.shuffle(len(patches), seed=recipe.seed)
    return dataset.batch(recipe.batch).map(prepare, num_parallel_calls=2).prefetch(4)


def begin_at_random(recipe: Recipe) -> None:
    """Seed all random number generators; with `recipe.deterministic`, make TensorFlow deterministic.

    The latter lasts as long as the process. On a GPU, TensorFlow raises an error for operations that cannot comply.
    """
    import_keras().utils.set_random_seed(recipe.seed)
    if recipe.deterministic:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def fit(
    model: keras.Model, data: TrainingData, recipe: Recipe, epochs: int, out: Path, on_batch: OnBatch | None = None
) -> None:
    """Train a network on patches, or resume an interrupted training; the model ends with its best epoch's weights.

    `out` is the folder of log, checkpoints and recipe. A training there is resumed, up to `epochs` in all. `on_batch`
    is also called once before the first batch; see `OnBatch`.

    Warns of damaged files in the folder by a Notice. Raises InputError if the folder holds a training by another
    recipe, or if the loss becomes infinite or nan.
    """
    keras = import_keras()
    facts = {**asdict(recipe), "patches": len(data.train), "classes": list(data.labels.codes)}
    del facts["deterministic"]  # may change when a training is resumed
    notes = check_recipe(out, facts)
    optimizer = keras.optimizers.SGD(recipe.low, momentum=0.9, nesterov=True)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, weighted_cross_entropy(class_weights(data.train.targets)), jit_compile=False)
    steps = -(-len(data.train) // recipe.batch)
    done, damaged = go_on(model, out, steps)
    for note in (*notes, *damaged):
        warnings.warn(Notice(note), stacklevel=2)
    if done < epochs:
        model.fit(
            batches(data.train, data.labels, recipe, train=True),
            validation_data=batches(data.validation, data.labels, recipe, train=False),
            initial_epoch=done,
            epochs=epochs,
            shuffle=False,  # the batches are shuffled already
            verbose=0,
            callbacks=[_course(data, recipe, steps, epochs, out, on_batch or (lambda *_: None))],
        )
    take_best(model, out)
    model.compiled = False  # else clones would be compiled, too, with a loss that cannot be serialised


def _course(
    data: TrainingData, recipe: Recipe, steps: int, epochs: int, out: Path, on_batch: OnBatch
) -> keras.callbacks.Callback:
    """Return a callback: sets the learning rate, checks the loss, writes log and checkpoints, reports progress."""

    class Course(import_keras().callbacks.Callback):
        least = min((float(row["val_loss"]) for row in read_log(out / LOG)), default=math.inf)

        def on_train_begin(self, logs=None):
            self._tell()

        def on_epoch_begin(self, epoch, logs=None):
            self.begun = time.perf_counter()

        def on_test_begin(self, logs=None):
            self.seconds = time.perf_counter() - self.begun  # of training, without validation

        def on_train_batch_begin(self, batch, logs=None):
            optimizer = self.model.optimizer
            optimizer.learning_rate = cyclical_learning_rate(int(optimizer.iterations) / steps, recipe)

        def on_train_batch_end(self, batch, logs=None):
            self._check(logs["loss"])
            self._tell()

        def on_epoch_end(self, epoch, logs=None):
            self._check(logs["val_loss"])
            figures = _figures(self.model, data, recipe, self.seconds)
            write_log(out, [*read_log(out / LOG), {"epoch": epoch, **logs, **figures}])
            if logs["val_loss"] < self.least or not (out / BEST).exists():
                self.least = logs["val_loss"]
                keep(self.model, out / BEST)
            if (out / LAST).exists():
                (out / LAST).replace(out / PREVIOUS)
            keep(self.model, out / LAST)
            losses = f"loss {logs['loss']:.4f}, validation {logs['val_loss']:.4f}"
            self._tell(f"epoch {epoch + 1} of {epochs}: {losses}")

        def _tell(self, line=""):
            on_batch(int(self.model.optimizer.iterations), epochs * steps, line)

        def _check(self, loss):
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is {loss} in epoch {int(self.model.optimizer.iterations) // steps + 1}: training has "
                    f"diverged; give a lower `high` than {recipe.high:g} and another `out` (checkpoints are in {out})"
                )

    return Course()


def _figures(model: keras.Model, data: TrainingData, recipe: Recipe, seconds: float) -> dict[str, str]:
    """Return an epoch's log columns beside the losses: learning rate, speed and validation AUC of each class."""
    scores = model.predict(batches(data.validation, data.labels, recipe, train=False), verbose=0)
    aucs = areas_under_curve(data.labels.codes, data.validation.targets, scores)
    rate, speed = float(model.optimizer.learning_rate), len(data.train) / seconds
    figures = {"rate": rate, "seconds": seconds, "patches_per_second": speed}
    return {key: f"{value:.4g}" for key, value in figures.items()} | {f"AUC {c}": f"{v:.4f}" for c, v in aucs.items()}
