"""Models: names and handles, loading, and everything else that needs TensorFlow."""
