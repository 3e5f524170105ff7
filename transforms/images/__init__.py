"""Encoded images → pixels. No Beam, no TensorFlow."""
