"""Checkpoints as TF-Slim's training scripts write them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

# Of tf.compat.v1.train.SaverDef; conftest.py uses them, and TensorFlow is not imported just for that.
V1, V2 = 1, 2


def write(path: Path, arrays: Mapping[str, np.ndarray], version: int) -> Path:
    """Writes variables, name → array, by the Saver of TensorFlow 1, and returns `path`, the checkpoint's prefix."""
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        values = {name: tf.compat.v1.placeholder(array.dtype, array.shape) for name, array in arrays.items()}
        variables = {
            name: tf.compat.v1.get_variable(name, initializer=value, use_resource=True)
            for name, value in values.items()
        }
        session.run(
            [variable.initializer for variable in variables.values()],
            {values[name]: array for name, array in arrays.items()},
        )
        saver = tf.compat.v1.train.Saver(variables, write_version=version)
        saver.save(session, str(path), write_meta_graph=False, write_state=False)
    return path
