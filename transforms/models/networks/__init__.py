"""Networks written in TensorFlow, one a file."""
