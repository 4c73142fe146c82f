"""Turning, mirroring, shifting and colouring patches at random while training (docs/method.md, "Training recipe")."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..keras_start import import_keras

#: From RGB to luma and the two chroma differences (ITU-R BT.601).
YCBCR = np.float32([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def augmentation(seed: int) -> Callable:
    """Return what turns, mirrors, shifts and colours a batch of images (B, tile, tile, 3) at random, in 0..255."""
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
