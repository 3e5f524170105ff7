"""Keras models for tests: the bundled network with its own weights, as keras.applications would have it."""

import keras
import numpy as np

from transforms.models import catalog
from transforms.models.networks.efficientnet_lite_openvino import _folded
from transforms.models.networks.efficientnet_lite_stages import blocks


def bundled() -> keras.Model:
    """Returns the bundled network: float32 (n, 224, 224, 3) in 0..255 → float32 (n, 1280). It rescales pixels."""
    weights = catalog.weights("efficientnet_lite0")
    layers = keras.layers

    def conv(x, name, stride=1, *, is_depthwise=False, activation=True):
        kernel, bias = _folded(weights, name)
        size = kernel.shape[0]
        if is_depthwise:
            layer = layers.DepthwiseConv2D(size, stride, "same")
            kernel = kernel.reshape(size, size, -1, 1)
        else:
            layer = layers.Conv2D(kernel.shape[3], size, stride, "same")
        y = layer(x)
        layer.set_weights([np.asarray(kernel, np.float32), np.asarray(bias, np.float32)])
        return layers.ReLU(max_value=6.0)(y) if activation else y

    images = keras.Input((224, 224, 3))
    x = conv(layers.Rescaling(1 / 128, offset=-127 / 128)(images), "stem", 2)
    for block in blocks():
        y = conv(x, f"{block.name}/expand") if block.expands else x
        y = conv(y, f"{block.name}/depthwise", block.stride, is_depthwise=True)
        y = conv(y, f"{block.name}/project", activation=False)
        x = layers.Add()([x, y]) if block.has_residual else y
    return keras.Model(images, layers.GlobalAveragePooling2D()(conv(x, "head")))
