"""Models: what a name or handle means, and everything that needs TensorFlow."""
