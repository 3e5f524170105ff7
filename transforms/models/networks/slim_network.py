"""A network of TF-Slim's layers over the weights of a checkpoint."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import tensorflow as tf

from transforms.models.networks.slim_layers import Chain, Pass, Shapes

# `weight_decay` of both arg_scopes.
WEIGHT_DECAY = 0.00004
# TF-Hub's default. TF-Slim uses 0.9997 for its long trainings, but fine-tuning takes few steps.
DEFAULT_BATCH_NORM_MOMENTUM = 0.99
# `dropout_keep_prob=0.8` of both networks.
_DROPOUT_RATE = 0.2


class SlimNetwork(tf.Module):
    """A chain of layers, a pool to a feature vector, and a linear classifier over it. Subclasses declare the layers.

    Attributes:
      SCOPE: the first part of every variable's name.
      LAYERS: image, scaled to [−1, 1] → the last feature maps.
      CLASSIFIER: the scope of the classifier, below SCOPE.
      CLASSIFIER_KERNEL: the shape of its weights, (…, FEATURES, CLASSES).
      DECAYED: the last part of the names of the variables under weight decay.
      IMAGE_SIZE: (height, width) of the training images, in pixels. The network takes other sizes too.
      SMALLEST_SIDE: the least height and width, in pixels, for which the last layer still gets a pixel.
      FEATURES: the length of a feature vector.
      CLASSES: the number of logits: a background class, then those of ILSVRC 2012.
    """

    SCOPE: ClassVar[str]
    LAYERS: ClassVar[Chain]
    CLASSIFIER: ClassVar[str]
    CLASSIFIER_KERNEL: ClassVar[tuple[int, ...]]
    DECAYED: ClassVar[tuple[str, ...]]
    IMAGE_SIZE: ClassVar[tuple[int, int]]
    SMALLEST_SIDE: ClassVar[int] = 1
    FEATURES: ClassVar[int]
    CLASSES: ClassVar[int] = 1001

    @classmethod
    def expected_variables(cls, classifier: bool = True) -> Shapes:
        """Returns the network's variables, TF-Slim name → shape, with or without the two of the classifier."""
        shapes = cls.LAYERS.shapes(cls.SCOPE, channels=3)
        if classifier:
            kernel, biases = cls._classifier_names()
            shapes |= {kernel: cls.CLASSIFIER_KERNEL, biases: (cls.CLASSES,)}
        return shapes

    def __init__(self, weights: Mapping[str, np.ndarray]):
        """Takes the weights, TF-Slim name → array of any float type, and computes in float32.

        Other names are ignored. Without the two weights of the classifier, the network has features and no logits.

        Raises:
          ValueError: if a weight of the features is missing.
        """
        super().__init__(name=self.SCOPE)
        missing = [name for name in self.expected_variables(classifier=False) if name not in weights]
        if missing:
            raise ValueError(f"no weights {', '.join(map(repr, missing))}: expected every variable of {self.SCOPE}")
        self._weights = {name: _variable(name, weights[name]) for name in self.expected_variables() if name in weights}

    def __call__(
        self,
        images: tf.Tensor,
        training: bool = False,
        batch_norm_momentum: float | tf.Tensor = DEFAULT_BATCH_NORM_MOMENTUM,
    ) -> tf.Tensor:
        """Images, float32 (n, height, width, 3) in [0, 1] → feature vectors, float32 (n, FEATURES), pooled.

        Args:
          images: a batch of at least one image, with height and width of at least SMALLEST_SIDE.
          training: whether to normalize by the batch's statistics and update the moving averages. It is a Python bool,
            because the graph depends on it.
          batch_norm_momentum: the share of the old moving average that a training step keeps; a scalar.

        Raises:
          tf.errors.InvalidArgumentError: if the batch is empty or the images are too small.
        """
        # This check has to run first: on an empty feature map, oneDNN's kernels abort the process.
        fits = tf.debugging.assert_greater_equal(
            tf.shape(images)[:3],
            [1, self.SMALLEST_SIDE, self.SMALLEST_SIDE],
            message=f"expected one image or more, of {self.SMALLEST_SIDE} pixels or more in height and width",
        )
        with tf.control_dependencies([fits] if fits is not None else []):
            images = tf.identity(images)
        run = Pass(self._weights, training, tf.convert_to_tensor(batch_norm_momentum, tf.float32))
        x = self.LAYERS(images * 2.0 - 1.0, self.SCOPE, run)
        return tf.reduce_mean(x, axis=[1, 2])

    def logits(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Feature vectors, float32 (n, FEATURES) → logits, float32 (n, CLASSES). `training` applies dropout.

        Raises:
          ValueError: if the network has no weights of the classifier.
        """
        kernel, biases = self._classifier_names()
        if kernel not in self._weights or biases not in self._weights:
            raise ValueError(f"no weights {kernel!r} and {biases!r}: expected both for logits")
        if training:
            features = tf.nn.dropout(features, rate=_DROPOUT_RATE)
        # One network has a fully connected layer here, the other a 1×1 convolution. Both are the same matrix product.
        matrix = tf.reshape(self._weights[kernel], [self.FEATURES, self.CLASSES])
        return tf.linalg.matmul(features, matrix) + self._weights[biases]

    def regularization_loss(self) -> tf.Tensor:
        """Returns the weight decay, a float32 scalar: WEIGHT_DECAY × Σ w² / 2, as in `slim.l2_regularizer`."""
        decayed = [weight for name, weight in self._weights.items() if name.rsplit("/", 1)[1] in self.DECAYED]
        return WEIGHT_DECAY * tf.add_n([tf.nn.l2_loss(weight) for weight in decayed])

    @classmethod
    def _classifier_names(cls) -> tuple[str, str]:
        return f"{cls.SCOPE}/{cls.CLASSIFIER}/weights", f"{cls.SCOPE}/{cls.CLASSIFIER}/biases"


def _variable(name: str, array: np.ndarray) -> tf.Variable:
    value = np.asarray(array, np.float32)
    if name.rsplit("/", 1)[1] not in ("moving_mean", "moving_variance"):
        return tf.Variable(value, name=name)
    # With several devices, each updates its own averages and a reader gets their mean, as in Keras' BatchNormalization.
    return tf.Variable(
        value,
        name=name,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
    )
