"""A network of two convolutions, for what does not depend on which network it is."""

import numpy as np

from tests.helpers import formula_weights
from transforms.models.networks.slim_layers import Chain, Conv
from transforms.models.networks.slim_network import SlimNetwork


class TinyNetwork(SlimNetwork):
    """Images of at least 3×3 → feature vectors of 6, and logits of 3 classes."""

    SCOPE = "Tiny"
    LAYERS = Chain(Conv("Conv2d_1a_3x3", 4, stride=2, padding="VALID"), Conv("Conv2d_1b_1x1", 6))
    CLASSIFIER = "Logits/Logits"
    CLASSIFIER_KERNEL = (6, 3)
    DECAYED = ("weights",)
    IMAGE_SIZE = (16, 24)
    SMALLEST_SIDE = 3
    FEATURES = 6
    CLASSES = 3


def weights() -> dict[str, np.ndarray]:
    """Returns weights for every variable of `TinyNetwork`."""
    return formula_weights.weights(TinyNetwork.expected_variables())
