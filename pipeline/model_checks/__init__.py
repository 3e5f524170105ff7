"""What is measured of a model before a run."""
