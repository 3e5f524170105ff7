"""Vectors ↔ bytes: tf.Examples, TFRecord files, and matrices. No Beam, no TensorFlow."""
