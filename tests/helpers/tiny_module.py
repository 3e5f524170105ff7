"""A module of TF-Hub's kind that trains in a second: one convolution, batch normalization, a mean over the pixels."""

from pathlib import Path

import numpy as np
import tensorflow as tf

FEATURES = 8
DECAY = 0.01


class TinyModule(tf.Module):
    """float32 (n, height, width, 3) in [0, 1] → float32 (n, 8)."""

    def __init__(self, seed: int = 0):
        super().__init__()
        kernel = np.random.default_rng(seed).normal(0, 0.5, (3, 3, 3, FEATURES))
        self.kernel = tf.Variable(kernel.astype(np.float32), name="kernel")
        self.mean = tf.Variable(tf.zeros(FEATURES), trainable=False, name="mean")
        self.variance = tf.Variable(tf.ones(FEATURES), trainable=False, name="variance")

    @tf.function
    def __call__(self, images, training=False, batch_norm_momentum=0.99):
        filtered = tf.nn.conv2d(images * 2.0 - 1.0, self.kernel, 2, "SAME")
        mean, variance = self.mean, self.variance
        if training:
            mean, variance = tf.nn.moments(filtered, [0, 1, 2])
            for moving, batch in ((self.mean, mean), (self.variance, variance)):
                moving.assign(moving * batch_norm_momentum + batch * (1.0 - batch_norm_momentum))
        normal = tf.nn.batch_normalization(filtered, mean, variance, None, None, 1e-3)
        return tf.reduce_mean(tf.nn.relu(normal), [1, 2])

    @tf.function(input_signature=[])
    def decay(self):
        return DECAY * tf.nn.l2_loss(self.kernel)


class PlainModule(tf.Module):
    """What a module may also be: of one image size, without batch normalization, without anything to train."""

    @tf.function(input_signature=[tf.TensorSpec([None, 24, 40, 3], tf.float32)])
    def __call__(self, images):
        return tf.reduce_mean(images, [1, 2])


class ScaledModule(tf.Module):
    """float32 (n, height, width, 3) → float32 (n, 3), the mean of the pixels times a number."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = tf.Variable([scale] * 3)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def __call__(self, images):
        return self.scale * tf.reduce_mean(images, axis=[1, 2])


def write(directory: Path, seed: int = 0) -> Path:
    """Writes a TinyModule as a Reusable SavedModel; its variables are kernel, mean, variance."""
    module = TinyModule(seed)
    momentum = tf.TensorSpec([], tf.float32, name="batch_norm_momentum")
    for training in (False, True):
        module.__call__.get_concrete_function(
            tf.TensorSpec([None, None, None, 3], tf.float32, name="images"), training, momentum
        )
    written = tf.train.Checkpoint(
        variables=[module.kernel, module.mean, module.variance],
        trainable_variables=[module.kernel],
        regularization_losses=[module.decay],
    )
    written.__call__ = module.__call__
    tf.saved_model.save(written, str(directory))
    return directory


def write_plain(directory: Path) -> Path:
    """Writes a PlainModule."""
    tf.saved_model.save(PlainModule(), str(directory))
    return directory


def batch_statistics(images: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and the variance by channel that TinyModule's batch normalization sees, by numpy."""
    filtered = tf.nn.conv2d(images * 2.0 - 1.0, kernel, 2, "SAME").numpy().reshape(-1, FEATURES)
    return filtered.mean(axis=0), filtered.var(axis=0)
